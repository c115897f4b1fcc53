"""Real photographs that are on the disk already: sample data of scikit-image and matplotlib, which are requirements.

The files are found without importing these packages, which would take a second. A package that is missing, or a version of it
without one of the files, only makes the gallery smaller. Authors and licences are those in the docstrings of ``skimage.data``: CC0
or public domain, except for the motorcycle, which comes under scikit-image's own licence (BSD 3-clause). Grace Hopper's portrait is a
work of the US Navy. The labels are names of ImageNet classes of what is in the picture, whether or not a network finds it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from explainers.data.sample import Part, Sample

KIND = "photographs"
IN_SKIMAGE, IN_MATPLOTLIB = ("skimage", "data"), ("matplotlib", "mpl-data/sample_data")
CAT_SOURCE = "Chelsea the cat, by Stefan van der Walt, CC0"
COFFEE_SOURCE = "cup of coffee at Pikolo Espresso Bar, by Rachel Michetti, CC0"
BY_SKIMAGE, BY_MATPLOTLIB = "Sample data of scikit-image.", "Sample data of matplotlib."

# (package and folder, file, title, labels, source), in the order of the gallery
SINGLE = (
    (IN_SKIMAGE, "coffee.png", "Coffee", ("espresso",), f"A {COFFEE_SOURCE}. {BY_SKIMAGE}"),
    (IN_SKIMAGE, "chelsea.png", "Chelsea the cat", ("Egyptian cat",), f"{CAT_SOURCE}. {BY_SKIMAGE}"),
    (IN_SKIMAGE, "camera.png", "Photographer", ("tripod",), f"A man at a camera on a tripod, by Lav Varshney, CC0. {BY_SKIMAGE}"),
    (IN_SKIMAGE, "motorcycle_left.png", "Motorcycle", ("moped",),
     "A motorcycle in a garage, from the Middlebury 2014 stereo benchmark (Nesic, Westling and others). " + BY_SKIMAGE),
    (IN_SKIMAGE, "rocket.jpg", "Rocket", ("missile",),
     f"A Falcon 9 with the satellite DSCOVR before its launch, by SpaceX, public domain. {BY_SKIMAGE}"),
    (IN_MATPLOTLIB, "grace_hopper.jpg", "Grace Hopper", ("military uniform",),
     f"Grace Hopper, by James S. Davis, US Navy, public domain. {BY_MATPLOTLIB}"),
    (IN_SKIMAGE, "astronaut.png", "Astronaut", ("space shuttle",),
     f"The astronaut Eileen Collins, by NASA, public domain. ImageNet has no class for an astronaut. {BY_SKIMAGE}"),
)

CAT_CUT, COFFEE_CUT = (0, 74, 451, 300), (90, 0, 510, 210)  # chosen so that the default network names both objects first
UPPER, LOWER = (0, 0, 512, 256), (0, 256, 512, 512)


def photographs() -> list[Sample]:
    """The photographs whose files are there, the one with two objects first."""
    samples = []
    cat, coffee = _file(IN_SKIMAGE, "chelsea.png"), _file(IN_SKIMAGE, "coffee.png")
    if cat and coffee:
        samples.append(Sample("cat-and-coffee", "Cat and coffee", KIND, ("Egyptian cat", "espresso"), cat,
                              source=f"Two photographs: {CAT_SOURCE}; {COFFEE_SOURCE}. {BY_SKIMAGE}",
                              parts=(Part(cat, CAT_CUT, UPPER), Part(coffee, COFFEE_CUT, LOWER))))
    for place, name, title, labels, source in SINGLE:
        file = _file(place, name)
        if file:
            samples.append(Sample(title.lower().replace(" ", "-"), title, KIND, labels, file, source=source))
    return samples


def _file(place: tuple[str, str], name: str) -> Path | None:
    """A file in a package's folder, None where it is not there. The package is looked up and not imported."""
    package, folder = place
    spec = importlib.util.find_spec(package)
    locations = (spec.submodule_search_locations or ()) if spec else ()
    files = (Path(location) / folder / name for location in locations)
    return next((file for file in files if file.is_file()), None)
