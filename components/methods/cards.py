"""A card for each method and each metric, made from its declaration alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import streamlit as st

import explainers as ex
from components.compute.naming import in_sentence
from components.compute.parameter_widgets import in_words
from components.drawing.numbers import passes_in_words, seconds_in_words
from components.state.engine import engine
from components.state.workspace import Workspace
from explainers.data.labelled import LabelledInputs
from explainers.parameters import Parameter

ALL = "All"
METRICS = "Metrics"
SET_SIZE = 100  # pictures of the labelled set whose cost is shown
JUDGES = {
    "map": "the map of one picture",
    "class maps": "a method's maps of several classes for one picture",
    "randomised maps": "a method's map next to its maps of the network with re-initialised weights",
    "labelled set": "a network over a set of labelled pictures",
}


def draw(workspace: Workspace | None) -> None:
    """The filter, and the cards that pass it, by family."""
    methods = ex.methods()
    families = list(dict.fromkeys(method.family.capitalize() for method in methods.values()))
    with st.container(horizontal=True, vertical_alignment="bottom", key="filter"):
        family = st.segmented_control(
            "Family", [ALL, *families, METRICS], default=ALL, required=True, wrap=True, key="family",
            bind="query-params", help="Shows one family of methods, or the metrics that judge them.")
        words = st.text_input("Search", key="search", bind="query-params", placeholder="for example: noise", width=260,
                              help="Shows the methods and metrics whose card has all of these words.")
    groups: dict[str, list[Any]] = {
        name: [method for method in methods.values() if method.family.capitalize() == name] for name in families}
    groups[METRICS] = list(ex.metrics().values())
    shown = {name: [member for member in group if _has(member, words)] for name, group in groups.items() if family in (ALL, name)}
    if not any(shown.values()):
        st.info("No card has all of these words.")
    for name, group in shown.items():
        if group:
            st.header(name, anchor=False)
            _grid(group, _metric_facts if name == METRICS else _method_facts, workspace)


def _has(member: ex.Method | ex.Metric, words: str) -> bool:
    settings = " ".join(f"{parameter.label} {parameter.help}" for parameter in member.parameters)
    names = f"{member.short_title} {member.family}" if isinstance(member, ex.Method) else METRICS
    text = f"{member.title} {member.key} {names} {member.idea} {member.limits} {member.citation} {settings}".lower()
    return all(word in text for word in words.lower().split())


def _grid(members: Sequence[Any], facts: Callable[[Any, Workspace | None], dict[str, str]], workspace: Workspace | None) -> None:
    """The cards in two columns: idea, equation, ``facts`` and settings."""
    columns = st.columns(2, gap="medium")
    for place, member in enumerate(members):
        with columns[place % 2].container(border=True, key=f"card-{member.key}", gap="small"):
            st.markdown(f"**{member.title}**")
            st.write(member.idea)
            st.latex(member.equation.replace(r"\qquad", r"\\"))  # two equations below each other: side by side few fit a card
            rows = facts(member, workspace) | {
                "Limits": member.limits, "Citation": str(member.citation), "Version": str(member.version)}
            st.html(f"{_list(rows)}{_parameter_table(member.parameters)}")


def _method_facts(method: ex.Method, workspace: Workspace | None) -> dict[str, str]:
    """Cost, kind of values, what a contrast is, needs, and what is shown beside the map."""
    facts = {"Cost": _method_cost(method, workspace),
             "Values": "signed: for and against the class" if method.signed else "unsigned: strength only"}
    if method.is_control:
        needs = "; ".join(requirement.label for requirement in method.needs)
        return facts | {"Needs": needs or "nothing: it does not look at the network"}
    facts["Contrast"] = ("linear in the logit: the map of a contrast is the difference of the two classes' maps" if method.linear
                         else "not linear in the logit: the map of a contrast is computed by itself")
    facts["Needs"] = "; ".join(requirement.label for requirement in method.needs) or "nothing but the network's output"
    if method.auxiliary_outputs:
        titles = dict.fromkeys(in_sentence(output.title) for output in method.auxiliary_outputs)
        facts["Shows"] = f"beside the map: {', '.join(titles)}"
    return facts


def _method_cost(method: ex.Method, workspace: Workspace | None) -> str:
    """Passes at the default settings, and seconds on the chosen network."""
    passes = passes_in_words(method.passes(method.settings()))
    if workspace is None:
        return passes
    reason = method.lacks(workspace.network)
    if reason:
        return f"{passes}; off for {workspace.network.title}: {reason}"
    try:
        cost = engine().cost(workspace.network, method.key)
    except ex.ExplainerError as error:
        return f"{passes}; {error}"
    fit = ", after statistics are fitted on a reference set" if method.fits_statistics else ""
    return f"{passes_in_words(cost.passes)}, about {seconds_in_words(cost.seconds)} on {workspace.network.title}{fit}"


def _metric_facts(metric: ex.Metric, workspace: Workspace | None) -> dict[str, str]:
    """What is judged, the scores, and the cost."""
    return {"Judges": JUDGES[metric.judges],
            "Scores": ", ".join(f"{score.title} ({score.better} is better)" for score in metric.scores),
            "Cost": _metric_cost(metric, workspace)}


def _metric_cost(metric: ex.Metric, workspace: Workspace | None) -> str:
    """The maps of one measurement, and what it sends through the chosen network beside making them, at the default settings."""
    if workspace is None:
        return "depends on the network"
    settings = metric.settings()
    if metric.judges == "labelled set":
        subject: Any = LabelledInputs(workspace.network, "", SET_SIZE, _no_pictures)
        what = f" for {SET_SIZE} pictures"
    else:
        subject = workspace.question(ex.methods()["gradient"], {})
        count = metric.questions(settings, subject)
        what = f", beside {count} map{'s' if count > 1 else ''} of a method"
    return passes_in_words(ex.Measurement(metric, subject, settings).passes()) + what


def _no_pictures(*_: Any) -> Any:
    raise ex.ExplainerError("Only the cost is asked for.")


def _list(facts: dict[str, str]) -> str:
    rows = "".join(f"<dt>{label}</dt><dd>{escape(text)}</dd>" for label, text in facts.items())
    return f'<dl class="facts">{rows}</dl>'


def _parameter_table(parameters: Sequence[Parameter]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td>{escape(parameter.label)}</td><td>{escape(_value(parameter.default))}</td>"
        f"<td>{escape(_range(parameter))}</td><td>{escape(in_words(parameter.help))}</td></tr>" for parameter in parameters)
    return f'<table class="parameters"><tr><th>Setting</th><th>Default</th><th>Range</th><th>Meaning</th></tr>{rows}</table>'


def _value(value: object) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, (int, float)) else in_words(str(value))


def _range(parameter: Parameter) -> str:
    """The allowed values in words."""
    if parameter.kind == "switch":
        return "on, off"
    if parameter.kind == "choice":
        words = ", ".join(map(in_words, parameter.options))
    elif parameter.kind == "layer":
        words = "auto, or a layer"
    else:
        words = parameter.takes.replace("'", "").replace("None", "none") or f"{parameter.low:g} to {parameter.high:g}"
    return f"{words}, or none" if parameter.optional else words
