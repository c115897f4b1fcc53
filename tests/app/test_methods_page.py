"""The methods page: a card for every method, from its declaration."""

from __future__ import annotations

import pytest

import explainers as ex
from app.reading import page_html


def cards(app) -> list[str]:
    """The titles of the cards; they stand in two columns, so the order is the columns'."""
    return sorted(element.value.strip("*") for element in app.markdown if element.value.startswith("**"))


def test_every_method_has_a_card(open_app):
    app = open_app("methods")
    assert cards(app) == sorted(method.title for method in ex.methods().values())
    said = page_html(app)
    for method in ex.methods().values():
        assert method.reference.title.split(" & ")[0][:20] in said.replace("&amp;", "&")
        assert any(method.equation in element.value for element in app.latex)


@pytest.mark.parametrize("family", sorted({method.family for method in ex.methods().values()}))
def test_a_family_can_be_shown_alone(open_app, family):
    app = open_app("methods", {"family": family.capitalize()})
    assert cards(app) == sorted(method.title for method in ex.methods().values() if method.family == family)


def test_words_narrow_the_cards(open_app):
    app = open_app("methods", {"search": "baseline"})
    assert 0 < len(cards(app)) < len(ex.methods())
    app = open_app("methods", {"search": "zzzz"})
    assert not cards(app) and any("No card" in info.value for info in app.info)
