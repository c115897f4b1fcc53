"""Insertion and deletion: networks whose curves are known, and what must hold for any map."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from support.networks import classifier, seeded
from torch import nn

import explainers as ex
from explainers.baselines import rise_blur
from explainers.encoding import decode, encode
from explainers.metrics import insertion_deletion as m
from explainers.target import Target


class Seen(nn.Module):
    """Class 1's probability is the share of the patch's pixels (rows and columns 8 to 15) that are above 1/2."""

    def forward(self, x):
        share = (x[:, :1, 8:16, 8:16] > 0.5).float().mean((1, 2, 3)).clamp(1e-6, 1 - 1e-6)
        return torch.stack((torch.zeros_like(share), torch.log(share / (1 - share))), 1)


class Additive(nn.Module):
    """Class 1's probability is 1/2 + <w, x>."""

    def __init__(self, weights: torch.Tensor):
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, x):
        share = 0.5 + (x * self.weights).sum((1, 2, 3))
        return torch.stack((torch.zeros_like(share), torch.log(share / (1 - share))), 1)


class Constant(nn.Module):
    def forward(self, x):
        return torch.tensor([0.0, 1.0]).expand(len(x), 2) + 0 * x.sum((1, 2, 3))[:, None]


@pytest.fixture(scope="module")
def patch():
    return classifier(Seen(), side=32, classes=2)


@pytest.fixture(scope="module")
def planted():
    """(the patch, the 32 x 32 map that marks it)"""
    marked = np.zeros((32, 32), np.float32)
    marked[8:16, 8:16] = 1
    return marked


@pytest.fixture(scope="module")
def shuffled():
    """A 32 x 32 map without ties, whose values and their complements to 1 are exact."""
    return np.random.default_rng(0).permutation(1024).reshape(32, 32).astype(np.float32) / 1024


def ones() -> torch.Tensor:
    return torch.ones(1, 3, 32, 32)


def test_a_planted_patch(patch, planted):
    found = m.measure(patch, ones(), planted, target=1, baseline="zero", step=32)
    filled = np.minimum(np.arange(33) / 2, 1)  # the patch has 64 pixels, two steps' worth
    assert found.insertion == pytest.approx(filled, abs=1e-5) and found.deletion == pytest.approx(1 - filled, abs=1e-5)
    assert found.insertion_auc == pytest.approx(1 - 1 / 32, abs=1e-5)
    assert found.deletion_auc == pytest.approx(1 / 32, abs=1e-5)
    assert found.difference == pytest.approx(1 - 2 / 32, abs=1e-5)
    blind = m.measure(patch, ones(), 1 - planted, target=1, baseline="zero", step=32)
    assert blind.insertion_auc == pytest.approx(1 / 32, abs=1e-5) and blind.deletion_auc == pytest.approx(31 / 32, abs=1e-5)


def test_coarse_cells_are_blocks_in_a_pixel_protocol(patch, planted):
    found = m.measure(patch, ones(), planted, target=1, baseline="zero", resolution=4, step=1)
    assert found.cells == (4, 4) and found.insertion[1] == pytest.approx(1, abs=1e-5)


def test_the_class_is_lost_and_regained_where_half_the_patch_is_seen(patch, planted):
    """The network decides for class 1 once more than half of the patch's 64 pixels are shown; a step is a quarter of them."""
    order = planted + np.linspace(0.5, 0, 1024, dtype=np.float32).reshape(32, 32)
    found = m.measure(patch, ones(), order, target=1, baseline="zero", step=16)
    assert found.regained_at == 3 * 16 / 1024 and found.lost_at == 2 * 16 / 1024
    blind = m.measure(patch, ones(), -order, target=1, baseline="zero", step=16)
    assert blind.regained_at == (960 + 48) / 1024 and blind.lost_at == (960 + 32) / 1024
    numbers = m.METRIC.numbers(found)
    assert (numbers["lost_at"], numbers["regained_at"]) == (found.lost_at, found.regained_at)


def curves(first: list[int], values: list[float], target: int | tuple[int, int] = 1) -> m.InsertionDeletion:
    """Curves over fractions 0, 1/4, .., 1 with these most probable classes and these values, for insertion as for deletion."""
    top = m.Top(np.array([[index, 5, 6] for index in first]), np.zeros((5, 3)))
    values = np.array(values)
    return m.InsertionDeletion(np.linspace(0, 1, 5), values, values, top, top, "rise", Target.of(target), 1, (2, 2), ex.Passes(3))


@pytest.mark.parametrize(("first", "lost", "regained"), [
    ([1, 1, 2, 1, 2], 0.5, 0.0), ([2, 2, 2, 1, 2], 0.0, 0.75), ([1, 1, 1, 1, 1], None, 0.0), ([2, 2, 2, 2, 2], 0.0, None)])
def test_lost_and_regained_are_the_first_change_of_the_most_probable_class(first, lost, regained):
    found = curves(first, [0.3] * 5)
    assert (found.lost_at, found.regained_at) == (lost, regained)
    numbers = m.METRIC.numbers(found)
    assert numbers["lost_at"] == (1.0 if lost is None else lost) and numbers["regained_at"] == (1.0 if regained is None else regained)


def test_a_contrast_is_lost_where_its_sign_turns():
    found = curves([9] * 5, [0.4, 0.1, 0.0, -0.2, 0.3], target=(1, 2))
    assert (found.lost_at, found.regained_at) == (0.5, 0.0)
    assert curves([1] * 5, [-0.1] * 5, target=(1, 2)).regained_at is None


def test_by_magnitude_a_map_of_evidence_against_finds_the_patch(patch, planted):
    against = 0.1 - planted  # -0.9 on the patch, 0.1 elsewhere
    by_value = m.measure(patch, ones(), against, target=1, baseline="zero", step=32)
    assert by_value.insertion_auc == pytest.approx(1 / 32, abs=1e-5)
    by_magnitude = m.measure(patch, ones(), against, target=1, baseline="zero", step=32, order_by="magnitude")
    assert by_magnitude.insertion_auc == pytest.approx(1 - 1 / 32, abs=1e-5)
    assert by_magnitude.deletion_auc == pytest.approx(1 / 32, abs=1e-5)


@pytest.mark.parametrize("terms", [{"resolution": 4}, {"protocol": "i_gos", "resolution": 4}])
def test_magnitudes_are_taken_before_pixels_become_cells(patch, planted, terms):
    """A checkerboard of signs is nothing on average: by value its cell is like the others, by magnitude it comes first."""
    signs = planted * np.where(np.indices((32, 32)).sum(0) % 2, -1, 1).astype(np.float32)
    shown = {by: m.composites(patch, ones(), signs, 1 / 16, baseline="zero", order_by=by, **terms)[0][0, 0] for by in m.ORDERS}
    assert shown["value"][0, 0] == 1 and shown["value"][11, 11] < 0.5  # all cells are tied: the first in place
    assert shown["magnitude"][11, 11] > 0.5 and shown["magnitude"][0, 0] == 0


@pytest.mark.parametrize("protocol", m.PROTOCOLS)
def test_a_map_without_negative_values_has_one_order(protocol, toy, image, shuffled):
    one, other = (m.measure(toy, image, shuffled, target=2, protocol=protocol, order_by=by) for by in m.ORDERS)
    assert np.array_equal(one.insertion, other.insertion) and np.array_equal(one.deletion, other.deletion)


def test_soft_cells_in_the_i_gos_protocol(patch, planted):
    """A marked cell enlarged bilinearly shows its middle, and half way to its neighbours above the threshold."""
    coarse = np.zeros((4, 4), np.float32)
    coarse[1, 1] = 1  # centred at 31 / 3, so the patch's rows and columns are not all above 1/2
    insertion, deletion = m.composites(patch, ones(), coarse, 1 / 16, protocol="i_gos", baseline="zero")
    along = np.clip(1 - np.abs(np.arange(32) * 3 / 31 - 1), 0, None)
    assert insertion[0, 0].numpy() == pytest.approx(np.outer(along, along), abs=1e-5)
    assert torch.allclose(insertion + deletion, ones(), atol=1e-5)


def test_the_deletion_order_of_an_additive_model_is_optimal():
    weights = torch.tensor([0.05, -0.1, 0.12, 0.02]).view(1, 1, 2, 2)
    network = classifier(Additive(weights), side=2, classes=2, channels=1)
    x = torch.ones(1, 1, 2, 2)
    own = m.measure(network, x, weights[0, 0].numpy(), target=1, baseline="zero", step=1)
    ranked = sorted(weights.flatten().tolist(), reverse=True)
    assert own.deletion == pytest.approx(0.5 + sum(ranked) - np.cumsum([0, *ranked]), abs=1e-6)
    every = [m.measure(network, x, np.array(order, np.float32).reshape(2, 2), target=1, baseline="zero", step=1)
             for order in itertools.permutations(range(4))]
    assert own.deletion_auc == pytest.approx(min(one.deletion_auc for one in every), abs=1e-6)
    assert own.insertion_auc == pytest.approx(max(one.insertion_auc for one in every), abs=1e-6)
    assert len({round(one.deletion_auc, 6) for one in every}) > 10


@pytest.mark.parametrize("protocol", m.PROTOCOLS)
@pytest.mark.parametrize("output", m.OUTPUTS)
def test_a_constant_model(protocol, output, shuffled, image):
    network = classifier(Constant(), classes=2)
    expected = float(getattr(torch.tensor([0.0, 1.0]), output)(*((-1,) if output == "softmax" else ()))[1])
    found = m.measure(network, image, shuffled, target=1, protocol=protocol, output=output)
    assert found.insertion_auc == pytest.approx(expected) and found.deletion_auc == pytest.approx(expected)


@pytest.mark.parametrize("protocol", m.PROTOCOLS)
def test_the_ends_are_the_image_and_the_baseline(protocol, toy, image, shuffled):
    found = m.measure(toy, image, shuffled, target=2, protocol=protocol, baseline=("mean", "black"))
    whole = float(toy.predict(image)[0, 2])
    mean = float(toy.predict(image.mean((2, 3), keepdim=True).expand_as(image))[0, 2])
    black = float(toy.predict(torch.full_like(image, -2))[0, 2])
    assert (found.insertion[0], found.insertion[-1]) == pytest.approx((mean, whole))
    assert (found.deletion[0], found.deletion[-1]) == pytest.approx((whole, black))
    assert found.fractions[0] == 0 and found.fractions[-1] == 1 and len(found.fractions) == len(found.insertion) == len(found.deletion)
    assert len({mean, black, whole}) == 3


@pytest.mark.parametrize("protocol", m.PROTOCOLS)
@pytest.mark.parametrize("baseline", m.BASELINES)
def test_a_point_is_what_the_network_says_of_its_composite(protocol, baseline, toy, image, shuffled):
    coarse = shuffled[:8, :8].copy()
    found = m.measure(toy, image, coarse, target=2, protocol=protocol, baseline=baseline, seed=7)
    for point in (0, 1, len(found.fractions) // 2, -1):
        pair = m.composites(toy, image, coarse, found.fractions[point], protocol=protocol, baseline=baseline, seed=7)
        said = [toy.predict(picture)[0] for picture in pair]
        assert [float(p[2]) for p in said] == pytest.approx([found.insertion[point], found.deletion[point]], abs=1e-5)
        assert [p.topk(3).indices.tolist() for p in said] == [found.insertion_top.classes[point].tolist(),
                                                            found.deletion_top.classes[point].tolist()]
        assert said[0].topk(3).values.tolist() == pytest.approx(found.insertion_top.probabilities[point].tolist(), abs=1e-5)


@pytest.mark.parametrize("protocol", ("rise", "i_gos"))
def test_insertion_of_a_map_is_deletion_of_its_complement(protocol, toy, image, shuffled):
    """The two build the same pictures, one from each end, when they share the baseline."""
    for fraction in (0, 0.25, 0.5, 1):
        built = m.composites(toy, image, shuffled, fraction, protocol=protocol, baseline="blur")[0]
        taken = m.composites(toy, image, 1 - shuffled, 1 - fraction, protocol=protocol, baseline="blur")[1]
        assert torch.equal(built, taken)
    one = m.measure(toy, image, shuffled, target=2, protocol=protocol, baseline=("blur", "zero"), step=32)
    other = m.measure(toy, image, 1 - shuffled, target=2, protocol=protocol, baseline=("zero", "blur"), step=32)
    assert one.insertion == pytest.approx(other.deletion[::-1], abs=1e-6)
    assert one.deletion == pytest.approx(other.insertion[::-1], abs=1e-6)
    assert np.ptp(one.insertion) > 0.003 and np.abs(one.insertion - one.deletion).max() > 0.003


def test_only_the_order_counts(toy, image, shuffled):
    expected = m.measure(toy, image, shuffled, target=2)
    for transform in (np.exp, lambda a: a**3 - 5, lambda a: 1e6 * a):
        found = m.measure(toy, image, transform(shuffled.astype(np.float64)), target=2)
        assert np.array_equal(found.insertion, expected.insertion) and np.array_equal(found.deletion, expected.deletion)
    assert not np.array_equal(m.measure(toy, image, -shuffled, target=2).insertion, expected.insertion)


def test_ties_go_by_place(toy, image):
    flat = m.measure(toy, image, np.zeros((32, 32)), target=2)
    falling = m.measure(toy, image, -np.arange(1024.0).reshape(32, 32), target=2)
    assert np.array_equal(flat.insertion, falling.insertion)


@pytest.mark.parametrize("protocol", m.PROTOCOLS)
def test_without_a_difference_there_is_no_change(protocol, toy, image, shuffled):
    found = m.measure(toy, image, shuffled, target=2, protocol=protocol, baseline=image)
    assert np.ptp(found.deletion) < 1e-6 and np.ptp(found.insertion) < 1e-6


@pytest.mark.parametrize(("side", "step", "evaluations"), [(7, 1, 49), (14, 1, 196), (28, 3, 262), (112, 62, 203), (224, 250, 201)])
def test_the_steps_of_the_i_gos_protocol(side, step, evaluations):
    found = m.measure(classifier(Constant(), side=224, classes=2), torch.zeros(1, 3, 224, 224), np.zeros((side, side)), target=1,
                      protocol="i_gos")
    assert (found.step, len(found.fractions) - 1, found.cells) == (step, evaluations, (side, side))


def test_the_steps_of_the_pixel_protocols():
    network = classifier(Constant(), side=224, classes=2)
    coarse = np.zeros((7, 7))
    assert m.passes(network, coarse, protocol="rise") == ex.Passes(forward=3 + 2 * 223)
    assert m.passes(network, coarse, protocol="input_iba", step=10) == ex.Passes(forward=3 + 2 * 5017)
    assert m.passes(network, coarse, protocol="i_gos", resolution=28) == ex.Passes(forward=2 + 2 * 261)


@pytest.mark.parametrize(("side", "most", "step", "steps"), [
    (224, 8, 28 * 224, 8), (224, 32, 7 * 224, 32), (224, 224, 224, 224), (224, 1000, 224, 224), (224, 10, 23 * 224, 10),
    (32, 8, 4 * 32, 8), (4, 1, 16, 1)])
def test_fewer_steps_are_whole_multiples_of_the_protocols(side, most, step, steps):
    settings = m.Params(most_steps=most)
    assert (settings.cells_a_step((side, side)), settings.steps((side, side))) == (step, steps)
    assert len(settings.counts((side, side))) == steps + 1


@pytest.mark.parametrize("protocol", m.PROTOCOLS)
def test_the_points_of_a_coarse_curve_are_points_of_the_finer_one(protocol, toy, image, shuffled):
    coarse, fine = (m.measure(toy, image, shuffled, target=2, protocol=protocol, most_steps=most) for most in (8, None))
    same = np.isin(fine.fractions, coarse.fractions)
    assert same.sum() == len(coarse.fractions) <= 9 < len(fine.fractions)
    assert fine.insertion[same] == pytest.approx(coarse.insertion, abs=1e-6)
    assert fine.deletion[same] == pytest.approx(coarse.deletion, abs=1e-6)
    assert coarse.insertion_auc == pytest.approx(m.auc(fine.insertion[same], fine.fractions[same]), abs=1e-6)


def test_the_blur_of_rise_is_its_authors():
    """They filter an impulse with scipy and convolve with that."""
    scipy = pytest.importorskip("scipy.ndimage")
    impulse = np.zeros((11, 11))
    impulse[5, 5] = 1
    kernel = torch.from_numpy(scipy.gaussian_filter(impulse, 5)).float()
    x = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    expected = nn.functional.conv2d(x, kernel.expand(3, 1, 11, 11), padding=5, groups=3)
    assert torch.allclose(rise_blur(x), expected, atol=1e-5)


@pytest.mark.parametrize("protocol", m.PROTOCOLS)
def test_a_list_is_its_members_one_by_one(protocol, toy, image, shuffled, monkeypatch):
    monkeypatch.setattr("explainers.context.fitting_batch", lambda network: 7)
    maps = [shuffled, shuffled[:8, :8].copy(), ex.explain(toy, image, "grad_cam", target=2)]
    together = m.measure(toy, image, maps, target=2, protocol=protocol)
    for one, alone in zip(together, (m.measure(toy, image, given, target=2, protocol=protocol) for given in maps), strict=True):
        assert one.insertion == pytest.approx(alone.insertion, abs=1e-6) and one.deletion == pytest.approx(alone.deletion, abs=1e-6)
        assert np.array_equal(one.insertion_top.classes, alone.insertion_top.classes)
        assert (one.passes, one.step, one.cells) == (alone.passes, alone.step, alone.cells)
    assert isinstance(m.measure(toy, image, [shuffled], target=2, protocol=protocol), list)


@pytest.mark.parametrize("protocol", m.PROTOCOLS)
def test_the_passes_are_those_that_it_declares(protocol, toy, image, shuffled, monkeypatch):
    counted = []
    real = type(toy).metered
    monkeypatch.setattr(type(toy), "metered", lambda network: counted.append(real(network)) or counted[-1])
    maps, heard = [shuffled, shuffled[:8, :8].copy()], []
    found = m.measure(toy, image, maps, target=2, protocol=protocol, progress=lambda done, total, _: heard.append((done, total)))
    declared = m.passes(toy, maps, protocol=protocol)
    assert counted[-1].meter.passes == declared and heard[-1] == (declared.forward, declared.forward)
    m.measure(toy, image, shuffled, target=2, protocol=protocol)
    assert counted[-1].meter.passes == found[0].passes == m.passes(toy, shuffled, protocol=protocol)


def test_it_is_the_same_every_time(toy, image, shuffled):
    one, two = (m.measure(toy, image, shuffled, target=2, baseline="noise", seed=3) for _ in range(2))
    assert np.array_equal(one.insertion, two.insertion) and np.array_equal(one.deletion, two.deletion)
    assert one.insertion[0] != m.measure(toy, image, shuffled, target=2, baseline="noise", seed=4).insertion[0]


def test_it_comes_back_from_a_cache_as_it_was(toy, image, shuffled):
    found = m.measure(toy, image, shuffled, target=(2, 1), protocol="dmbp", labels=(3,))
    again = decode(encode(found))
    assert (again.target, again.cells, again.passes, again.cim) == (found.target, found.cells, found.passes, found.cim)
    assert again.insertion_auc == found.insertion_auc and again.deletion_auc == found.deletion_auc
    assert np.array_equal(again.deletion_top.classes, found.deletion_top.classes)


def test_it_can_be_stopped(toy, image, shuffled, monkeypatch):
    monkeypatch.setattr("explainers.context.fitting_batch", lambda network: 4)
    heard = []
    with pytest.raises(ex.Cancelled):
        m.measure(toy, image, shuffled, progress=lambda done, total, preview: heard.append(done) or len(heard) < 3)
    assert len(heard) == 3


def test_the_target_is_what_the_maps_explain(toy, image, shuffled):
    for target in (3, (3, 1)):
        explained = ex.explain(toy, image, "gradient", target=target)
        found = m.measure(toy, image, explained)
        said = toy.predict(image)[0]
        assert found.target == Target.of(target)
        assert found.insertion[-1] == pytest.approx(float(said[3] - (said[1] if target != 3 else 0)), abs=1e-6)
    assert m.measure(toy, image, shuffled).target == Target.of(int(toy.predict(image).argmax()))
    with pytest.raises(ex.ExplainerError, match="different targets"):
        m.measure(toy, image, [explained, ex.explain(toy, image, "gradient", target=0)])


def test_other_labels_rise_with_the_lowest_attributions():
    """cIM: class 1 is bright on the left, class 2 on the right; the map of 1 leaves the right to the lowest."""

    class Halves(nn.Module):
        def forward(self, x):
            left, right = x[..., :16].mean((1, 2, 3)), x[..., 16:].mean((1, 2, 3))
            return torch.stack((0 * left, 4 * left, 4 * right, 0 * left), 1)

    network, left = classifier(Halves(), classes=4), np.tile(np.arange(32.0) < 16, (32, 1)).astype(float)
    found = m.measure(network, ones(), left, target=1, protocol="dmbp", baseline="zero", labels=(2,))
    worse = m.measure(network, ones(), 1 - left, target=1, protocol="dmbp", baseline="zero", labels=(2,))
    twin = m.measure(network, ones(), 1 - left, target=2, protocol="dmbp", baseline="zero")
    assert found.cim == pytest.approx(twin.insertion_auc, abs=0.02) and found.cim > worse.cim + 0.2
    assert m.measure(network, ones(), left, target=1, protocol="dmbp").cim is None
    both = m.measure(network, ones(), left, target=1, protocol="dmbp", baseline="zero", labels=(2, 3))
    third = m.measure(network, ones(), left, target=1, protocol="dmbp", baseline="zero", labels=(3,))
    assert both.cim == pytest.approx((found.cim + third.cim) / 2)
    assert both.passes == m.passes(network, left, protocol="dmbp", baseline="zero", labels=(2, 3)) == ex.Passes(2 + 3 * 31)


def test_sigmoid_probabilities_do_not_share(toy, image, shuffled):
    found = m.measure(toy, image, shuffled, target=2, output="sigmoid")
    assert found.insertion[-1] == pytest.approx(float(toy.logits(image).sigmoid()[0, 2]))


@pytest.mark.parametrize(("wrong", "sentence"), [
    ({"protocol": "roar"}, "protocol must be one of 'rise'"), ({"baseline": "red"}, "baseline must be one of"),
    ({"baseline": ("blur", "red")}, "not 'red'"), ({"step": 0}, "step must be"), ({"resolution": 7.5}, "resolution must be"),
    ({"resolution": 64}, "at most the image's 32"), ({"output": "logit"}, "output must be"),
    ({"order_by": "rank"}, "order_by must be"),
    ({"labels": (1,)}, "only the protocol 'dmbp'"), ({"labels": (9,), "protocol": "dmbp"}, "classes 0 to 4"),
    ({"labels": (2,), "protocol": "dmbp"}, "leave the target out"),
    ({"labels": (3,), "protocol": "dmbp", "order_by": "magnitude"}, "cIM orders by value"), ({"target": 9}, "classes 0 to 4"),
    ({"baseline": torch.zeros(1, 3, 8, 8)}, "must have the image's"),
])
def test_bad_terms_are_refused(wrong, sentence, toy, image, shuffled):
    with pytest.raises(ex.ExplainerError, match=sentence):
        m.measure(toy, image, shuffled, **{"target": 2, **wrong})


def test_bad_maps_and_images_are_refused(toy, image, shuffled):
    with pytest.raises(ex.ExplainerError, match="at least one"):
        m.measure(toy, image, [])
    with pytest.raises(ex.ExplainerError, match="not finite"):
        m.measure(toy, image, np.where(shuffled > 0.5, np.nan, shuffled))
    with pytest.raises(ex.ExplainerError, match="reduce its channels"):
        m.measure(toy, image, np.zeros((3, 32, 32)))
    with pytest.raises(ex.ExplainerError, match="One image at a time"):
        m.measure(toy, image.repeat(2, 1, 1, 1), shuffled)
    with pytest.raises(ex.ExplainerError, match="from 0 to 1"):
        m.composites(toy, image, shuffled, 1.5)


def test_nothing_of_the_image_or_the_network_changes(toy, image, shuffled):
    before, weights = image.clone(), {name: value.clone() for name, value in toy.module.state_dict().items()}
    m.measure(toy, image, shuffled)
    assert torch.equal(image, before) and all(torch.equal(weights[n], v) for n, v in toy.module.state_dict().items())


def test_a_network_that_cannot_be_traced_is_measured_too(image, shuffled):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(3, 5)

        def forward(self, x):
            return self.dense(x.mean((2, 3)) if x.sum() > 1e9 else x.amax((2, 3)))

    network = classifier(seeded(Branching))
    found = m.measure(network, image, shuffled, target=1)
    assert network.graph is None and found.insertion[-1] == pytest.approx(float(network.predict(image)[0, 1]), abs=1e-6)
