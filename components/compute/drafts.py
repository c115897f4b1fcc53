"""Drafts: a method's map with fewer steps, samples or masks, as a quick first answer.

A draft is a question of its own. Its settings are those that a person chose, lowered to the ``draft`` settings that the method
declares; a setting that is lower already stays.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import explainers as ex
from explainers.parameters import Parameter

IMAGES = "images"  # the setting that says on how many reference images statistics are fitted


def of(question: ex.Question) -> ex.Question | None:
    """The draft of a question; None where its method declares none, or where the settings are no higher than the draft's."""
    current, parameters = used(question), {parameter.name: parameter for parameter in question.method.parameters}
    lower = {name: _lowered(parameters[name], current[name], value) for name, value in question.method.draft.items()}
    changed = {name: value for name, value in lower.items() if value != current[name]}
    if IMAGES in changed and question.reference_set and question.reference_set.count(changed[IMAGES]) == current[IMAGES]:
        changed.pop(IMAGES)  # shipped statistics are of all images
    return dataclasses.replace(question, settings=dataclasses.replace(question.settings, **changed)) if changed else None


def settings(question: ex.Question) -> dict[str, Any]:
    """The settings of a question by name."""
    return question.params


def used(question: ex.Question) -> dict[str, Any]:
    """The settings of a question by name, with the number of reference images that there are."""
    values, reference = settings(question), question.reference_set
    return {**values, IMAGES: reference.count(values[IMAGES])} if reference and IMAGES in values else values


def in_words(draft: ex.Question, whole: ex.Question) -> str:
    """What a draft leaves out of the whole: "2 of 20 prior epochs, 20 of 60 steps"."""
    before, after = used(whole), used(draft)
    return ", ".join(f"{after[parameter.name]:,} of {before[parameter.name]:,} {parameter.label.lower()}"
                     for parameter in whole.method.parameters if after[parameter.name] != before[parameter.name])


def _lowered(parameter: Parameter, current: Any, draft: Any) -> Any:
    """The draft's value of a number, unless the current one is lower. Raises ValueError for a setting that is no number."""
    if parameter.kind not in {"integer", "real"}:
        raise ValueError(f"{parameter.name} cannot be lowered for a draft: it is no number.")
    return min(current, draft)
