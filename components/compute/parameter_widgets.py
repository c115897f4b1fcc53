"""A method's parameters as widgets, made from its declaration alone. The values are in the URL as ``method.parameter``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

import explainers as ex
from explainers.contract import Method
from explainers.errors import ParameterError
from explainers.parameters import Parameter

AUTO = "auto"
FEW_OPTIONS = 4
SLIDER_STEPS = 200  # a range with more steps than this is typed, not dragged


def settings(method: Method, network: ex.Classifier) -> dict[str, Any]:
    """A button that opens the method's widgets; it is off for a method that has none. Returns the values."""
    if method.parameters:
        with st.popover(method.title, help="The method's settings. Other settings give another map."):
            return parameters(method, network)
    st.button(method.title, disabled=True, key=f"plain-{method.key}", help="This method has no settings.")
    return {}


def parameters(method: Method, network: ex.Classifier) -> dict[str, Any]:
    """Draw a widget for each parameter of ``method`` and return the values, checked against the declaration."""
    values = {}
    for parameter in method.parameters:
        value = _widget(parameter, f"{method.key}.{parameter.name}", network.layers)
        try:
            values[parameter.name] = parameter.check(value)
        except ParameterError as error:
            st.error(f"{error} The default is used.")
            values[parameter.name] = parameter.default
    return values


def _widget(parameter: Parameter, key: str, layers: Sequence[str]) -> Any:
    common: dict[str, Any] = {"label": parameter.label, "key": key, "help": in_words(parameter.help), "bind": "query-params"}
    if parameter.kind == "switch":
        return st.toggle(value=parameter.default, **common)
    if parameter.kind == "layer":
        return st.selectbox(options=[AUTO, *layers], **common)
    if parameter.kind == "choice":
        return _choice(parameter, common)
    return _number(parameter, common)


def _choice(parameter: Parameter, common: dict[str, Any]) -> str:
    common["format_func"] = in_words
    if len(parameter.options) <= FEW_OPTIONS:
        return st.segmented_control(options=parameter.options, default=parameter.default, required=True, wrap=True, **common)
    return st.selectbox(options=parameter.options, index=parameter.options.index(parameter.default), **common)


def in_words(text: str) -> str:
    """An option, or a text that names options, as people read it: without Python's underscores."""
    return text.replace("_", " ")


def _number(parameter: Parameter, common: dict[str, Any]) -> int | float:
    kind = int if parameter.kind == "integer" else float
    low, high, default, step = (kind(number) for number in (parameter.low, parameter.high, parameter.default, parameter.step))
    if (high - low) / step > SLIDER_STEPS:
        typed = st.number_input(min_value=low, max_value=high, value=default, step=step,
                                format=None if kind is int else "%g", **common)
        return kind(typed)
    return st.slider(min_value=low, max_value=high, value=default, step=step, **common)
