"""Links that nobody's app wrote: every parameter with values that it does not take."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

from support.paths import ROOT

Value = str | list[str]
HOST = "foreign.example"  # of addresses in hostile values; the browser must never ask it
VALUES: tuple[Value, ...] = (
    "inf", "-inf", "nan", "1e400", "", "-1", "0", "99999999999999999999999", "1e308", "1.5",
    ["1", "2", "inf"], ["", ""], "[1, 2]", "{}", "../../etc/passwd", "\u0663\u6f22\u5b57\U0001f642\u202e", "\x00\x1b[31m",
    f"![x](http://{HOST}/x.png)", f"[Sign in](http://{HOST}) :red[a] :material/home: $x^2$ <b>", "9" * 5000)
BESIDE_WIDGETS = ("picture", "picture_file", "network", "network_id", "copies", "reference_count", "reference_id", "boxes")


def bound_parameters() -> set[str]:
    """The keys, as far as the sources write them out, of all widgets of the app that are bound to the link."""
    keys: set[str] = set()
    for path in sorted((ROOT / "components").rglob("*.py")):
        tree = ast.parse(path.read_text())
        named = {target.id: node.value.value for node in tree.body
                 if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
                 for target in node.targets if isinstance(target, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                keys |= _key_of(node, named)
    return keys


def _key_of(call: ast.Call, named: Mapping[str, str]) -> set[str]:
    """The key of a call that draws a bound widget, if it is a word or a constant of the file."""
    options = {keyword.arg: keyword.value for keyword in call.keywords}
    key = options.get("key")
    bound = "bind" in options or ast.unparse(call.func) == "number_field.whole"
    if bound and isinstance(key, ast.Constant):
        return {key.value}
    return {named[key.id]} if bound and isinstance(key, ast.Name) and key.id in named else set()


def links(parameters: Sequence[str], always: Sequence[Mapping[str, Value]]) -> Iterator[dict[str, Value]]:
    """Half as many links as there are values. Each gives every parameter a value; neighbouring parameters have the
    two halves of the values. always: what the links say instead, in turn.
    """
    for count, shift in enumerate(range(0, len(VALUES), 2)):
        link = {name: VALUES[(shift + place) % len(VALUES)] for place, name in enumerate(parameters)}
        yield {**link, **always[count % len(always)]}
