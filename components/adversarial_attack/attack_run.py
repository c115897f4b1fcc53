"""The attack itself: run once for each picture and choice, and kept by the session alone, because it contains the picture."""

from __future__ import annotations

import streamlit as st

import explainers as ex
from components.adversarial_attack.attack_choice import Choice
from components.compute.schedule import Schedule
from components.compute.task import Failed, Ready, Task
from components.drawing.foreign_words import in_markdown
from components.state.engine import engine
from components.state.last_result import holds, last
from components.state.workspace import Workspace
from explainers import attack
from explainers.attack import Attack
from explainers.keys import key_of
from explainers.progress import Progress

PLACE = "attack"
KEPT = "attacked_picture"


def run(workspace: Workspace, choice: Choice) -> Attack:
    """The attacked picture. Ends the page while it waits for its button, or where it cannot be made."""
    schedule = Schedule(PLACE, [_task(workspace, choice)])
    schedule.offer("Attack the picture")
    (state,) = schedule.run()
    if isinstance(state, Failed):
        st.error(in_markdown(state.reason))
    if not isinstance(state, Ready):
        st.stop()
    result: Attack = state.value
    return result


def _task(workspace: Workspace, choice: Choice) -> Task:
    network, x = workspace.network, workspace.input.x
    key = key_of("attack", network, x, choice.target, choice.towards, choice.levels, choice.steps)
    passes = attack.passes(choice.steps)

    def cost() -> ex.Cost:
        of_one = network.pass_seconds()
        return ex.Cost(passes, passes.forward * of_one.forward + passes.backward * of_one.backward)

    def compute(progress: Progress) -> Attack:
        return last(KEPT, key, lambda: engine().compute(lambda: attack.attack(
            network, x, choice.target, epsilon=choice.epsilon, steps=choice.steps, towards=choice.towards,
            progress=progress), progress, cost().seconds))

    return Task("Attack", key, cost, lambda: st.session_state[KEPT][1] if holds(KEPT, key) else None, compute)
