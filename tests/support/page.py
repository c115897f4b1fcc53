"""How app tests read a page: through the keys of its widgets, charts and containers, never through HTML classes or session state.

A container's text is what a person reads in it: HTML without its tags, captions, messages, labels of buttons and sections.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import streamlit as st
from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from streamlit.testing.v1 import AppTest

from components.compute import asked
from components.compute.bar import Bar
from components.drawing import foreign_words

CHEAP = ["Grad-CAM", "Gradient", "Guided Backpropagation"]
WRITTEN = ("html", "markdown", "caption", "latex", "error", "warning", "info", "success", "text")
LABELLED = ("button", "expander", "toggle", "download_button")


class _Html(HTMLParser):
    """The text, the table rows, the described terms (``<dl>``) and the picture sources of a piece of HTML."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.rows: list[list[str]] = []
        self.terms: list[list[str]] = []
        self.sources: list[str] = []
        self._in_cell = self._in_term = self._in_style = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style |= tag == "style"
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self._in_cell = True
            self.rows[-1].append("")
        elif tag in ("dt", "dd"):
            self._in_term = True
            self.terms += [["", ""]] if tag == "dt" else []
            self._at = tag == "dd"
        elif tag == "img":
            self.sources.append(dict(attrs).get("src") or "")
        self.handle_data(" " if tag not in ("b", "i", "em", "strong", "sub", "sup", "span") else "")

    def handle_endtag(self, tag: str) -> None:
        self._in_style &= tag != "style"
        self._in_cell &= tag not in ("td", "th")
        self._in_term &= tag not in ("dt", "dd")
        self.handle_data(" " if tag not in ("b", "i", "em", "strong", "sub", "sup", "span") else "")

    def handle_data(self, data: str) -> None:
        if self._in_style:
            return
        self.pieces.append(data)
        if self._in_cell:
            self.rows[-1][-1] += data
        if self._in_term:
            self.terms[-1][self._at] += data


def plain(text: str) -> str:
    """The text with single spaces; a no-break space is one of them."""
    return " ".join(text.split())


def read(markdown: str) -> str:
    """What a person reads in Markdown whose foreign words are escaped (see ``components.drawing.foreign_words``)."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown).replace(foreign_words.JOINER, "")


def nodes(app: AppTest, key: str = "") -> Iterator[Any]:
    """Every element and container of the page in its order, or of the container with this key."""
    return iter(node(app, key) if key else app)


def node(app: AppTest, key: str) -> Any:
    """The one element, widget or container with this key."""
    matches = [each for each in app if getattr(each, "key", None) == key]
    assert len(matches) == 1, f"{len(matches)} elements have the key {key!r}; there are {sorted(keys(app))}"
    return matches[0]


def keys(app: AppTest) -> set[str]:
    """All keys of the page."""
    return {each.key for each in app if getattr(each, "key", None)}


def has(app: AppTest, key: str) -> bool:
    """Whether the page has an element, widget or container with this key."""
    return key in keys(app)


def widget(app: AppTest, key: str) -> Any:
    """The widget with this key, of whatever kind: ``.value``, ``.options``, ``.label``, ``.set_value(...)``."""
    return node(app, key)


def value(app: AppTest, key: str) -> Any:
    """What the widget with this key is set to."""
    return widget(app, key).value


def choose(app: AppTest, key: str, value: Any) -> AppTest:
    """Set the widget with this key, and run the page."""
    return widget(app, key).set_value(value).run()


def click(app: AppTest, key: str) -> AppTest:
    """Press the button with this key, and run the page."""
    return widget(app, key).click().run()


def upload(app: AppTest, key: str, *files: tuple[str, bytes, str]) -> AppTest:
    """Give the uploader with this key these files (name, bytes, kind), and run the page.

    An uploader of pictures gets another key, with a number behind it, each time it has been emptied (see ``pool_uploader``).
    """
    now = [each for each in keys(app) if re.fullmatch(rf"{key}(-\d+)?", each)]
    assert len(now) == 1, f"{len(now)} uploaders have the key {key!r}; there are {sorted(keys(app))}"
    return widget(app, now[0]).set_value(list(files)).run()


def unfold(app: AppTest, key: str) -> AppTest:
    """Open the section (``st.expander``) with this key, and run the page. AppTest offers no click on it, so its state is set."""
    assert has(app, key), key
    app.session_state[key] = True
    return app.run()


def draw_on(app: AppTest, key: str, **selection: list[dict[str, Any]]) -> AppTest:
    """Draw on the chart with this key, and run the page: ``box=[{"x": [20, 40], "y": [5, 9]}]`` or ``lasso=...``, in pixels.

    The browser's message is added to those of the widgets, because AppTest offers no selection on charts.
    """
    tree, drawn = app._tree, {"points": [], "point_indices": [], "box": [], "lasso": [], **selection}
    states = tree.get_widget_states

    def with_selection() -> WidgetStates:
        message = states()
        message.widgets.append(WidgetState(id=node(app, key).proto.id, string_value=json.dumps({"selection": drawn})))
        return message

    tree.get_widget_states = with_selection
    return app.run()


def run_all(app: AppTest, place: str = "maps") -> AppTest:
    """The page with all results of a place: its button is pressed, if something waits for it."""
    return click(app, f"run-{place}") if has(app, f"run-{place}") else app


def stop_at_next_report(monkeypatch: Any, place: str) -> None:
    """From now on the first progress report of a run at this place does what a click on its Stop does: once."""
    report = Bar.report
    pressed: list[str] = []

    def stopped(self: Bar, *args: Any) -> None:
        if self.place == place and not pressed:
            pressed.append(self.key)
            asked.stop(self.place, self.key)
            st.rerun()
        report(self, *args)

    monkeypatch.setattr(Bar, "report", stopped)


def section(app: AppTest, key: str = "") -> str:
    """All text in the container with this key, or on the whole page, in its order."""
    pieces = []
    for each in nodes(app, key):
        if each.type in WRITTEN:
            words = plain(" ".join(_Html(each.value).pieces)) if each.type == "html" else str(each.value)
            pieces.append(words if each.type in ("html", "latex") else read(words))
        elif each.type in LABELLED:
            pieces.append(read(each.label))
    return plain(" ".join(pieces))


def table(app: AppTest, key: str) -> list[list[str]]:
    """The rows of the tables in the container with this key: the texts of their cells, heads included."""
    return [[plain(cell) for cell in row] for source in _html(app, key) for row in _Html(source).rows]


def terms(app: AppTest, key: str) -> dict[str, str]:
    """The terms (``<dt>``) in the container with this key, and what stands beside each (``<dd>``)."""
    return {plain(term): plain(text) for source in _html(app, key) for term, text in _Html(source).terms}


def pictures(app: AppTest, key: str) -> list[str]:
    """The sources of the pictures in the HTML of the container with this key."""
    return [picture for source in _html(app, key) for picture in _Html(source).sources]


def _html(app: AppTest, key: str) -> list[str]:
    return [each.value for each in nodes(app, key) if each.type == "html"]


def errors(app: AppTest) -> list[str]:
    """The messages in red."""
    return [read(element.value) for element in app.error]


def infos(app: AppTest) -> list[str]:
    """The messages in blue."""
    return [read(element.value) for element in app.info]


def captions(app: AppTest, key: str = "") -> list[str]:
    """The captions on the page, or in the container with this key."""
    return [read(each.value) for each in nodes(app, key) if each.type == "caption"]


def heading(app: AppTest) -> str:
    """The page's question, and the sentence below it."""
    return section(app, "heading")


def charts(app: AppTest, key: str = "") -> list[dict[str, Any]]:
    """The specs of all charts on the page, or in the container with this key."""
    return [json.loads(each.proto.spec) for each in nodes(app, key) if each.type == "plotly_chart"]


def chart(app: AppTest, key: str) -> dict[str, Any]:
    """The spec of the chart with this key."""
    return json.loads(node(app, key).proto.spec)


def chart_text(app: AppTest, key: str) -> str:
    """All words written into the chart with this key, as HTML."""
    return " ".join(note["text"] for note in chart(app, key)["layout"]["annotations"])


def numbers(encoded: Any) -> np.ndarray:
    """The numbers of a chart's axis or picture, which plotly sends as base64."""
    if isinstance(encoded, dict):
        array = np.frombuffer(base64.b64decode(encoded["bdata"]), dtype=encoded["dtype"])
        return array.reshape([int(side) for side in str(encoded["shape"]).split(",")]) if "shape" in encoded else array
    return np.asarray(encoded)


def maps(app: AppTest) -> list[dict[str, Any]]:
    """The traces of the maps on the compare page; their order is the methods'."""
    return [trace for trace in chart(app, "heatmaps")["data"] if trace["type"] == "heatmap"]


def words(app: AppTest) -> str:
    """All words of the figure with the maps."""
    return plain(" ".join(_Html(chart_text(app, "heatmaps")).pieces))


def chosen_picture(app: AppTest) -> str:
    """The picture that the URL names."""
    name = app.query_params.get("picture", "")
    return name if isinstance(name, str) else name[-1]
