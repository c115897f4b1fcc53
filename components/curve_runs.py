"""Insertion and deletion curves of the maps on a page: what is known of them, what runs now, and what waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

import explainers as ex
from components import curves, gate, runs, session
from components.curves import Style
from components.runs import Job
from components.workspace import Workspace
from explainers.metrics import insertion_deletion as metric

NAME, VERSION = "insertion_deletion", 1  # raise the version when the same terms would give other curves

Terms = dict[str, Any]
"""The keywords of ``insertion_deletion.measure``: protocol, baseline, step, resolution, output, labels, order_by."""


@dataclass(frozen=True)
class Measured:
    """One map with its curves and how they are drawn."""

    job: Job
    style: Style
    found: metric.InsertionDeletion

    @property
    def key(self) -> str:
        """The method's name in Python."""
        return self.job.method.key

    @property
    def title(self) -> str:
        """The method's name for people."""
        return self.job.method.title

    @property
    def control(self) -> bool:
        """Whether the map knows nothing of the network."""
        return self.job.control


def measured(workspace: Workspace, jobs: Sequence[Job], several: Sequence[Terms], place: str, what: str) -> list[list[Measured]]:
    """For each of ``several`` terms the curves that are there, after those that run now have run.

    For the others a button says ``what`` it does and what it costs. ``jobs`` have their maps.
    """
    engine, network = session.engine(), workspace.network
    wanted = [_Wanted(job, terms, _facts(workspace, job, terms)) for terms in several for job in jobs]
    known = {one.facts: engine.known(NAME, one.facts) for one in wanted}
    groups = [[one for one in wanted if one.terms is terms and known[one.facts] is None] for terms in several]
    groups = [group for group in groups if group]
    if groups:
        key = repr([one.facts for one in wanted])
        passes = sum((metric.passes(network, [one.job.found for one in group], **group[0].terms) for group in groups), ex.Passes())
        seconds = passes.forward * network.pass_seconds().forward
        if gate.opens(place, key, seconds):
            try:
                with gate.bar(place, key) as report:
                    for number, group in enumerate(groups, start=1):
                        count = f", {number} of {len(groups)} baselines" if len(groups) > 1 else ""
                        known |= _run(workspace, group, lambda done, total, count=count: report(f"Images{count}", done, total))
            except ex.ExplainerError as error:
                st.error(str(error))
        else:
            runs.offer(place, key, what, passes, seconds)
    style = curves.styles([job.method.key for job in jobs])
    return [[Measured(one.job, style[one.job.method.key], metric.InsertionDeletion.of(known[one.facts]))
             for one in wanted if one.terms is terms and known[one.facts] is not None] for terms in several]


@dataclass(frozen=True)
class _Wanted:
    """A map, the terms it is measured by, and all that decides what comes out."""

    job: Job
    terms: Terms
    facts: tuple[Any, ...]


def _facts(workspace: Workspace, job: Job, terms: Terms) -> tuple[Any, ...]:
    noise = workspace.seed if "noise" in terms["baseline"] else None
    return VERSION, runs.request(workspace, job).key, tuple(sorted(terms.items())), noise


def _run(workspace: Workspace, group: Sequence[_Wanted], report: Any) -> dict[tuple[Any, ...], Any]:
    """Measure maps by the same terms in common batches; each map's curves are remembered for themselves."""
    fresh: dict[tuple[Any, ...], Any] = {}

    def progress(done: int, total: int, preview: Any = None) -> None:
        report(done, total)

    def fields(wanted: _Wanted) -> dict[str, Any]:
        if wanted.facts not in fresh:
            found = metric.measure(workspace.network, workspace.sight.x, [one.job.found for one in group],
                                   target=workspace.explained, seed=workspace.seed, progress=progress, **wanted.terms)
            fresh.update({one.facts: result.fields() for one, result in zip(group, found, strict=True)})
        return fresh[wanted.facts]

    return {one.facts: session.engine().measured(NAME, one.facts, lambda one=one: fields(one), progress) for one in group}
