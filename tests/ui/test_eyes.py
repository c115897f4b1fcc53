"""What people see of a page and what a screen reader hears: titles, sizes of letters, descriptions in words, the first sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import page

import explainers as ex
from components.drawing import curves, downloads, heatmaps, publication, theme
from components.drawing.colour import Display, prepare

GRADIENTS = ["Gradient", "Gradient x Input"]


def alts(app) -> dict[str, str]:
    """The descriptions of the charts on the page, by key."""
    return {each.key: each.proto.alt for each in page.nodes(app) if each.type == "plotly_chart"}


def sizes(spec: Any) -> list[float]:
    """Every size of letters in a figure's specification."""
    if isinstance(spec, dict):
        own = [part["size"] for name, part in spec.items() if name.endswith("font") and isinstance(part, dict) and "size" in part]
        return own + [size for part in spec.values() for size in sizes(part)]
    return [size for part in spec for size in sizes(part)] if isinstance(spec, list) else []


def test_the_start_page_says_what_the_app_is_and_for_whom(open_app):
    first = page.heading(open_app())
    assert "image classifier" in first and "heatmaps (attribution maps)" in first and "domain experts" in first
    assert "domain experts" not in page.heading(open_app("faithfulness", query={"methods": GRADIENTS}))


def test_a_line_is_described_by_its_ends_its_extremes_and_its_area():
    x = np.array([0.0, 0.25, 0.5, 1.0])
    style = curves.Style("#000000")
    panel = curves.Panel("Insertion", "higher is better", "shown", (
        curves.Curve("a", "Grad-CAM  0.500, 0.100", style, x, np.array([0.0, 0.8, 0.6, 0.5])),
        curves.Curve("b", "Random", style, x, np.array([0.0, np.nan, np.nan, np.nan]))))
    words = curves.in_words(curves.figure([panel], "", "p"))
    grad_cam = "Insertion (higher is better): Grad-CAM goes from 0.00 at 0 % to 0.50 at 100 %, highest 0.80 at 25 %, area 0.55;"
    assert words.startswith(grad_cam)
    assert "Random goes from 0.00 at 0" in words


def test_a_line_without_values_says_so():
    assert curves.in_words({"data": [{"name": "RISE", "mode": "lines", "y": [None, None]}], "layout": {}}) == "RISE has no values."


def test_a_map_is_described_by_its_range_its_peak_and_its_concentration():
    values = np.zeros((10, 10), np.float32)
    values[2, 7], values[5, 5] = 3.0, -2.0
    (shown,) = prepare([(values, True)], Display(clip=100.0))
    words = heatmaps.in_words([heatmaps.Panel("What the network sees"), heatmaps.Panel("Gradient", shown)])
    assert words.startswith("Gradient: from \u22122 to 3, strongest at the upper right;")
    assert "half of all in 1 % of the pixels" in words
    (blank,) = prepare([(np.zeros((4, 4), np.float32), True)], Display())
    assert heatmaps.in_words([heatmaps.Panel("Gradient", blank)]) == "Gradient: zero everywhere."


def test_the_figures_have_their_numbers_in_words(open_app):
    app = open_app(query={"methods": GRADIENTS})
    assert "Gradient: from " in alts(app)["heatmaps"] and "% of the pixels" in alts(app)["heatmaps"]
    curve = alts(page.run_all(open_app("faithfulness", query={"methods": GRADIENTS}), "curves"))["curves-figure"]
    assert "Insertion (higher is better" in curve and "Gradient x Input goes from" in curve and "area 0." in curve


@pytest.mark.parametrize("name", ["", "faithfulness", "sanity_checks"])
def test_no_letters_in_figures_are_smaller_than_twelve_pixels(open_app, name):
    app = open_app(name, query={"methods": GRADIENTS})
    app = page.run_all(page.run_all(app, "curves"), "weights")
    every = [size for spec in page.charts(app) for size in sizes(spec.get("layout", {}))]
    assert every and min(every) >= theme.SMALLEST


def test_long_titles_are_short_in_the_figure_and_none_is_longer_than_its_panel(open_app):
    long = "A method whose title has no short form"
    panels = [heatmaps.Panel(ex.methods()["input_iba"].title, short="InputIBA", pending=True), heatmaps.Panel(long, pending=True)]
    notes = heatmaps.figure(Image.new("RGB", (32, 32)), panels, Display())["layout"]["annotations"]
    titles = [note["text"] for note in notes]
    assert titles[0] == "<b>InputIBA</b>" and titles[1].startswith("<b>A method") and titles[1].endswith("\u2026</b>")
    assert max(len(title) for title in titles) <= heatmaps.LONGEST_TITLE + len("<b></b>")
    app = open_app(query={"methods": ["Input Information Bottleneck (InputIBA)", "Gradient"]})
    assert "InputIBA" in page.chart_text(app, "heatmaps") and "Input Information" not in page.chart_text(app, "heatmaps")


def test_only_the_row_of_a_map_with_a_long_warning_has_room_for_it(open_app):
    def tops(*panels: heatmaps.Panel) -> list[float]:
        """The top of each of the figure's panels, in nominal pixels from above."""
        layout = heatmaps.figure(Image.new("RGB", (32, 32)), panels, Display())["layout"]
        return [(1 - layout[f"yaxis{place or ''}"]["domain"][1]) * layout["height"] for place in (0, *range(2, len(panels) + 1))]

    plain, warned = heatmaps.Panel("A"), heatmaps.Panel("A", warnings=("some words " * 40,))
    usual = tops(*[plain] * 12)
    assert tops(*[plain] * 11, warned) == pytest.approx(usual), "the warning is in the last of three rows"
    later = tops(warned, *[plain] * 11)
    assert later[:4] == pytest.approx(usual[:4]) and later[4] > usual[4] + 100
    assert later[8] - later[4] == pytest.approx(usual[8] - usual[4])


def test_the_titles_of_the_downloaded_figure_are_those_of_the_page(open_app, monkeypatch):
    titles: list[list[str]] = []
    monkeypatch.setattr(publication, "figure", lambda seen, names, *rest: titles.append(names))
    monkeypatch.setattr(downloads, "buttons", lambda files, name: files[0][3]())  # as if the first button were clicked
    page.run_all(open_app(query={"methods": ["Gradient", "GradientSHAP (expected gradients)"], "gradient_shap.samples": "2"}))
    assert titles[-1] == ["Gradient", "GradientSHAP"]


def test_a_method_keeps_its_style_whatever_stands_beside_it(open_app):
    app = page.run_all(open_app("faithfulness", query={"methods": ["RISE", "Gradient"]}), "curves")
    alone = curves.style("gradient")
    traces = [trace for trace in page.chart(app, "curves-figure")["data"] if trace.get("legendgroup") == "gradient"
              and "line" in trace]
    assert traces and all((trace["line"]["color"], trace["line"]["dash"], trace["marker"]["symbol"]) ==
                          (alone.colour, alone.dash, alone.mark) for trace in traces)
    assert curves.swatch(alone) in "".join(each.value for each in page.nodes(app, "scrub") if each.type == "html")
