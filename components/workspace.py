"""The sidebar that is the same on every page: picture, network, classes, methods, seed. All of it but pixels is in the URL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

import explainers as ex
from components import network_picker, picture_picker, reference_picker, session
from explainers.data.reference import ReferenceSet

TOP = "Top prediction"
NO_CONTRAST = "None"
DEFAULT_METHODS = ("grad_cam", "integrated_gradients", "guided_backprop")
LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Workspace:
    """What a person has chosen. ``sight`` is what the picture is to the network; both are None while there is none.

    ``reference`` is what methods fit their statistics on; None where no chosen method does.
    """

    network: ex.Classifier | None
    picture: picture_picker.Picture
    sight: session.Sight | None
    target: int
    contrast: int | None
    methods: tuple[str, ...]
    seed: int
    reference: ReferenceSet | None = None

    @property
    def explained(self) -> int | tuple[int, int]:
        """The target as the engine takes it: a class, or the pair of a contrast."""
        return self.target if self.contrast is None else (self.target, self.contrast)

    @property
    def explained_in_words(self) -> str:
        """What the maps explain, for a caption."""
        return in_words(self.explained, self.network.categories)

    @property
    def question(self) -> str:
        """What the maps answer, in one sentence; it says so where they explain a contrast."""
        if self.network is None:
            return ""
        names = self.network.categories
        if self.contrast is None:
            return f"How much each pixel counts for {names[self.target]} (its logit)."
        return (f"What speaks for {names[self.target]} rather than {names[self.contrast]}: "
                f"logit({names[self.target]}) \u2212 logit({names[self.contrast]}).")


def in_words(target: int | tuple[int, int], categories: Sequence[str]) -> str:
    """A target with class names: ``umbrella``, or ``umbrella - heart`` for a contrast of logits."""
    pair = target if isinstance(target, tuple) else (target,)
    return " \u2212 ".join(categories[index] for index in pair)


def draw() -> Workspace:
    """Draw the sidebar and read it."""
    with st.sidebar:
        pictures = st.container(gap="small")
        networks = st.container(gap="small")
        with networks:
            network = network_picker.pick()
        with pictures:
            picture = picture_picker.pick(network.reference if network else "scenes")
        sight = session.sight(network.fingerprint, picture.digest, network, picture.image) if network else None
        target, contrast = _classes(network, sight)
        methods = _methods(network)
        reference = reference_picker.pick(network, sight, methods) if network else None
        seed = st.number_input(
            "Seed", 0, LARGEST_SEED, 0, key="seed", bind="query-params",
            help="Methods with randomness (noise, random masks) give the same map for the same seed.")
        st.button("Forget all maps", key="forget", type="tertiary", on_click=session.engine().cache.clear,
                  help="Clears the cache of maps, in memory and on disk. Pictures are never kept; EXPLORER_CACHE=off keeps "
                       "maps off the disk.")
    return Workspace(network, picture, sight, target, contrast, methods, int(seed), reference)


def _classes(network: ex.Classifier | None, sight: session.Sight | None) -> tuple[int, int | None]:
    """The class that is explained, and the one that it is held against."""
    labels = class_labels(network.categories) if network else ()
    target = st.selectbox(
        "Class", [TOP, *labels], key="class", bind="query-params",
        help="The class whose logit the maps explain. The top prediction follows the picture. Type to search.")
    contrast = st.selectbox(
        "Against", [NO_CONTRAST, *labels], key="against", bind="query-params",
        help="A second class: the maps then explain logit(class) \u2212 logit(against), what speaks for the one "
             "rather than the other. Type to search.")
    if network is None:
        return 0, None
    chosen = sight.ranked[0] if target == TOP else labels.index(target)
    other = None if contrast == NO_CONTRAST else labels.index(contrast)
    if other == chosen:
        st.warning("Both classes are the same: the maps explain the class alone.")
        other = None
    return chosen, other


@st.cache_data(max_entries=16, show_spinner=False)
def class_labels(categories: tuple[str, ...]) -> tuple[str, ...]:
    """The class names, made unique: ImageNet has two cranes."""
    counts = Counter(categories)
    return tuple(f"{name} ({index})" if counts[name] > 1 else name for index, name in enumerate(categories))


def _methods(network: ex.Classifier | None) -> tuple[str, ...]:
    """The chosen methods in the order of the registry, the controls behind them."""
    known = ex.methods()
    real = [key for key, method in known.items() if method.family != "control"]
    chosen = st.multiselect(
        "Methods", real, default=[key for key in DEFAULT_METHODS if key in known], key="methods", bind="query-params",
        format_func=lambda key: known[key].title, placeholder="Choose methods",
        help="Each chosen method draws one map. They are listed by family, from plain gradients to optimised masks.")
    off = {known[key].title: network.lacks(known[key]) for key in real} if network else {}
    off = {title: reason for title, reason in off.items() if reason}
    if off:
        st.caption(f"Off for this network: {', '.join(off)}.", help="\n\n".join(off.values()))
    controls = st.toggle(
        "Add controls", key="controls", bind="query-params",
        help="Maps that know nothing of the network: random noise, a blob in the centre, the picture's edges. "
             "A method should look different from them.")
    picked = [*chosen, *(key for key in known if controls and known[key].family == "control")]
    return tuple(picked)
