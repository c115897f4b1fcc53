"""DMBP: where its two parts come from, its warnings, and the variants beside the paper's form."""

from __future__ import annotations

import itertools

import pytest
import torch
from support.networks import classifier, residual_module, seeded
from test_dmbp import STEPS, Twin, check_slopes, masked_at, relu6_module, some_sigma, two_stems
from torch import nn

import explainers as ex
from explainers.data import scenes
from explainers.methods.dmbp import METHOD, MaskedNetwork, Shares, empty_warning, hidden_warning, logit_warning, shares
from explainers.target import Target


def image_only_at(network, x, target):
    return MaskedNetwork(network, x, Target.of(target), torch.Generator().manual_seed(0), image_only=True)


def toy_scene(name, image):
    if name == "scenes_resnet":
        network = ex.load_model(name, device="cpu")
        drawn = scenes.draw(5, network.input_size[0])
        return network, torch.from_numpy(drawn.image).permute(2, 0, 1)[None] / 127.5 - 1, drawn.labels[0]
    module, scale = {"residual": (residual_module, 1), "relu6": (relu6_module, 8), "two stems": (two_stems, 1)}[name]
    return classifier(module()), scale * image, 3


@pytest.fixture(params=["residual", "relu6", "two stems", "scenes_resnet"])
def scene(request, image):
    """A network, an image that saturates the ReLU6, and the class."""
    return toy_scene(request.param, image)


@pytest.mark.parametrize("row", [0, 1])
def test_the_shares_are_the_gradients_times_image_and_biases(toy, image, row):
    """The twin has every bias, and every shift of a batch norm, as a tensor of its own."""
    twin, masked = Twin(image, 2), masked_at(toy, image)
    masked.set(some_sigma(masked))
    twin.hooks = {call: (lambda g, s=s: g * s) for call, s in enumerate(unit.shaped(unit.mask[[row]]).double()
                                                                        for unit in masked.relus.values())}
    grads = torch.autograd.grad(twin.forward(), [twin.x, *twin.biases])
    image_share, *of_biases = [(g * v).sum().item() for g, v in zip(grads, [twin.x, *twin.biases], strict=True)]
    own = shares(masked.outputs()[row], masked.part(row))
    assert own.image == pytest.approx(image_share, rel=1e-3, abs=1e-8)
    assert own.biases == pytest.approx(sum(of_biases), rel=1e-3, abs=1e-8) and abs(own.biases) > 1e-4
    assert own.caps == 0


def test_the_images_share_is_what_a_picture_of_the_mean_colour_lacks_and_the_caps_what_goes_without_them(scene):
    network, x, target = scene
    masked, differences = masked_at(network, x, target), image_only_at(network, x, target)
    sigma = some_sigma(masked)
    masked.set(sigma), differences.set(sigma)
    outputs = masked.outputs()
    own_shares = [shares(total, masked.part(row)) for row, total in enumerate(outputs)]
    size = max(map(abs, itertools.chain(*own_shares)))
    assert differences.outputs() == pytest.approx([own.image for own in own_shares], abs=1e-4 * size)
    saturated = masked._caps.numel()
    masked._caps.zero_()
    without = masked.outputs()
    assert [own.caps for own in own_shares] == pytest.approx([a - b for a, b in zip(outputs, without, strict=True)], abs=1e-4 * size)
    assert [sum(own) for own in own_shares] == pytest.approx(outputs, abs=1e-6 * size)
    assert any(own.caps for own in own_shares) == bool(saturated)


def test_a_network_without_biases_owes_all_to_the_image(bias_free, image):
    extras = ex.explain(bias_free, image, "dmbp", target=1, iterations=5).extras
    for name in ("parts_logit", "parts_positive", "parts_negative"):
        own = Shares(*extras[name])
        assert own.caps == 0 and abs(own.biases) < 1e-4 * abs(own.image)


def test_the_shares_beside_a_map_add_up_to_its_parts_and_to_the_logit(scene):
    network, x, target = scene
    attribution = ex.explain(network, x, "dmbp", target=target, iterations=4)
    extras = attribution.extras
    for sign in ("positive", "negative"):
        assert sum(extras[f"parts_{sign}"]) == pytest.approx(extras[f"y_{sign}"][-1], rel=1e-6)
        assert extras[f"parts_{sign}"][0] == pytest.approx(float(extras[sign].double().sum()), rel=1e-5)
        assert torch.equal(extras[f"{sign}_mapping"] * x[0], extras[sign])
    assert sum(extras["parts_logit"]) == pytest.approx(extras["y"], rel=1e-6)
    assert extras["y"] + extras["output_bias"] == pytest.approx(float(network.logits(x)[0, target]), rel=1e-4)
    assert extras["parts_logit"][0] == pytest.approx(float((network.gradient(x, target) * x).sum()), rel=1e-3, abs=1e-4)


def test_vanished_gradients_are_a_percentage(toy, image):
    extras = ex.explain(toy, image, "dmbp", target=2, iterations=3).extras
    assert 0 <= extras["vanishing_gradients"] <= 100
    assert "vanishing_gradients" not in ex.explain(toy, image, "dmbp", target=2, iterations=0).extras


def test_image_only_splits_gradient_times_input(scene):
    network, x, target = scene
    masked = image_only_at(network, x, target)
    product = float((network.gradient(x, target) * x).sum())
    assert masked.y == pytest.approx(product, rel=1e-3, abs=1e-4)
    masked.set(torch.ones(masked.count))
    assert masked.outputs() == pytest.approx([product, 0], rel=1e-3, abs=1e-3)
    attribution = ex.explain(network, x, "dmbp", target=target, iterations=6, variant="image_only")
    ends = attribution.extras["y_positive"][-1] + attribution.extras["y_negative"][-1]
    assert float(attribution.native.double().sum()) == pytest.approx(ends, rel=1e-3, abs=1e-4)
    assert "parts_positive" not in attribution.extras and attribution.extras["parts_logit"][0] == pytest.approx(masked.y, rel=1e-5)


def test_the_mask_gradient_of_the_images_part_is_its_slope(scene):
    check_slopes(image_only_at(*scene), 3e-3)


def test_image_only_is_the_papers_form_where_there_are_no_biases(bias_free, image):
    paper, image_only = (ex.explain(bias_free, image, "dmbp", target=1, iterations=20, variant=variant).native
                         for variant in ("dmbp", "image_only"))
    assert float((paper - image_only).abs().max()) < 1e-3 * float(paper.abs().max())


@pytest.mark.parametrize("variant", ["dmbp", "dmbp_plus_minus"])
def test_a_state_for_each_branch_is_two_of_torchs_optimisers(toy, image, variant):
    twin = Twin(image, 2)
    twin.initialise()
    twin.logits = [s.double().requires_grad_(True) for s in twin.logits]
    optimisers = [torch.optim.RMSprop(twin.logits, lr=0.01) for _ in range(2)]
    pulled = set()
    for _ in range(3 * STEPS):
        parts = [twin.part([s.sigmoid() for s in twin.logits])[1], twin.part([1 - s.sigmoid() for s in twin.logits])[1]]
        turn = 0 if twin.y >= sum(parts).item() else 1
        losses = {0: -parts[0], 1: parts[1]} if variant == "dmbp_plus_minus" else {turn: (-2, 2)[turn] * parts[turn]}
        slopes = {row: torch.autograd.grad(loss, twin.logits, retain_graph=True) for row, loss in losses.items()}
        for row, values in slopes.items():
            for logit, slope in zip(twin.logits, values, strict=True):
                logit.grad = slope
            optimisers[row].step()
            pulled.add(row)
    assert pulled == {0, 1}, "both branches must have been pulled for this to be a test"
    _, outputs, maps = twin.loss(variant)
    attribution = ex.explain(toy, image, "dmbp", target=2, iterations=3 * STEPS, variant=variant, optimiser="per_branch")
    expected = (maps[0] + maps[1]) * image[0]
    assert float((attribution.native - expected).abs().max()) < 5e-3 * float(expected.abs().max())
    assert [attribution.extras["y_positive"][-1], attribution.extras["y_negative"][-1]] == pytest.approx(outputs, rel=2e-3)


def chain(layers, head):
    """``layers`` ReLUs after each other, which pass one positive number a channel on, and the weights of two classes."""
    width = len(head[0])
    inner = itertools.chain(*((nn.Linear(width, width, bias=False), nn.ReLU()) for _ in range(layers)))
    module = nn.Sequential(nn.Flatten(), *inner, nn.Linear(width, 2, bias=False))
    for layer in module[1:-1:2]:
        layer.weight.data = torch.eye(width)
    module[-1].weight.data = torch.tensor(head)
    return classifier(module, side=1, channels=width, classes=2), torch.ones(1, width, 1, 1)


def test_it_stops_when_the_positive_part_reaches_the_logit():
    """y = 3 - 1 = 2, and y+ starts at 3 sigmoid(2)^6 = 1.4, the negative channel being masked."""
    network, x = chain(6, [[3.0, -1.0], [0.0, 1.0]])
    attribution = ex.explain(network, x, "dmbp", target=0, iterations=40, stop="at_logit")
    trace, y = attribution.extras["y_positive"], attribution.extras["y"]
    steps = len(trace) - 1
    assert y == 2 and 0 < steps < 40 and trace[-1] >= y > max(trace[:-1])
    assert torch.equal(attribution.native, ex.explain(network, x, "dmbp", target=0, iterations=steps).native)


def test_a_logit_below_zero_stops_at_once(toy, image):
    stopped, none = (ex.explain(toy, image, "dmbp", target=2, **settings) for settings in ({"stop": "at_logit"}, {"iterations": 0}))
    assert stopped.extras["y"] < 0 and torch.equal(stopped.native, none.native)


def test_no_iterations_leave_the_initial_masks(toy, image):
    twin, none = Twin(image, 2), ex.explain(toy, image, "dmbp", target=2, iterations=0)
    twin.initialise()
    _, outputs, maps = twin.loss()
    expected = (maps[0] + maps[1]) * image[0]
    assert float((none.native - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    assert [none.extras["y_positive"], none.extras["y_negative"]] == [pytest.approx([value], rel=1e-4) for value in outputs]


@pytest.mark.parametrize("settings", [
    {"variant": "image_only"}, {"variant": "dmbp_plus"}, {"variant": "dmbp_plus_minus", "optimiser": "per_branch"}, {"iterations": 0}])
@pytest.mark.parametrize("name", ["residual", "two stems"])
def test_the_declared_passes_of_every_variant_are_counted(name, image, settings):
    network, x, target = toy_scene(name, image)
    chosen = {"iterations": 3, **settings}
    counted = ex.explain(network, x, "dmbp", target=target, **chosen).passes
    declared = METHOD.cost(METHOD.settings(**chosen), network)
    assert (counted.forward, counted.backward) == pytest.approx((declared.forward, declared.backward), rel=1e-9)


def test_what_the_map_does_not_show_is_warned_of_with_its_percentage():
    few, many, capped = Shares(6.0, -4.0, 0.0), Shares(-10.0, 90.0, 0.0), Shares(1.0, 2.0, 1.0)
    assert hidden_warning(3.0, {"y+": few}) == () == hidden_warning(1e5, {"y+": many})
    assert hidden_warning(3.0, {"y+": many, "y-": few}) == (
        "biases make up 90 % of y+, and the map does not show them: the objective 'image only' leaves them out of the split",)
    assert "biases and saturated ReLU6 make up 90 % of y+ and 75 % of y-" in hidden_warning(3.0, {"y+": many, "y-": capped})[0]
    assert Shares(0.0, 0.0, 0.0).hidden == 0
    assert logit_warning(few) == () and "the image adds \u221210 to the logit of 80" in logit_warning(many)[0]


def test_a_part_that_stays_near_zero_is_warned_of():
    traces = {"y+": [1.0, 2.0, 3.0], "y-": [-0.001, 0.009, 0.0]}
    assert [text.split(" never")[0] for text in empty_warning(3.0, traces, "")] == ["y-"]
    assert empty_warning(0.5, traces, "") == () and empty_warning(3.0, {"y-": [0.0]}, "") == ()
    assert empty_warning(3.0, traces, "remedy")[0].endswith(": remedy")


def with_bias(amount):
    """Biases of this size in a layer whose gates are open: the objective counts them, and the map does not."""
    module = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 5)), 3)
    for layer, bias in ((1, amount), (3, 0.0), (5, 0.0)):
        module[layer].bias.data.fill_(bias)
    return classifier(module, side=4)


def test_a_network_that_lives_on_its_biases_is_warned_of():
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    quiet, loud = (ex.explain(with_bias(amount), x, "dmbp", target=1, iterations=5).flags for amount in (0.0, 20.0))
    assert not any("biases" in flag for flag in quiet)
    assert any("biases make up" in flag and "image only" in flag for flag in loud)
    image_only = ex.explain(with_bias(20.0), x, "dmbp", target=1, iterations=5, variant="image_only").flags
    assert any("only this is split" in flag for flag in image_only)


def test_only_positive_evidence_leaves_the_negative_part_empty():
    """Ten layers that pass a positive number on: every mask starts at sigmoid(2), so y- starts at 0.12 to the tenth power."""
    network, x = chain(10, [[1.0], [1.0]])
    attribution = ex.explain(network, x, "dmbp", target=0, iterations=20)
    assert attribution.extras["y_negative"][0] == pytest.approx((1 - 0.8807971) ** 10, rel=1e-3)
    (flag,) = (flag for flag in attribution.flags if "never left" in flag)
    assert flag.startswith("y\u2212") and "per branch" not in flag  # y- is never pulled, so another RMSProp state changes nothing


def test_the_other_rmsprop_state_is_advised_where_the_negative_part_was_pulled_and_stayed_empty():
    """y = 3 - 0.02. y+ exceeds it once the negative channel is masked, and y- is at most 0.02, less than 1 % of y."""
    network, x = chain(10, [[3.0, -0.02], [0.0, 1.0]])
    shared, per_branch = (ex.explain(network, x, "dmbp", target=0, iterations=20, learning_rate=0.5, optimiser=optimiser)
                          for optimiser in ("shared", "per_branch"))
    assert shared.extras["y_positive"][-1] > shared.extras["y"]
    assert any(flag.startswith("y\u2212 never left") and "per branch" in flag for flag in shared.flags)
    assert any(flag.startswith("y\u2212 never left") and "per branch" not in flag for flag in per_branch.flags)
