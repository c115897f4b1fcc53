"""IBA: the information of a Gaussian against torch's own KL and by sampling, its limits, its numbers, and planted evidence."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.networks import classifier, seeded
from torch import nn
from torch.distributions import Normal, kl_divergence

import explainers as ex
from explainers.cache import MapCache
from explainers.context import Context, RunOptions
from explainers.data import shipped_statistics
from explainers.data.reference import ReferenceSet, from_pictures, neighbourhood
from explainers.data.statistics import fit as fit_all
from explainers.methods import iba
from explainers.methods.bottleneck import Descent, Mask, Signal, cross_entropy, divergence, optimise_mask, smooth
from explainers.methods.feature_statistics import fit_key, statistics, statistics_without
from explainers.target import Target


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mask_at(values):
    return Mask(values, 1 - values)


def random_set(size=40, side=32, channels=3, offset=0.0):
    images = draw(size, channels, side, side, seed=9, dtype=torch.float32) + offset
    return ReferenceSet("random", f"random {size} {offset}", size, lambda a, b: images[a:b])


# ---- the information of an element ----

def test_the_information_is_the_kl_of_two_gaussians():
    share, mean, deviation, value = torch.sigmoid(draw(500)), draw(500, seed=1), draw(500, seed=2).exp(), draw(500, seed=3)
    exact = kl_divergence(Normal(share * value + (1 - share) * mean, (1 - share) * deviation), Normal(mean, deviation))
    found = divergence(share, 1 - share, (value - mean) / deviation)
    assert torch.allclose(found, exact, rtol=1e-12, atol=1e-13) and found.max() > 1


def test_the_information_is_what_sampling_finds():
    share, normed = torch.tensor(0.7, dtype=torch.float64), torch.tensor(1.3, dtype=torch.float64)
    z = share * normed + (1 - share) * draw(400_000, seed=4)
    sampled = (Normal(share * normed, 1 - share).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).mean()
    assert float(divergence(share, 1 - share, normed)) == pytest.approx(float(sampled), abs=0.01)


def test_proposition_3_is_the_kl_to_a_prior_that_lets_a_share_through():
    share, free = torch.sigmoid(draw(500)), torch.sigmoid(draw(500, seed=1))
    mean, deviation, value = draw(500, seed=2), draw(500, seed=3).exp(), draw(500, seed=4)
    both = share * free
    exact = kl_divergence(Normal(share * value + (1 - share) * mean, (1 - share) * deviation),
                          Normal(both * value + (1 - both) * mean, (1 - both) * deviation))
    r, keep, whole = (value - mean) / deviation, 1 - share, 1 - both
    paper = (whole / keep).log() + (keep / whole).square() / 2 + (r * (share - both) / whole).square() / 2 - 0.5
    beyond = mask_at(share).beyond(mask_at(free))
    found = divergence(beyond.keep, beyond.noise, r)
    assert torch.allclose(found, exact, rtol=1e-10, atol=1e-12) and torch.allclose(found, paper, rtol=1e-10, atol=1e-12)


def test_the_limits_of_the_prior():
    share, r = torch.sigmoid(draw(100)), draw(100, seed=1)
    plain = divergence(share, 1 - share, r)
    for free, expected in ((torch.zeros(100), plain), (torch.ones(100), torch.zeros(100))):
        beyond = mask_at(share).beyond(mask_at(free.double()))
        assert torch.allclose(divergence(beyond.keep, beyond.noise, r), expected.double(), atol=1e-12)


def test_nothing_through_is_no_information_and_more_through_is_more():
    shares = torch.linspace(0, 0.999, 200)
    for r in (0.0, 0.5, 3.0):
        found = divergence(shares, 1 - shares, torch.tensor(r))
        assert found[0] == 0 and (found >= -1e-6).all() and (found.diff() > -1e-7).all() and found[-1] > 1


@pytest.mark.parametrize("alpha", [-50.0, -20.0, 0.0, 20.0, 50.0])
@pytest.mark.parametrize("theta", [None, -20.0, 0.0, 20.0])
def test_float32_holds_where_the_sigmoid_is_exactly_one(alpha, theta):
    logits = torch.full((1, 1, 6, 6), alpha, requires_grad=True)
    prior = None if theta is None else Mask.of(torch.full((1, 1, 6, 6), theta))
    beyond = Mask.of(logits, 1.0).beyond(prior)
    found = divergence(beyond.keep, beyond.noise, torch.tensor(1.5))
    rest, free = 1 / (1 + math.exp(alpha)), 0.0 if theta is None else 1 / (1 + math.exp(-theta))
    through, dear = 1 / (1 + math.exp(-alpha)), 1.0 if theta is None else 1 / (1 + math.exp(theta))
    whole = dear + free * rest
    t = through * dear / whole
    exact = ((1.5 * t) ** 2 + (rest / whole) ** 2 - 1) / 2 - (math.log1p(-t) if t < 0.5 else math.log(rest / whole))
    assert found.detach().numpy() == pytest.approx(exact, rel=1e-4, abs=1e-6)
    gradient = torch.autograd.grad(found.sum(), logits)[0]
    assert torch.isfinite(gradient).all() and (alpha != 20.0 or theta is not None or float(gradient.mean()) > 0.99)


# ---- the smoothing ----

@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_smoothing_keeps_constants_and_is_the_mirrored_gaussian(sigma):
    assert torch.allclose(smooth(torch.full((1, 2, 9, 7), 0.3), sigma), torch.tensor(0.3), atol=1e-6)
    maps = draw(1, 2, 9, 7)
    radius = round(2 * sigma)
    taps = np.exp(-np.arange(-radius, radius + 1) ** 2 / (2 * sigma**2))
    kernel = np.outer(taps, taps) / taps.sum() ** 2
    padded = np.pad(maps[0, 1].numpy(), radius, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)
    assert smooth(maps, sigma)[0, 1].numpy() == pytest.approx((windows * kernel).sum((2, 3)), abs=1e-12)
    assert torch.equal(smooth(maps, 0.0), maps) and smooth(draw(1, 1, 2, 2), sigma).shape == (1, 1, 2, 2)


def test_the_mask_opens_at_0_9933_and_its_rest_is_the_rest():
    mask = Mask.of(torch.full((1, 3, 8, 8), 5.0), 1.0)
    assert torch.allclose(mask.keep, torch.tensor(0.99331), atol=1e-5)
    mask = Mask.of(20 * draw(1, 3, 8, 8), 1.0)
    assert torch.allclose(mask.keep + mask.noise, torch.ones(1, dtype=torch.float64), atol=1e-12) and mask.noise.min() > 0


# ---- the statistics ----

def test_the_statistics_are_numpys_in_any_chunks(toy, monkeypatch):
    far = random_set(offset=300.0)  # where a sum of squares in float32 would have lost its digits
    values = toy.walk(torch.cat(list(far.batches(40))), stop="_2_conv1").detach().double().numpy()
    for batch in (1, 7, 64):
        monkeypatch.setattr("explainers.context.fitting_batch", lambda network: batch)
        found = statistics(toy, "_2_conv1", 1000, Context(toy, reference=far))
        assert found["mean"].numpy() == pytest.approx(values.mean(0), abs=1e-5)
        assert found["deviation"].numpy() == pytest.approx(values.std(0, ddof=1), abs=2e-5)
        assert found["active"].numpy() == pytest.approx((values != 0).mean(0))


def test_an_engine_fits_once_per_layer_and_set_and_keeps_it_on_disk(toy, image, tmp_path):
    fits = []
    drawn = random_set()
    watched = ReferenceSet("watched", "watched", 40, lambda a, b: fits.append((a, b)) or drawn.draw(a, b))
    other = ReferenceSet("other", "other", 40, watched.draw)

    def asked(engine, reference=watched, **more):
        fits.clear()
        engine.explain(toy, image, "iba", reference=reference, **more)
        return bool(fits)

    first = ex.Engine(MapCache(tmp_path))
    assert asked(first, target=1) and not asked(first, target=2) and not asked(first, target=1, beta=3.0)
    assert asked(first, layer="_3", target=1) and asked(first, other, target=1)
    later = ex.Engine(MapCache(tmp_path))
    assert not asked(later, target=3)


def test_fitting_is_not_among_the_passes_of_the_map_that_comes_first(toy, image):
    engine = ex.Engine()
    first, second = (engine.explain(toy, image, "iba", reference=random_set(), target=t) for t in (0, 1))
    assert first.passes.forward == pytest.approx(second.passes.forward) and first.passes.forward < 101


# ---- the explained picture is left out of its own statistics ----

ELEMENTS = "mean", "deviation", "active"


def set_of(images, name="set"):
    return ReferenceSet(name, f"{name} {len(images)} {float(images.double().sum())}", len(images), lambda a, b: images[a:b])


def fitted_without(network, x, node, reference, fits=None):
    context = Context(network, reference=reference, options=RunOptions(fits=fits))
    with torch.no_grad():
        value = network.walk(x, stop=node)
    return statistics_without(network, x, value, node, 1000, context)


@pytest.mark.parametrize("node", ["_2_conv1", "_3"])  # before and after a ReLU
@pytest.mark.parametrize("size", [1.0, 300.0])  # an image that dominates all sums
@pytest.mark.parametrize("copies", [1, 2])
def test_leaving_an_image_out_is_the_fit_on_the_set_without_it(toy, node, size, copies):
    images = draw(12, 3, 32, 32, seed=9, dtype=torch.float32)
    x = size * images[5:6]
    whole = set_of(torch.cat([images[:5], *[x] * copies, images[6:]]))
    others = set_of(torch.cat([images[:5], images[6:]]), "others")
    without, exact, all_of_them = fitted_without(toy, x, node, whole), fitted_without(toy, x, node, others), statistics(
        toy, node, 1000, Context(toy, reference=whole))
    assert without.images == exact.images == 11 and not without.unavoidable
    for name in ELEMENTS:
        ours, fresh = getattr(without, name).numpy(), getattr(exact, name).numpy()
        assert ours == pytest.approx(fresh, rel=1e-5, abs=1e-6 * size)
        if name != "active":
            assert all_of_them[name].numpy() != pytest.approx(fresh, rel=1e-2, abs=1e-3)


def test_the_map_is_that_of_the_set_without_the_explained_image(toy):
    images = draw(12, 3, 32, 32, seed=9, dtype=torch.float32)
    maps = {name: ex.explain(toy, images[5:6], "iba", target=1, reference=reference, steps=3) for name, reference in {
        "whole": set_of(images), "others": set_of(torch.cat([images[:5], images[6:]])),
        "another": set_of(torch.cat([images[:5], images[5:6] + 1e-4, images[6:]]))}.items()}
    assert torch.allclose(maps["whole"].native, maps["others"].native, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(maps["whole"].native, maps["another"].native, rtol=1e-2, atol=1e-4)
    assert [maps[name].extras["reference_images"] for name in maps] == [11, 11, 12] and maps["whole"].flags == ()


def test_leaving_an_image_out_needs_no_new_fit(toy, tmp_path):
    images, drawn = draw(12, 3, 32, 32, seed=9, dtype=torch.float32), []
    reference = ReferenceSet("watched", "watched", 12, lambda a, b: drawn.append((a, b)) or images[a:b])
    engine = ex.Engine(MapCache(tmp_path))
    maps = [engine.explain(toy, x, "iba", target=1, reference=reference, steps=1) for x in (images[3:4], images[4:5], images[3:4] + 1)]
    assert drawn == [(0, 12)] and [a.extras["reference_images"] for a in maps] == [11, 11, 12]


def test_an_image_beyond_the_number_of_fitted_ones_is_not_left_out(toy):
    images = draw(12, 3, 32, 32, seed=9, dtype=torch.float32)
    counts = [ex.explain(toy, images[5:6], "iba", target=1, reference=set_of(images), images=n, steps=1).extras["reference_images"]
              for n in (5, 6)]
    assert counts == [5, 5]


def test_a_set_of_too_few_other_images_is_said(toy):
    images = draw(3, 3, 32, 32, seed=9, dtype=torch.float32)
    three, two = (ex.explain(toy, images[:1], "iba", target=1, reference=set_of(images[:n]), steps=1) for n in (3, 2))
    assert three.flags == () and three.extras["reference_images"] == 2
    assert len(two.flags) == 1 and "explained picture too" in two.flags[0] and two.extras["reference_images"] == 2


def test_statistics_stored_by_an_earlier_version_leave_the_image_out_too(toy):
    images, fits = draw(12, 3, 32, 32, seed=9, dtype=torch.float32), MapCache(None)
    reference = set_of(images)
    known = dict(statistics(toy, "_2_conv1", 1000, Context(toy, reference=reference)))
    del known["digests"]
    Context(toy, reference=reference, options=RunOptions(fits=fits)).fit(fit_key("_2_conv1", 12), lambda: known)
    old, new = (fitted_without(toy, images[5:6], "_2_conv1", reference, chosen) for chosen in (fits, None))
    assert old.images == 11 and all(torch.equal(getattr(old, name), getattr(new, name)) for name in ELEMENTS)


def test_a_picture_is_recognised_in_a_folders_set_and_in_the_statistics_made_of_it(toy, tmp_path, monkeypatch):
    pictures = [toy.preprocessing.picture(x) for x in draw(6, 3, 32, 32, seed=1, dtype=torch.float32)]
    reference, x = from_pictures(toy, pictures), toy.preprocess(pictures[2])
    given = ex.explain(toy, x, "iba", target=1, reference=reference, steps=2)
    file = tmp_path / "toy.zip"
    shipped_statistics.write(file, fit_all(toy, reference), {"pictures": 6})
    monkeypatch.setattr(toy, "statistics", file)
    shipped = ex.explain(toy, x, "iba", target=1, steps=2)
    assert given.extras["reference_images"] == shipped.extras["reference_images"] == 5
    torch.testing.assert_close(given.native, shipped.native, rtol=1e-3, atol=1e-5)


# ---- the layer ----

def vgg16_like():
    widths, layers, channels = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"), [], 3
    for width in widths:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width // 16, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width // 16
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 4, 5))


def test_the_default_layer_is_vgg16s_conv4_1_before_its_relu():
    network = classifier(seeded(vgg16_like), side=64)
    assert iba.bottleneck_layer(network, "auto") == "_17"
    assert network.graph.kinds["_17"] == "conv" and network.cost_fraction(None, "_17") == pytest.approx(0.66, abs=0.04)
    assert network.cost_fraction(None, "_17") + network.cost_fraction("_17") == pytest.approx(1)


def test_a_residual_sum_is_a_layer_and_nothing_within_a_branch(toy):
    chosen = iba.bottleneck_layer(toy, "auto")
    assert toy.graph.kinds[chosen] == "add" and not iba.is_rectified(toy.graph, chosen)
    assert iba.is_rectified(toy.graph, toy.features.default) and iba.bottleneck_layer(toy, "_3") == "_3"
    with pytest.raises(ex.ExplainerError):
        iba.bottleneck_layer(toy, "nowhere")


class Expanded(nn.Module):
    """A sum of 8 channels, and behind it its expansion to ``wide``, which lies nearest to two thirds of the multiplications."""

    def __init__(self, wide: int):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.branch = nn.Sequential(*(layer for _ in range(7) for layer in (nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))))
        self.expand, self.each = nn.Conv2d(8, wide, 1), nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.project, self.last = nn.Conv2d(wide, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 22, 1), nn.ReLU(),
                                  nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(22, 5))

    def forward(self, x):
        x = self.stem(x)
        x = x + self.branch(x)
        x = torch.relu(self.each(torch.relu(self.expand(x))))
        return self.head(torch.relu(self.last(torch.relu(self.project(x)))))


@pytest.mark.parametrize(("wide", "layer"), [(32, "add"), (28, "expand")])
def test_a_sum_is_preferred_to_its_expansion_to_four_times_the_channels(wide, layer):
    network = classifier(seeded(lambda: Expanded(wide)), side=16)
    distance = {node: abs(network.cost_fraction(None, node) - 2 / 3) for node in network.features.sizes
                if not iba.is_rectified(network.graph, node)}
    assert min(distance, key=distance.get) == "expand" and 0.01 < distance["add"] < iba.CLOSE
    assert iba.bottleneck_layer(network, "auto") == layer


def test_only_the_part_above_the_layer_runs_in_each_step(toy, image):
    node = iba.bottleneck_layer(toy, "auto")
    found = ex.explain(toy, image, "iba", target=1, images=4)
    assert found.passes.backward == pytest.approx(100 * toy.cost_fraction(node)) and toy.cost_fraction(node) < 0.2


def test_after_a_relu_noise_is_not_negative_and_silent_elements_stay_silent():
    value = torch.tensor([0.0, 2.0, 3.0]).view(1, 3, 1, 1)
    active = torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1, 1)
    signal = Signal(value, torch.zeros_like(value), torch.ones_like(value), active, rectified=True)
    mask = Mask.of(torch.zeros_like(value))
    z = signal.mixed(mask, signal.draw_noise(200, torch.Generator().manual_seed(0)))
    assert (z[:, :2] >= 0).all() and (z[:, 0] > 0).any() and (z[:, 2] == 0).all()
    assert signal.information(mask)[0, 2] == 0 and signal.information(mask)[0, 1] > 0


# ---- the map ----

def test_the_enlarged_map_sums_to_the_bits_of_the_layer(toy, image):
    found = ex.explain(toy, image, "iba", target=1, images=16)
    assert found.native.shape == (1, 16, 16)
    assert found.heatmap().sum() == pytest.approx(found.extras["bits"], rel=0.03)
    nats = draw(1, 4, 8, 8).abs()
    assert float(iba.bits_a_pixel(nats, (32, 32)).sum()) == pytest.approx(float(nats.sum()) / math.log(2) / 16)


class Planted(nn.Module):
    """Class 1 is read from channel 2 at row 5, column 3 alone; the other classes are constants."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4 * 12 * 12, 3)
        with torch.no_grad():
            self.head.weight.zero_()[1, (2 * 12 + 5) * 12 + 3] = 4.0
            self.head.bias.copy_(torch.tensor([0.0, -2.0, 0.0]))

    def forward(self, x):
        return self.head(torch.relu(self.features(x)).flatten(1))


@pytest.fixture()
def planted():
    network = classifier(seeded(Planted, 3), side=12, classes=3)
    x = draw(1, 3, 12, 12, seed=8, dtype=torch.float32)
    weight = network.module.features.weight[2]
    x[0, :, 4:7, 2:5] = 3 * weight / weight.norm()
    return network, x


def test_the_evidence_keeps_the_largest_capacity_and_the_loss_falls(planted):
    network, x = planted
    found = ex.explain(network, x, "iba", target=1, reference=random_set(side=12), layer="features", sigma=0.0, beta=1.0)
    heat = found.native[0]
    assert heat.argmax() == 5 * 12 + 3 and heat[5, 3] > 10 * heat.median()
    total = [e + i for e, i in zip(found.extras["evidence"], found.extras["information"], strict=True)]
    assert total[-1] < total[0] / 2 and len(total) == 10


def test_an_unpayable_price_closes_the_mask_and_no_price_leaves_it_open(planted):
    network, x = planted
    context = Context(network, reference=random_set(side=12))
    signal, _ = iba.feature_signal(network, x, "features", 40, context)
    rich, poor = (optimise_mask(network, signal, Target.of(1), Descent(beta, 25, 10, sigma=0.0), context,
                                torch.Generator().manual_seed(0)) for beta in (0.0, 1e9))
    assert poor.mask.keep.max() < 0.01 and poor.nats.max() < 0.05 and rich.mask.keep[0, 2, 5, 3] > 0.99
    noisy = signal.mixed(poor.mask, signal.draw_noise(4000, torch.Generator().manual_seed(1)))
    alone = signal.draw_noise(4000, torch.Generator().manual_seed(1))
    with torch.no_grad():
        probabilities = [network.walk(z, start="features").softmax(-1).mean(0) for z in (noisy, alone)]
    assert torch.allclose(*probabilities, atol=0.01)


def test_the_class_is_softmaxs_and_a_contrast_is_the_choice_of_two():
    logits = draw(6, 5)
    assert torch.allclose(cross_entropy(logits, Target.of(3)), -logits.softmax(-1)[:, 3].log())
    assert torch.allclose(cross_entropy(logits, Target.of((3, 1))), -logits[:, [3, 1]].softmax(-1)[:, 0].log())


def test_seeds(toy, image):
    runs = [ex.explain(toy, image, "iba", target=1, images=16, seed=s).native for s in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("change", [{"beta": 0.0}, {"beta": 1000.0}, {"layer": "_3"}, {"steps": 1}, {"steps": 40}, {"rate": 0.1},
                                    {"copies": 1}, {"sigma": 0.0}, {"images": 8}])
def test_every_setting_changes_the_map(toy, image, change):
    usual, changed = (ex.explain(toy, image, "iba", target=1, **{"images": 16, **more}) for more in ({}, change))
    assert not torch.equal(usual.native, changed.native) and changed.native.isfinite().all()
    assert change.get("layer", changed.extras["layer"]) == changed.extras["layer"]
    assert len(changed.extras["evidence"]) == change.get("steps", 10)


def test_copies_of_the_image_are_the_last_resort_and_said(toy, image):
    assert ex.explain(toy, image, "iba", target=1, images=8).flags == (neighbourhood(toy, image).note,)


@pytest.mark.shared
def test_the_dog_lies_under_the_map_of_its_class(shared_data):
    network = ex.load_model("squeezenet1_0", weights=shared_data / "weights" / "squeezenet1_0-imagenet.safetensors", device="cpu")
    x = network.preprocess(ex.load_image(shared_data / "imagenet" / "dog_and_cat.png"))
    reference = from_pictures(network, shared_data / "imagenet")
    heat = ex.explain(network, x, "iba", target=243, reference=reference, images=32).heatmap()
    assert heat[:112].sum() > 3 * heat[112:].sum()
