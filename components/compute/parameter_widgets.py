"""A method's parameters as widgets, made from its declaration alone. The values are in the URL as ``method.parameter``, those of a
copy as ``method~2.parameter``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

import explainers as ex
from components.drawing import number_field
from components.drawing.foreign_words import in_markdown
from components.state import entries
from explainers import ensembles
from explainers.errors import ParameterError
from explainers.parameters import Parameter

AUTO = "auto"
FEW_OPTIONS = 4
SLIDER_STEPS = 200  # a range with more steps than this is typed, not dragged


def settings(entry: str, title: str, network: ex.Classifier) -> dict[str, Any]:
    """A button that opens the widgets of an entry; it is off for a method that has no settings. Returns the values.

    Below the widgets stands a button that adds a copy of the entry, and for a copy one that removes it.
    """
    if not entries.parameters_of(entry):
        st.button(title, disabled=True, key=f"plain-{entry}", help="This method has no settings.")
        return {}
    with st.popover(title, key=f"popover-{entry}", help="The method's settings. Other settings give another map."):
        values = parameters(entry, network)
        _offer_copies(entry)
    return values


def current(entry: str) -> dict[str, Any]:
    """The values of an entry's widgets before these are drawn: those of the page's last run, or the defaults."""
    return {parameter.name: st.session_state.get(f"{entry}.{parameter.name}", parameter.default)
            for parameter in entries.parameters_of(entry)}


def _offer_copies(entry: str) -> None:
    full = entries.is_full(entry)
    with st.container(key=f"copies-{entry}", horizontal=True, gap="small"):
        st.button("Compare with other settings", key=f"add-{entry}", on_click=entries.add_copy, args=(entry,), disabled=full,
                  help=f"There are {entries.MOST} already, the most that one method may have." if full else
                  "Adds the method once more beside this one, with the same settings to begin with.")
        if entries.number(entry) > 1:
            st.button("Remove", key=f"remove-{entry}", on_click=entries.remove_copy, args=(entry,),
                      help="Takes this one out of the comparison.")


def parameters(entry: str, network: ex.Classifier) -> dict[str, Any]:
    """Draw a widget for each parameter of an entry's method and return the values, checked against the declaration."""
    values: dict[str, Any] = {}
    for parameter in entries.parameters_of(entry):
        if not _has_effect(parameter, values):
            continue
        value = _widget(parameter, f"{entry}.{parameter.name}", network.layers)
        try:
            values[parameter.name] = parameter.check(value)
        except ParameterError as error:
            st.error(in_markdown(f"{error} The default is used."))
            values[parameter.name] = parameter.default
    return values


def _has_effect(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    """Whether a setting has an effect beside those before it: the members and the noise of an ensemble have none without one."""
    return parameter.name not in ensembles.NAMES[1:] or parameter.name in ensembles.used(values[ensembles.NAMES[0]])


def _widget(parameter: Parameter, key: str, layers: Sequence[str]) -> Any:
    common: dict[str, Any] = {"label": parameter.label, "key": key, "help": in_words(parameter.help)}
    if parameter.kind == "switch":
        return st.toggle(value=parameter.default, bind="query-params", **common)
    if parameter.kind == "layer":
        return st.selectbox(options=[AUTO, *layers], bind="query-params", **common)
    if parameter.kind == "choice":
        return _choice(parameter, common)
    return _number(parameter, common)


def _choice(parameter: Parameter, common: dict[str, Any]) -> str:
    common["format_func"] = in_words
    if len(parameter.options) <= FEW_OPTIONS:
        return st.segmented_control(options=parameter.options, default=parameter.default, required=True, wrap=True,
                                    bind="query-params", **common)
    return st.selectbox(options=parameter.options, index=parameter.options.index(parameter.default), bind="query-params", **common)


def in_words(text: str) -> str:
    """An option, or a text that names options, as people read it: without Python's underscores."""
    return text.replace("_", " ")


def _number(parameter: Parameter, common: dict[str, Any]) -> int | float:
    kind = int if parameter.kind == "integer" else float
    low, high, default, step = (kind(number) for number in (parameter.low, parameter.high, parameter.default, parameter.step))
    if (high - low) / step <= SLIDER_STEPS:
        return st.slider(min_value=low, max_value=high, value=default, step=step, bind="query-params", **common)
    if kind is int:
        whole = number_field.whole(low=int(low), high=int(high), default=int(default), step=step, **common)
        return default if whole is None else whole
    return st.number_input(min_value=low, max_value=high, value=default, step=step, format="%g", bind="query-params", **common)
