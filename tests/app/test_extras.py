"""What methods show beside their maps: closed and free of charge at first, drawn when it is opened."""

from __future__ import annotations

import json

import pytest

import explainers as ex
from app.reading import complaints, explained, page_html

SECTIONS = {
    "Attribution mask": ("attribution_mask", {"attribution_mask.iterations": "4"}, ["The image", "Masked input 4", "probability"]),
    "DMBP": ("dmbp", {"dmbp.iterations": "3"}, ["Positive part", "Negative part", "Logit without"]),
    "MIP-IN": ("mip_in", {"mip_in.images": "40", "network": "Digits: MLP-M of MIP-IN"}, ["Source signal", "Change of the logit"]),
}


def sections(app):
    return [box for box in app.expander if box.label.startswith("Inside ")]


def test_nothing_is_shown_where_methods_have_no_extras(open_app):
    assert not sections(open_app(query={"methods": ["Gradient"]}))


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_is_drawn_when_it_is_opened(open_app, title):
    key, settings, expected = SECTIONS[title]
    app = explained(open_app(query={"methods": [title], **settings}))
    assert len(sections(app)) == 1 and "class=\"extras\"" not in page_html(app)
    charts = len(app.get("plotly_chart"))
    app.session_state[f"extras.{key}"] = True
    app.run()
    assert not app.exception and not complaints(app)
    assert all(word in page_html(app) for word in expected), page_html(app)[-2000:]
    traces = sum(extra.kind == "trace" for extra in ex.methods()[key].shows)
    drawn = [json.loads(chart.proto.spec)["data"] for chart in app.get("plotly_chart")[charts:]]
    assert sum(map(len, drawn)) == traces


def test_a_long_film_is_cut_to_a_few_pictures_with_the_first_and_the_last(open_app):
    app = explained(open_app(query={"methods": ["Attribution mask"], "attribution_mask.iterations": "30"}))
    app.session_state["extras.attribution_mask"] = True
    app.run()
    html = page_html(app)
    assert html.count("<figcaption>Masked input") == 9 and "The image" in html and "Masked input 30" in html
