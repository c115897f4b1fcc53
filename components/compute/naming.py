"""What the entries of a comparison are called: by their method, and two of one method by the settings that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import explainers as ex
from components.drawing.heatmaps import LONGEST_TITLE
from components.state import entries
from components.state.entries import Name
from explainers import ensembles
from explainers.parameters import Parameter

MOST_DIFFERENCES = 2  # settings in a title

Settings = Mapping[str, Any]
"""The settings of an entry by name."""


def names(settings: Mapping[str, Settings]) -> dict[str, Name]:
    """The name of each entry by its key. settings: those of all entries of the page, by key.

    The only entry of a method has the method's title, and its ensemble's. Several are named by at most two settings that differ, as
    "IBA \u00b7 beta 20"; where more differ, and where these do not tell two of them apart, they have their numbers: "IBA 2".
    """
    groups: dict[str, list[str]] = {}
    for key in settings:
        groups.setdefault(entries.method_key(key), []).append(key)
    named: dict[str, Name] = {}
    for members in groups.values():
        method = entries.method_of(members[0])
        named |= _of_several(method, {key: settings[key] for key in members}) if len(members) > 1 else {
            members[0]: _alone(method, settings[members[0]])}
    return {key: named[key] for key in settings}


def _alone(method: ex.Method, settings: Settings) -> Name:
    """The name of the only entry of a method: "Gradient", or "Gradient \u00b7 VarGrad of 10" for an ensemble."""
    _, ensemble = ensembles.split(method.title, settings)
    if ensemble.members == 1:
        return Name.alone(method)
    short = f"{method.short_title} \u00b7 {ensemble.title}"
    return Name(method.key, f"{method.title} \u00b7 {ensemble.title}", short if len(short) <= LONGEST_TITLE else method.short_title,
                ensemble.title)


def _of_several(method: ex.Method, settings: Mapping[str, Settings]) -> dict[str, Name]:
    differing = [parameter for parameter in entries.parameters_of(next(iter(settings)))
                 if len({repr(values.get(parameter.name)) for values in settings.values()}) > 1]
    if len(differing) > MOST_DIFFERENCES:
        differing = []
    differences = {key: ", ".join(in_words(parameter, values.get(parameter.name)) for parameter in differing)
                   for key, values in settings.items()}
    shared = Counter(differences.values())
    return {key: _name(method, key, difference, numbered=shared[difference] > 1) for key, difference in differences.items()}


def _name(method: ex.Method, key: str, difference: str, numbered: bool) -> Name:
    number = f"{method.short_title} {entries.number(key)}"
    title = number if numbered else method.short_title
    title += f" \u00b7 {difference}" if difference else ""
    return Name(key, title, title if len(title) <= LONGEST_TITLE else number, difference)


def in_words(parameter: Parameter, value: Any) -> str:
    """A setting with its value, as it stands in a title: "beta 20", "layer features.3", "times input on"."""
    label = in_sentence(parameter.label)
    if parameter.kind == "switch":
        return f"{label} {'on' if value else 'off'}"
    if parameter.kind in ("integer", "real") and value is not None:
        return f"{label} {value:,}" if isinstance(value, int) else f"{label} {value:g}"
    return f"{label} {value}" if parameter.kind == "layer" else f"{label} {str(value).replace('_', ' ')}"


def in_sentence(title: str) -> str:
    """A title within a sentence: "Masked input" as "masked input", but "L1 weight" as it is."""
    return title[0].lower() + title[1:] if title[1:2].islower() else title
