"""InputIBA: the sizes and bounds of its adversarial game, its targets, and planted evidence."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from support.networks import classifier, seeded
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

import explainers as ex
from explainers.context import Context
from explainers.data.reference import ReferenceSet
from explainers.methods import iba, input_iba
from explainers.methods.bottleneck import Descent, Mask, Signal, divergence, optimise_mask
from explainers.methods.input_iba import method, prior
from explainers.target import Target

LIGHT = {"images": 16, "steps": 6, "epochs": 2, "batch": 8, "samples": 20}


def seed(number=0):
    return torch.Generator().manual_seed(number)


def settings(**more):
    return input_iba.METHOD.settings(**more)


# ---- the game ----

def test_full_settings_are_140_steps_of_the_critic_and_40_of_the_generator():
    game = settings().prior_settings
    assert game.epochs * len(prior.batches(game.samples, game.batch)) == 140
    assert game.epochs * len(prior.generator_batches(game.samples, game.batch)) == 40
    assert prior.batches(200, 32) == [32] * 6 + [8] and prior.generator_batches(200, 32) == [32, 32]
    most = input_iba.METHOD.passes(settings())
    assert (most.forward, most.backward) == (1 + 4000 + 100 + 600, 1280 + 100 + 600)


def test_a_single_last_sample_is_left_out():
    assert prior.batches(33, 32) == [32]


def played(toy, image, monkeypatch, **more):
    """The prior of a short game, and what the critic's and the generator's steps left behind each time."""
    seen = {"critic": [], "generator": []}
    for name, key in (("_update_critic", "critic"), ("_update_generator", "generator")):
        real = getattr(prior, name)

        def watched(first, *rest, real=real, key=key):
            loss = real(first, *rest)
            seen[key].append([w.detach().clone() for w in first.weights])
            return loss

        monkeypatch.setattr(prior, name, watched)
    found = ex.explain(toy, image, "input_iba", target=1, **{**LIGHT, **more})
    return found, seen


def test_the_critic_stays_within_its_clip_and_both_move(toy, image, monkeypatch):
    found, seen = played(toy, image, monkeypatch, epochs=3, samples=48)
    assert len(seen["critic"]) == 18 and len(seen["generator"]) == 6
    assert all(w.abs().max() <= prior.CLIP for step in seen["critic"] for w in step)
    assert any(not torch.equal(a, b) for a, b in zip(seen["critic"][0], seen["critic"][-1], strict=True))
    means, deviations, thetas = zip(*seen["generator"], strict=True)
    assert not torch.equal(means[0], means[-1]) and not torch.equal(deviations[0], deviations[-1])
    assert len(found.extras["critic_loss"]) == 18 and len(found.extras["generator_loss"]) == 6


def test_theta_starts_at_ibas_map_and_moves_little(toy, image):
    still, moved = (ex.explain(toy, image, "input_iba", target=1, **{**LIGHT, "epochs": e}) for e in (0, 20))
    start = F.interpolate(still.extras["feature_map"][None, None], size=(32, 32), mode="bilinear", align_corners=False)[0, 0]
    assert torch.allclose(still.extras["lambda_G"], start.sigmoid(), atol=1e-6) and still.extras["theta_moved"] == 0
    assert 0.01 < moved.extras["theta_moved"] <= 0.5
    assert 0 < moved.extras["lambda_G"].min() and moved.extras["lambda_G"].max() < 1
    assert not torch.equal(still.native, moved.native)


def test_forty_steps_of_one_sign_move_theta_by_what_the_sheet_says():
    theta = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.RMSprop([theta], lr=prior.RATES[2])
    for _ in range(40):
        theta.grad = torch.ones(1)
        optimiser.step()
    assert 0.34 < float(theta.detach().abs()) < 0.36


def test_the_critic_is_the_one_of_the_paper():
    critic = prior.Critic((8, 13, 13), seed())
    shapes = [tuple(w.shape) for w in critic.convolutions] + [tuple(w.shape) for w, _ in critic.dense]
    assert shapes == [(16, 8, 4, 4), (32, 16, 4, 4), (8, 32, 3, 3), (512, 8 * 3 * 3), (256, 512), (1, 256)]
    module = nn.Sequential(
        nn.Conv2d(8, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 4, 2, 1), nn.BatchNorm2d(32),
        nn.LeakyReLU(0.2), nn.Conv2d(32, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(72, 512),
        nn.LeakyReLU(0.2), nn.Linear(512, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1))
    with torch.no_grad():
        for layer, weight in zip([m for m in module if isinstance(m, nn.Conv2d)], critic.convolutions, strict=True):
            layer.weight.copy_(weight)  # its bias stays: batch norm takes it out
        for layer, (weight, bias) in zip([m for m in module if isinstance(m, nn.Linear)], critic.dense, strict=True):
            layer.weight.copy_(weight), layer.bias.copy_(bias)
        x = torch.randn(6, 8, 13, 13, generator=seed(1))
        assert torch.allclose(critic(x), module(x)[:, 0], atol=1e-5)


def test_its_64_million_weights_for_vgg16():
    C, side = 512, 28 // 4
    weights = 2 * C * C * 16 + 2 * C * 4 * C * 16 + 4 * C * C * 9 + C * side * side * 512 + 512 * 256 + 256
    assert weights == pytest.approx(64.4e6, rel=0.01)


def test_the_critic_learns_to_tell_two_kinds_apart():
    critic = prior.Critic((32, 8, 8), seed())
    optimiser = torch.optim.RMSprop(critic.weights, lr=1e-3)
    for step in range(26):
        real = torch.randn(16, 32, 8, 8, generator=seed(2 * step)).clamp(min=0)
        fake = torch.randn(16, 32, 8, 8, generator=seed(2 * step + 1)) * torch.linspace(0, 3, 8)
        with torch.no_grad():
            apart = critic(real).min() > critic(fake).max()
        prior._update_critic(critic, real, fake, optimiser)
        assert step > 0 or not apart
    assert apart


def test_a_layer_too_small_for_the_critic_is_refused_with_the_reason(toy, image):
    small = classifier(seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=4, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))))
    with pytest.raises(ex.ExplainerError, match="4 x 4"):
        ex.explain(small, image, "input_iba", target=1, **LIGHT, layer="_2")


# ---- its targets ----

def targets(**more):
    value = torch.full((1, 2, 4, 4), 2.0)
    signal = Signal(value, torch.full_like(value, -1.0), torch.full_like(value, 0.5))
    mask = Mask(torch.full_like(value, 0.75), torch.full_like(value, 0.25))
    game = prior.PriorSettings(**{**dict(epochs=1, batch=50, samples=200, target="mask", noise="reference", after_relu=False), **more})
    return prior.Targets(signal, mask, torch.full_like(value, 3.0), game, game.after_relu, seed())


def test_the_papers_target_is_what_the_bottleneck_lets_through():
    drawn = torch.cat(list(targets().epoch()))
    assert drawn.shape == (200, 2, 4, 4)
    assert float(drawn.mean()) == pytest.approx(0.75 * 2 - 0.25, abs=0.01)
    assert float(drawn.std()) == pytest.approx(0.25 * 0.5, rel=0.03)


def test_the_codes_target_weighs_with_the_nats():
    assert float(torch.cat(list(targets(target="information").epoch())).mean()) == pytest.approx(3 * 2 + 2, abs=0.05)


def test_the_codes_noise_comes_in_ten_strengths():
    made = targets(noise="random")
    drawn = made.draw(torch.arange(200)).view(10, 20, -1)
    spread, mean = drawn.flatten(1).std(1), drawn.flatten(1).mean(1)
    assert torch.allclose(spread, 0.25 * made.deviations, rtol=0.15, atol=1e-3)
    assert torch.allclose(mean, 1.5 + 0.25 * made.means, atol=0.15)
    assert 0 <= made.deviations.min() and made.deviations.max() <= 5 and -2 <= made.means.min() and made.means.max() <= 2


def test_after_the_relu_nothing_of_the_target_is_negative():
    value = torch.full((1, 2, 4, 4), -1.0)
    signal = Signal(value, torch.zeros_like(value), torch.ones_like(value))
    game = settings().prior_settings
    made = prior.Targets(signal, Mask.of(torch.zeros_like(value)), value, game, True, seed())
    assert made.draw(torch.arange(32)).min() == 0


# ---- the whole ----

class Planted(nn.Module):
    """Class 1 is read from the mean of one window, rows 8 to 15 and columns 16 to 23."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.head = nn.Linear(4 * 16 * 16, 2)
        with torch.no_grad():
            self.head.weight.zero_()[1].view(4, 16, 16)[:, 4:8, 8:12] = 20 / 64
            self.head.bias.copy_(torch.tensor([12.0, 0.0]))

    def forward(self, x):
        return self.head(torch.relu(self.features(x)).flatten(1))


def test_the_pixels_that_the_class_is_read_from_stand_out():
    network = classifier(seeded(Planted, 5), classes=2)
    images = torch.randn(40, 3, 32, 32, generator=seed(4))
    x = 0.3 * torch.randn(1, 3, 32, 32, generator=seed(6))
    x[0, :, 7:16, 15:24] = 2 * torch.sign(network.module.features.weight.sum(0)).repeat(1, 3, 3)
    found = ex.explain(network, x, "input_iba", target=1, reference=ReferenceSet("r", "r", 40, lambda a, b: images[a:b]),
                       layer="features", steps=30, epochs=1, samples=16, batch=8)
    heat = torch.from_numpy(found.heatmap())
    inside = heat[8:15, 16:23].mean()
    outside = (heat.sum() - heat[6:17, 14:25].sum()) / (32 * 32 - 11 * 11)
    assert inside > 2 * outside and 0 <= heat.min() and heat.max() <= 1
    total = [e + 20 * i for e, i in zip(found.extras["evidence"], found.extras["information"], strict=True)]
    assert total[-1] < total[0]


def test_a_price_of_nothing_keeps_all_pixels_and_a_high_one_none(toy, image):
    free, dear = (ex.explain(toy, image, "input_iba", target=1, **{**LIGHT, "steps": 20}, beta=b) for b in (0.0, 1000.0))
    assert free.heatmap().mean() > 0.5 > 0.05 > dear.heatmap().mean()


def test_seeds_and_extras(toy, image):
    runs = [ex.explain(toy, image, "input_iba", target=1, **LIGHT, seed=s) for s in (0, 0, 1)]
    assert torch.equal(runs[0].native, runs[1].native) and not torch.equal(runs[0].native, runs[2].native)
    assert torch.equal(runs[0].extras["lambda_G"], runs[1].extras["lambda_G"])
    extras = runs[0].extras
    assert {"layer", "feature_map", "lambda_G", "bits", "feature_bits", "evidence", "information"} <= set(extras)
    assert len(extras["evidence"]) == 6 and extras["lambda_G"].shape == (32, 32) and runs[0].native.shape == (1, 32, 32)


def test_its_first_stage_is_iba(toy, image):
    found = ex.explain(toy, image, "input_iba", target=1, **LIGHT, smooth_features=True)
    alone = ex.explain(toy, image, "iba", target=1, images=16)
    assert torch.equal(found.extras["feature_map"], alone.native[0])


def test_progress_counts_all_stages_and_shows_the_last_one(toy, image):
    heard = []
    ex.explain(toy, image, "input_iba", target=1, **LIGHT, progress=lambda *now: heard.append(now))
    shares = [done / total for done, total, _ in heard]
    assert shares == sorted(shares) and len(shares) > 20
    assert sum(preview is not None for *_, preview in heard) > 5


def test_statistics_are_shared_with_iba(toy, image):
    drawn = []
    images = torch.randn(16, 3, 32, 32, generator=seed(4))
    reference = ReferenceSet("r", "r", 16, lambda a, b: drawn.append(a) or images[a:b])
    engine = ex.Engine()
    engine.explain(toy, image, "iba", target=1, reference=reference)
    drawn.clear()
    engine.explain(toy, image, "input_iba", target=1, reference=reference, **LIGHT)
    assert not drawn


def test_relu_follows_is_read_off_the_graph(toy):
    node = iba.bottleneck_layer(toy, "auto")
    assert method.relu_follows(toy, node) and not method.relu_follows(toy, toy.features.default)
    assert Context(toy).batch_size >= 1


def test_the_critics_multiplications_are_those_of_its_layers():
    critic, x, counted = prior.Critic((6, 9, 8), seed()), torch.zeros(1, 6, 9, 8), 0
    for weight, stride in zip(critic.convolutions, (2, 2, 1), strict=True):
        x = F.conv2d(x, weight, stride=stride, padding=1)
        counted += weight.numel() * x.shape[-2] * x.shape[-1]
    counted += sum(weight.numel() for weight, _ in critic.dense)
    assert prior.critic_multiplications((6, 9, 8)) == counted


# ---- the prior ----

PRIORS = ("none", "iba", "sharpened", "standardised", "game")


def test_without_a_prior_the_information_is_ibas_formula(toy, image):
    bare = ex.explain(toy, image, "input_iba", target=1, prior="none", steps=1)
    keep = torch.tensor(5.0).sigmoid().double()
    x = image.double()
    exact = kl_divergence(Normal(keep * x, 1 - keep), Normal(torch.zeros(1).double(), torch.ones(1).double()))
    assert bare.extras["information"] == pytest.approx([float(exact.mean())], rel=1e-5)
    assert bare.extras["bits"] == pytest.approx(float(exact.sum()) / math.log(2), rel=1e-5)
    assert not {"lambda_G", "feature_map", "lambda_G_low", "layer", "reference_images"} & set(bare.extras)


def test_without_a_prior_nothing_is_fitted_and_no_picture_is_drawn(toy, image):
    def draw(a, b):
        raise AssertionError("no picture is needed")

    reference = ReferenceSet("r", "r", 16, draw)
    bare = ex.ask(toy, image, "input_iba", target=1, prior="none", steps=2, reference=reference)
    assert not ex.Engine().must_fit(bare) and bare.run().native.shape == (1, 32, 32)
    assert ex.Engine().must_fit(ex.ask(toy, image, "input_iba", target=1, prior="iba", steps=2, reference=reference))


def test_the_prior_iba_is_the_game_without_epochs(toy, image):
    maps = [ex.explain(toy, image, "input_iba", target=1, **{**LIGHT, **more}) for more in (
        {"epochs": 0}, {"prior": "iba"}, {"prior": "iba", "epochs": 7}, {})]
    assert torch.equal(maps[0].native, maps[1].native) and torch.equal(maps[0].native, maps[2].native)
    assert torch.equal(maps[0].extras["lambda_G"], maps[1].extras["lambda_G"]) and not torch.equal(maps[0].native, maps[3].native)


def test_the_sharpened_prior_is_ibas_map_over_its_maximum(toy, image):
    sharp = ex.explain(toy, image, "input_iba", target=1, **LIGHT, prior="sharpened")
    enlarged = F.interpolate(sharp.extras["feature_map"][None, None], size=(32, 32), mode="bilinear", align_corners=False)[0, 0]
    assert torch.allclose(sharp.extras["lambda_G"], enlarged / enlarged.max(), atol=1e-6)
    assert sharp.params["beta"] == 20 and sharp.extras["lambda_G"].max() == 1 and sharp.extras["critic_loss"] == []


def test_the_standardised_prior_is_the_sigmoid_of_ibas_map_in_deviations_from_its_mean(toy, image):
    prior_map = ex.explain(toy, image, "input_iba", target=1, **LIGHT, prior="standardised")
    enlarged = F.interpolate(prior_map.extras["feature_map"][None, None], size=(32, 32), mode="bilinear", align_corners=False)[0, 0]
    assert torch.allclose(prior_map.extras["lambda_G"], torch.sigmoid((enlarged - enlarged.mean()) / enlarged.std()), atol=1e-6)
    assert prior_map.extras["lambda_G"].min() < 0.5 < prior_map.extras["lambda_G"].max()


def test_a_map_of_zeros_makes_no_prior():
    mask = prior.sharpened(torch.zeros(1, 1, 4, 4))
    assert (mask.keep == 0).all() and (mask.noise == 1).all()
    assert (prior.standardised(torch.zeros(1, 1, 4, 4)).keep == 0.5).all()


def test_the_bottleneck_on_the_pixels_follows_its_prior(toy, image):
    region = torch.zeros(1, 3, 32, 32)
    region[..., 4:12, 18:30] = 1
    target = Target.of(1)

    def kept(free):
        optimum = optimise_mask(toy, Signal(image, torch.zeros_like(image), torch.ones_like(image)), target, Descent(60.0, 25, 4),
                                Context(toy), seed(3), Mask(free, 1 - free))
        assert optimum.nats[free == 1].abs().max() < 1e-6
        return method.pixel_map(optimum)

    followed, elsewhere = kept(region), kept(region.flip(-1, -2))
    assert followed[5:11, 19:29].mean() > 3 * followed[20:28, 2:14].mean()
    assert elsewhere[20:28, 2:14].mean() > 3 * elsewhere[5:11, 19:29].mean()


@pytest.mark.parametrize("name", PRIORS)
def test_each_prior_counts_its_passes_and_reports_all_of_its_progress(name, toy, image):
    shares = []
    run = ex.explain(toy, image, "input_iba", target=1, **LIGHT, prior=name,
                     progress=lambda done, total, _: shares.append(done / total))
    declared = input_iba.METHOD.cost(settings(**LIGHT, prior=name), toy)
    assert (run.passes.forward, run.passes.backward) == pytest.approx((declared.forward, declared.backward), rel=1e-9)
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares) and max(b - a for a, b in itertools.pairwise(shares)) < 0.6


def test_what_a_prior_leaves_out_costs_nothing(toy):
    cost = {name: input_iba.METHOD.cost(settings(prior=name), toy) for name in PRIORS}
    assert cost["none"] == ex.Passes(600, 600)
    assert cost["iba"] == cost["sharpened"] == cost["standardised"] == input_iba.METHOD.cost(settings(epochs=0), toy)
    assert cost["none"].forward < cost["iba"].forward < cost["game"].forward
    assert input_iba.METHOD.cost(settings(prior="iba", epochs=50), toy) == cost["iba"]
    work = {name: method.overhead(settings(prior=name), toy).forward for name in PRIORS}
    assert work["game"] > 0 == work["none"] == work["iba"] == work["sharpened"]


def test_a_prior_of_one_everywhere_stays_finite_where_the_mask_is_one():
    ones, zeros = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    beyond = Mask(ones, zeros).beyond(Mask(ones, zeros))
    assert beyond.keep.isfinite().all() and (divergence(beyond.keep, beyond.noise, 3 * ones) == 0).all()


def test_a_long_run_under_the_sharpened_prior_stays_finite(toy, image):
    longest = ex.explain(toy, image, "input_iba", target=1, **{**LIGHT, "steps": 150}, prior="sharpened", copies=1, beta=0.0)
    assert longest.native.isfinite().all() and all(math.isfinite(number) for number in longest.extras["information"])


def test_the_priors_range_is_shown_and_a_constant_one_has_a_flag(toy, image):
    run = ex.explain(toy, image, "input_iba", target=1, **LIGHT, prior="sharpened")
    quantiles = [run.extras[f"lambda_G_{name}"] for name in ("low", "median", "high")]
    assert quantiles == pytest.approx(np.quantile(run.extras["lambda_G"].numpy(), [0.05, 0.5, 0.95]), abs=1e-6)
    values = torch.linspace(0.50, 0.51, 101).view(1, -1)
    assert method._flags_of(values) == ("the prior is nearly the same everywhere (quartiles 0.502, 0.505, 0.507), so it hardly says "
                                        "which pixels matter",)
    assert method._flags_of(torch.linspace(0, 1, 101).view(1, -1)) == ()


@pytest.mark.parametrize("change", [{"beta": 0.0}, {"beta": 1.0}, {"beta": 1000.0}, {"layer": "_3"}, {"steps": 1}, {"steps": 40},
                                    {"copies": 1}, {"feature_beta": 1000.0}, {"smooth_features": True}, {"epochs": 5},
                                    {"samples": 40}, {"batch": 5}, {"prior_target": "information"}, {"prior_noise": "random"},
                                    {"after_relu": False}, {"images": 8}, {"prior": "none"}, {"prior": "sharpened"}])
def test_every_setting_changes_the_map(toy, image, change):
    usual, changed = (ex.explain(toy, image, "input_iba", target=1, **{**LIGHT, **more}) for more in ({}, change))
    assert not torch.equal(usual.native, changed.native) and changed.native.isfinite().all()
    assert 0 <= changed.native.min() and changed.native.max() <= 1
    assert len(changed.extras["evidence"]) == change.get("steps", LIGHT["steps"])
    assert change.get("layer", usual.extras["layer"]) == changed.extras.get("layer", usual.extras["layer"])


def test_a_draft_trains_no_critic(toy):
    declared = input_iba.METHOD
    whole, draft = settings(), settings(**declared.draft)
    assert declared.time_cost(draft, toy) == declared.cost(draft, toy)
    assert declared.time_cost(whole, toy).forward > declared.cost(whole, toy).forward
