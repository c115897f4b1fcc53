"""Words that somebody else chose are plain text wherever the app shows them: in Markdown, in HTML and in charts."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from support import house, page
from support.corpus_links import HOST
from support.hostile_network import LINK, NETWORKS, PAGES, WORD

from components.drawing import foreign_words
from components.drawing.foreign_words import in_markdown

PLAIN = {  # fields of a widget that the browser shows as they are; ``options`` of buttons and sliders are Markdown
    "id", "key", "form_id", "placeholder", "value", "values", "default", "spec", "alt", "url", "raw_text", "raw_value", "user_key",
    "element_id", "page", "css", "js", "file_name", "page_script_hash", "data", "html", "mime"}
LISTS = {"selectbox", "multiselect"}  # their options are plain text, too


@pytest.mark.parametrize(("text", "shown"), [
    ("layer _a_.b*", "layer \\_a\\_.b\\*"), ("a: b", "a: b"), ("[a](b)", "\\[a\\](b)"), ("1. x", "1\\. x"), ("- x", "\\- x"),
    ("a\n\n# b", "a \\# b"), (":red[x]", "\\:\u2060red\\[x\\]"), ("http://a.b", "http\\:\u2060//a.b"), ("www.a.b", "www\u2060.a.b"),
    ("a@b.c", "a@\u2060b.c"), ("\ud800\u202ex", "\ufffdx"), ("&lt;$x$", "\\&lt;\\$x\\$"), ("x" * 2000, "x" * 1000 + " ..."),
    ("plain words, 3.5 (of 4)", "plain words, 3.5 (of 4)")])
def test_a_word_is_escaped(text, shown):
    assert in_markdown(text) == shown


def test_a_long_file_name_is_shortened():
    assert foreign_words.shortened("a" * 60 + ".png") == "a" * 24 + " ... " + "a" * 8 + ".png"


def markup(text: str) -> str:
    """What Streamlit would make of the foreign words in a piece of Markdown; empty where they are plain text."""
    literal = re.sub(r"\\[!-/:-@\[-`{-~]", "", text)  # an escaped character is no markup
    spoken = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)  # links, e-mail addresses and short codes are looked for in the text itself
    match = re.search(r"!\[|\]\(|<(img|a)\b|\$|`|&lt;", literal) or re.search(
        rf"https?://|www\.|@{HOST}|:(red|material|smile)\b", spoken)
    return match[0] if match else ""


class Tags(HTMLParser):
    """The addresses that a piece of HTML loads or leads to, without pictures that it holds itself."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href") and not str(value).startswith("data:")]


def strings(message: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """All strings of a protobuf message, each with the name of its field."""
    for field, value in message.ListFields():
        for each in value if hasattr(value, "__len__") and not isinstance(value, (str, bytes)) else [value]:
            if isinstance(each, str):
                yield field.name, each
            elif hasattr(each, "ListFields"):
                yield from strings(each, field.name)


def faults(app: AppTest) -> Iterator[tuple[str, str, str]]:
    """Where foreign words are markup: the kind of the element, the field, and the text. Also raises for a page without them."""
    seen = 0
    for element in page.nodes(app):
        proto = getattr(element, "proto", None)
        if proto is None:
            continue
        for field, text in strings(proto):
            if "foreign" not in text:
                continue
            seen += 1
            if element.type == "html":
                if any("foreign" in address for address in Tags(text).addresses):
                    yield element.type, field, text
            elif field == "spec":
                if re.search(r"<(img|a)\b", json.dumps(json.loads(text), ensure_ascii=False)):
                    yield element.type, field, text
            elif field not in PLAIN and not (field == "options" and element.type in LISTS) and markup(text):
                yield element.type, field, text
    assert seen, "no foreign word is on this page"


@pytest.fixture()
def hostile(tmp_path, monkeypatch):
    """A file with a network whose title, classes and layers are markup."""
    file = tmp_path / "hostile_nets.py"
    file.write_text(NETWORKS)
    monkeypatch.setenv("EXPLORER_NETWORKS", str(file))


@pytest.mark.parametrize("name", PAGES)
def test_no_markup_of_a_network_or_a_link_arrives(open_app, hostile, name):
    for query in PAGES[name]:
        app = open_app(name, {**LINK, **query})
        assert not list(faults(app))[:4]


def picture() -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_names_of_files_are_plain_text(open_app):
    name = f"www.{HOST} ![x](http:__{HOST}) :red[r] $x$.png"
    app = page.upload(open_app(query={"methods": ["Gradient"]}), "uploaded_files", (name, picture(), "image/png"),
                      (f"2 {name}", b"no picture", "image/png"))
    assert page.errors(app) and not list(faults(app))


@pytest.mark.parametrize("query", [{"network": WORD}, {"picture": "upload-0123456789ab", "picture_file": WORD}, {"picture": WORD},
                                   {"reference": "Uploaded pictures", "methods": ["MIP-IN"], "network": "digits_mlp",
                                    "reference_count": WORD, "reference_id": WORD}])
def test_what_a_link_lacks_is_named_in_plain_text(open_app, query):
    app = open_app(query=query)
    assert page.has(app, "missing") and not list(faults(app))


MESSAGES = {"error", "warning"}  # most quote a foreign word, and few can be called up in a test


def unsafe_messages(source: str) -> list[str]:
    """The messages in red and yellow of a source that show a value without ``in_markdown``; a number of things is no foreign word."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and ast.unparse(node.func) in
             {f"st.{name}" for name in MESSAGES}]
    return [ast.unparse(call) for call in calls if call.args and not _is_safe(call.args[0])]


def _is_safe(words: ast.expr) -> bool:
    if isinstance(words, ast.Constant):
        return True
    if isinstance(words, ast.IfExp):
        return _is_safe(words.body) and _is_safe(words.orelse)
    if isinstance(words, ast.JoinedStr):
        return all(isinstance(part, ast.Constant) or (isinstance(part, ast.FormattedValue) and _is_safe(part.value))
                   for part in words.values)
    return ast.unparse(words).startswith(("in_markdown(", "len("))


def test_messages_show_values_as_plain_text():
    faults = {place: calls for place, text in house.project_sources().items()
              if place.startswith("components/") and (calls := unsafe_messages(text))}
    assert not faults


def test_a_message_that_shows_a_value_as_markdown_is_seen():
    assert unsafe_messages("st.error(str(error))\nst.warning(f'{a}: {in_markdown(b)}')") == [
        "st.error(str(error))", "st.warning(f'{a}: {in_markdown(b)}')"]
    assert not unsafe_messages("st.error(in_markdown(str(error)))\nst.warning(f'{len(a)} files')\nst.error('a' if b else 'c')")


def test_the_checks_of_this_file_see_markup():
    assert all(map(markup, ["![x](y)", "a [l](m)", "http://x", "www.x", f"a@{HOST}", ":red[x]", "$x$", "<img src=x>", "\\:smile\\:"]))
    assert not markup(in_markdown(WORD)) and markup(WORD)
    assert Tags("<p><img src='http://x'></p>").addresses == ["http://x"]
