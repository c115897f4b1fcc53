"""Class sensitivity over a set of images: each method's average with its standard error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import streamlit as st

import explainers as ex
from components.class_sensitivity import class_exports
from components.class_sensitivity.class_choice import NAMES, Choice
from components.compute.method_row import MethodMap
from components.compute.schedule import Schedule
from components.compute.task import Failed, Ready, Task, must_fit, refused
from components.drawing.foreign_words import in_markdown
from components.drawing.numbers import fixed
from components.state import decoded, pool
from components.state.engine import engine
from components.state.last_result import last
from components.state.workspace import Workspace
from explainers.context import RunOptions
from explainers.data.class_pairs import ClassPairs, digits_pairs, pictures_pairs, scenes_pairs
from explainers.keys import key_of
from explainers.metrics import class_sensitivity as metric
from explainers.metrics.class_sensitivity import SetSensitivity
from explainers.metrics.map_distances import COMPARE_SECONDS, Average
from explainers.progress import Progress, report

PLACE = "class-set"
OVER_A_SET = "class_sensitivity over a set"  # the results' name in the cache
COUNTS = (5, 10, 20, 50)
PAIRS = "class_pairs"  # the last set that was drawn, in the session
WORDS = {"same": "hardly follows the class", "alike": "follows it a little", "different": "follows the class",
         "unknown": "cannot be told"}


Measured = tuple[MethodMap, dict[str, Average]]
"""An entry with its averages by measure."""


@dataclass(frozen=True)
class ImageSet:
    """``identity`` decides the images and their classes; ``load(progress)`` brings them."""

    title: str
    identity: str
    count: int
    load: Callable[[Progress], ClassPairs]


def draw(workspace: Workspace, choice: Choice) -> None:
    """The set, the run, and a table with a verdict for each method."""
    if not choice.methods:
        return
    with st.container(key="class-set"):
        st.html('<h2 class="class-head">Over a set of images</h2>')
        images = _images(workspace)
        if images is None:
            return
        schedule = Schedule(PLACE, [_task(workspace, images, method_map) for method_map in choice.methods])
        schedule.offer(f"Measure over {images.count} images")
        schedule.run()
        measured: list[Measured] = []
        for method_map, state in zip(choice.methods, schedule.states, strict=True):
            if isinstance(state, Failed):
                st.caption(in_markdown(f"{method_map.title}: {state.reason}"))
            elif isinstance(state, Ready):
                measured.append((method_map, state.value.averages))
        if measured:
            _table(workspace, images, measured)


def _images(workspace: Workspace) -> ImageSet | None:
    """Fresh pictures of the kind that the network was trained on; else the session's own uploads."""
    network, seed = workspace.network, workspace.seed
    if network.training_data in ("scenes", "digits"):
        count = st.segmented_control("Images", COUNTS, default=COUNTS[1], required=True, key="class_images", bind="query-params",
                                     help="How many fresh images are drawn from the seed. More: smaller errors, longer runs.")
        if network.training_data == "scenes":
            return ImageSet(f"{count} fresh scenes, each explained for its two objects", f"scenes {count} {seed}", count,
                            lambda progress: scenes_pairs(network, count, seed, progress))
        return ImageSet(f"{count} fresh digits, each explained for its two likeliest classes", f"digits {count} {seed}", count,
                        lambda progress: digits_pairs(network, count, seed))
    uploads = pool.uploads(pool.EXPLAIN)
    if len(uploads) < 2:
        why = "Photographs cannot be drawn afresh as scenes can. " if network.training_data == "photographs" else ""
        st.caption(f"{why}For this network the set is made of your own pictures: upload two or more in the sidebar. Each is explained "
                   "for its two likeliest classes.")
        return None
    return ImageSet(f"your {len(uploads)} pictures, each explained for its two likeliest classes",
                    f"pictures {sorted(upload.digest for upload in uploads)}", len(uploads),
                    lambda progress: pictures_pairs(network, (decoded.fresh(upload.data).image for upload in uploads)))


def _task(workspace: Workspace, images: ImageSet, method_map: MethodMap) -> Task:
    """The task of measuring one method over the set: two maps an image, which are not kept."""
    question = method_map.question
    if question is None:
        return refused(method_map.title, method_map.reason)
    reference = question.reference if method_map.method.fits_statistics else None
    method = method_map.method
    parts = (metric.METRIC.version, method.key, method.version, question.params, workspace.network, images.identity,
             workspace.seed, reference)

    def cost() -> ex.Cost:
        each = engine().cost(question)
        map_seconds = each.seconds - engine().fit_seconds(question)
        comparing = 3 * COMPARE_SECONDS * workspace.input.seen.width * workspace.input.seen.height  # each map with itself, and both
        return ex.Cost(each.passes * (2 * images.count), (2 * map_seconds + comparing) * images.count + _fit_seconds(question, images))

    def compute(progress: Progress) -> SetSensitivity:
        return engine().get_or_compute(OVER_A_SET, parts, lambda: _measured(workspace, images, question, progress), progress,
                                       SetSensitivity, cost().seconds)

    return Task(method_map.title, key_of(OVER_A_SET, *parts), cost,
                lambda: engine().lookup_computed(OVER_A_SET, parts, SetSensitivity), compute,
                _on_copies(question) or must_fit(question))


def _on_copies(question: ex.Question) -> bool:
    """Whether statistics are fitted on copies of the explained image, so that each image of the set needs its own."""
    return bool(question.reference_set and question.reference_set.note)


def _fit_seconds(question: ex.Question, images: ImageSet) -> float:
    """The estimated seconds of all fits over the set."""
    if _on_copies(question):
        return images.count * engine().fit_seconds(question, anew=True)
    return engine().fit_seconds(question)


def _measured(workspace: Workspace, images: ImageSet, question: ex.Question, progress: Progress) -> SetSensitivity:
    pairs = last(PAIRS, (images.identity, workspace.network.fingerprint),
                 lambda: images.load(lambda *_: report(progress, 0, 1)))

    def explain(x: Any, target: ex.Target, inner: Progress | None) -> ex.Attribution:
        return replace(question, x=x, target=target).run(RunOptions(inner, fits=engine().cache.unrecorded))

    classes = [tuple(map(ex.Target.of, two)) for two in pairs.classes]
    return metric.measure_set(explain, pairs.images, classes, progress)


def _table(workspace: Workspace, images: ImageSet, measured: Sequence[Measured]) -> None:
    """A row an entry, the maps most alike first, with the verdict on their averages."""
    ordered = sorted(measured, key=lambda row: -row[1]["rank"].mean if row[1]["rank"].count else 2)
    head = "".join(f"<th>{name}</th>" for name in NAMES.values())
    body = "".join(f"<tr><td>{escape(entry.title)}</td>{''.join(_cell(averages[name]) for name in NAMES)}"
                   f'<td class="words">{_verdict(averages)}</td></tr>' for entry, averages in ordered)
    st.html(f'<div class="wide"><table class="numbers"><tr><th>Method</th>{head}<th>In words</th></tr>{body}</table></div>'
            f'<p class="quiet">Mean \u00b1 standard error over {escape(images.title)}. Maps that are the same everywhere are counted, '
            "never averaged.</p>")
    st.download_button("Numbers of the set (CSV)", lambda: class_exports.set_numbers(workspace.network.name, images.title, measured),
                       f"{workspace.network.name}-class-sensitivity.csv", "text/csv", key="class-set-csv", on_click="ignore",
                       help="Mean, standard error and counts of every method and measure.")


def _cell(average: Average) -> str:
    if not average.count:
        return f"<td>none of {average.undefined}</td>"
    error = f" \u00b1 {fixed(average.error)}" if average.count > 1 else ""
    left_out = f'<span class="quiet"> ({average.undefined} empty)</span>' if average.undefined else ""
    return f"<td>{fixed(average.mean)}{error}{left_out}</td>"


def _verdict(averages: dict[str, Average]) -> str:
    """The verdict on the means, in a few words."""
    level = metric.verdict(averages["rank"].mean, averages["l2_unit"].mean).level
    return f'<span class="{level}">{WORDS[level]}</span>'
