"""What the checks of the other pages say about a map, in a few words for the place below it.

Pages record what they measured: ``record_curves``, ``record_classes``, ``record_weights`` and ``record_region``. What was measured in
an earlier session, by a page's default settings, is looked up in the cache. Nothing is computed here, except how much of a map lies
on an object, which takes no pass. Results belong to a question: another picture, class, setting or seed has results of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

import explainers as ex
from components.drawing.numbers import fixed
from components.state import objects
from components.state.engine import engine
from components.state.workspace import Workspace
from explainers.metrics import class_sensitivity, insertion_deletion, localisation, sanity_checks
from explainers.metrics.class_sensitivity import ClassSensitivity
from explainers.metrics.insertion_deletion import InsertionDeletion
from explainers.metrics.protocols import COARSE_STEPS, FEWER_STEPS, Params
from explainers.metrics.sanity_checks import Step, StepQuestion

CONTROLS, CLASSES, WEIGHTS, PLACE = "controls", "classes", "weights", "place"
FINDINGS, REGION = "evidence", "evidence_region"  # in the session

CLASS_WORDS = {"same": "hardly changes with the class", "alike": "changes a little with the class",
               "different": "changes with the class",
               "unknown": "changes with the class: cannot be told, a map is the same everywhere"}
WEIGHT_WORDS = {"same": "stays the same", "most": "mostly stays", "much": "stays in part", "little": "changes with the weights",
                "unmoved": "no verdict on the weights: neither the map nor the predictions changed",
                "unknown": "changes with the weights: cannot be told, a map is the same everywhere"}
NEW_WEIGHTS = {"reinitialise": "re-initialised", "permute": "permuted", "normal": "drawn from a normal distribution"}
WARNED = ("same", "most")  # levels of both checks

Measured = tuple[ex.Question, InsertionDeletion]
"""A question with the curves of its map."""


@dataclass(frozen=True)
class Finding:
    """What one check says about a map. ``warned``: whether it speaks against trusting the map."""

    words: str
    warned: bool = False


def of(workspace: Workspace, question: ex.Question, attribution: ex.Attribution) -> dict[str, Finding]:
    """What is known about the map of a question, by check: CONTROLS, CLASSES, WEIGHTS, and PLACE where an object is known."""
    for check, lookup in ((CONTROLS, _lookup_curves), (CLASSES, _lookup_classes), (WEIGHTS, _lookup_weights)):
        if _get(check, question) is None:
            lookup(workspace, question)
    findings = {check: _get(check, question) for check in (CONTROLS, CLASSES, WEIGHTS)}
    findings[PLACE] = _place(workspace, question, attribution)
    return {check: finding for check, finding in findings.items() if finding is not None}


def record_curves(measured: Sequence[Measured], settings: Params) -> None:
    """Insertion and deletion of maps and of controls, all by the same settings. Without a control nothing is recorded."""
    controls = [(question.method, result) for question, result in measured if question.method.is_control]
    for question, result in measured:
        if controls and not question.method.is_control:
            _put(CONTROLS, question, against_controls(result, controls, settings))


def record_classes(question: ex.Question, result: ClassSensitivity, pair: tuple[int, int]) -> None:
    """The maps of several classes, compared. pair: the two classes that stand for the others; question: of any of the classes."""
    names = question.network.categories
    for target in result.targets:
        other = pair[0] if target.first == pair[1] or target.first not in pair else pair[1]
        if other != target.first:
            _put(CLASSES, replace(question, target=target), _between_classes(result, (target.first, other), names))
    for contrast in (pair, pair[::-1]):
        _put(CLASSES, replace(question, target=ex.Target.of(contrast)), _between_classes(result, contrast, names))


def record_weights(question: ex.Question, steps: Sequence[Step], stages: int, mode: str, how: str) -> None:
    """The steps of a sanity check, as far as they are there, of ``stages`` in all. Stages randomised one at a time give no verdict."""
    if steps and mode != "independent":
        _put(WEIGHTS, question, against_weights(steps[-1], len(steps), stages, mode, how))


def record_region(workspace: Workspace, name: str, inside: np.ndarray) -> None:
    """A region that a person drew on this picture. inside: (H, W) bool at the network's input size."""
    st.session_state[REGION] = (_seen_as(workspace), name, inside)


def forget_region() -> None:
    """The person chose an object instead."""
    st.session_state.pop(REGION, None)


def against_controls(own: InsertionDeletion, controls: Sequence[tuple[ex.Method, InsertionDeletion]], settings: Params) -> Finding:
    """Whether a map beats every control by insertion and by deletion; else the first that it does not beat, or that coarse curves
    cannot tell it from."""
    error = insertion_deletion.coarse_error(own, settings)
    comparisons = ((insertion_deletion.not_better, "no better than"), (insertion_deletion.too_close, "too close to tell from"))
    for compare, words in comparisons:
        for method, control in controls:
            for score in compare(own, control, error):
                name, numbers = score.name.removesuffix("_auc"), _against(score.of(own), score.of(control))
                return Finding(f"{words} the control {method.title} by {name}: {numbers}, {_protocol(own, settings)}",
                               warned=compare is insertion_deletion.not_better)
    best, control = max(controls, key=lambda entry: entry[1].insertion_auc)
    declared = sum(method.is_control for method in ex.methods().values())
    which = "the controls" if len(controls) == declared else f"{len(controls)} of {declared} controls"
    return Finding(f"beats {which}: insertion {_against(own.insertion_auc, control.insertion_auc)} of "
                   f"{best.title}, {_protocol(own, settings)}")


def against_weights(step: Step, done: int, stages: int, mode: str, how: str) -> Finding:
    """What a map does when the weights of ``done`` of ``stages`` stages are randomised."""
    level = sanity_checks.level(step)
    if level in ("unmoved", "unknown"):
        return Finding(WEIGHT_WORDS[level])
    which = "the last layer" if mode == "last_layer" else f"all {stages} stages" if done == stages else f"{done} of {stages} stages"
    when = "" if level == "little" else " without the trained weights"
    return Finding(f"{WEIGHT_WORDS[level]}{when}: similarity {_two(sanity_checks.similarity(step.distances))}, {which} "
                   f"{NEW_WEIGHTS[how]}", level in WARNED)


def on_region(name: str, result: localisation.Localisation) -> Finding:
    """How much of the strongest pixels lies in a region, beside chance. A network may use what is outside, so this is no warning."""
    own, chance = (f"{100 * fraction:.0f}\u00a0%" for fraction in (result.bounding_box, result.chance.bounding_box))
    large = ", a region so large that this says little" if result.too_large else ""
    if result.bounding_box > result.chance.bounding_box and own != chance:
        return Finding(f"lies on {name}: {own} of its strongest pixels, by chance {chance}{large}")
    return Finding(f"lies on {name} no more than by chance: {own} of its strongest pixels against {chance}{large}")


def _between_classes(result: ClassSensitivity, pair: tuple[int, int], names: Sequence[str]) -> Finding:
    distances = result.between(*pair)
    level = class_sensitivity.verdict(distances.rank, distances.l2_unit).level
    if level == "unknown":
        return Finding(CLASS_WORDS[level])
    return Finding(f"{CLASS_WORDS[level]}: similarity {_two(distances.rank)} (rank correlation of the maps for "
                   f"{names[pair[0]]} and {names[pair[1]]})", level in WARNED)


def _protocol(result: InsertionDeletion, settings: Params) -> str:
    """How the curves were measured: the protocol, and what of it was chosen otherwise."""
    title, steps = settings.rules.title, len(result.fractions) - 1
    published = Params(settings.protocol)
    chosen = replace(settings, baseline=settings.baselines, most_steps=None, labels=())
    own = chosen == replace(published, baseline=published.baselines)
    coarse = f", {steps} steps so far" if insertion_deletion.coarse_error(result, settings) else ""
    return f"by the {title} protocol{'' if own else ' with other settings'}{coarse}"


def _against(own: float, other: float) -> str:
    """Two numbers with two decimals, or with as many as tell them apart, if no more than four do."""
    digits = next((digits for digits in (2, 3, 4) if fixed(own, digits) != fixed(other, digits)), 2)
    return f"{fixed(own, digits)} against {fixed(other, digits)}"


def _two(value: float) -> str:
    return fixed(value, 2)


def _get(check: str, question: ex.Question) -> Finding | None:
    findings: dict[tuple[str, str], Finding] = st.session_state.get(FINDINGS, {})
    return findings.get((check, question.key))


def _put(check: str, question: ex.Question, finding: Finding) -> None:
    st.session_state.setdefault(FINDINGS, {})[check, question.key] = finding


def _lookup_curves(workspace: Workspace, question: ex.Question) -> None:
    """By the default settings of the faithfulness page, with as many steps as were measured."""
    for steps in (None, *reversed(COARSE_STEPS), *FEWER_STEPS):
        settings = Params(baseline=Params().baselines, most_steps=steps)
        own = engine().lookup(ex.judge("insertion_deletion", question, **vars(settings)))
        if own is None:
            continue
        controls = [workspace.question(method, {}) for method in ex.methods().values() if method.is_control]
        results = [engine().lookup(ex.judge("insertion_deletion", control, **vars(settings))) for control in controls]
        if all(result is not None for result in results):
            record_curves([(question, own), *zip(controls, results, strict=True)], settings)
            return


def _lookup_classes(workspace: Workspace, question: ex.Question) -> None:
    """For the two classes that the class sensitivity page compares by default."""
    classes = objects.likely_classes(workspace)[:2]
    if len(classes) == 2:
        asked = replace(question, target=ex.Target.of(classes[0]))
        result = engine().lookup(ex.judge("class_sensitivity", asked, classes=tuple(classes)))
        if result is not None:
            record_classes(question, result, (classes[0], classes[1]))


def _lookup_weights(workspace: Workspace, question: ex.Question) -> None:
    """After the last stage of the cascade that the sanity checks page runs by default."""
    settings = sanity_checks.Params()
    changes = _changes(workspace.network.fingerprint, settings, workspace.network)
    asked = StepQuestion(question, changes[-1], settings.how, settings.draw_seed)
    step = engine().lookup_computed(sanity_checks.STEP, asked.parts, sanity_checks.Step)
    if step is not None:
        _put(WEIGHTS, question, against_weights(step, len(changes), len(changes), settings.mode, settings.how))


@st.cache_resource(max_entries=8, show_spinner=False)
def _changes(fingerprint: str, settings: sanity_checks.Params, _network: ex.Classifier) -> tuple[sanity_checks.Change, ...]:
    return sanity_checks.schedule(_network, settings.mode, settings.stages)


def _place(workspace: Workspace, question: ex.Question, attribution: ex.Attribution) -> Finding | None:
    """Where the map lies, if the object of its class is known or a person drew a region; else None."""
    known = _known_region(workspace)
    if known is None or not known[1].any() or known[1].all():  # the localisation section says what is wrong with such a region
        return None
    name, inside = known
    check = f"{PLACE} {name} {hash(inside.tobytes())}"
    if _get(check, question) is None:
        result = localisation.measure(attribution, inside)
        assert isinstance(result, localisation.Localisation)
        _put(check, question, on_region(name, result))
    return _get(check, question)


def _known_region(workspace: Workspace) -> tuple[str, np.ndarray] | None:
    drawn = st.session_state.get(REGION)
    if drawn is not None and drawn[0] == _seen_as(workspace):
        return drawn[1], drawn[2]
    name = workspace.network.categories[workspace.target.first]
    inside = objects.object_masks(workspace).get(name)
    return None if inside is None else (f"the {name}", inside)


def _seen_as(workspace: Workspace) -> tuple[str, str, str]:
    """What decides where a pixel of the picture lies in the input."""
    return workspace.picture.digest, workspace.network.fingerprint, workspace.input.fit
