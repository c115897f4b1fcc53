"""The attribution mask against its loop written out plainly, and the invariants of networks without biases."""

from __future__ import annotations

import pytest
import torch
from support.captum_maps import relative_error
from support.networks import classifier
from torch import nn

import explainers as ex
from explainers.methods.attribution_mask import (
    BASES,
    COMPLETE_BASES,
    between_0_and_1,
    check_base,
    check_reader,
    incompleteness,
    logits_and_map,
    masked_inputs,
    read_by,
    reader_logits,
)
from explainers.networks.classifier import Classifier
from explainers.networks.preprocessing import Preprocessing
from explainers.target import Target


def naive(network, x, target, base, iterations):
    """One iteration after the other, the base map from the public method, the min-max channel by channel: all masks and all maps."""
    mask, masks, maps = torch.ones_like(x[0]), [], []
    for _ in range(iterations):
        base_map = ex.explain(network, x * mask, base, target=target).native
        for channel in range(x.shape[1]):
            low, high = base_map[channel].min(), base_map[channel].max()
            mask[channel] *= (base_map[channel] - low) / (high - low if high > low else 1)
        masks.append(mask.clone())
        maps.append(base_map)
    return torch.stack(masks), torch.stack(maps)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("target", [2, (2, 0)])
def test_it_equals_its_naive_twin(toy, image, base, target):
    found = ex.explain(toy, image, "attribution_mask", target=target, base=base, iterations=3)
    masks, maps = naive(toy, image, target, base, 3)
    assert torch.allclose(found.extras["masks"], masks, atol=1e-5) and torch.allclose(found.native, masks[-1], atol=1e-5)
    assert found.extras["masks"].std() > 0.01
    for ours, theirs in zip(found.extras["attributions"], maps, strict=True):
        assert relative_error(ours, theirs) < 1e-3 and theirs.min() < 0 < theirs.max()
    assert found.extras["attribution_sum"] == pytest.approx(maps.sum((1, 2, 3)).tolist(), abs=1e-4)
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
    assert torch.equal(between_0_and_1(maps.contiguous(memory_format=torch.channels_last)), found)


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
    product, *others = (ex.explain(bias_free, image, "attribution_mask", target=1, base=base).extras["masks"]
                        for base in COMPLETE_BASES)
    assert all(torch.allclose(product, masks, atol=1e-4) for masks in others)


@pytest.mark.parametrize("base", COMPLETE_BASES)
@pytest.mark.parametrize("target", [3, (3, 6)])
def test_without_biases_the_attributions_sum_to_the_logit_at_every_iteration(base, target):
    """Equation 8 and definition 1, on a trained network; the masked images' logits differ a hundredfold."""
    network = ex.load_model("scenes_nib_vgg")
    x = network.preprocess(next(sample for sample in ex.samples() if sample.kind == "scenes").load())
    attribution = ex.explain(network, x, "attribution_mask", target=target, base=base, iterations=3)
    sums, logits = attribution.extras["attribution_sum"], attribution.extras["logit"]
    assert sums == pytest.approx(logits[:3], rel=1e-3, abs=1e-4) and len(sums) == 3 and attribution.flags == ()


@pytest.mark.parametrize("base", BASES)
def test_with_biases_they_do_not_and_a_flag_says_so_of_the_bases_that_should(toy, image, base):
    attribution = ex.explain(toy, image, "attribution_mask", target=1, base=base, iterations=2)
    total, logit = attribution.extras["attribution_sum"][0], attribution.extras["logit"][0]
    assert abs(total - logit) > 0.01 * abs(logit)
    if base not in COMPLETE_BASES:
        assert attribution.flags == ()
        return
    (flag,) = attribution.flags
    assert f"sum to {total:.3g} and its logit is {logit:.3g}".replace("-", "\u2212") in flag
    if base != "gradient_x_input":
        blank = float(toy.logits(torch.zeros_like(image))[0, 1])
        assert total == pytest.approx(logit - blank, abs=0.02) and "mean colour" in flag


def test_a_small_difference_is_no_reason_to_warn():
    assert incompleteness("deep_lift", [9.95], [10.0, 3.0]) == () and incompleteness("deep_lift", [0.0], [0.0]) == ()
    assert incompleteness("deep_lift", [9.8], [10.0]) and incompleteness("gradient_x_sign", [100.0], [10.0]) == ()


@pytest.mark.parametrize("base", BASES)
def test_a_batch_gives_each_image_what_it_gets_alone(toy, base):
    images, labels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(8)), torch.tensor([0, 4, 2])
    logits, maps = logits_and_map(toy, images, lambda logits: logits.gather(1, labels[:, None])[:, 0], base)
    for x, label, answer, base_map in zip(images, labels.tolist(), logits, maps, strict=True):
        assert torch.allclose(answer, toy.logits(x[None])[0], atol=1e-5)
        assert relative_error(base_map, ex.explain(toy, x[None], base, target=label).native) < 1e-4


def test_a_reader_gets_the_same_pixels_on_its_own_scale(toy, image):
    other = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), name="other", title="Other",
                       categories=toy.categories, preprocessing=Preprocessing(32, 32, (0.2,) * 3, (0.5,) * 3))
    x = toy.preprocessing.normalise(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2)))
    assert read_by(toy, toy, image) is image
    assert torch.allclose(other.preprocessing.pixels(read_by(other, toy, x)), toy.preprocessing.pixels(x), atol=1e-6)
    assert torch.allclose(read_by(other, toy, 0 * x), torch.full_like(x, (0.5 - 0.2) / 0.5))  # hidden pixels keep their colour
    check_reader(toy, other)


def test_a_reader_answers_for_the_image_and_for_what_each_mask_leaves(toy, bias_free, image, monkeypatch):
    masks = ex.explain(toy, image, "attribution_mask", target=1, iterations=4).extras["masks"]
    pictures = [*masked_inputs(image, masks), torch.zeros_like(image[0])]
    expected = torch.cat([bias_free.logits(picture[None]) for picture in pictures])
    answers = reader_logits(bias_free, toy, image, masks)
    assert torch.allclose(answers, expected, atol=1e-5) and answers.shape == (6, 5)
    monkeypatch.setattr("explainers.context.fitting_batch", lambda network: 2)
    heard = []
    again = reader_logits(bias_free, toy, image, masks, lambda done, total, preview: heard.append((done, total)))
    assert torch.allclose(again, expected, atol=1e-5) and heard == [(2, 6), (4, 6), (6, 6)]


@pytest.mark.parametrize(("changes", "message"), [({"side": 16}, "another size"), ({"classes": 4}, "other classes"),
                                                  ({"channels": 1}, "another size")])
def test_a_reader_of_other_pictures_or_classes_is_refused(toy, changes, message):
    shape = {"side": 32, "classes": 5, "channels": 3, **changes}
    other = classifier(nn.Sequential(nn.Flatten(), nn.Linear(shape["channels"] * shape["side"] ** 2, shape["classes"])), **shape)
    with pytest.raises(ex.UnsupportedError, match=message):
        check_reader(toy, other)


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
    shown = {output.kind: output.of(image, found.extras) for output in ex.methods()["attribution_mask"].auxiliary_outputs}
    assert torch.equal(shown["pictures"], inputs) and torch.equal(shown["masks"], found.extras["masks"])
    assert shown["maps"].shape == shown["masks"].shape == (2, 3, 32, 32)


@pytest.mark.parametrize("base", BASES)
def test_passes_are_declared_for_every_base(toy, image, base):
    found = ex.explain(toy, image, "attribution_mask", target=1, base=base, iterations=2)
    method = ex.methods()["attribution_mask"]
    expected = {"integrated_gradients": ex.Passes(103, 100), "deep_lift": ex.Passes(5, 4)}.get(base, ex.Passes(3, 2))
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
    with pytest.raises(ex.UnsupportedError, match="DeepLIFT .* needs a piecewise linear network"):
        ex.explain(smooth, image, "attribution_mask", target=0, base="deep_lift")
    check_base(smooth, "gradient_x_sign")
    assert ex.explain(smooth, image, "attribution_mask", target=0).flags == ()


def test_a_black_image_stays_black_and_is_flagged(bias_free):
    found = ex.explain(bias_free, torch.zeros(1, 3, 32, 32), "attribution_mask", target=0)
    assert found.flags == ("the map is zero everywhere",) and found.extras["logit"] == [0.0] * 4
