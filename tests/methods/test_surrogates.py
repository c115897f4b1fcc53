"""LIME and KernelSHAP: the authors' packages, the definition of Shapley values, closed forms on linear networks, planted evidence."""

from __future__ import annotations

from itertools import combinations
from math import comb, factorial

import captum.attr as ca
import numpy as np
import pytest
import torch
from support.captum_maps import relative_error
from support.counting import counted_walks
from support.lime_package import package_fit
from support.networks import classifier, drawn_images
from torch import nn

import explainers as ex
from explainers.context import Context
from explainers.data import digits, scenes
from explainers.methods import kernel_shap, lime, surrogate
from explainers.segments import segment_means, superpixels
from explainers.target import Target


@pytest.fixture(scope="module")
def scene():
    """A trained network, a scene that it was not trained on, and the scene's class."""
    network, picture = ex.load_model("scenes_vgg", device="cpu"), scenes.draw(41)
    pixels = torch.from_numpy(picture.image).permute(2, 0, 1)[None].float() / 255
    return network, network.preprocessing.normalise(pixels), picture.labels[0]


def labels_of(network, x, how="quickshift", most=200):
    return superpixels(network.preprocessing.pixels(x)[0], how, most)


def segment_values(attribution, labels):
    """The value (M,) of each superpixel in a map that is constant within them."""
    native = attribution.native[0]
    values = torch.stack([native[labels == label][0] for label in range(int(labels.max()) + 1)])
    assert torch.equal(values[labels], native)
    return values


def piece_sums(weighted, labels):
    """The sums (M,) of a map (H, W) over each superpixel."""
    return torch.zeros(int(labels.max()) + 1).index_add_(0, labels.flatten(), weighted.flatten())


# LIME


@pytest.mark.parametrize(("segmentation", "target"), [("quickshift", None), ("slic", 2)])
def test_lime_equals_the_authors_package(scene, segmentation, target):
    network, x, label = scene
    target = label if target is None else target
    labels = labels_of(network, x, segmentation, 60)
    visible = lime.draw_copies(150, int(labels.max()) + 1, Context(network, seed=7).generator(1))
    theirs, score = package_fit(network, x, labels, visible, target)
    ours = ex.explain(network, x, "lime", target=target, samples=150, segmentation=segmentation, segments=60, seed=7)
    error = relative_error(segment_values(ours, labels), theirs)
    print(f"{segmentation}: {len(theirs)} superpixels, relative error {error:.1e}")
    assert error < 1e-4 and ours.extras["r_squared"] == pytest.approx(score, rel=1e-4)


def test_lime_with_black_pieces_and_logits_equals_the_authors_package(scene):
    network, x, label = scene
    labels = labels_of(network, x, "grid", 25)
    visible = lime.draw_copies(120, 25, Context(network, seed=0).generator(1))
    theirs, _ = package_fit(network, x, labels, visible, label, output="logit", hide_color=0.0)
    ours = ex.explain(network, x, "lime", target=label, samples=120, segmentation="grid", segments=25, fill="black", output="logit")
    assert relative_error(segment_values(ours, labels), theirs) < 1e-4


def test_lime_of_a_linear_network_is_what_each_piece_adds(linear, image):
    labels = labels_of(linear, image, "grid", 16)
    weights = linear.module.get_parameter("1.weight")[1].view(3, 32, 32)
    expected = piece_sums((weights * (image - segment_means(image, labels))[0]).sum(0), labels)
    attribution = ex.explain(linear, image, "lime", target=1, samples=400, segmentation="grid", segments=16,
                             output="logit", alpha=0.01)
    assert relative_error(segment_values(attribution, labels), expected) < 1e-3 and attribution.extras["r_squared"] > 1 - 1e-5
    ridged = ex.explain(linear, image, "lime", target=1, samples=400, segmentation="grid", segments=16, output="logit", alpha=1000)
    assert ridged.native.abs().max() < attribution.native.abs().max() / 2


def test_copies_hide_half_of_the_pieces_and_the_first_hides_none():
    visible = lime.draw_copies(2000, 30, torch.Generator().manual_seed(1))
    assert visible[0].all() and (visible[1:].double().mean(0) - 0.5).abs().max() < 0.05
    weights = lime.proximity(torch.tensor([[1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]).bool(), 0.5)
    assert weights.tolist() == pytest.approx([1, np.exp(-0.5**2 / 0.5**2) ** 0.5, np.exp(-1 / 0.5**2) ** 0.5])


def test_r_squared_falls_where_pieces_only_count_together():
    network = classifier(SeesBoth(), classes=2)
    x = torch.ones(1, 3, 32, 32)
    settings = {"segmentation": "grid", "segments": 16, "fill": "zero", "output": "logit", "kernel_width": 10.0, "samples": 600}
    both = ex.explain(network, x, "lime", target=0, **settings).extras["r_squared"]
    assert 0.5 < both < 0.8  # of a product of two fair coins a linear model explains 2/3


# KernelSHAP


class SeesBoth(nn.Module):
    """Class 0's logit is the product of what is seen in two opposite corners, squares of 8 pixels; class 1's is 0."""

    def forward(self, x):
        one, other = x[:, :, :8, :8].mean((1, 2, 3)), x[:, :, 24:, 24:].mean((1, 2, 3))
        return torch.stack((6 * one * other, torch.zeros_like(one)), 1)


def shapley_by_definition(v, pieces):
    """The mean increase of v over all orders, as a sum over subsets; v takes a list of bool rows (n, M)."""
    subsets = [frozenset(s) for size in range(pieces + 1) for s in combinations(range(pieces), size)]
    rows = torch.tensor([[j in s for j in range(pieces)] for s in subsets])
    value = dict(zip(subsets, v(rows).tolist(), strict=True))
    return torch.tensor([sum(
        factorial(len(s)) * factorial(pieces - len(s) - 1) / factorial(pieces) * (value[s | {j}] - value[s])
        for s in subsets if j not in s) for j in range(pieces)], dtype=torch.float64)


def exact_values(network, x, target, labels):
    cover = torch.zeros_like(x)

    @torch.inference_mode()
    def v(rows):
        images = torch.where(rows[:, labels][:, None], x, cover)
        return torch.cat([network.logits(part)[:, target].double() for part in images.split(64)])

    return shapley_by_definition(v, int(labels.max()) + 1)


def test_with_all_coalitions_the_values_are_those_of_the_definition(scene, monkeypatch):
    network, x, label = scene
    labels = labels_of(network, x, "quickshift", 8)
    with counted_walks(monkeypatch) as meter:
        attribution = ex.explain(network, x, "kernel_shap", target=label, samples=400, segments=8)
    assert meter.passes.forward == attribution.passes.forward == 256 and attribution.extras["exact"] == "exact"
    assert relative_error(segment_values(attribution, labels).double(), exact_values(network, x, label, labels)) < 1e-4


def test_exact_values_equal_captums(toy, image):
    labels = labels_of(toy, image, most=5)
    theirs = ca.ShapleyValues(toy.module).attribute(
        image, target=1, feature_mask=labels.expand(1, 3, -1, -1).contiguous(), perturbations_per_eval=16)
    ours = ex.explain(toy, image, "kernel_shap", target=1, samples=32, segments=5)
    assert relative_error(ours.native[0], theirs[0, 0]) < 1e-4


def test_a_sampled_regression_equals_captums_with_the_same_coalitions(scene):
    network, x, label = scene
    labels = labels_of(network, x, "grid", 25)
    design = kernel_shap.paired_design(25, 49, Context(network, seed=3).generator(1))
    rows = torch.cat((torch.ones(1, 25), torch.zeros(1, 25), design.coalitions)).long()
    certain = 1e4 * design.weights.max()  # captum meets the constraint by a large weight, not exactly
    weights = dict(zip(map(tuple, rows.tolist()), torch.cat((certain.repeat(2), design.weights)), strict=True))

    def drawn(original, **options):
        for row in rows:
            yield row[None]

    captum = ca.KernelShap(network.module)
    captum.perturb_func = drawn
    captum.similarity_func = lambda original, copy, row, **options: weights[tuple(row[0].tolist())][None].float()
    theirs = captum.attribute(x, target=label, feature_mask=labels.expand(1, 3, -1, -1), n_samples=len(rows),
                              perturbations_per_eval=16)
    ours = ex.explain(network, x, "kernel_shap", target=label, samples=100, segmentation="grid", segments=25, seed=3)
    error = relative_error(ours.native[0], theirs[0, 0])
    print(f"relative error {error:.1e}")
    assert error < 1e-4


@pytest.mark.parametrize("sampling", ["paired", "independent"])
@pytest.mark.parametrize("samples", [4, 20, 200])
def test_the_values_sum_to_the_change_of_the_output(scene, sampling, samples):
    network, x, label = scene
    for output in ("logit", "softmax"):
        attribution = ex.explain(network, x, "kernel_shap", target=label, samples=samples, sampling=sampling,
                                 output=output, per_pixel=True)
        whole, hidden = (surrogate.scores(network.logits(image), Target.of(label), output) for image in (x, torch.zeros_like(x)))
        assert float(attribution.native.sum()) == pytest.approx(float(whole - hidden), rel=1e-4)
        assert attribution.extras["hidden"] == pytest.approx(float(hidden), rel=1e-4) and attribution.passes.forward == samples


@pytest.mark.parametrize("sampling", ["paired", "independent"])
def test_a_linear_network_needs_hardly_more_samples_than_pieces(linear, image, sampling):
    labels = labels_of(linear, image, "grid", 16)
    weights = linear.module.get_parameter("1.weight")[1].view(3, 32, 32)
    attribution = ex.explain(linear, image, "kernel_shap", target=1, samples=60, segmentation="grid", segments=16, sampling=sampling)
    assert relative_error(segment_values(attribution, labels), piece_sums((weights * image[0]).sum(0), labels)) < 1e-4


def test_two_pieces_that_count_only_together_get_a_half_each_and_the_others_nothing():
    network = classifier(SeesBoth(), classes=2)
    attribution = ex.explain(network, torch.ones(1, 3, 32, 32), "kernel_shap", target=0, samples=600, segmentation="grid", segments=16)
    expected = torch.zeros(32, 32)
    expected[:8, :8] = expected[24:, 24:] = 3
    assert (attribution.native[0] - expected).abs().max() < 0.25  # an estimate from 600 of 65536 coalitions
    few = ex.explain(network, torch.ones(1, 3, 32, 32), "kernel_shap", target=0, samples=512, segmentation="grid", segments=9)
    assert few.extras["exact"] == "exact" and few.native[0, 0, 0] == pytest.approx(float(few.native[0, -1, -1]), rel=1e-4)


def test_pairs_and_whole_sizes_lower_the_error(scene):
    network, x, label = scene
    squares = {"target": label, "segmentation": "grid", "segments": 9}
    exact = ex.explain(network, x, "kernel_shap", samples=512, **squares)
    assert exact.extras["exact"] == "exact"

    def error(sampling):
        maps = [ex.explain(network, x, "kernel_shap", samples=80, sampling=sampling, seed=seed, **squares) for seed in range(8)]
        errors = torch.stack([(attribution.native - exact.native).square().mean() for attribution in maps])
        return float(errors.mean().sqrt() / exact.native.abs().max())

    independent, paired = error("independent"), error("paired")
    print(f"root mean squared error over the largest value: independent {independent:.4f}, paired {paired:.4f}")
    assert paired < 0.6 * independent


@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 7, 8])
def test_with_enough_pairs_the_design_is_the_whole_shapley_kernel(pieces):
    design = kernel_shap.paired_design(pieces, 10**6, torch.Generator())
    rows = [tuple(row) for row in design.coalitions.tolist()]
    assert len(set(rows)) == len(rows) == 2**pieces - 2
    kernel = [1 / (comb(pieces, sum(row)) * sum(row) * (pieces - sum(row))) for row in rows]
    assert (design.weights / design.weights.sum()).tolist() == pytest.approx([k / sum(kernel) for k in kernel])


@pytest.mark.parametrize(("pieces", "pairs"), [(8, 126), (8, 60), (12, 99), (13, 99), (50, 499), (200, 30)])
def test_a_design_has_pairs_of_complements_none_twice_and_the_kernels_weight_for_each_size(pieces, pairs):
    design = kernel_shap.paired_design(pieces, pairs, torch.Generator().manual_seed(5))
    rows = [tuple(row) for row in design.coalitions.tolist()]
    assert len(set(rows)) == len(rows) == 2 * pairs
    assert torch.equal(design.coalitions[::2], ~design.coalitions[1::2])
    assert float(design.weights.sum()) == pytest.approx(2)
    sizes, expected = design.coalitions.sum(1), kernel_shap.size_weights(pieces)
    for size in range(1, pieces):
        weight = float(design.weights[sizes == size].sum()) / 2
        assert abs(weight - float(expected[size - 1])) <= float(design.weights.max()) / 2 + 1e-12  # the rounding to whole pairs


def test_independent_coalitions_follow_the_kernel():
    design = kernel_shap.independent_design(9, 20000, torch.Generator().manual_seed(2))
    sizes = design.coalitions.sum(1)
    frequencies = torch.bincount(sizes, minlength=9)[1:].double() / 20000
    assert (frequencies - kernel_shap.size_weights(9)).abs().max() < 0.01
    assert (design.coalitions.double().mean(0) - 0.5).abs().max() < 0.02


# Both


@pytest.mark.parametrize("key", ["lime", "kernel_shap"])
def test_one_set_of_passes_serves_every_class(key, toy, image, monkeypatch):
    engine = ex.Engine()
    first = engine.explain(toy, image, key, target=0, samples=50)
    with counted_walks(monkeypatch) as meter:
        second = engine.explain(toy, image, key, target=1, samples=50)
    assert not meter.passes.forward and second.passes == first.passes
    assert torch.equal(second.native, ex.explain(toy, image, key, target=1, samples=50).native)


@pytest.mark.parametrize("key", ["lime", "kernel_shap"])
def test_the_planted_object_gets_the_largest_value(key):
    network, touched = ex.load_model("scenes_vgg", device="cpu"), 0
    for seed in range(60, 66):
        scene = scenes.draw(seed)
        x = network.preprocessing.normalise(torch.from_numpy(scene.image).permute(2, 0, 1)[None].float() / 255)
        heat = ex.explain(network, x, key, target=scene.labels[0], samples=150).heatmap()
        touched += bool((scene.masks[0] & (heat == heat.max())).any())
    print(f"{key}: the largest value touches the object in {touched} of 6 scenes")
    assert touched >= 5


@pytest.mark.parametrize("key", ["lime", "kernel_shap"])
def test_grey_digits_have_maps(key):
    network = ex.load_model("digits_cnn", device="cpu")
    images, labels = digits.draw_batch(1, seed=99)
    x = network.preprocessing.normalise(images.float() / 255)
    attribution = ex.explain(network, x, key, target=int(labels[0]), samples=100)
    assert attribution.native.shape == (1, 28, 28) and attribution.extras["count"] > 3 and attribution.native.std() > 0


@pytest.mark.parametrize("key", ["lime", "kernel_shap"])
@pytest.mark.parametrize("fill", surrogate.FILLS)
def test_a_picture_that_cannot_be_cut_is_one_superpixel_and_no_error(key, fill, toy):
    x = torch.full((1, 3, 32, 32), 0.3)
    attribution = ex.explain(toy, x, key, target=1, samples=20, fill=fill, segmentation="felzenszwalb")
    assert attribution.extras["count"] == 1 and attribution.flags[0].startswith("the map is")
    if key == "kernel_shap":
        change = float(toy.logits(x)[0, 1]) - attribution.extras["hidden"]
        assert attribution.native[0, 0, 0] == pytest.approx(change, abs=1e-5) and attribution.passes.forward == 2


def test_the_mosaic_shows_each_superpixel_in_its_mean_colour(toy, image):
    attribution = ex.explain(toy, image, "lime", target=1, samples=20)
    labels = labels_of(toy, image)
    assert torch.equal(attribution.extras["superpixels"].long(), labels)
    assert torch.equal(surrogate.MOSAIC.of(image, attribution.extras), segment_means(image, labels))
    cut = surrogate.cut(toy, image, lime.Params(), Context(toy))
    shown = cut.showing(torch.arange(cut.count)[None] == 0)
    assert torch.equal(shown[0, :, labels == 0], image[0, :, labels == 0])
    assert torch.equal(shown[0, :, labels > 0], segment_means(image, labels)[0, :, labels > 0])


def test_noise_as_fill_does_not_depend_on_the_copies():
    x, network = drawn_images(1, seed=5), classifier(nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)))
    covers = [surrogate.cut(network, x, params, Context(network, seed=1)).cover
              for params in (lime.Params(fill="noise"), kernel_shap.Params(fill="noise"))]
    assert torch.equal(*covers) and abs(float(covers[0].std()) - 1) < 0.05
