"""What every method gets for nothing, and must hold: the folder is walked, so a new file is tested by being there.

Methods that need attention run on a small vision transformer here, all others on the toy network.
"""

from __future__ import annotations

import dataclasses
import inspect
from functools import cache, partial

import numpy as np
import pytest
import torch
from support.architectures import suited
from support.networks import drawn_images
from support.threads import run_in_threads

import explainers as ex
from explainers.data.reference import neighbourhood
from explainers.resampling import resample
from explainers.target import Target

METHODS = ex.methods()
every_method = pytest.mark.parametrize("key", list(METHODS))


def explain(network, image, key, **more):
    return ex.explain(network, image, key, target=more.pop("target", 2), **{**METHODS[key].cheap, **more})


@pytest.fixture()
def toy(key):
    return suited(METHODS[key])


@pytest.fixture(scope="module")
def usual():
    """``usual(key)``: the method's attribution of the image of most tests, and all that it reported; computed once."""

    @cache
    def run(key):
        reports = []
        network = suited(METHODS[key])
        attribution = explain(network, drawn_images(1, seed=3), key, progress=lambda *report: reports.append(report))
        return attribution, reports

    return run


@every_method
def test_the_map_is_finite_signed_as_declared_and_of_the_inputs_size(key, toy, image, usual):
    found, _ = usual(key)
    assert found.native.ndim == 3 and found.native.dtype == torch.float32 and found.native.device.type == "cpu"
    assert torch.isfinite(found.native).all() and not found.native.requires_grad
    heat = found.heatmap()
    assert heat.shape == toy.input_size and heat.std() > 0
    assert found.signed or heat.min() >= 0
    copies = (neighbourhood(toy, image).note,) if METHODS[key].fits_statistics else ()
    assert tuple(flag for flag in found.flags if flag.startswith("fitted on copies")) == copies


@every_method
def test_the_same_seed_gives_the_same_bytes(key, toy, image):
    first, second = explain(toy, image, key, seed=4), explain(toy, image, key, seed=4)
    assert first.native.numpy().tobytes() == second.native.numpy().tobytes()


@every_method
def test_the_global_generator_is_neither_used_nor_moved(key, toy, image):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = explain(toy, image, key)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first.native, explain(toy, image, key).native)


@every_method
def test_network_and_image_are_left_untouched(key, toy, image):
    weights = {name: tensor.clone() for name, tensor in toy.module.state_dict().items()}
    before = image.clone()
    explain(toy, image, key)
    assert torch.equal(before, image) and image.grad is None and not image.requires_grad
    assert all(torch.equal(weights[name], tensor) for name, tensor in toy.module.state_dict().items())
    assert toy.meter is None and not toy.module.training
    for part in toy.module.modules():
        assert not part._forward_hooks and not part._forward_pre_hooks and not part._backward_hooks
    assert all(p.grad is None and not p.requires_grad for p in toy.module.parameters())


@every_method
def test_the_declared_passes_are_the_counted_ones(key, toy, usual):
    method = METHODS[key]
    settings = method.settings(**method.cheap)
    found, declared, most = usual(key)[0].passes, method.cost(settings, toy), method.passes(settings)
    assert (found.forward, found.backward) == pytest.approx((declared.forward, declared.backward), rel=1e-9)
    assert found.forward <= most.forward + 1e-9 and found.backward <= most.backward + 1e-9


@every_method
def test_progress_rises_to_one(key, usual):
    heard = [done / total for done, total, _ in usual(key)[1]]
    assert heard[0] == 0 and heard[-1] == 1 and heard == sorted(heard)


@every_method
def test_previews_are_maps_of_the_image_where_they_are_declared(key, image, usual):
    shown = [preview for _, _, preview in usual(key)[1] if preview is not None]
    assert bool(shown) == METHODS[key].previews
    assert all(p.shape[-2:] == image.shape[-2:] and torch.isfinite(p).all() for p in shown)


@pytest.mark.parametrize("key", [key for key, method in METHODS.items() if method.previews])
def test_previews_grow_towards_the_map_and_do_not_change_it(key, toy, image, monkeypatch):
    monkeypatch.setattr("explainers.context.fitting_batch", lambda network: 3)
    shown = []
    attribution = explain(toy, image, key, progress=lambda done, total, preview: shown.append(
        None if preview is None else preview.reshape(-1, *preview.shape[-2:]).sum(0).clone()))
    previews = [preview for preview in shown if preview is not None]
    assert len(previews) >= 2 and not torch.equal(previews[0], previews[-1])
    final = attribution.native.sum(0)
    final = final if final.shape == toy.input_size else resample(final, toy.input_size, METHODS[key].upsample)
    assert float(torch.corrcoef(torch.stack([previews[-1].flatten(), final.flatten()]))[0, 1]) > 0.9
    assert torch.equal(explain(toy, image, key).native, attribution.native)  # without a callback there are no previews


@every_method
def test_drafts_are_lower_settings_that_the_method_accepts(key):
    method = METHODS[key]
    whole, draft = method.settings(), method.settings(**method.draft)
    assert all(getattr(draft, name) < getattr(whole, name) for name in method.draft)


@every_method
def test_a_stop_stops_at_the_next_report(key, toy, image):
    heard = []

    def stop_at_second(done, total, preview):
        heard.append(done)
        return len(heard) < 2

    with pytest.raises(ex.Cancelled):
        explain(toy, image, key, progress=stop_at_second)
    assert len(heard) == 2


@every_method
def test_an_exception_of_the_callback_passes_through(key, toy, image):
    class Abandoned(BaseException):
        pass

    def abandon(done, total, preview):
        raise Abandoned

    with pytest.raises(Abandoned):
        explain(toy, image, key, progress=abandon)


@every_method
def test_it_works_where_gradients_are_switched_off(key, toy, image, usual):
    with torch.no_grad():
        assert torch.equal(explain(toy, image, key).native, usual(key)[0].native)


@every_method
def test_a_contrast_is_the_difference_of_two_maps_where_the_method_is_linear_and_only_there(key, toy, image, usual):
    one, contrast, other = usual(key)[0], explain(toy, image, key, target=(2, 0)), explain(toy, image, key, target=0)
    assert contrast.target == Target((2, 0)) and contrast.native.shape == one.native.shape
    error = (contrast.native - (one.native - other.native)).abs().max() / one.native.abs().max()
    assert error < 1e-4 if METHODS[key].linear else error > 1e-2


@every_method
def test_the_batch_size_does_not_change_the_map(key, toy, image, usual, monkeypatch):
    monkeypatch.setattr("explainers.context.fitting_batch", lambda network: 3)
    assert torch.allclose(explain(toy, image, key).native, usual(key)[0].native, atol=1e-6)


@every_method
def test_out_of_memory_halves_the_batch_and_changes_nothing(key, toy, image, usual, monkeypatch):
    expected, _ = usual(key)
    real = toy.__class__.walk

    def small_memory(self, x, *args, **options):
        if x.shape[0] > 4:
            raise torch.OutOfMemoryError("pretended")
        return real(self, x, *args, **options)

    monkeypatch.setattr(toy.__class__, "walk", small_memory)
    found = explain(toy, image, key)
    assert torch.allclose(found.native, expected.native, atol=1e-6)
    again, once = found.passes, expected.passes
    assert (again.forward, again.backward) == pytest.approx((once.forward, once.backward), rel=1e-9)


@every_method
def test_two_threads_explain_with_one_network(key, toy, image, usual):
    other = image.flip(-1)
    alone = [usual(key)[0].native, explain(toy, other, key).native]

    def repeat(which):
        return [explain(toy, (image, other)[which], key).native for _ in range(2)]

    together = run_in_threads([partial(repeat, i % 2) for i in range(4)])
    for i, maps in enumerate(together):
        assert all(torch.allclose(attribution, alone[i % 2], atol=1e-7) for attribution in maps)


@every_method
def test_the_declaration_is_complete(key):
    method = METHODS[key]
    assert list(inspect.signature(method.attribute).parameters) == ["network", "x", "target", "params", "context"]
    assert method.title and method.idea.endswith(".") and method.limits.endswith(".") and method.equation
    assert method.key == key and method.citation.authors and method.upsample in {"bilinear", "nearest", "corners"}
    assert {p.name for p in method.parameters} == {f.name for f in dataclasses.fields(method.params)}
    for parameter in method.parameters:
        assert parameter.label and parameter.help.endswith(".") and parameter.check(parameter.default) == parameter.default


def other_values(key, parameter, network):
    if parameter.kind == "choice":
        return [o for o in parameter.options if o != parameter.default]
    if parameter.kind == "switch":
        return [not parameter.default]
    if parameter.kind == "layer":
        return [network.layers[0]]
    used = METHODS[key].cheap.get(parameter.name, parameter.default)
    return [next(v for v in (parameter.low + n * parameter.step for n in (2, 3)) if v != used)]


@pytest.mark.parametrize(("key", "name"), [(k, p.name) for k, m in METHODS.items() for p in m.parameters])
def test_every_parameter_changes_the_map(key, name, toy, image, usual):
    parameter = next(p for p in METHODS[key].parameters if p.name == name)
    values = other_values(key, parameter, toy)
    before = usual(key)[0].heatmap()
    for value in values:
        heat = explain(toy, image, key, **{name: value}).heatmap()
        assert heat.shape == before.shape and not np.array_equal(heat, before), f"{name}={value} changes nothing"


def test_titles_are_unique():
    assert len({m.title for m in METHODS.values()}) == len(METHODS)
