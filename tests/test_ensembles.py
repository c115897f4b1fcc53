"""Ensembles: equal to loops written out, with closed forms on a linear network, for any method."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from support.networks import drawn_images

import explainers as ex
from explainers import ensembles
from explainers.context import seeded
from explainers.ensembles import Ensemble

NOISE = {"ensemble_samples": 6, "ensemble_noise": 0.3}


def noisy(image, index, seed=0, noise=0.3):
    draw = torch.randn(image.shape, generator=seeded(seed, ensembles.NOISE_DRAWS + index))
    return image + noise * (image.max() - image.min()) * draw


def test_noise_is_as_in_the_papers(toy, image):
    maps = torch.stack([ex.explain(toy, noisy(image, i), "gradient", target=2).native for i in range(6)])
    for kind, expected in (("smoothgrad", maps.mean(0)), ("smoothgrad_squared", maps.square().mean(0)),
                           ("vargrad", maps.var(0, unbiased=False))):
        attribution = ex.explain(toy, image, "gradient", target=2, ensemble=kind, **NOISE)
        assert torch.allclose(attribution.native, expected, rtol=1e-5, atol=1e-8), kind
        assert attribution.signed == (kind == "smoothgrad")


def test_a_linear_networks_gradient_does_not_vary(linear, image):
    plain = ex.explain(linear, image, "gradient", target=1).native
    assert torch.allclose(ex.explain(linear, image, "gradient", target=1, ensemble="smoothgrad", **NOISE).native, plain)
    varying = ex.explain(linear, image, "gradient", target=1, ensemble="vargrad", **NOISE)
    assert varying.native.abs().max() < 1e-12 and varying.extras["ensemble_spread"].abs().max() < 1e-6


def test_the_variance_of_gradient_x_input_on_a_linear_network(linear, image):
    """The map of a member is w (x + s n), so its variance is (w s)^2: with many members it comes near."""
    settings = {"ensemble_samples": 200, "ensemble_noise": 0.1}
    variance = ex.explain(linear, image, "gradient_x_input", target=1, ensemble="vargrad", **settings).native
    deviation = 0.1 * float(image.max() - image.min())
    weights = ex.explain(linear, image, "gradient", target=1).native
    assert float(variance.sum() / (weights * deviation).square().sum()) == pytest.approx(1, abs=0.05)


def test_flips_are_the_mean_of_both_and_of_a_mirror_image_the_mirror_image(toy, image):
    mirrored = ex.explain(toy, image.flip(-1), "occlusion", target=2).native.flip(-1)
    expected = (ex.explain(toy, image, "occlusion", target=2).native + mirrored) / 2
    flips = ex.explain(toy, image, "occlusion", target=2, ensemble="flips")
    assert torch.allclose(flips.native, expected, atol=1e-6)
    other = ex.explain(toy, image.flip(-1), "occlusion", target=2, ensemble="flips")
    assert torch.allclose(other.native.flip(-1), flips.native, atol=1e-6)
    assert not torch.allclose(mirrored, expected, atol=1e-3), "on this network the two maps differ, so the test can fail"


def test_seeds_are_the_mean_over_the_next_seeds(toy, image):
    settings = {"target": 2, "masks": 30}
    maps = [ex.explain(toy, image, "rise", seed=seed, **settings) for seed in range(4, 7)]
    attribution = ex.explain(toy, image, "rise", seed=4, ensemble="seeds", ensemble_samples=3, **settings)
    assert torch.allclose(attribution.native, torch.stack([each.native for each in maps]).mean(0), atol=1e-6)
    flat = np.stack([each.native.sum(0).numpy() for each in maps])
    assert np.allclose(attribution.extras["ensemble_spread"].numpy(), flat.std(0), atol=1e-6)
    pairs = [spearmanr(flat[a].ravel(), flat[b].ravel()).statistic for a, b in ((0, 1), (0, 2), (1, 2))]
    assert attribution.extras["ensemble_agreement"] == pytest.approx(np.mean(pairs), abs=1e-9)
    assert attribution.extras["ensemble_least"] == pytest.approx(min(pairs), abs=1e-9)


def test_ranks_of_equal_values_are_their_mean(image):
    assert ensembles._ranks(torch.tensor([5.0, 1.0, 5.0, 9.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_seeds_of_a_method_that_draws_nothing_are_flagged(toy, image):
    assert ensembles.SAME in ex.explain(toy, image, "gradient", ensemble="seeds", ensemble_samples=2).flags
    assert ensembles.SAME not in ex.explain(toy, image, "smoothgrad", samples=2, ensemble="seeds", ensemble_samples=2).flags


def test_the_band_is_the_mean_by_rank_with_the_spread_around_it(toy, image):
    extras = ex.explain(toy, image, "gradient", target=2, ensemble="smoothgrad", **NOISE).extras
    mean, high, low = (np.array(extras[f"ensemble_{name}"]) for name in ("mean", "high", "low"))
    assert len(mean) == ensembles.RANKS and (np.diff(mean) <= 0).all()
    assert np.allclose(high - mean, mean - low, atol=1e-6) and (high > low).all()


@pytest.mark.parametrize(("settings", "members"), [
    ({"ensemble": "smoothgrad", "ensemble_samples": 4}, 4), ({"ensemble": "flips", "ensemble_samples": 9}, 2),
    ({"ensemble_samples": 9}, 1)])
def test_the_passes_are_those_of_all_members(toy, image, settings, members):
    question = ex.ask(toy, image, "rise", target=2, masks=20, **settings)
    alone = ex.ask(toy, image, "rise", target=2, masks=20)
    assert question.passes == alone.passes * members == question.run().passes
    assert ex.Engine().cost(toy, "rise", masks=20, **settings).passes == question.passes
    assert ex.Engine().cost(question).passes == question.passes


def test_the_key_holds_what_has_an_effect_and_only_that(toy, image):
    def key(**settings):
        return ex.ask(toy, image, "gradient", target=2, **settings).key

    assert key() == key(ensemble="none") == key(ensemble_samples=99, ensemble_noise=0.7)
    assert key(ensemble="flips") == key(ensemble="flips", ensemble_samples=99) != key()
    assert key(ensemble="seeds") == key(ensemble="seeds", ensemble_noise=0.7) != key(ensemble="seeds", ensemble_samples=3)
    assert key(ensemble="vargrad") != key(ensemble="vargrad", ensemble_noise=0.7)


def test_a_wrong_setting_is_refused(toy, image):
    with pytest.raises(ex.ParameterError, match="ensemble must be one of 'none', 'smoothgrad'"):
        ex.explain(toy, image, "gradient", ensemble="bagging")
    with pytest.raises(ex.ParameterError, match="ensemble_samples"):
        ex.Question(toy, image, ex.methods()["gradient"], None, ex.methods()["gradient"].settings(),
                    ensemble=ensembles.split("Gradient", {"ensemble_samples": 1})[1])


def test_progress_rises_through_all_members_and_a_stop_stops(toy):
    image, heard = drawn_images(1, seed=3), []
    ex.explain(toy, image, "rise", masks=20, ensemble="seeds", ensemble_samples=3,
               progress=lambda done, total, preview: heard.append((done / total, preview is not None)))
    shares = [share for share, _ in heard]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1 and any(preview for _, preview in heard)
    with pytest.raises(ex.Cancelled):
        ex.explain(toy, image, "rise", masks=20, ensemble="seeds", progress=lambda done, total, preview: done / total < 0.4)


def test_an_ensemble_is_cached_with_its_differences(toy, image, tmp_path):
    engine = ex.Engine(ex.MapCache(tmp_path))
    first = engine.explain(toy, image, "gradient", ensemble="vargrad", ensemble_samples=3)
    again = ex.Engine(ex.MapCache(tmp_path)).explain(toy, image, "gradient", ensemble="vargrad", ensemble_samples=3)
    assert torch.equal(first.native, again.native) and first.extras["ensemble_low"] == again.extras["ensemble_low"]
    assert first.params["ensemble"] == "vargrad" and first.params["ensemble_samples"] == 3


def test_the_default_is_the_methods_own_map():
    assert Ensemble().members == 1 and Ensemble().settings == {}
