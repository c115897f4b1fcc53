"""A card for each method and each metric, made from its declaration alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import streamlit as st

import explainers as ex
from components.compute import runs
from components.compute.controls import in_words
from components.sidebar.sidebar import Workspace
from components.state import session
from explainers.contract import Method, Metric
from explainers.parameters import Parameter

NEEDS = {
    "graph": "a network whose layers can be walked",
    "relu": "ReLU activations",
    "features": "a spatial feature map before the head",
    "reference": "a reference set of images",
}
ALL = "All"
METRICS = "Metrics"


def draw(workspace: Workspace) -> None:
    """The filter, and the cards that pass it, by family."""
    known = ex.methods()
    families = list(dict.fromkeys(method.family.capitalize() for method in known.values()))
    with st.container(horizontal=True, vertical_alignment="bottom", key="filter"):
        family = st.segmented_control(
            "Family", [ALL, *families, METRICS], default=ALL, required=True, wrap=True, key="family",
            bind="query-params", help="Shows one family of methods, or the metrics that judge them.")
        words = st.text_input("Search", key="search", bind="query-params", placeholder="for example: noise", width=260,
                              help="Shows the methods and metrics whose card has all of these words.")
    shown = {name: [method for method in known.values() if method.family.capitalize() == name and _has(_text(method), words)]
             for name in families}
    shown[METRICS] = [metric for metric in ex.metrics().values() if _has(_facts(metric), words)]
    shown = {name: members for name, members in shown.items() if members and family in (ALL, name)}
    if not shown:
        st.info("No card has all of these words.")
    for name, members in shown.items():
        st.subheader(name, anchor=False)
        _grid(members, metric_card if name == METRICS else lambda method: card(method, workspace))


def _grid(members: Sequence[Method | Metric], fill: Callable[[Method | Metric], None]) -> None:
    columns = st.columns(2, gap="medium")
    for place, member in enumerate(members):
        with columns[place % 2].container(border=True, key=f"card-{member.key}", gap="small"):
            fill(member)


def _has(text: str, words: str) -> bool:
    return all(word in text.lower() for word in words.lower().split())


def _text(method: Method) -> str:
    return f"{_facts(method)} " + " ".join(f"{parameter.label} {parameter.help}" for parameter in method.parameters)


def _facts(member: Method | Metric) -> str:
    return f"{member.title} {member.key} {member.idea} {member.limits} {member.citation}"


def _head(member: Method | Metric) -> None:
    st.markdown(f"**{member.title}**")
    st.write(member.idea)
    st.latex(member.equation)


def metric_card(metric: Metric) -> None:
    """Idea, equation, limits and reference."""
    _head(metric)
    st.html(_list([("Limits", metric.limits), ("Reference", str(metric.citation))]))


def card(method: Method, workspace: Workspace) -> None:
    """Idea, equation, cost here, parameters, needs, limits and reference."""
    _head(method)
    facts = [
        ("Cost", cost_in_words(method, workspace)),
        ("Values", "signed: for and against the class" if method.signed else "unsigned: strength only"),
        ("Needs", ", ".join(NEEDS.get(need, need) for need in method.needs) or "nothing but the network's output"
         if method.family != "control" else "nothing: it does not look at the network"),
        ("Limits", method.limits),
        ("Reference", str(method.citation)),
    ]
    st.html(f"{_list(facts)}{_parameter_table(method.parameters)}")


def _list(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{label}</dt><dd>{escape(text)}</dd>" for label, text in facts)
    return f'<dl class="facts">{rows}</dl>'


def cost_in_words(method: Method, workspace: Workspace) -> str:
    """Passes at the default settings, and seconds on the chosen network."""
    passes = runs.passes_in_words(method.passes(method.settings()))
    if workspace.network is None:
        return passes
    reason = method.lacks(workspace.network)
    if reason:
        return f"{passes}; off for {workspace.network.title}: {reason}"
    try:
        cost = session.engine().cost(workspace.network, method.key)
    except ex.ExplainerError as error:
        return f"{passes}; {error}"
    fit = ", after statistics are fitted on a reference set" if "reference" in method.needs else ""
    return f"{runs.passes_in_words(cost.passes)}, about {runs.seconds_in_words(cost.seconds)} on {workspace.network.title}{fit}"


def _parameter_table(parameters: Sequence[Parameter]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td>{escape(parameter.label)}</td><td>{escape(_value(parameter.default))}</td>"
        f"<td>{escape(_range(parameter))}</td><td>{escape(parameter.help)}</td></tr>" for parameter in parameters)
    return f'<table class="parameters"><tr><th>Setting</th><th>Default</th><th>Range</th><th></th></tr>{rows}</table>'


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, (int, float)) else in_words(str(value))


def _range(parameter: Parameter) -> str:
    if parameter.kind == "switch":
        return "on, off"
    if parameter.kind == "choice":
        return ", ".join(map(in_words, parameter.options))
    if parameter.kind == "layer":
        return "auto, or a layer"
    return f"{parameter.low:g} to {parameter.high:g}"
