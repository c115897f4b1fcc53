"""Lines told apart with any colour vision, and text that can be read on its ground in both themes.

The simulations are those of Machado, Oliveira and Fernandes (2009), "A physiologically-based model for simulation of color vision
deficiency", at severity 1; distances are CIEDE2000; contrast is that of WCAG 2.2.
"""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab
from support.paths import ROOT

import explainers as ex
from components.drawing import curves, theme

LEAST_DISTANCE = 12.0  # CIEDE2000, between colours that share a dash and a mark
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]])}
GROUNDS = {"light": ("#ffffff", "#f4f5f5", "#f7f8f8"), "dark": ("#14181a", "#20262a", "#191e21", "#242b2f")}


def linear(colour: str) -> np.ndarray:
    """A colour #rrggbb as linear light, 0 to 1."""
    value = np.array([int(colour[place:place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def seen(colour: str, vision: str) -> np.ndarray:
    """CIELAB of the colour as it looks with this vision."""
    light = np.clip(VISIONS[vision] @ linear(colour), 0, 1)
    return rgb2lab(np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055))


def distance(one: str, other: str) -> float:
    """The smallest CIEDE2000 between two colours over all visions."""
    return min(float(deltaE_ciede2000(seen(one, vision), seen(other, vision))) for vision in VISIONS)


def contrast(one: str, other: str) -> float:
    high, low = sorted((float(linear(colour) @ (0.2126, 0.7152, 0.0722)) for colour in (one, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def too_close(styles: dict[str, curves.Style]) -> list[tuple[str, str]]:
    """The pairs of lines that share a dash and a mark, and whose colours are closer than allowed."""
    return [(one, other) for one, other in combinations(styles, 2)
            if (styles[one].dash, styles[one].mark) == (styles[other].dash, styles[other].mark)
            and distance(styles[one].colour, styles[other].colour) < LEAST_DISTANCE]


def test_known_colours():
    assert contrast("#ffffff", "#000000") == pytest.approx(21) and contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    red, green = "#b03030", "#5f5f00"  # far apart for most people
    assert float(deltaE_ciede2000(seen(red, "normal"), seen(green, "normal"))) > 30 > 12 > distance(red, green)


def test_the_lines_of_all_methods_are_told_apart_with_any_colour_vision():
    styles = curves.styles(list(ex.methods()))
    assert len(styles) > 20 and not too_close(styles)
    assert len({(style.colour, style.dash, style.mark) for style in styles.values()}) == len(styles)


def test_two_greens_with_the_same_mark_would_be_found():
    close = {"grad_cam": curves.Style("#b03030"), "mip_in": curves.Style("#5f5f00"), "rise": curves.Style("#5f5f00", "dash")}
    assert too_close(close) == [("grad_cam", "mip_in")]


def test_there_are_styles_for_forty_methods(monkeypatch):
    method = ex.methods()["gradient"]
    monkeypatch.setattr(curves.ex, "methods", lambda: {f"method_{place}": method for place in range(40)})
    styles = curves.styles([f"method_{place}" for place in range(40)])
    assert len(set(styles.values())) == 40 and not too_close(styles)


@pytest.mark.parametrize("ground", ["#ffffff", "#14181a"])
def test_lines_have_a_contrast_of_three_to_their_ground(ground):
    assert min(contrast(colour, ground) for colour in (*curves.PALETTE, curves.GREY)) >= 3


@pytest.mark.parametrize("kind", ["light", "dark"])
def test_text_in_figures_has_a_contrast_of_four_and_a_half(kind):
    ratios = [contrast(colours[kind], ground) for colours in (theme.INK, theme.MUTED, theme.WARNING) for ground in GROUNDS[kind]]
    assert min(ratios) >= 4.5


def test_the_style_sheet_has_the_colours_of_the_figures():
    css = (ROOT / "components" / "shell" / "style.css").read_text()
    for name, colours in (("muted", theme.MUTED), ("warning", theme.WARNING)):
        assert re.search(rf"--{name}: light-dark\(([^)]+)\)", css)[1].split(", ") == [colours["light"], colours["dark"]]


def test_long_titles_have_a_short_name():
    long = [method.title for method in ex.methods().values() if len(method.title) > 18 and not method.short]
    assert not long
    assert ex.methods()["iba"].short_title == "IBA" and ex.methods()["input_iba"].short_title == "InputIBA"
    shorts = [method.short_title for method in ex.methods().values()]
    assert len(set(shorts)) == len(shorts) and max(map(len, shorts)) <= 16
