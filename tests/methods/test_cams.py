"""Grad-CAM++, Layer-CAM, Score-CAM and Ablation-CAM: closed forms, naive twins, and pytorch-grad-cam's maps."""

from __future__ import annotations

import pytest
import torch
from support.cam_maps import Enlarge, cam_map
from support.captum_maps import prepared, relative_error, table
from support.networks import classifier, seeded
from torch import nn
from torch.nn import functional as F

import explainers as ex
from explainers.context import Memo, RunOptions
from explainers.networks.embedded import EMBEDDED, load_weights

KEYS = ("grad_cam", "grad_cam_plus_plus", "layer_cam", "score_cam", "ablation_cam")


def features_and_weights(toy, image, target):
    """The toy's last feature maps (C, h, w), and its dense layer's weights (C,) for a class: between them is a mean."""
    return toy.walk(image, stop=toy.features.default)[0], toy.module.get_parameter("8.weight")[target]


# Closed forms behind a mean and a dense layer, where the gradient in each cell is the weight over the number of cells


def test_grad_cam_plus_plus_behind_a_mean_and_a_dense_layer(toy, image):
    features, dense = features_and_weights(toy, image, 3)
    slope = dense.clamp(min=0) / features[0].numel()
    weights = features[0].numel() * slope / (2 + slope * features.sum((1, 2)))
    expected = (weights[:, None, None] * features).sum(0)
    assert torch.allclose(ex.explain(toy, image, "grad_cam_plus_plus", target=3).native[0], expected, rtol=1e-5)


def test_layer_cam_behind_a_mean_and_a_dense_layer_is_grad_cam_without_negative_weights(toy, image):
    features, dense = features_and_weights(toy, image, 3)
    expected = (dense.clamp(min=0)[:, None, None] * features).sum(0) / features[0].numel()
    assert torch.allclose(ex.explain(toy, image, "layer_cam", target=3).native[0], expected, rtol=1e-5)


def test_layer_cam_of_the_image_itself_is_the_positive_part_of_gradient_x_input():
    """A network whose first node is a map of the image: there Layer-CAM is max(0, gradient) x input, cell by cell."""
    module = seeded(lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 4)), 5)
    network = classifier(module, side=8, classes=4)
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2)) + 0.1
    first = network.layers[0]
    gradient = network.gradient(x, 1)[0]
    expected = (gradient.clamp(min=0) * x[0]).sum(0)
    layer_map = ex.explain(network, x, "layer_cam", target=1, layer=first).native[0]
    assert torch.allclose(layer_map, expected, atol=1e-6) and expected.std() > 0


@pytest.mark.parametrize("target", [0, 1, 2, 3, 4])
def test_ablation_cam_behind_a_mean_and_a_dense_layer(toy, image, target):
    """Without a map the logit falls by its weight times its mean. The toy has classes of positive and of negative logits."""
    features, dense = features_and_weights(toy, image, target)
    logit = toy.logits(image)[0, target]
    falls = dense * features.mean((1, 2)) / logit.abs()
    expected = (falls[:, None, None] * features).sum(0)
    signed = ex.explain(toy, image, "ablation_cam", target=target, relu=False)
    assert signed.signed and torch.allclose(signed.native[0], expected, atol=1e-5)
    positive = ex.explain(toy, image, "ablation_cam", target=target)
    assert not positive.signed and torch.allclose(positive.native[0], expected.clamp(min=0), atol=1e-5)


def test_the_toy_has_logits_of_both_signs(toy, image):
    assert toy.logits(image).min() < 0 < toy.logits(image).max()


# Naive twins


def test_grad_cam_plus_plus_by_the_letter_of_equation_19(toy, image):
    """At a layer in the middle, whose gradients differ from cell to cell, in loops and double precision."""
    layer = toy.layers[2]
    maps = toy.walk(image, stop=layer).detach().requires_grad_(True)
    gradient = torch.autograd.grad(toy.walk(maps, start=layer)[0, 1], maps)[0][0].double()
    features = maps.detach()[0].double()
    expected = torch.zeros(features.shape[1:], dtype=torch.float64)
    for feature, slope in zip(features, gradient, strict=True):
        weight = 0.0
        for g in slope.flatten().tolist():
            if g > 0:
                weight += g**2 / (2 * g**2 + float(feature.sum()) * g**3) * g
        expected += weight * feature
    ours = ex.explain(toy, image, "grad_cam_plus_plus", target=1, layer=layer).native[0]
    assert relative_error(ours, expected.clamp(min=0).float()) < 1e-5


@pytest.mark.parametrize("score", ["channel_softmax", "probability"])
@pytest.mark.parametrize("target", [2, (2, 0)])
def test_score_cam_channel_by_channel(toy, image, score, target):
    maps = toy.walk(image, stop=toy.features.default)[0]
    scores = []
    for feature in maps:
        large = F.interpolate(feature[None, None], size=toy.input_size, mode="bilinear", align_corners=False)
        visible = (large - large.min()) / (large.max() - large.min()) if large.max() > large.min() else torch.zeros_like(large)
        logits = toy.logits(image * visible)
        logits = logits.softmax(1) if score == "probability" else logits
        scores.append(logits[0, 2] - (logits[0, 0] if target == (2, 0) else 0))
    weights = torch.stack(scores)
    weights = weights if score == "probability" else weights.softmax(0)
    expected = (weights[:, None, None] * maps).sum(0).clamp(min=0)
    assert torch.allclose(ex.explain(toy, image, "score_cam", target=target, score=score).native[0], expected, atol=1e-6)


def test_flat_feature_maps_hide_everything_and_are_no_division_by_zero():
    from explainers.methods.score_cam import masks
    flat = masks(torch.stack((torch.full((3, 3), 2.0), torch.eye(3))), (6, 6))
    assert not flat[0].any() and flat[1].min() == 0 and flat[1].max() == 1


@pytest.mark.parametrize("key", ["score_cam", "ablation_cam"])
def test_the_strongest_channels_come_first_and_the_others_count_nothing(toy, image, key):
    maps = toy.walk(image, stop=toy.features.default)[0]
    strongest = maps.mean((1, 2)).argsort(descending=True)
    whole, of_three = (ex.explain(toy, image, key, target=2, channels=channels) for channels in (12, 3))
    assert torch.equal(whole.native, ex.explain(toy, image, key, target=2).native)
    if key == "ablation_cam":
        features, dense = features_and_weights(toy, image, 2)
        falls = torch.zeros(len(dense))
        falls[strongest[:3]] = (dense * features.mean((1, 2)) / toy.logits(image)[0, 2].abs())[strongest[:3]]
        assert torch.allclose(of_three.native[0], (falls[:, None, None] * features).sum(0).clamp(min=0), atol=1e-5)
    fewer, more = of_three.passes.forward, whole.passes.forward
    assert fewer < more and of_three.passes.backward == 0


# Passes that are shared


def test_one_gradient_serves_all_methods_that_weight_a_layer_by_it(toy, image):
    options, alone = RunOptions(memo=Memo()), {}
    for key in ("grad_cam", "grad_cam_plus_plus", "layer_cam"):
        alone[key] = ex.explain(toy, image, key, target=3)
        together = ex.ask(toy, image, key, target=3).run(options)
        assert torch.equal(alone[key].native, together.native) and alone[key].passes == together.passes
    assert options.memo.hits == 2


@pytest.mark.parametrize("key", ["score_cam", "ablation_cam"])
def test_one_set_of_passes_serves_every_class(toy, image, key):
    options = RunOptions(memo=Memo())
    for target in (1, 4, (1, 4)):
        together, alone = ex.ask(toy, image, key, target=target).run(options), ex.explain(toy, image, key, target=target)
        assert torch.equal(alone.native, together.native) and alone.passes.forward == pytest.approx(together.passes.forward)
    assert options.memo.hits == 2


# An independent library


@pytest.fixture(scope="module")
def scenes_resnet():
    module = EMBEDDED["scenes_resnet"].build()
    module.load_state_dict(load_weights("scenes_resnet"))
    return ex.load_model("scenes_resnet", device="cpu"), prepared(module)


@pytest.fixture(scope="module")
def scenes_vgg():
    module = EMBEDDED["scenes_vgg"].build()
    module.load_state_dict(load_weights("scenes_vgg"))
    return ex.load_model("scenes_vgg", device="cpu"), prepared(module)


@pytest.mark.parametrize("seed", [0, 9])
def test_maps_equal_those_of_pytorch_grad_cam(scenes_resnet, seed, monkeypatch):
    network, module = scenes_resnet
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(seed))
    target = int(network.logits(x).argmax())  # with a positive logit
    monkeypatch.setattr("torch.nn.UpsamplingBilinear2d", Enlarge)
    keys = [key for key in KEYS if key != "grad_cam_plus_plus"]
    errors = {}
    for key in keys:
        ours, theirs = ex.explain(network, x, key, target=target).native, cam_map(key, module, module.layer3, x, target)
        errors[key] = relative_error(ours, theirs)
    print(table(errors))
    assert max(errors.values()) < 1e-5, table(errors)


def test_ablation_cam_differs_from_pytorch_grad_cam_by_the_sign_of_a_negative_logit(scenes_resnet):
    network, module = scenes_resnet
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    target = int(network.logits(x).argmin())
    ours = ex.explain(network, x, "ablation_cam", target=target, relu=False).native
    theirs = cam_map("ablation_cam", module, module.layer3, x, target)
    assert network.logits(x)[0, target] < 0
    assert relative_error((-ours).clamp(min=0), theirs) < 1e-5


def test_score_cam_differs_from_pytorch_grad_cam_by_where_the_enlarged_corners_lie(scenes_resnet):
    """It enlarges by UpsamplingBilinear2d, which places the outer cells' values on the image's corners; the authors do not.

    The test above replaces nothing else and sees no difference.
    """
    network, module = scenes_resnet
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(9))
    ours, theirs = ex.explain(network, x, "score_cam", target=9).native, cam_map("score_cam", module, module.layer3, x, 9)
    assert relative_error(ours, theirs) > 1e-3


@pytest.mark.parametrize("target", [0, 9])
def test_grad_cam_plus_plus_differs_from_pytorch_grad_cam_by_the_number_that_it_adds(scenes_resnet, target):
    network, module = scenes_resnet
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(target))
    layer = network.features.default
    maps = network.walk(x, stop=layer).detach().requires_grad_(True)
    g = torch.autograd.grad(network.walk(maps, start=layer)[0, target], maps)[0]
    maps = maps.detach()

    def by_equation_19(added: float) -> torch.Tensor:
        denominator = 2 * g**2 + maps.sum((2, 3), keepdim=True) * g**3 + added
        coefficients = torch.where(g > 0, g**2 / torch.where(g > 0, denominator, 1), 0)
        return ((coefficients * g).sum((2, 3), keepdim=True) * maps).sum(1).clamp(min=0)

    ours = ex.explain(network, x, "grad_cam_plus_plus", target=target).native
    theirs = cam_map("grad_cam_plus_plus", module, module.layer3, x, target)
    errors = {"ours, nothing added": relative_error(ours, by_equation_19(0)),
              "theirs, 1e-6 added": relative_error(theirs, by_equation_19(1e-6)), "ours, theirs": relative_error(ours, theirs)}
    print(table(errors))
    assert errors["ours, nothing added"] < 1e-5 and errors["theirs, 1e-6 added"] < 1e-5 < errors["ours, theirs"]
