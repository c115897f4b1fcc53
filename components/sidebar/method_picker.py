"""Which methods: a field to type in, and behind a button presets and the families, with about how long each method takes.

The widget ``methods`` holds the choice, and the URL names it by the methods' titles. Presets and families only write to that widget.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import streamlit as st

import explainers as ex
from components.drawing.foreign_words import in_markdown
from components.state import entries, link

log = logging.getLogger(__name__)

KEY = "methods"
FORMER = "former_choices"  # in the session: what was chosen before each preset that was pressed, the latest last
MOST_NAMED = 2  # methods that the network cannot run; of more, the line below the button says the number
DEFAULT_METHODS = ("grad_cam", "integrated_gradients", "guided_backprop")


@dataclass(frozen=True)
class Preset:
    """A selection of methods under a name. about: what they have in common. Those that the network cannot run are left out."""

    key: str
    title: str
    about: str
    methods: tuple[str, ...]

    def running(self, running: Sequence[str]) -> list[str]:
        """Its methods among those that run, in its own order."""
        return [key for key in self.methods if key in running]


PRESETS = (
    Preset("quick", "Quick look", "one forward and one backward pass each",
           ("grad_cam", "gradient_x_input", "guided_backprop", "transformer_attribution")),
    Preset("papers", "The five papers", "their own methods",
           ("attribution_mask", "i_gos", "dmbp", "input_iba", "mip_in")),
    Preset("own", "What the network says of itself", "read from its gradients and activations",
           ("gradient", "gradient_x_input", "integrated_gradients", "deep_lift", "lrp_epsilon", "grad_cam",
            "transformer_attribution")),
)


class Choice(NamedTuple):
    """What was chosen. copies: those of the methods, as the link has them."""

    methods: list[str]
    copies: str


def pick(network: ex.Classifier | None) -> tuple[str, ...]:
    """Draw the picker. Returns the chosen methods in the order of their choice, each with its copies behind it, the controls last."""
    declared = ex.methods()
    offered = {key: method for key, method in declared.items() if not method.is_control}
    reasons = {key: reason for key, method in offered.items() if network and (reason := method.lacks(network))}
    running = [key for key in offered if key not in reasons]
    chosen = st.multiselect(
        "Methods", [*running, *reasons], default=[key for key in DEFAULT_METHODS if key in offered], key=KEY, bind="query-params",
        format_func=lambda key: offered[key].title, placeholder="Choose methods", select_all=False,
        help="Each chosen method draws one map. Type to search: a name, or its short form, such as IG.")
    with st.popover("Presets and families", width="stretch", key="method_list_button"), st.container(key="method_list", gap="small"):
        _draw_list(offered, running, chosen, seconds(network, running) if network else {})
        _draw_reasons({offered[key].title: reason for key, reason in reasons.items()})
    if reasons:
        titles = ", ".join(offered[key].title for key in reasons)
        which = titles if len(reasons) <= MOST_NAMED else f"{len(reasons)} of {len(offered)} methods"
        st.caption(f"Off for this network: {which}. Presets and families says why.")
    controls = st.toggle(
        "Add controls", key="controls", bind="query-params",
        help="Maps that know nothing of what the network has learned: random noise, a blob in the centre, the picture's edges and "
             "magnitude, and the gradient of random weights. A method should look different from them.")
    return (*entries.with_copies(chosen), *(key for key in declared if controls and declared[key].is_control))


def seconds(network: ex.Classifier, methods: Sequence[str]) -> dict[str, float]:
    """About how long one map of each of these methods takes with its default settings, without statistics that it must first fit.

    Empty where the network's passes cannot be timed; a method whose passes cannot be told is left out. The page's own estimates
    of the chosen methods are more exact, because they learn from each run.
    """
    try:
        of_one = network.pass_seconds()
        passes = _passes(network.identity, tuple(methods), network)
    except ex.ExplainerError:
        return {}
    return {key: each.forward * of_one.forward + each.backward * of_one.backward for key, each in passes.items()}


@st.cache_data(max_entries=16, show_spinner=False)
def _passes(identity: str, methods: tuple[str, ...], _network: ex.Classifier) -> dict[str, ex.Passes]:
    """The passes that take as long as one map; a tenth of a second for all methods, because some follow the network's layers."""
    declared, passes = ex.methods(), {}
    for key in methods:
        try:
            passes[key] = declared[key].time_cost(declared[key].settings(), _network)
        except Exception:  # the list is on every page: one method must not take them all down
            log.exception("%s has no estimate of its time", declared[key].title)
    return passes


def _draw_list(offered: Mapping[str, ex.Method], running: Sequence[str], chosen: Sequence[str], times: Mapping[str, float]) -> None:
    """The presets, and the methods that run, by family.

    They are drawn in every run, because a popover that ran the page when it is opened would stop what the page computes.
    """
    _draw_presets(offered, running, times)
    for family in dict.fromkeys(offered[key].family for key in running):
        members = [key for key in running if offered[key].family == family]
        _draw_family(family, {key: offered[key] for key in members}, chosen, times)
    if times:
        st.markdown(":small[The times are rough estimates for one picture on this network with default settings. Some methods first "
                    "fit statistics on reference images, which takes longer.]")


def _draw_presets(offered: Mapping[str, ex.Method], running: Sequence[str], times: Mapping[str, float]) -> None:
    """A button for each preset, what it holds, and a button that goes back."""
    presets = {preset: members for preset in PRESETS if (members := preset.running(running))}
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key="method_presets"):
        for preset, members in presets.items():
            st.button(preset.title, key=f"preset-{preset.key}", on_click=choose, args=(members,))
        st.button("Undo", key="undo_preset", type="tertiary", on_click=undo, disabled=not st.session_state.get(FORMER),
                  help="Brings back what was chosen before the preset, with its settings.")
    lines = []
    for preset, members in presets.items():
        names = in_markdown(", ".join(offered[key].short_title for key in members))
        time = f" ({_about(sum(times[key] for key in members))} in all)" if times.keys() >= set(members) else ""
        lines.append(f":small[**{preset.title}**, {preset.about}: {names}{time}.]")
    st.markdown("  \n".join(lines))


def _draw_family(family: str, members: Mapping[str, ex.Method], chosen: Sequence[str], times: Mapping[str, float]) -> None:
    """The methods of a family, each as a button that is pressed where the method is chosen."""
    key = f"family-{family}"
    picked = [member for member in members if member in chosen]
    if st.session_state.get(key) != picked:
        st.session_state[key] = picked
    st.pills(family.capitalize(), list(members), selection_mode="multi", key=key, format_func=partial(_label, members, times),
             on_change=_toggle, args=(key, list(members)))


def _label(members: Mapping[str, ex.Method], times: Mapping[str, float], key: str) -> str:
    time = f" \u00b7 {roughly(times[key])}" if key in times else ""
    return in_markdown(members[key].title) + time


def roughly(seconds: float) -> str:
    """A duration with one significant digit, because more would promise too much."""
    if seconds < 0.095:
        return "< 0.1 s"
    return f"{float(f'{seconds:.1g}'):g} s" if seconds < 60 else f"{float(f'{seconds / 60:.1g}'):g} min"


def _about(seconds: float) -> str:
    """A rough duration within a sentence: "about 0.5 s", or "less than 0.1 s"."""
    words = roughly(seconds)
    return words.replace("<", "less than") if words.startswith("<") else f"about {words}"


def _draw_reasons(reasons: Mapping[str, str]) -> None:
    """The methods that this network cannot run, and why. reasons: sentences by the methods' titles."""
    if reasons:
        with st.container(key="methods_off", gap="small"):
            st.markdown("Off for this network  \n" + "  \n".join(f":small[{line}]" for line in grouped(reasons)))


def grouped(reasons: Mapping[str, str]) -> list[str]:
    """One line of Markdown for each reason, with the methods that share it. reasons: sentences by the methods' titles."""
    titles: dict[str, list[str]] = {}
    for title, reason in reasons.items():
        titles.setdefault(reason.removeprefix(f"{title} ") if reason.startswith(f"{title} needs ") else reason, []).append(title)
    return [f"**{in_markdown(', '.join(sharing))}**: {in_markdown(reason)}"
            for reason, sharing in titles.items()]


def _toggle(key: str, members: Sequence[str]) -> None:
    """Callback of a family's buttons: what is newly pressed is chosen last, and what is no longer pressed is left out."""
    pressed = st.session_state[key]
    kept = [method for method in st.session_state[KEY] if method not in members or method in pressed]
    st.session_state[KEY] = [*kept, *(method for method in pressed if method not in kept)]


def choose(methods: Sequence[str]) -> None:
    """Callback of a preset: choose these methods instead, and remember what was chosen for ``undo``."""
    former = list(st.session_state[KEY])
    if former != list(methods):
        st.session_state.setdefault(FORMER, []).append(Choice(former, link.get(entries.PARAMETER)))
        st.session_state[KEY] = list(methods)


def undo() -> None:
    """Callback: go back to what was chosen before the last preset, with its copies.

    Streamlit keeps the values of the settings' widgets while these are not drawn, because the widgets are bound to the URL.
    """
    if st.session_state.get(FORMER):  # else a second click, before the page was drawn again
        choice: Choice = st.session_state[FORMER].pop()
        st.session_state[KEY] = choice.methods
        link.put(entries.PARAMETER, choice.copies)
