"""Words that somebody else chose, as the plain text that they are: names of classes, layers, files and networks, values of links, and
sentences that quote them.

Streamlit reads Markdown in captions, messages, labels, help texts and options of buttons. There a foreign word could be a link, an
image that the browser fetches from another host, a formula, an icon or a colour. What goes into HTML and into plotly's texts is
escaped by ``html.escape`` instead, and lists to choose from (``st.selectbox``, ``st.multiselect``) show plain text by themselves.
"""

from __future__ import annotations

import re

MOST_LETTERS = 1000  # of one text; a longer one is cut
MOST_OF_NAME = 40  # letters of a file's name
JOINER = "\u2060"  # a "word joiner", which nobody sees; without it these become links and symbols even where they are escaped

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_INVISIBLE = re.compile(r"[\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # they turn the direction in which the rest is read
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # from file names that are no UTF-8; they cannot be sent to the browser
_MARKUP = re.compile(r"([\\`*_\[\]$<>~#&])")
_AT_START = re.compile(r"^([-+=]|\d+(?=[.)]))")  # of lists and underlines
_SHORT_CODE = re.compile(r":(?=[\w/+\[-])")  # of :red[...], :material/home:, :smile: and https://
_ADDRESS = re.compile(r"(www)(?=\.)|@", re.IGNORECASE)


def in_markdown(text: str) -> str:
    """A foreign text as it is, on one line, for every place that takes Markdown."""
    line = one_line(text)
    escaped = _MARKUP.sub(r"\\\1", line)
    start = _AT_START.match(escaped)
    if start:
        escaped = f"\\{escaped}" if not escaped[0].isdigit() else f"{start[0]}\\{escaped[start.end():]}"
    escaped = _SHORT_CODE.sub(rf"\:{JOINER}", escaped)
    return _ADDRESS.sub(lambda match: match[0] + JOINER, escaped)


def shortened(name: str) -> str:
    """A file's name on one line, shortened in its middle, so that its beginning and its ending are seen. It is not Markdown yet."""
    line = one_line(name)
    return line if len(line) <= MOST_OF_NAME else f"{line[:24]} ... {line[-12:]}"


def one_line(text: str) -> str:
    """A text without line breaks and other control characters, and at most ``MOST_LETTERS`` long."""
    line = _SURROGATE.sub("\ufffd", _INVISIBLE.sub("", _CONTROL.sub(" ", text))).strip()
    return line if len(line) <= MOST_LETTERS else line[:MOST_LETTERS] + " ..."
