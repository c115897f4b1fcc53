"""The start page: maps at once, controls that only redraw, failures that stay in their panel."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support import page
from support.page import CHEAP, choose, click, errors, has, maps, words

import explainers as ex
from components.compute import asked, drafts
from components.drawing import colour
from explainers.data.reference import neighbourhood


def test_the_start_page_draws_three_maps_at_once(open_app, monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", float("inf"))  # the machine that runs the tests may be busy
    app = open_app()
    assert len(maps(app)) == 3
    assert not errors(app) and not page.infos(app)
    assert "What the network sees" in words(app)


def test_display_controls_redraw_and_never_compute(open_app, engine):
    app = open_app(query={"methods": CHEAP})
    before, spec = engine.runs, page.chart(app, "heatmaps")
    for key, value in (("values", "Magnitude"), ("scale", "Shared"), ("backdrop", "Colour"), ("clip", 95.0), ("hide", 50),
                       ("smoothing", 2.0)):
        app = choose(app, key, value)
        changed = page.chart(app, "heatmaps")
        assert changed != spec, key
        spec = changed
    assert engine.runs == before


def test_a_shared_scale_gives_all_maps_one_limit(open_app):
    app = open_app(query={"methods": CHEAP})
    assert len({trace["zmax"] for trace in maps(app)}) == 3
    app = choose(app, "scale", "Shared")
    assert len({trace["zmax"] for trace in maps(app)}) == 1


def test_signed_maps_diverge_around_zero_and_unsigned_ones_start_there(open_app):
    app = open_app(query={"methods": CHEAP})
    by_title = dict(zip(CHEAP, maps(app), strict=True))
    assert by_title["Gradient"]["zmin"] == -by_title["Gradient"]["zmax"]
    app = choose(app, "values", "Magnitude")
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
    app = choose(app, "controls", True)
    controls = [m.title for m in ex.methods().values() if m.is_control]
    assert len(maps(app)) == 1 + len(controls) == 6
    assert all(title in words(app) for title in controls)


def test_a_contrast_is_explained_and_said(open_app):
    app = open_app(query={"methods": ["Gradient"]})
    plain = maps(app)[0]["z"]
    app = choose(app, "against", page.widget(app, "against").options[-1])
    assert maps(app)[0]["z"] != plain
    assert "rather than" in page.heading(app) and "\u2212" in words(app)


def test_a_failing_method_leaves_the_others(open_app, engine, monkeypatch):
    real = ex.Engine.explain

    def explain(self, question, **rest):
        if question.method.key == "gradient":
            raise ZeroDivisionError("secret path /home/somebody")
        return real(self, question, **rest)

    monkeypatch.setattr(ex.Engine, "explain", explain)
    app = open_app(query={"methods": CHEAP, "seed": "77"})
    assert len(maps(app)) == 2
    assert "(ZeroDivisionError)" in words(app) and "secret" not in words(app)


def test_a_refused_method_says_why_and_leaves_the_others(open_app, monkeypatch):
    real = ex.Method.lacks
    monkeypatch.setattr(ex.Method, "lacks", lambda self, net: "It needs feathers." if self.key == "grad_cam" else real(self, net))
    app = open_app(query={"methods": CHEAP})
    assert len(maps(app)) == 2
    assert "It needs feathers." in words(app)
    assert any("Off for this network: " in caption for caption in page.captions(app))
    assert "Grad-CAM" in page.section(app, "methods_off") and "It needs feathers." in page.section(app, "methods_off")
    assert "off for this network" in page.section(app, "settings-grad_cam")


def test_a_costly_run_waits_for_explain_and_cheap_maps_do_not(open_app, engine, monkeypatch):
    real = ex.Engine.cost

    def cost(self, question):
        estimate = real(self, question)
        return ex.Cost(estimate.passes, 60.0) if question.method.key == "gradient" else estimate

    monkeypatch.setattr(ex.Engine, "cost", cost)
    app = open_app(query={"methods": CHEAP, "seed": "78"})
    assert len(maps(app)) == 2 and "Waits for Explain." in words(app)
    assert page.widget(app, "run-maps").label == "Explain, about 60 s"
    app = click(app, "run-maps")
    assert len(maps(app)) == 3
    assert not has(app, "run-maps")


def test_a_method_that_must_first_be_fitted_waits_however_cheap_its_map_is(open_app):
    app = open_app(query={"methods": ["Grad-CAM", "MIP-IN"], "network": "Digits: MLP-M of MIP-IN", "seed": "79"})
    assert "Waits for Explain." in words(app)
    assert "with a fit" in page.section(app, "settings-mip_in")
    assert page.widget(app, "run-maps").label.endswith(" with a fit")


SLOW = {"methods": ["Gradient", "RISE"], "rise.masks": "1000", "network": "scenes_vgg"}


def slow_rise(monkeypatch):
    """RISE is estimated at 20 ms a mask."""
    real = ex.Engine.cost

    def cost(self, question):
        estimate = real(self, question)
        return ex.Cost(estimate.passes, 0.02 * question.settings.masks) if question.method.key == "rise" else estimate

    monkeypatch.setattr(ex.Engine, "cost", cost)


def test_a_draft_is_a_map_of_its_own_that_says_what_it_leaves_out_until_explain_replaces_it(open_app, engine, monkeypatch):
    slow_rise(monkeypatch)
    app = open_app(query={**SLOW, "seed": "83"})
    assert len(maps(app)) == 1 and page.widget(app, "run-maps").label == "Explain, about 20 s"
    assert page.widget(app, "draft-maps").label == "Draft, about 4.0 s"
    app = click(app, "draft-maps")
    assert len(maps(app)) == 2 and "draft: 200 of 1,000 masks" in words(app) and "200 F" in words(app)
    assert page.section(app, "settings-rise").endswith(" draft; in full 1,000 F, about 20 s")
    draft = maps(app)[1]["z"]
    app = click(app, "run-maps")
    assert "draft" not in words(app) and maps(app)[1]["z"] != draft and not has(app, "run-maps")


def test_the_draft_on_another_page_is_named_there(open_app, monkeypatch):
    slow_rise(monkeypatch)
    app = click(open_app("faithfulness", query={"methods": ["RISE"], "network": SLOW["network"], "seed": "84"}), "draft-maps")
    assert "Drafts, until Explain replaces them: RISE (200 of 4,000 masks)." in page.captions(app)


def test_settings_below_those_of_the_draft_have_none(open_app, monkeypatch):
    slow_rise(monkeypatch)
    app = open_app(query={**SLOW, "rise.masks": "190", "seed": "85"})
    assert has(app, "run-maps") and not has(app, "draft-maps")


def test_the_number_of_reference_images_is_part_of_a_draft_where_there_are_as_many(toy, image):
    def draft(question):
        lower = drafts.of(question)
        return drafts.in_words(lower, question) if lower else ""

    assert draft(ex.ask(toy, image, "iba", target=1)) == ""  # there are 64 copies of the image
    many = neighbourhood(toy, image, size=400)
    assert draft(ex.ask(toy, image, "iba", target=1, reference=many)) == "100 of 400 reference images"
    assert draft(ex.ask(toy, image, "iba", target=1, reference=many, images=50)) == ""
    assert draft(ex.ask(toy, image, "input_iba", target=1)) == "30 of 60 steps, 4 of 10 noisy copies, 0 of 20 prior epochs"


def test_a_stopped_run_goes_no_further_until_it_is_asked_for(open_app, engine, monkeypatch):
    engine.cache.clear()
    page.stop_at_next_report(monkeypatch, "maps")
    app = open_app(query={"methods": CHEAP, "seed": "79"})
    before = engine.runs
    app.run()
    assert engine.runs == before
    assert not maps(app) and words(app).count("Stopped.") == 3
    assert len(maps(click(app, "run-maps"))) == 3


def test_clear_map_cache_does_and_the_maps_are_computed_again(open_app, engine):
    app = open_app(query={"methods": CHEAP})
    before, shown = engine.runs, maps(app)
    app = click(page.unfold(app, "cached_maps"), "clear_cache")
    assert engine.runs == before + 3 and maps(app) == shown


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
    app = choose(app, "network", network)
    assert not app.exception and not errors(app)
    assert maps(app)
    kind = "digits" if network.startswith("digits") else "scenes"
    offered = {sample.title for sample in ex.samples() if sample.kind == kind}
    assert offered <= {button.label for button in app.button if (button.key or "").startswith("picture-")}


def test_hidden_pixels_are_not_drawn(open_app):
    app = open_app(query={"methods": ["Gradient"], "hide": "50"})
    assert 0.45 < np.isnan(page.numbers(maps(app)[0]["z"])).mean() < 0.55
