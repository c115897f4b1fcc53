"""The attribution mask against its loop written out plainly, and the invariants of networks without biases."""

from __future__ import annotations

import pytest
import torch
from support.networks import classifier
from torch import nn

import explainers as ex
from explainers.methods.attribution_mask import ONE_PASS_BASES, between_0_and_1, check_base, masked_inputs
from explainers.target import Target

BASES = (*ONE_PASS_BASES, "integrated_gradients")


def naive(network, x, target, base, iterations):
    """One iteration after the other, the base map from the public method, the min-max channel by channel."""
    mask, masks = torch.ones_like(x[0]), []
    for _ in range(iterations):
        found = ex.explain(network, x * mask, base, target=target).native
        for channel in range(x.shape[1]):
            low, high = found[channel].min(), found[channel].max()
            mask[channel] *= (found[channel] - low) / (high - low if high > low else 1)
        masks.append(mask.clone())
    return torch.stack(masks)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("target", [2, (2, 0)])
def test_it_equals_its_naive_twin(toy, image, base, target):
    found = ex.explain(toy, image, "attribution_mask", target=target, base=base, iterations=3)
    masks = naive(toy, image, target, base, 3)
    assert torch.allclose(found.extras["masks"], masks, atol=1e-5) and torch.allclose(found.native, masks[-1], atol=1e-5)
    assert found.extras["masks"].std() > 0.01
    for i, mask in enumerate((torch.ones_like(masks[0]), *masks)):
        logits = toy.logits(image * mask)
        assert found.extras["logit"][i] == pytest.approx(float(Target.of(target).score(logits)), abs=1e-4)
        assert found.extras["prediction"][i] == int(logits.argmax())
        assert found.extras["prediction_probability"][i] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)
        assert found.extras["probability"][i] == pytest.approx(float(Target.of(target).score(logits.softmax(-1))), abs=1e-5)
    assert len(found.extras["logit"]) == len(found.extras["probability"]) == 4


def test_maps_go_from_0_to_1_in_every_channel_and_flat_ones_to_0():
    maps = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    maps[1, 2] = 7.0
    found = between_0_and_1(maps)
    low, high = found.amin((2, 3)), found.amax((2, 3))
    assert torch.equal(low, torch.zeros(3, 4)) and high[1, 2] == 0
    assert torch.equal(high.flatten()[[i for i in range(12) if i != 6]], torch.ones(11))
    assert torch.equal(between_0_and_1(torch.tensor([[[[-1.0, 0.0, 0.0, 3.0]]]])), torch.tensor([[[[0, 0.25, 0.25, 1]]]]))
    assert torch.equal(between_0_and_1(maps[:1]), found[:1])  # no neighbour in the batch moves a map


@pytest.mark.parametrize("base", BASES)
def test_the_mask_never_brightens_again(toy, image, base):
    masks = ex.explain(toy, image, "attribution_mask", target=1, base=base, iterations=4).extras["masks"]
    assert masks.min() >= 0 and torch.equal(masks[0].amax((1, 2)), torch.ones(3))
    assert (masks[1:] <= masks[:-1]).all() and (masks[-1] < masks[0]).any()


def test_without_biases_scaling_the_image_scales_the_logit_and_leaves_the_first_mask(bias_free, image):
    one, twice = (ex.explain(bias_free, scale * image, "attribution_mask", target=1, iterations=4).extras for scale in (1, 2))
    assert torch.allclose(one["masks"], twice["masks"], atol=1e-4)
    assert [2 * v for v in one["logit"]] == pytest.approx(twice["logit"], rel=1e-3)


def test_with_biases_it_does_not(toy, image):
    one, twice = (ex.explain(toy, scale * image, "attribution_mask", target=1, iterations=4).extras for scale in (1, 2))
    assert not torch.allclose(one["masks"], twice["masks"], atol=1e-2)


def test_without_biases_integrated_gradients_makes_the_mask_of_gradient_x_input(bias_free, image):
    masks = [ex.explain(bias_free, image, "attribution_mask", target=1, base=base).extras["masks"]
             for base in ("integrated_gradients", "gradient_x_input")]
    assert torch.allclose(*masks, atol=1e-4)


def test_the_images_own_signs_make_the_same_mask_while_it_is_positive(toy, image):
    found = ex.explain(toy, image, "attribution_mask", target=1, iterations=3).extras["masks"]
    mask = torch.ones_like(image)
    for i in range(3):
        mask = mask * between_0_and_1(toy.gradient(image * mask, 1) * image.sign())
        positive = mask[0] > 0
        assert torch.allclose(found[i][positive], mask[0][positive], atol=1e-5) and positive.float().mean() > 0.99


def test_the_masked_inputs_are_the_image_and_what_each_mask_leaves(toy, image):
    found = ex.explain(toy, image, "attribution_mask", target=1, iterations=2)
    inputs = masked_inputs(image, found.extras["masks"])
    assert torch.equal(inputs[0], image[0]) and torch.equal(inputs[2], image[0] * found.native) and len(inputs) == 3
    assert not any(torch.is_tensor(v) and torch.equal(v, image) for v in found.extras.values())


@pytest.mark.parametrize("base", BASES)
def test_passes_are_declared_for_every_base(toy, image, base):
    found = ex.explain(toy, image, "attribution_mask", target=1, base=base, iterations=2)
    method = ex.methods()["attribution_mask"]
    expected = ex.Passes(103, 100) if base == "integrated_gradients" else ex.Passes(3, 2)
    assert found.passes == method.passes(method.settings(base=base, iterations=2)) == expected


def test_progress_goes_through_the_inner_method(toy, image):
    heard = []
    ex.explain(toy, image, "attribution_mask", target=1, base="integrated_gradients", iterations=3,
               progress=lambda done, total, preview: heard.append((done / total, preview)))
    shares = [share for share, _ in heard]
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) >= 7
    assert all(p.min() >= 0 and p.max() <= 1 for _, p in heard if p is not None)  # masks, and not the inner method's maps


def test_a_base_that_cannot_explain_the_network_says_so(image):
    smooth = classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.Tanh(), nn.Linear(8, 5)))
    with pytest.raises(ex.UnsupportedError, match="Guided Backpropagation needs ReLU"):
        ex.explain(smooth, image, "attribution_mask", target=0, base="guided_backprop")
    check_base(smooth, "gradient_x_sign")
    assert ex.explain(smooth, image, "attribution_mask", target=0).flags == ()


def test_a_black_image_stays_black_and_is_flagged(bias_free):
    found = ex.explain(bias_free, torch.zeros(1, 3, 32, 32), "attribution_mask", target=0)
    assert found.flags == ("the map is zero everywhere",) and found.extras["logit"] == [0.0] * 4
