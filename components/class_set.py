"""Class sensitivity over a set of images: the average with its standard error, run when it is asked for, method by method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import streamlit as st

import explainers as ex
from components import class_exports, gate, runs, session
from components.class_choice import NAMES, Choice
from components.numbers import fixed
from components.workspace import Workspace
from explainers.contract import Method, Passes
from explainers.data.class_pairs import ClassPairs, digits_pairs, pictures_pairs, scenes_pairs
from explainers.metrics import class_sensitivity as metric
from explainers.metrics.map_distances import MEASURES, Average

PLACE = "class-set"
MEASUREMENT = "class_sensitivity_set"
COUNTS = (5, 10, 20, 50)
HELD = "class_pairs"  # the last set that was drawn, in the session


@dataclass(frozen=True)
class ImageSet:
    """``identity`` decides the images and their classes; ``load`` brings them, with a progress callback."""

    title: str
    identity: str
    count: int
    load: Callable[[Any], ClassPairs]


@dataclass(frozen=True)
class Line:
    """One method over the set; ``averages`` is None until it was measured, ``trouble`` says why it cannot be."""

    method: Method
    params: dict[str, Any]
    facts: tuple[Any, ...]
    averages: dict[str, Average] | None = None
    trouble: str = ""


def draw(workspace: Workspace, choice: Choice) -> None:
    """The set, the run, and a table with a verdict for each method."""
    if not choice.methods:
        return
    st.html('<h3 class="class-head">Over a set of images</h3>')
    images = _images(workspace)
    if images is None:
        return
    lines = _run(workspace, images, [_line(workspace, images, method, params) for method, params in choice.methods])
    _show(workspace, images, lines)


def _images(workspace: Workspace) -> ImageSet | None:
    """Fresh pictures of the kind that the network was trained on; else the session's own uploads."""
    network, seed = workspace.network, workspace.seed
    if network.reference in ("scenes", "digits"):
        count = st.segmented_control("Images", COUNTS, default=COUNTS[1], required=True, key="class_images", bind="query-params",
                                     help="How many fresh images are drawn from the seed. More: smaller errors, longer runs.")
        if network.reference == "scenes":
            return ImageSet(f"{count} fresh scenes, each explained for its two objects", f"scenes {count} {seed}", count,
                            lambda progress: scenes_pairs(network, count, seed, progress))
        return ImageSet(f"{count} fresh digits, each explained for its two likeliest classes", f"digits {count} {seed}", count,
                        lambda progress: digits_pairs(network, count, seed))
    uploads = list(st.session_state.get("uploads", {}).values())
    if len(uploads) < 2:
        st.caption("For this network the set is made of your own pictures: upload two or more in the sidebar. Each is explained for "
                   "its two likeliest classes.")
        return None
    return ImageSet(f"your {len(uploads)} pictures, each explained for its two likeliest classes",
                    f"pictures {sorted(picture.digest for picture in uploads)}", len(uploads),
                    lambda progress: pictures_pairs(network, [picture.image for picture in uploads]))


def _line(workspace: Workspace, images: ImageSet, method: Method, params: dict[str, Any]) -> Line:
    network = workspace.network
    facts = (network.fingerprint, str(network.device), images.identity, method.key, method.version, sorted(params.items()),
             workspace.seed, workspace.reference.identity if workspace.reference and "reference" in method.needs else "")
    known = session.engine().known(MEASUREMENT, facts)
    return Line(method, params, facts, _averages(known) if known else None, network.lacks(method))


def _averages(known: Any) -> dict[str, Average]:
    return {name: Average(*known[name]) for name in MEASURES}


def _run(workspace: Workspace, images: ImageSet, lines: list[Line]) -> list[Line]:
    """Measure what is missing when it is quick or was asked for; a method that is finished stays when the run is stopped."""
    missing = [place for place, line in enumerate(lines) if line.averages is None and not line.trouble]
    if not missing:
        return lines
    each = [session.engine().cost(workspace.network, lines[place].method.key, **lines[place].params) for place in missing]
    maps = 2 * images.count
    passes = sum((cost.passes * maps for cost in each), Passes())
    seconds = maps * sum(cost.seconds for cost in each)
    key = repr([line.facts for line in lines])
    if not gate.opens(PLACE, key, seconds, free=False):
        runs.offer(PLACE, key, f"Measure over {images.count} images", passes, seconds,
                   any("reference" in lines[place].method.needs for place in missing))
        return lines
    with gate.bar(PLACE, key) as report:
        pairs = _loaded(images, workspace, lambda done, total, _: report("Drawing images", done, total))
        for number_, place in enumerate(missing):
            which = f"method {number_ + 1} of {len(missing)}"
            lines[place] = _measured(workspace, pairs, lines[place], report, which)
    return lines


def _loaded(images: ImageSet, workspace: Workspace, progress: Any) -> ClassPairs:
    return session.last(HELD, (images.identity, workspace.network.fingerprint), lambda: images.load(progress))


def _measured(workspace: Workspace, pairs: ClassPairs, line: Line, report: Any, which: str) -> Line:
    network = workspace.network

    def tick(done: int, total: int, _: Any = None) -> None:
        report(f"{line.method.title}, {which}: map", done, total)

    def explain(x: Any, target: Any, progress: Any) -> ex.Attribution:
        return ex.explain(network, x, line.method.key, target=target, seed=workspace.seed, progress=progress,
                          reference=workspace.reference, **line.params)

    def compute() -> dict[str, Any]:
        found = metric.measure_set(explain, pairs.images, pairs.classes, tick)
        return {name: [one.mean, one.error, one.count, one.undefined] for name, one in found.averages.items()}

    try:
        known = session.engine().measured(MEASUREMENT, line.facts, compute, tick)
    except ex.ExplainerError as error:
        return Line(line.method, line.params, line.facts, trouble=str(error))
    return Line(line.method, line.params, line.facts, _averages(known))


def _show(workspace: Workspace, images: ImageSet, lines: list[Line]) -> None:
    """A row a method, the maps most alike first, with the verdict on their averages."""
    for line in lines:
        if line.trouble:
            st.caption(f"{line.method.title}: {line.trouble}")
    there = [line for line in lines if line.averages is not None]
    if not there:
        return
    ordered = sorted(there, key=lambda line: -line.averages["rank"].mean if line.averages["rank"].count else 2)
    head = "".join(f"<th>{name}</th>" for name in NAMES.values())
    body = "".join(f"<tr><td>{escape(line.method.title)}</td>{''.join(_cell(line.averages[name]) for name in NAMES)}"
                   f'<td class="words">{_verdict(line.averages)}</td></tr>' for line in ordered)
    st.html(f'<div class="wide"><table class="numbers"><tr><th>Method</th>{head}<th></th></tr>{body}</table></div>'
            f'<p class="quiet">Mean \u00b1 standard error over {escape(images.title)}. Maps that are the same everywhere are counted, '
            "never averaged.</p>")
    found = {line.method.key: line.averages for line in there}
    st.download_button("Numbers of the set (CSV)", lambda: class_exports.set_numbers(workspace.network.name, images.title, found),
                       f"{workspace.network.name}-class-sensitivity.csv", "text/csv", key="class-set-csv", on_click="ignore",
                       help="Mean, standard error and counts of every method and measure.")


def _cell(one: Average) -> str:
    if not one.count:
        return f"<td>none of {one.undefined}</td>"
    error = f" \u00b1 {fixed(one.error)}" if one.count > 1 else ""
    left_out = f'<span class="quiet"> ({one.undefined} empty)</span>' if one.undefined else ""
    return f"<td>{fixed(one.mean)}{error}{left_out}</td>"


def _verdict(averages: dict[str, Average]) -> str:
    """The level of the verdict on the means, in a few words."""
    level = metric.verdict(averages["rank"].mean, averages["l2_unit"].mean).level
    words = {"same": "hardly follows the class", "alike": "follows it a little", "different": "follows the class",
             "unknown": "cannot be told"}
    return f'<span class="{level}">{words[level]}</span>'
