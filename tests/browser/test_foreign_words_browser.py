"""What a real browser makes of foreign words: it asks no foreign host, and draws no link, image, icon or formula of theirs.

That the Content-Security-Policy forbids nothing that the app needs is checked by every test of this folder, because a breach of it is
an error in the console (see ``Visit.check``).
"""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from support.corpus_links import HOST
from support.hostile_network import NETWORKS, PAGES, WORD

from browser.conftest import server
from components.drawing.foreign_words import in_markdown

FOREIGN = """() => [...document.querySelectorAll("a, img, iframe, script, image, link, video, source")]
    .flatMap(node => [node.getAttribute("href"), node.getAttribute("xlink:href"), node.getAttribute("src")])
    .filter(address => address && !/^(data|blob):/.test(address) && new URL(address, location).hostname !== location.hostname)"""


@pytest.fixture(scope="module")
def hostile_address(chromium, tmp_path_factory):
    """A server with a network whose title, classes and layers are markup."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "hostile_nets.py").write_text(NETWORKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPLORER_NETWORKS", str(folder / "hostile_nets.py"))
        with server(folder) as started:
            yield started


def link(page: str, **query: object) -> str:
    return f"{page}?{urlencode(query, doseq=True)}"


def test_no_page_asks_a_foreign_host(visit, hostile_address):
    for page, queries in PAGES.items():
        chosen = {"network": "hostile_nets.hostile", "methods": ["Gradient"], **queries[-1]}
        opened = visit(at=hostile_address).go(link("" if page == "compare" else page, **chosen), wait="h1")
        opened.page.wait_for_timeout(400)
        assert not opened.page.evaluate(FOREIGN), page
        opened.check()


def test_an_outline_from_a_link_is_quoted_and_no_more(visit):
    query = {"methods": "Gradient", "measurement": "Localisation", "region": "Outline", "region_outline": WORD}
    opened = visit().go(link("faithfulness", **query), wait="[data-testid=stAlert]")
    assert not opened.page.evaluate(FOREIGN)
    assert f"![x](http:\u2060//{HOST}/a.png)" in opened.page.locator("[data-testid=stAlert]").first.inner_text()


def test_every_kind_of_markup_is_shown_as_it_was_written(visit, tmp_path):
    """A caption, a button with a help text, an expander and an error, drawn by Streamlit itself."""
    words = [WORD, "- a", "1. b", "# c", "a  b", "--- ", "| a | b |", "*i* _j_ ~~k~~", "\\d", "&amp; &#65;", "foreign@mail.example x"]
    script = tmp_path / "app.py"
    script.write_text(f"""
import streamlit as st
st.header("Words", anchor=False)
for number, words in enumerate({[in_markdown(word) for word in words]!r}):
    st.container(key=f"word-{{number}}").caption(words)
    st.button(words, key=f"button-{{number}}")
    st.expander(words)
    st.error(words)
    st.segmented_control("x", [words], key=f"choice-{{number}}")
    st.select_slider("y", [words, "z"], key=f"slider-{{number}}")
""")
    with server(tmp_path, script=script) as started:
        opened = visit(at=started).go("", wait=f".st-key-word-{len(words) - 1} p", network="")
        assert not opened.page.evaluate(FOREIGN)
        assert opened.page.locator("[data-testid=stMain] :is(a[href], .katex, em, strong, code, ul, ol, table)").count() == 0
        for number, word in enumerate(words):
            shown = opened.page.locator(f".st-key-word-{number}").inner_text().replace("\u2060", "")
            assert re.sub(r"\s+", " ", shown).strip() == re.sub(r"\s+", " ", word).strip()
