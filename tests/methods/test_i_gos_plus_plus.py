"""iGOS++ against closed forms, the authors' loop written out plainly, and a network that sees nothing but a planted patch."""

from __future__ import annotations

import pytest
import torch
from support.networks import LinearProbability, SeesPatch, classifier
from torch.nn import functional as F

import explainers as ex
from explainers.baselines import i_gos_blur
from explainers.context import Context
from explainers.methods.i_gos_plus_plus import STEPS, Objective, Params, edge_weights
from explainers.target import Target


@pytest.fixture(scope="module")
def patch():
    """The network and an image that is bright in the patch alone."""
    x = torch.zeros(1, 3, 32, 32)
    x[:, :, 16:24, 8:16] = 1
    return classifier(SeesPatch(), classes=2), x


def nothing():
    return None


def random_masks(side, seed=0):
    return torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(seed))


def up(mask):
    return F.interpolate(mask, size=(32, 32), mode="bilinear", align_corners=True)


def bilateral(x, m):
    """The bilateral total variation of a mask (1, 1, r, r) on an image (1, C, 32, 32), term by term."""
    total = 0
    for d in (2, 3):
        grey = x.mean(1, keepdim=True).diff(dim=d)
        total = total + m.diff(dim=d).pow(2).mean() + (torch.exp(-grey**2 / 0.01) * up(m).diff(dim=d) ** 2).mean()
    return total / 2


def naive(network, x, target, params, seed, l1, tv):
    """The authors' loop for one image, one point at a time, but for its line search, which compares the end points."""
    context, soft = Context(network, seed), i_gos_blur(x)

    def p(first, second, m):
        return network.logits(first * m + second * (1 - m)).softmax(-1)[0, target]

    def along_path(first, second, m, iteration, term):
        total = 0
        for s in range(params.points):
            part = m * (s + 1) / params.points
            index = (4 * iteration + term) * params.points + s
            noise = params.noise * torch.randn(x.shape[1:], generator=context.generator(index))
            total = total + network.logits(first * part + second * (1 - part) + noise).softmax(-1)[0, target] / params.points
        return total

    def price(a, b):
        return l1 * (1 - a * b).abs().mean() + tv * bilateral(x, a * b)

    @torch.no_grad()
    def loss_of(a, b):
        return float(p(x, soft, up(a)) - p(soft, x, up(b)) + p(x, soft, up(a) * up(b)) - p(soft, x, up(a) * up(b)) + price(a, b))

    a, b, losses = torch.ones(1, 1, 14, 14), torch.ones(1, 1, 14, 14), []
    for i in range(params.iterations):
        a, b = a.detach().requires_grad_(True), b.detach().requires_grad_(True)
        terms = along_path(x, soft, up(a), i, 0) - along_path(soft, x, up(b), i, 1)
        terms = terms + along_path(x, soft, up(a) * up(b), i, 2) - along_path(soft, x, up(a) * up(b), i, 3)
        steps = torch.autograd.grad(terms / 2 + price(a, b), (a, b))
        losses.append(loss_of(a, b))
        squared, step = float(sum((d**2).sum() for d in steps)), 1000.0
        while True:
            c, d = ((m.detach() - step * g).clamp(0, 1) for m, g in zip((a, b), steps, strict=True))
            if step < 1e-5 or loss_of(c, d) <= losses[-1] - 1e-4 * step * squared:
                break
            step *= 0.2
        a, b = c, d
    return torch.cat((a, b)), [*losses, loss_of(a, b)]


@pytest.mark.parametrize("settings", [
    dict(points=4, iterations=4, l1=0.03, tv=0.1), dict(points=3, iterations=5, noise=0.1, l1=0.01, tv=0.02)])
def test_it_equals_the_authors_loop_with_a_line_search_at_the_end_points(toy, image, settings):
    """On a network that sees every cell: the masks of cells without any gradient would differ from 1 by less than float32 can tell,
    and then the slope of |1 - x y| is 0 for masks and 1 for hidden fractions."""
    x = 3 * image
    attribution = ex.explain(toy, x, "i_gos_plus_plus", target=1, seed=11, resolution="14", **settings)
    masks, losses = naive(toy, x, 1, Params(**settings), 11, settings["l1"], 20 * settings["tv"])
    both = torch.stack((attribution.extras["deletion_mask"], attribution.extras["insertion_mask"]))
    assert torch.allclose(both, masks[:, 0], atol=1e-4) and masks.std() > 1e-3
    assert attribution.extras["loss"] == pytest.approx(losses, abs=1e-4) and losses[-1] < losses[0]
    assert torch.allclose(attribution.native[0], 1 - both.prod(0), atol=1e-6)


def test_on_a_linear_probability_the_direction_is_a_fraction_of_the_gradient(image):
    """The path's factor is (S + 1) / 2S, and the four terms count half."""
    network, points = classifier(LinearProbability(), classes=2), 5
    params, hidden = Params(points=points, noise=0.0, l1=0.0, tv=0.0, resolution="14"), random_masks(14)
    objective = Objective(network, image, Target.of(0), params)
    leaf = hidden.clone().requires_grad_(True)
    soft, (x, y) = i_gos_blur(image), up(1 - leaf)[:, None]
    blends = [(image, soft, x, 1), (soft, image, y, -1), (image, soft, x * y, 1), (soft, image, x * y, -1)]
    total = sum(sign * network.logits(a * m + b * (1 - m)).softmax(-1)[0, 0] for a, b, m, sign in blends)
    plain = torch.autograd.grad(total, leaf)[0]
    direction = objective.direction(hidden, 0, Context(network), nothing)
    assert torch.allclose(direction, (points + 1) / (2 * points) / 2 * plain, atol=1e-6) and plain.abs().max() > 1e-4


def test_the_penalty_is_the_area_and_the_bilateral_variation_of_the_product(toy, image):
    masks = random_masks(14)
    objective = Objective(toy, image, Target.of(0), Params(resolution="14"))
    m = masks[:1] * masks[1:]
    expected = (1 - m).mean() + 20 * bilateral(image, m)
    assert torch.allclose(objective.penalty(1 - masks[None])[0], expected, rtol=1e-5)
    assert Objective(toy, image, Target.of(0), Params()).cells_penalty.l1 == 1


def test_a_change_of_the_mask_is_free_at_an_edge_of_the_image():
    x = torch.zeros(1, 3, 8, 8)
    x[..., 4:] = 1
    down, across = edge_weights(x, 2), edge_weights(x, 3)
    assert torch.equal(down, torch.ones(1, 1, 7, 8))
    assert across[..., 3].max() < 1e-30 and across[..., [0, 1, 2, 4, 5, 6]].min() == 1


def test_the_steps_are_the_authors():
    assert STEPS[0] == 1000 and STEPS[-2] > 1e-5 > STEPS[-1] and STEPS[1] == pytest.approx(200)


def test_the_planted_patch_is_deleted_and_inserted(patch):
    network, x = patch
    attribution = ex.explain(network, x, "i_gos_plus_plus", target=0, points=5, iterations=8, tv=0.05)
    heat, extras = torch.from_numpy(attribution.heatmap()), attribution.extras
    assert heat[14:26, 6:18].sum() > 0.8 * heat.sum() and 0 <= heat.min() and heat.max() <= 1
    assert extras["deletion"][-1] < extras["deletion"][0] - 0.2 and extras["insertion"][-1] > extras["insertion"][0] + 0.2
    assert all(0 <= extras[name].min() and extras[name].max() <= 1 for name in ("deletion_mask", "insertion_mask"))
    for before, after, accepted in zip(extras["loss"], extras["loss"][1:], extras["accepted"], strict=False):
        assert not accepted or after <= before


def test_the_shown_pictures_are_what_deletion_leaves_and_insertion_shows(toy, image):
    attribution = ex.explain(toy, image, "i_gos_plus_plus", target=2, iterations=2, points=2, l1=0.01, tv=0.01)
    deleted, shown = ex.methods()["i_gos_plus_plus"].auxiliary_outputs[0].of(image, attribution.extras)
    m, soft = up(1 - attribution.extras["hidden"][None, None]), i_gos_blur(image)
    assert torch.allclose(deleted, (m * image + (1 - m) * soft)[0], atol=1e-5)
    assert torch.allclose(shown, (m * soft + (1 - m) * image)[0], atol=1e-5)
    p = [float(toy.predict(picture[None])[0, 2]) for picture in (deleted, shown)]
    assert [attribution.extras[name][-1] for name in ("deletion", "insertion")] == pytest.approx(p, abs=1e-5)


def test_a_contrast_starts_at_the_difference_of_two_probabilities(toy, image):
    attribution = ex.explain(toy, image, "i_gos_plus_plus", target=(2, 0), iterations=1, points=2)
    p = toy.predict(image)[0]
    assert attribution.extras["deletion"][0] == pytest.approx(float(p[2] - p[0]), abs=1e-6)
