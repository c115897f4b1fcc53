"""What methods show beside their maps: closed and free of charge at first, drawn when it is opened."""

from __future__ import annotations

import pytest
from support import page
from support.page import charts, errors, run_all, section, unfold

import explainers as ex

SECTIONS = {
    "Attribution mask": ("attribution_mask", {"attribution_mask.iterations": "4"}, ["The image", "Masked input 4", "probability"]),
    "DMBP": ("dmbp", {"dmbp.iterations": "3"}, ["Positive part", "Negative part", "Logit without"]),
    "MIP-IN": ("mip_in", {"mip_in.images": "40", "network": "Digits: MLP-M of MIP-IN"}, ["Source signal", "Change of the logit"]),
}


def sections(app) -> list[str]:
    return [key for key in page.keys(app) if key.startswith("extras.")]


def test_nothing_is_shown_where_methods_have_no_auxiliary_outputs(open_app):
    assert not sections(open_app(query={"methods": ["Gradient"]}))


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_is_drawn_when_it_is_opened(open_app, title):
    method, settings, expected = SECTIONS[title]
    key = f"extras.{method}"
    app = run_all(open_app(query={"methods": [title], **settings}))
    assert sections(app) == [key]
    assert section(app, key) == f"Inside {title}" and not charts(app, key)
    app = unfold(app, key)
    assert not app.exception and not errors(app)
    text = section(app, key)
    assert all(word in text for word in expected), text
    traces = sum(output.kind == "trace" for output in ex.methods()[method].auxiliary_outputs)
    assert sum(len(chart["data"]) for chart in charts(app, key)) == traces


def test_a_long_film_is_cut_to_a_few_pictures_with_the_first_and_the_last(open_app):
    app = run_all(open_app(query={"methods": ["Attribution mask"], "attribution_mask.iterations": "30"}))
    text = section(unfold(app, "extras.attribution_mask"), "extras.attribution_mask")
    assert text.count("Masked input") == 9 and "The image" in text and "Masked input 30" in text
