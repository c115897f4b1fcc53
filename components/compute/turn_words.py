"""How the bar says when a run ends that shares the device with those of other sessions, and when one that waits goes on."""

from __future__ import annotations

import explainers as ex
from components.drawing.numbers import seconds_in_words


def still_to_come(engine: ex.Engine, seconds: float) -> str:
    """How long a run takes that needs ``seconds`` of its own: "about 12 s left, in turns with 2 other runs"."""
    sharing = engine.sharing(seconds)
    if sharing is None:
        return f"about {seconds_in_words(seconds)} left"
    others = "another run" if sharing.runs == 1 else f"{sharing.runs} other runs"
    return f"about {seconds_in_words(seconds + sharing.seconds)} left, in turns with {others}"


def until_its_turn(engine: ex.Engine, seconds: float) -> str:
    """What the run of this thread waits for: "waits for other sessions' runs, place 2 in the line, about 4.0 s".

    A run that has begun, and needs ``seconds`` more of its own, says how long it still takes, so that the bar keeps its words while
    the turns change.
    """
    wait = engine.waiting()
    if wait is None:  # it has just got the device
        return "waits for another session's run"
    until = f"about {seconds_in_words(max(wait.seconds, 1.0))}"
    if wait.for_same:
        return f"waits for another session that computes the same, {until}"
    if wait.begun:
        return still_to_come(engine, seconds)
    return f"waits for other sessions' runs, place {wait.place} in the line, {until}"
