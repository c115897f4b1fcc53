"""What the engine says that a run is going to take, before it and after it has learned."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from support.counting import counted_walks

import explainers as ex
from explainers.methods.iba import bottleneck_layer
from explainers.networks.classifier import Classifier

# What a run is going to take


@pytest.fixture()
def slow_clock(monkeypatch):
    """Every pass is estimated at 10 ms, and the engine's clock moves only when ``taking`` moves it."""
    monkeypatch.setattr(Classifier, "pass_seconds", lambda self: ex.Passes(0.01, 0.01))
    monkeypatch.setattr("explainers.engine.time", SimpleNamespace(perf_counter=lambda: CLOCK[0]))


CLOCK = [0.0]


def taking(seconds):
    """A progress callback that makes a run take so long."""
    def progress(done, total, preview):
        if done == 0:
            CLOCK[0] += seconds
    return progress


def test_the_cost_is_known_before_the_run(toy):
    cost = ex.Engine().cost(toy, "integrated_gradients", steps=20)
    assert cost.passes == ex.Passes(20, 20) and 0 < cost.seconds < 5
    assert ex.Engine().cost(toy, "random").seconds == 0


def test_the_cost_includes_statistics_until_they_are_fitted(toy, image, slow_clock):
    engine, question = ex.Engine(), ex.ask(toy, image, "iba", target=1, images=40)
    below = toy.cost_fraction(None, bottleneck_layer(toy, "auto"))
    passes = question.passes
    assert engine.must_fit(question) and not engine.must_fit(ex.ask(toy, image, "gradient", target=1))
    of_map = 0.01 * (passes.forward + passes.backward)
    assert engine.cost(question) == ex.Cost(passes, pytest.approx(of_map + 0.01 * 40 * below))
    engine.explain(question)
    assert not engine.must_fit(question) and engine.must_fit(ex.ask(toy, image, "iba", target=1, images=41))
    assert engine.cost(question) == ex.Cost(passes, pytest.approx(of_map))
    assert engine.fit_seconds(question) == 0 and engine.fit_seconds(question, anew=True) == pytest.approx(0.01 * 40 * below)
    assert not engine.must_fit(ex.ask(toy, image, "iba", target=2, images=40))  # the statistics serve all classes


def test_the_time_counts_what_a_method_computes_beside_its_passes(toy, image, slow_clock):
    question = ex.ask(toy, image, "dmbp", target=1, iterations=20)
    passes = question.passes
    assert ex.Engine().cost(question) == ex.Cost(passes, pytest.approx(0.01 * (passes.forward + passes.backward + 40)))


def test_the_cost_learns_from_the_last_run(toy, bias_free, image, slow_clock):
    engine, question = ex.Engine(), ex.ask(toy, image, "smoothgrad", target=1, samples=5)
    assert engine.cost(question) == ex.Cost(ex.Passes(5, 5), pytest.approx(0.1))
    engine.explain(question, progress=taking(0.4))
    learned = engine.cost(question)
    assert learned == ex.Cost(ex.Passes(5, 5), pytest.approx(0.4))
    assert engine.cost(toy, "smoothgrad", samples=10).seconds == pytest.approx(2 * learned.seconds)
    engine.explain(question, progress=taking(0.4))  # from the cache, which takes no time and teaches nothing
    assert engine.cost(question) == learned
    assert engine.cost(toy, "gradient").seconds == pytest.approx(0.02)  # another method, another network: as before
    assert engine.cost(bias_free, "smoothgrad", samples=5).seconds == pytest.approx(0.1)
    engine.explain(replace(question, seed=1), progress=taking(0.2))
    assert engine.cost(question).seconds == pytest.approx(0.2)  # the last run counts


def test_a_stalled_machine_and_a_quick_one_are_believed_only_so_far(toy, image, slow_clock):
    engine = ex.Engine()
    engine.explain(toy, image, "gradient", target=1, progress=taking(0.5))
    assert engine.cost(toy, "gradient").seconds == pytest.approx(20 * 0.02)
    engine.explain(toy, image, "gradient", target=2)
    assert engine.cost(toy, "gradient").seconds < 0.4
    engine.explain(toy, image, "rise", target=2, masks=400)
    assert engine.cost(toy, "rise", masks=400).seconds == pytest.approx(0.2 * 4)


def test_what_was_reused_or_fitted_teaches_nothing(toy, image, slow_clock):
    engine = ex.Engine()
    engine.explain(toy, image, "gradient", target=1)
    engine.explain(toy, image, "gradient_x_input", target=1, progress=taking(0.2))  # uses the gradient again
    assert engine.cost(toy, "gradient_x_input").seconds == pytest.approx(0.02)
    before = engine.cost(toy, "iba")
    engine.explain(toy, image, "iba", target=1, images=4)
    assert engine.cost(toy, "iba") == before


def test_a_measurements_cost_learns_as_well_and_not_from_the_maps(toy, image, slow_clock):
    engine, question = ex.Engine(), ex.ask(toy, image, "gradient", target=1)
    engine.explain(question)
    one, other = (ex.judge("sensitivity_n", question, counts=(1, 5), masks=masks) for masks in (5, 6))
    assert engine.cost_together([one]).seconds == pytest.approx(0.1)
    engine.measure(one, progress=taking(0.3))
    assert 12 * 0.03 * 0.99 <= engine.cost_together([other]).seconds < 1
    unmade = ex.judge("insertion_deletion", replace(question, target=2), step=200)
    expected = engine.cost_together([unmade]).passes
    engine.measure(unmade, progress=taking(0.3))  # its map had to be made in between
    again = engine.cost_together([ex.judge("insertion_deletion", question, step=200)])
    assert again.passes == expected - ex.Passes(1, 1) and again.seconds == pytest.approx(0.01 * again.passes.forward)


def test_the_cost_of_measurements_is_what_they_send_through_the_network(toy, image, monkeypatch):
    """Of several methods together, each time less of what is there already."""
    engine = ex.Engine()
    keys = ("smoothgrad", "occlusion", "guided_backprop")
    questions = [ex.ask(toy, image, key, target=1, **ex.methods()[key].cheap) for key in keys]
    judged = [ex.judge("insertion_deletion", question, step=100) for question in questions]
    engine.explain(questions[0])
    engine.measure(judged[1])
    cost = engine.cost_together(judged).passes
    with counted_walks(monkeypatch) as counted:
        engine.measure_together(judged)
    assert counted.passes == cost and cost.forward > 20
    assert engine.cost_together(judged) == ex.Cost(ex.Passes(), 0.0)
