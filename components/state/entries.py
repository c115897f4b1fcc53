"""The entries of a comparison: each chosen method, and copies of it that have settings of their own.

An entry is known by its key. The first entry of a method has the method's key, and a copy has a number behind it: ``iba``, ``iba~2``,
``iba~3``. The keys of the settings' widgets begin with it (``iba~2.beta``). The link names the copies in the parameter ``copies``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

import explainers as ex
from components.state import carried, link
from explainers import ensembles
from explainers.parameters import Parameter

MOST = 6  # entries of one method
PARAMETER = "copies"  # of the link: the keys of all copies, with spaces between them
COPY = re.compile(rf"([a-z0-9_]+)~([2-{MOST}])")


@dataclass(frozen=True)
class Name:
    """What an entry is called.

    title: for people; no other entry of the page has the same. short: for narrow places. difference: what sets the entry apart from
    the others of its method, such as "beta 20"; empty where there is no other, or too much differs for a title.
    """

    key: str
    title: str
    short: str
    difference: str = ""

    @classmethod
    def alone(cls, method: ex.Method) -> Name:
        """The name of an entry that is the only one of its method."""
        return cls(method.key, method.title, method.short_title)


def method_key(entry: str) -> str:
    """The key of an entry's method."""
    return entry.partition("~")[0]


def number(entry: str) -> int:
    """An entry's number among those of its method: 1 for the first, from 2 on for copies."""
    return int(entry.partition("~")[2] or 1)


def method_of(entry: str) -> ex.Method:
    """An entry's method."""
    return ex.methods()[method_key(entry)]


def parameters_of(entry: str) -> tuple[Parameter, ...]:
    """What can be set for an entry: its method's parameters, and those of an ensemble of its maps. A control has no ensembles."""
    method = method_of(entry)
    return method.parameters if method.is_control else (*method.parameters, *ensembles.PARAMETERS)


def with_copies(methods: Sequence[str]) -> tuple[str, ...]:
    """The entries of the chosen methods, copies behind the entry that they were made from first. What else the link names is dropped
    from it: unknown or unchosen methods, methods without settings, numbers out of range."""
    copies = _copies(methods)
    if " ".join(copies) != link.get(PARAMETER):
        link.put(PARAMETER, " ".join(copies))
    if carried.at_start():  # a link; a copy that is made later must not begin with what it says
        for key in [key for key in st.query_params if "~" in key and key.partition(".")[0] not in copies]:
            del st.query_params[key]
    return tuple(entry for key in methods for entry in (key, *(copy for copy in copies if method_key(copy) == key)))


def _copies(methods: Sequence[str]) -> list[str]:
    """The copies that the link names, sorted by their methods and numbers."""
    declared = ex.methods()
    copyable = {key for key in methods if key in declared and parameters_of(key)}
    named = {word for word in link.get(PARAMETER).split() if (match := COPY.fullmatch(word)) and match[1] in copyable}
    return sorted(named, key=lambda copy: (methods.index(method_key(copy)), number(copy)))


def is_full(entry: str) -> bool:
    """Whether the entry's method has as many entries as it may."""
    return _free_number(entry) is None


def _free_number(entry: str) -> int | None:
    taken = {number(copy) for copy in link.get(PARAMETER).split() if method_key(copy) == method_key(entry)}
    return next((free for free in range(2, MOST + 1) if free not in taken), None)


def add_copy(entry: str) -> None:
    """Callback: add a copy of an entry, with the same settings to begin with."""
    free = _free_number(entry)
    if free is None:
        return
    copy = f"{method_key(entry)}~{free}"
    for parameter in parameters_of(entry):
        former, own = f"{entry}.{parameter.name}", f"{copy}.{parameter.name}"
        st.session_state[own] = st.session_state.get(former, parameter.default)
        if former in st.query_params:  # a value that the session sets does not reach the URL by itself
            st.query_params[own] = st.query_params[former]
    link.put(PARAMETER, f"{link.get(PARAMETER)} {copy}".strip())


def remove_copy(entry: str) -> None:
    """Callback: remove a copy. Streamlit takes its settings out of the URL, because no widget holds them there any more."""
    link.put(PARAMETER, " ".join(copy for copy in link.get(PARAMETER).split() if copy != entry))


def setting_keys(chosen: Sequence[str]) -> list[str]:
    """The keys of the widgets that hold the settings of these entries."""
    return [f"{entry}.{parameter.name}" for entry in chosen for parameter in parameters_of(entry)]
