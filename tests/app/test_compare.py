"""The start page: maps at once, controls that only redraw, failures that stay in their panel."""

from __future__ import annotations

import base64
import dataclasses

import numpy as np
import pytest

import explainers as ex
from app.reading import CHEAP, complaints, figure, maps, page_html, words
from components import colour, gate, runs, session


def test_the_start_page_draws_three_maps_at_once(open_app, monkeypatch):
    monkeypatch.setattr(gate, "FREE_SECONDS", float("inf"))  # the machine that runs the tests may be busy
    app = open_app()
    assert len(maps(app)) == 3
    assert not complaints(app) and not app.info
    assert "What the network sees" in words(app)


def test_display_controls_redraw_and_never_compute(open_app, engine):
    app = open_app(query={"methods": CHEAP})
    before, spec = engine.runs, figure(app)
    for key, value in (("values", "Magnitude"), ("scale", "Shared"), ("backdrop", "Colour"), ("clip", 95.0), ("hide", 50),
                       ("smoothing", 2.0)):
        app = _set(app, key, value)
        changed = figure(app)
        assert changed != spec, key
        spec = changed
    assert engine.runs == before


def _set(app, key, value):
    kinds = {"values": "button_group", "scale": "button_group", "backdrop": "button_group", "clip": "select_slider"}
    widget = next(w for w in getattr(app, kinds.get(key, "slider")) if w.key == key)
    return widget.set_value(value).run()


def test_a_shared_scale_gives_all_maps_one_limit(open_app):
    app = open_app(query={"methods": CHEAP})
    assert len({trace["zmax"] for trace in maps(app)}) == 3
    app = _set(app, "scale", "Shared")
    assert len({trace["zmax"] for trace in maps(app)}) == 1


def test_signed_maps_diverge_around_zero_and_unsigned_ones_start_there(open_app):
    app = open_app(query={"methods": CHEAP})
    by_title = dict(zip(CHEAP, maps(app), strict=True))
    assert by_title["Gradient"]["zmin"] == -by_title["Gradient"]["zmax"]
    app = _set(app, "values", "Magnitude")
    assert all(trace["zmin"] == 0 for trace in maps(app))


def test_a_map_that_never_comes_near_zero_starts_at_its_median():
    values = np.linspace(5, 6, 10_000, dtype=np.float32).reshape(100, 100)
    shown = colour.prepare([(values, False)], colour.Display())[0]
    assert 5.49 < shown.range[0] < 5.51 and 5.9 < shown.range[1] < 6
    alpha = colour.rgba(shown)[..., 3].ravel()
    assert not alpha[:5000].any() and (alpha[5200:] > 0).all()


def test_a_map_of_zeros_can_be_drawn():
    shown = colour.prepare([(np.zeros((8, 8), np.float32), True)], colour.Display(threshold=50, smoothing=1.0))[0]
    assert shown.range == (-1, 1) and not colour.rgba(shown)[..., 3].any()


def test_controls_join_when_asked(open_app):
    app = open_app(query={"methods": CHEAP[:1]})
    assert len(maps(app)) == 1
    app = next(t for t in app.toggle if t.key == "controls").set_value(True).run()
    controls = [m.title for m in ex.methods().values() if m.family == "control"]
    assert len(maps(app)) == 1 + len(controls) == 4
    assert all(title in words(app) for title in controls)


def test_a_contrast_is_explained_and_said(open_app):
    app = open_app(query={"methods": ["Gradient"]})
    plain = maps(app)[0]["z"]
    against = next(s for s in app.selectbox if s.key == "against")
    app = against.set_value(against.options[-1]).run()
    assert maps(app)[0]["z"] != plain
    assert "rather than" in page_html(app) and "\u2212" in words(app)


def test_a_failing_method_leaves_the_others(open_app, engine, monkeypatch):
    real = ex.Engine.explain

    def explain(self, network, x, method, **rest):
        if method == "gradient":
            raise ZeroDivisionError("secret path /home/somebody")
        return real(self, network, x, method, **rest)

    monkeypatch.setattr(ex.Engine, "explain", explain)
    app = open_app(query={"methods": CHEAP, "seed": "77"})
    assert len(maps(app)) == 2
    assert "(ZeroDivisionError)" in words(app) and "secret" not in words(app)


def test_a_refused_method_says_why_and_leaves_the_others(open_app, monkeypatch):
    real = ex.Classifier.lacks
    monkeypatch.setattr(ex.Classifier, "lacks", lambda self, m: "It needs feathers." if m.key == "grad_cam" else real(self, m))
    app = open_app(query={"methods": CHEAP})
    assert len(maps(app)) == 2
    assert "It needs feathers." in words(app)
    assert any("Off for this network: Grad-CAM" in caption.value for caption in app.caption)


def test_a_costly_run_waits_for_explain_and_cheap_maps_do_not(open_app, engine, monkeypatch):
    real = ex.Engine.cost

    def cost(self, network, method, **params):
        found = real(self, network, method, **params)
        return ex.Cost(found.passes, 60.0) if method == "gradient" else found

    monkeypatch.setattr(ex.Engine, "cost", cost)
    app = open_app(query={"methods": CHEAP, "seed": "78"})
    assert len(maps(app)) == 2 and "Waits for Explain." in words(app)
    app = next(b for b in app.button if b.key == "explain").click().run()
    assert len(maps(app)) == 3
    assert not any(b.key == "explain" for b in app.button)


def test_a_method_that_must_first_be_fitted_waits_however_cheap_its_map_is(open_app):
    app = open_app(query={"methods": ["Grad-CAM", "MIP-IN"], "network": "Digits: MLP-M of MIP-IN", "seed": "79"})
    assert "Waits for Explain." in words(app)
    assert any("after a fit" in caption.value for caption in app.caption)
    assert next(one.label for one in app.button if one.key == "explain").endswith(" after a fit")


def test_a_stopped_plan_runs_no_further_until_it_is_asked_for(open_app, engine, monkeypatch):
    plans = []
    real = runs.plan
    monkeypatch.setattr(runs, "plan", lambda *given: plans.append(real(*given)) or plans[-1])
    app = open_app(query={"methods": CHEAP, "seed": "79"})
    engine.cache.clear()
    app.session_state["stopped-maps"] = plans[-1].key
    before = engine.runs
    app.run()
    assert engine.runs == before
    assert not maps(app) and words(app).count("Stopped.") == 3
    app = next(b for b in app.button if b.key == "explain").click().run()
    assert len(maps(app)) == 3


def test_forgetting_clears_the_cache_and_the_maps_are_computed_again(open_app, engine):
    app = open_app(query={"methods": CHEAP})
    before, shown = engine.runs, maps(app)
    app = next(b for b in app.button if b.key == "forget").click().run()
    assert engine.runs == before + 3 and maps(app) == shown


def test_a_newer_run_ends_an_older_one_at_the_next_step(engine, monkeypatch):
    """The progress callback reads the session, which is where Streamlit ends a script that was replaced."""
    reads = []

    class Watched(dict):
        def __contains__(self, key):
            reads.append(key)
            return False

    monkeypatch.setattr(runs.st, "session_state", Watched())
    network, picture = session.network("scenes_vgg"), ex.samples()[0].load()
    x = network.preprocess(picture)
    method = ex.methods()["gradient"]
    space = type("Space", (), {"network": network, "sight": type("Sight", (), {"x": x}), "explained": 0, "seed": 80,
                              "reference": None})
    runs.run_one(space, runs.Job(method), lambda *a: None)
    assert len(reads) >= 2


def test_the_figure_says_the_cost_and_the_target(open_app):
    app = open_app(query={"methods": ["Gradient"]})
    assert "1 F + 1 B" in words(app) and "for " in words(app)


def test_flags_are_shown_in_words(open_app, monkeypatch):
    real = ex.Engine.cached
    monkeypatch.setattr(ex.Engine, "cached", lambda self, *a, **k: dataclasses.replace(
        real(self, *a, **k) or ex.Engine.explain(self, *a, **k), flags=("the map is zero everywhere",)))
    assert "the map is zero everywhere" in words(open_app(query={"methods": ["Gradient"]}))


@pytest.mark.parametrize("network", ["digits_mlp", "digits_cnn", "scenes_resnet", "scenes_nib_vgg"])
def test_every_embedded_network_has_pictures_of_its_kind(open_app, network):
    app = open_app()
    app = next(s for s in app.selectbox if s.key == "network").set_value(network).run()
    assert not app.exception and not complaints(app)
    assert maps(app)
    kind = "digits" if network.startswith("digits") else "scenes"
    gallery = [b for b in app.button if b.key.startswith("picture-")]
    assert len(gallery) == sum(sample.kind == kind for sample in ex.samples())


def test_hidden_pixels_are_not_drawn(open_app):
    app = open_app(query={"methods": ["Gradient"], "hide": "50"})
    z = maps(app)[0]["z"]
    values = np.frombuffer(base64.b64decode(z["bdata"]), dtype=z["dtype"])
    assert 0.45 < np.isnan(values).mean() < 0.55


@pytest.mark.parametrize(("forward", "said"), [(1.003, "1 F"), (1.5, "1.5 F"), (0.001, "0.01 F"), (1527, "1,527 F")])
def test_passes_are_said_without_a_dangling_point(forward, said):
    """Markdown reads a line that begins with ``1. `` as a list."""
    assert runs.passes_in_words(ex.Passes(forward)) == said
