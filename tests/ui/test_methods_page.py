"""The methods page: a card for every method and every metric, from its declaration."""

from __future__ import annotations

import pytest
from app.reading import page_html

import explainers as ex


def cards(app) -> list[str]:
    """The titles of the cards; they stand in two columns, so the order is the columns'."""
    return sorted(element.value.strip("*") for element in app.markdown if element.value.startswith("**"))


def test_every_method_and_metric_has_a_card(open_app):
    app = open_app("methods")
    declared = [*ex.methods().values(), *ex.metrics().values()]
    assert cards(app) == sorted(method.title for method in declared)
    said = page_html(app)
    for method in declared:
        assert method.citation.title.split(" & ")[0][:20] in said.replace("&amp;", "&")
        assert any(method.equation in element.value for element in app.latex)


@pytest.mark.parametrize("family", sorted({method.family for method in ex.methods().values()}))
def test_a_family_can_be_shown_alone(open_app, family):
    app = open_app("methods", {"family": family.capitalize()})
    assert cards(app) == sorted(method.title for method in ex.methods().values() if method.family == family)


def test_the_metrics_can_be_shown_alone(open_app):
    app = open_app("methods", {"family": "Metrics"})
    assert cards(app) == sorted(metric.title for metric in ex.metrics().values())


def test_words_narrow_the_cards(open_app):
    app = open_app("methods", {"search": "baseline"})
    assert 0 < len(cards(app)) < len(ex.methods()) + len(ex.metrics())
    app = open_app("methods", {"search": "zzzz"})
    assert not cards(app) and any("No card" in info.value for info in app.info)
