"""The outlines of characters in the fonts that come with matplotlib.

matplotlib is imported with the first character: the app imports this file at its start, which need not wait for matplotlib.
"""

from __future__ import annotations

import numpy as np


def outline(character: str, font: str, size: int) -> list[np.ndarray]:
    """The closed contours of a character, each (points, 2), y upwards. ``font`` is a name such as "DejaVuSans"."""
    from pathlib import Path

    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    return [np.asarray(polygon) for polygon in TextPath((0, 0), character, size=size, prop=FontProperties(fname=file)).to_polygons()]
