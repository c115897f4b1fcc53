"""Meaningful and extremal perturbation: naive twins, their published penalties, and networks that see nothing but a planted patch."""

from __future__ import annotations

import functools

import pytest
import torch
from scipy import ndimage
from support.networks import classifier, drawn_images
from torch import nn
from torch.nn import functional as F

import explainers as ex
from explainers.baselines import blur, blur_pyramid, median_blur
from explainers.context import Context
from explainers.data.scenes import draw
from explainers.methods import extremal_perturbation as extremal
from explainers.methods import meaningful_perturbation as meaningful
from explainers.target import Target

PATCH = (slice(16, 24), slice(8, 16))
HERE = torch.device("cpu")


class SeesPatch(nn.Module):
    """Class 0 is likely when the patch's pixels alternate strongly, which no blur of them does."""

    def forward(self, x):
        seen = x[:, :, *PATCH].diff(dim=3).abs().mean((1, 2, 3))
        return torch.stack((4 * seen - 4, torch.zeros_like(seen)), 1)


class SeesNothing(nn.Module):
    def forward(self, x):
        return 0 * x.mean((1, 2, 3))[:, None] + torch.tensor([1.0, 0.0])


@pytest.fixture(scope="module")
def patch():
    """The network and an image of vertical stripes."""
    x = torch.ones(1, 3, 32, 32)
    x[..., ::2] = -1
    return classifier(SeesPatch(), classes=2), x


@pytest.fixture(scope="module")
def scene():
    """A network for scenes, a scene with one object, and the object's pixels."""
    network, drawn = ex.load_model("scenes_vgg"), draw(seed=8, size=128, objects=1)
    x = network.preprocessing.normalise(torch.from_numpy(drawn.image).permute(2, 0, 1)[None] / 255)
    return network, x, drawn.labels[0], torch.from_numpy(drawn.masks[0])


def inside(heat, where):
    """The fraction of a map that is in a part of the picture."""
    return float(torch.as_tensor(heat)[where].sum() / torch.as_tensor(heat).sum())


@pytest.mark.parametrize("side", [3, 5])
def test_the_median_blur_is_scipys_with_repeated_edges(side):
    x = drawn_images(1, seed=2, side=17)
    expected = ndimage.median_filter(x.numpy(), size=(1, 1, side, side), mode="nearest")
    assert torch.equal(median_blur(x, side), torch.from_numpy(expected))


def plain_blur(x, sigma):
    """A whole two-dimensional Gaussian kernel over zeros beyond the edges."""
    if sigma == 0:
        return x
    radius = int(-(-4 * sigma // 1))
    offsets = torch.arange(-radius, radius + 1).double()
    kernel = torch.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x.double(), kernel, padding=radius, groups=x.shape[1]).float()


def test_the_pyramid_is_plain_blurs_of_falling_deviation():
    x = drawn_images(1, seed=2)
    levels = blur_pyramid(x, 8, 2.8)
    for level in range(8):
        assert torch.allclose(levels[level:level + 1], plain_blur(x, 2.8 * (1 - level / 7)), atol=1e-5)
    assert torch.equal(levels[-1:], x)


# Meaningful perturbation


@pytest.mark.parametrize("setting", ["authors", "pytorch"])
def test_penalties_are_those_of_the_published_programs(toy, image, setting):
    mask = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    perturber = meaningful.Perturber(toy, image, Target.of(0), meaningful.Params(setting=setting), Context(toy))
    m = mask[0, 0].double()
    if setting == "authors":
        down, across = torch.zeros(28, 28).double(), torch.zeros(28, 28).double()
        down[:-1], across[:, :-1] = m.diff(dim=0), m.diff(dim=1)
        expected = 1e-4 * (m - 1).abs().sum() + 1e-2 * (down**2 + across**2).sqrt().pow(3).sum()
    else:
        expected = 0.01 * (1 - m).abs().mean() + 0.2 * (m.diff(dim=0).abs().pow(3).mean() + m.diff(dim=1).abs().pow(3).mean())
    assert float(perturber.penalty(1 - mask)) == pytest.approx(float(expected), rel=1e-5)


def naive_meaningful(network, x, target, params, hidden, seed):
    """The published loops, with a mask that is 1 where it keeps, Adam by hand and gradients by autograd alone."""
    authors, context = params.setting == "authors", Context(network, seed)
    soft = blur(x, sigma=10 / 7) if authors else median_blur(x, 3)
    mask = (1 - hidden).clone()
    mean, square = torch.zeros_like(mask), torch.zeros_like(mask)
    losses = []
    for i in range(params.iterations):
        generator = context.generator(i)
        mask.requires_grad_(True)
        if authors:
            top, left = (int(torch.randint(2, (), generator=generator)) for _ in range(2))
            image, behind = (F.pad(p, (1, 0, 1, 0), mode="replicate")[..., top:top + 32, left:left + 32] for p in (x, soft))
            up = blur(F.interpolate(mask, size=(32, 32), mode="nearest"), sigma=5 / 7)
            shown = image * up + behind * (1 - up)
            down, across = mask[..., 1:, :] - mask[..., :-1, :], mask[..., 1:] - mask[..., :-1]
            squared = F.pad(down, (0, 0, 0, 1)) ** 2 + F.pad(across, (0, 1)) ** 2
            cells = mask.numel()
            price = 784e-4 * (1 - mask).abs().sum() / cells + 784e-2 * (squared + 1e-30).sqrt().pow(3).sum() / cells
        else:
            up = F.interpolate(mask, size=(32, 32), mode="bilinear", align_corners=True)
            shown = x * up + soft * (1 - up) + 0.2 * torch.randn(x.shape, generator=generator)
            price = 0.01 * (1 - mask).abs().mean()
            price = price + 0.2 * sum(mask.diff(dim=d).abs().pow(3).mean() for d in (2, 3))
        loss = network.logits(shown).softmax(-1)[0, target] + price
        gradient = torch.autograd.grad(loss, mask)[0]
        losses.append(float(loss.detach()))
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        step = mean / (1 - 0.9 ** (i + 1)) / ((square / (1 - 0.999 ** (i + 1))).sqrt() + 1e-8)
        mask = (mask.detach() - 0.1 * step).clamp(0, 1)
    return 1 - mask, losses


@pytest.mark.parametrize("setting", ["authors", "pytorch"])
def test_it_equals_the_published_loop(patch, setting):
    network, x = patch
    x = x + 0.1 * drawn_images(1, seed=5)
    params = meaningful.Params(setting=setting, iterations=12, resolution="14")
    context = Context(network, 11)
    hidden, _ = meaningful.start(meaningful.Perturber(network, x, Target.of(0), params, context), 14, context)
    expected, losses = naive_meaningful(network, x, 0, params, hidden, 11)
    attribution = ex.explain(network, x, "meaningful_perturbation", target=0, seed=11, setting=setting, iterations=12, resolution=14)
    up = blur(F.interpolate(expected, size=(32, 32), mode="nearest"), sigma=5 / 7) if setting == "authors" else expected
    assert torch.allclose(attribution.native, up[0], atol=1e-4)
    assert attribution.extras["loss"][:-1] == pytest.approx(losses, abs=1e-4) and losses[-1] < losses[0] - 0.01


def test_the_smallest_disc_takes_away_99_percent_of_what_the_largest_does():
    assert meaningful.smallest_disc([0.9, 0.9, 0.5, 0.109, 0.107, 0.1]) == 3
    assert meaningful.smallest_disc([0.9, 0.9, 0.5, 0.1, 0.05, 0.1]) == 2
    assert meaningful.smallest_disc([0.5, 0.5, 0.5]) == 0  # where nothing is taken away, nothing is hidden


def test_discs_grow_from_a_pixel_to_the_whole_picture():
    areas = meaningful.discs((224, 224)).mean((1, 2, 3)).tolist()
    assert len(areas) == 35 and areas == sorted(areas) and areas[0] < 1e-4 and areas[-1] > 0.99
    assert areas[10] == pytest.approx(3.14159 * 50**2 / 224**2, rel=0.02)


@pytest.mark.parametrize("setting", ["authors", "pytorch"])
def test_the_planted_patch_is_hidden(patch, setting):
    network, x = patch
    attribution = ex.explain(network, x, "meaningful_perturbation", target=0, setting=setting, iterations=150)
    heat, extras = torch.from_numpy(attribution.heatmap()), attribution.extras
    assert inside(heat, (slice(13, 27), slice(5, 19))) > (0.6 if setting == "authors" else 0.9)  # of the authors' disc a part stays
    assert heat[PATCH].mean() > 3 * heat.mean()
    assert 0 <= heat.min() and heat.max() <= 1 + 1e-6
    assert extras["whole_probability"] == pytest.approx(float(network.predict(x)[0, 0]), abs=1e-6)
    assert extras["probability"][-1] < 0.35 and extras["loss"][-1] < 0.5 * extras["whole_probability"]
    assert len(extras["loss"]) == len(extras["probability"]) == 151


@pytest.mark.parametrize(("setting", "l1"), [("authors", 5), ("pytorch", 30)])  # the published weights hide more than the object
def test_the_object_of_a_scene_is_hidden(scene, setting, l1):
    network, x, label, where = scene
    attribution = ex.explain(network, x, "meaningful_perturbation", target=label, setting=setting, l1=l1, iterations=60,
                             resolution=14)
    assert inside(attribution.heatmap(), where) > 2.5 * float(where.float().mean())
    assert attribution.extras["probability"][-2] < 0.65 * attribution.extras["whole_probability"]


def test_where_hiding_changes_nothing_nothing_is_hidden(image):
    network = classifier(SeesNothing(), classes=2)
    attribution = ex.explain(network, image, "meaningful_perturbation", target=0, setting="pytorch", iterations=20)
    assert not attribution.native.any() and attribution.extras["probability"] == pytest.approx([0.731059] * 21, abs=1e-5)


def test_a_contrast_lowers_the_difference_of_two_probabilities(toy, image):
    attribution = ex.explain(toy, image, "meaningful_perturbation", target=(2, 0), iterations=1)
    p = toy.predict(image)[0]
    assert attribution.extras["whole_probability"] == pytest.approx(float(p[2] - p[0]), abs=1e-6)


@pytest.mark.parametrize(("setting", "made"), [("authors", lambda x: blur(x, sigma=10 / 7)), ("pytorch", lambda x: median_blur(x, 3))])
def test_the_shown_picture_is_made_again_and_no_copy_of_the_image_is_kept(toy, image, setting, made):
    attribution = ex.explain(toy, image, "meaningful_perturbation", target=2, setting=setting, iterations=3)
    assert not any(isinstance(value, torch.Tensor) and value.numel() > 32 * 32 for value in attribution.extras.values())
    hidden = attribution.extras["hidden"]
    shown = meaningful.METHOD.auxiliary_outputs[0].of(image, attribution.extras)
    assert torch.allclose(shown, (1 - hidden) * image + hidden * made(image), atol=1e-5)


# Extremal perturbation


@functools.cache
def windows(side):
    """For every pixel with its margin, and every cell with a padding: the weight, and whether the cell is in the pixel's window."""
    pixels = torch.cartesian_prod(*[torch.arange(-3, side + 3)] * 2)
    cells = torch.cartesian_prod(*[torch.arange(-7, side + 7)] * 2)
    offsets = pixels[:, None] - cells[None]
    weight = torch.exp(-2 * (offsets.float().norm(dim=2) / 3 - 0.5).clamp(min=0) ** 2)
    return weight, (offsets.abs() <= 4).all(2)


def naive_whole_mask(cells, side):
    """The soft maximum of every pixel over all cells, of which those outside its 9 x 9 window are left out. One cell a pixel."""
    weight, near = windows(side)
    v = weight * F.pad(cells, (7,) * 4).flatten()
    s = torch.where(near, 20 * v, -torch.inf).softmax(1)
    return (s * v).sum(1).view(1, 1, side + 6, side + 6)


def test_the_mask_is_a_soft_maximum_over_weighted_cells():
    cells = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    smooth = extremal.SmoothMask((32, 32), HERE)
    whole = smooth.with_margin(cells)
    assert smooth.cells == (32, 32) and torch.allclose(whole, naive_whole_mask(cells, 32), atol=1e-5)
    assert torch.equal(smooth.of_image(whole), whole[..., 3:35, 3:35])


@pytest.mark.parametrize(("side", "step"), [(224, 7), (128, 4), (64, 2), (75, 2)])
def test_a_single_cell_makes_a_blob_around_its_pixel(side, step):
    """Far from all other cells the softmax is over zeros and one weight, so the blob has a closed form."""
    smooth = extremal.SmoothMask((side, side), HERE)
    assert smooth.step == step
    cells = torch.zeros(1, 1, *smooth.cells)
    row, column = smooth.cells[0] // 2, smooth.cells[1] // 3
    cells[..., row, column] = 1
    mask = smooth.of_image(smooth.with_margin(cells))[0, 0]
    y, x = step * row + torch.tensor([0, 1, 0, 3 * step]), step * column + torch.tensor([0, 0, 2 * step, step])
    distance = torch.hypot((y - step * row).double(), (x - step * column).double())
    weight = torch.exp(-2 * (distance / (3 * step) - 0.5).clamp(min=0) ** 2)
    expected = weight * (20 * weight).exp() / (80 + (20 * weight).exp())
    assert mask.shape == (side, side) and torch.allclose(mask[y, x].double(), expected, atol=1e-5)


def test_the_slope_of_the_soft_maximum_is_right(monkeypatch):
    monkeypatch.setattr(extremal, "_BLOCK", 50)  # several blocks
    generator = torch.Generator().manual_seed(4)
    around = torch.rand(2, 9, 6, generator=generator).double().requires_grad_(True)
    weights = torch.rand(9, 4, generator=generator).double()
    assert torch.autograd.gradcheck(lambda a: extremal._SoftMaximum.apply(a, weights), around)


def test_a_constant_mask_chooses_a_level_of_the_pyramid_and_others_blend_two():
    x = drawn_images(1, seed=6)
    perturbation = extremal.Perturbation(x, "blur")
    for value in (0, 1 / 7, 4 / 7, 1):
        shown = perturbation.under(torch.full((1, 1, 32, 32), value))
        assert torch.allclose(shown, plain_blur(x, 20 / 7 * (1 - value)), atol=1e-4)
    between = perturbation.under(torch.full((1, 1, 32, 32), 2.25 / 7))
    assert torch.allclose(between, 0.75 * plain_blur(x, 20 / 7 * 5 / 7) + 0.25 * plain_blur(x, 20 / 7 * 4 / 7), atol=1e-4)
    mask = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(extremal.Perturbation(x, "fade").under(mask), mask * x, atol=1e-5)


@pytest.mark.parametrize("area", [0.025, 0.1, 0.3, 1.0])
def test_the_area_holds_the_largest_values_and_of_equal_ones_the_last(area):
    values = torch.randint(5, (1, 1, 20, 30), generator=torch.Generator().manual_seed(3)).float() / 5
    expected = torch.ones(600)
    expected[values.flatten().sort(stable=True).indices[:int(600 * (1 - area))]] = 0
    assert torch.equal(extremal.inside_area(values, (area,)).flatten(), expected)


def naive_extremal(network, x, target, references, variant):
    """The authors' loop; a pixel's perturbation is a sum over all levels with triangular weights. references: of each step's area."""
    levels = [plain_blur(x, 20 / 7 * (1 - level / 7)) for level in range(8)]

    def perturbed(mask):
        return sum((1 - (7 * mask - level).abs()).clamp(min=0) * y for level, y in enumerate(levels))

    cells, momentum, weight = torch.ones(1, 1, 32, 32), None, 300.0
    for t, reference in enumerate(references):
        cells.requires_grad_(True)
        whole = naive_whole_mask(cells, 32).clamp(0, 1)
        mask = whole[..., 3:35, 3:35]
        shown = {"preserve": [mask], "delete": [1 - mask], "dual": [mask, 1 - mask]}[variant]
        images = [perturbed(m).flip(3) if t % 2 == 0 else perturbed(m) for m in shown]
        logits = [network.logits(image)[0, target] for image in images]
        reward = -logits[0] if variant == "delete" else logits[0] - (logits[1] if variant == "dual" else 0)
        energy = reward - weight * (whole - reference).square().mean()
        gradient = torch.autograd.grad(-energy, cells)[0]
        momentum = gradient if momentum is None else 0.9 * momentum + 0.1 * gradient
        cells = (cells.detach() - 0.01 * momentum).clamp(0, 1)
        weight *= 1.0035
    return mask.detach(), float(reward.detach())


@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
def test_it_equals_the_authors_loop_with_the_same_pixels_in_the_area(toy, image, variant, monkeypatch):
    """Rounding decides which of the equal values at the beginning are in the area, so the twin is given what was decided."""
    references, decide = [], extremal.inside_area

    def recorded(masks, areas):
        references.append(decide(masks, areas))
        return references[-1]

    monkeypatch.setattr(extremal, "inside_area", recorded)
    attribution = ex.explain(toy, 3 * image, "extremal_perturbation", target=1, iterations=8, variant=variant)
    mask, reward = naive_extremal(toy, 3 * image, 1, references, variant)
    assert torch.allclose(attribution.native, mask[0], atol=2e-5) and attribution.native.std() > 0.003
    assert attribution.extras["reward"][-1] == pytest.approx(reward, abs=1e-3)


@pytest.fixture(scope="module")
def covered(patch):
    """The extremal perturbation of the planted patch by all steps."""
    network, x = patch
    return ex.explain(network, x, "extremal_perturbation", target=0, area=10)


def test_the_sorted_mask_is_nearly_a_step_of_the_area(covered):
    smooth = covered.native.flatten().sort().values
    area = 0.1 * 38**2 / 32**2  # the area is one of the mask with its margin, which is empty here
    step = (torch.arange(1024) >= 1024 * (1 - area)).float()
    assert float(smooth.mean()) == pytest.approx(area, abs=0.03) and (smooth - step).abs().mean() < 0.06
    assert covered.extras["area_penalty"][-1] / 1.0035**799 < 0.02 * covered.extras["area_penalty"][0]


def test_the_area_covers_the_planted_patch(patch, covered):
    network, x = patch
    blurred = float(network.logits(extremal.Perturbation(x, "blur").levels[:1])[0, 0])
    assert covered.native[0][PATCH].mean() > 0.7 and blurred < -3.9 and covered.extras["reward"][-1] > 1


@pytest.mark.parametrize("variant", ["delete", "dual"])
def test_the_other_variants_cover_the_patch_too(patch, variant):
    network, x = patch
    attribution = ex.explain(network, x, "extremal_perturbation", target=0, variant=variant, perturbation="fade", iterations=300)
    assert attribution.native[0][PATCH].mean() > 2 * attribution.native.mean()


def test_the_object_of_a_scene_is_kept(scene):
    network, x, label, where = scene
    attribution = ex.explain(network, x, "extremal_perturbation", target=label, iterations=150)
    assert inside(attribution.heatmap(), where) > 1.7 * float(where.float().mean())


def test_areas_that_are_optimised_together_are_as_alone(patch):
    """Their means, at least: rounding decides which pixels are in the areas at the beginning."""
    network, x = patch
    together = ex.explain(network, x, "extremal_perturbation", target=0, iterations=150, area=extremal.ALL_AREAS)
    masks = together.extras["masks"]
    assert masks.shape == (4, 1, 32, 32) and together.passes == ex.Passes(600, 600) and torch.equal(together.native, masks.mean(0))
    means = [float(mask.mean()) for mask in masks]
    alone = [ex.explain(network, x, "extremal_perturbation", target=0, iterations=150, area=area).native.mean() for area in (2.5, 20)]
    assert means[0] == pytest.approx(float(alone[0]), abs=0.01) and means[3] == pytest.approx(float(alone[1]), abs=0.01)
    assert means[3] > means[0] + 0.05


def test_a_final_smoothing_is_the_authors(patch):
    network, x = patch
    plain, smooth = (ex.explain(network, x, "extremal_perturbation", target=0, iterations=20, smooth=s).native for s in (0, 0.09))
    assert torch.allclose(smooth[None], plain_blur(plain[None], 0.09 * 32), atol=1e-5)
