"""DMBP: closed forms of the split, and a slow twin that does what the paper writes, with hooks and two backward passes."""

from __future__ import annotations

import gc
import itertools
import weakref

import pytest
import torch
from support.networks import classifier, residual_module, seeded
from torch import nn
from torch.nn import functional as F

import explainers as ex
from explainers.methods.dmbp import METHOD, MaskedNetwork, Params, descend, loss_gradient
from explainers.networks.torchvision_models import build
from explainers.target import Target

STEPS = 12


def masked_at(network, x, target=2):
    return MaskedNetwork(network, x, Target.of(target), torch.Generator().manual_seed(0))


def some_sigma(masked, seed=5):
    return torch.rand(masked.count, generator=torch.Generator().manual_seed(seed))


class Twin:
    """The toy residual network, layer by layer, in double precision, with every bias spread out as a tensor of its own."""

    def __init__(self, x, target):
        self.m, self.x, self.target = residual_module().eval().double(), x.double().requires_grad_(True), target
        self.shapes, self.biases, self.hooks = [], [], {}
        self.y, self.output_bias = self.forward().item() - self.m[8].bias[target].item(), self.m[8].bias[target].item()
        self.logits = [torch.zeros(s, dtype=torch.double) for s in self.shapes]

    def biased(self, z, bias):
        spread = bias.detach().view(1, -1, 1, 1).expand_as(z).clone().requires_grad_(True)
        self.biases.append(spread)
        return z + spread

    def conv(self, layer, z):
        z = F.conv2d(z, layer.weight, None, layer.stride, layer.padding)
        return z if layer.bias is None else self.biased(z, layer.bias)

    def norm(self, bn, z):
        scale = bn.weight / (bn.running_var + bn.eps).sqrt()
        return self.biased(z * scale.view(1, -1, 1, 1), bn.bias - bn.running_mean * scale)

    def relu(self, z):
        h = F.relu(z)
        call = len(self.shapes)
        self.shapes.append(h.shape)
        if call in self.hooks:
            h.register_hook(self.hooks[call])
        return h

    def forward(self):
        self.shapes, self.biases = [], []
        block = self.m[2]
        h = self.relu(self.conv(self.m[0], self.x))
        inner = self.relu(self.norm(block.bn1, self.conv(block.conv1, h)))
        h = self.m[3](self.relu(self.conv(block.conv2, inner) + h))
        h = self.relu(self.conv(self.m[4], h))
        return self.m[8](h.mean((2, 3)))[0, self.target]

    def part(self, sigmas):
        """Algorithm 1, lines 4-5: the masked gradient of the image, and its product with image and biases."""
        self.hooks = {call: (lambda g, s=s: g * s) for call, s in enumerate(sigmas)}
        score = self.forward()
        grads = torch.autograd.grad(score, [self.x, *self.biases], create_graph=True)
        return grads[0], sum((g * v.detach()).sum() for g, v in zip(grads, [self.x, *self.biases], strict=True))

    def loss(self, variant="dmbp"):
        """(loss, [y+, y-], [map of +, map of -]), a function of the logits."""
        sigmas = [s.sigmoid() for s in self.logits]
        (gp, yp), (gn, yn) = self.part(sigmas), self.part([1 - s for s in sigmas])
        loss = {"dmbp": yn - yp + (self.y - yp - yn).abs(), "dmbp_plus": -yp, "dmbp_plus_minus": yn - yp}[variant]
        return loss, [yp.item(), yn.item()], [g.detach()[0] for g in (gp, gn)]

    def initialise(self):
        """Appendix B.1, one ReLU after the other, from the last to the first, with two whole backward passes for each."""
        for call in reversed(range(len(self.shapes))):
            seen = []
            for sigmas in ([s.sigmoid() for s in self.logits], [1 - s.sigmoid() for s in self.logits]):
                self.hooks = {c: (lambda g, s=s: g * s) for c, s in enumerate(sigmas) if c > call}
                self.hooks[call] = lambda g, into=seen: into.append(g.clone()) or g
                self.forward().backward()
            plus, minus = seen
            self.logits[call] = 2.0 * ((plus > 0) & (minus > 0)) - 2.0 * ((plus < 0) & (minus < 0))
        self.x.grad = None

    def flat(self, masked, values):
        """Of one value a ReLU, those that ``masked`` keeps, in its order."""
        where = {u: v for u, v in zip(masked.relus.values(), values, strict=True)}
        order = sorted(masked.relus.values(), key=lambda u: u.span.start)
        return torch.cat([u.flat(where[u])[0, u.live] for u in order])


@pytest.fixture()
def pair(toy, image):
    twin, masked = Twin(image, 2), masked_at(toy, image)
    twin.initialise()
    return twin, masked


def test_the_outputs_bias_is_counted_in_no_part(pair):
    twin, masked = pair
    assert masked.output_bias == pytest.approx(twin.output_bias, abs=1e-6)
    assert masked.y == pytest.approx(twin.y, abs=1e-5)


def test_the_masks_start_as_a_layer_by_layer_sweep_sets_them(pair):
    twin, masked = pair
    assert torch.equal(masked.start, twin.flat(masked, twin.logits).float())
    assert {-2.0, 0.0, 2.0} == set(masked.start.tolist())


@pytest.mark.parametrize("variant", ["dmbp", "dmbp_plus", "dmbp_plus_minus"])
@pytest.mark.parametrize("seed", [1, 2])
def test_running_the_masks_forward_is_masking_the_backward_pass(pair, variant, seed):
    twin, masked = pair
    draw = torch.Generator().manual_seed(seed)
    twin.logits = [torch.randn(s, generator=draw).double().requires_grad_(True) for s in twin.shapes]
    loss, outputs, maps = twin.loss(variant)
    slopes = torch.autograd.grad(loss, twin.logits)
    sigma = twin.flat(masked, twin.logits).detach().float().sigmoid()
    masked.set(sigma)
    found = masked.outputs()
    assert found == pytest.approx(outputs, rel=1e-4, abs=1e-6)
    expected = twin.flat(masked, slopes)
    assert torch.allclose(loss_gradient(masked, variant, found).double() * sigma * (1 - sigma), expected, rtol=1e-3, atol=1e-8)
    assert float(expected.abs().sum()) == pytest.approx(float(sum(s.abs().sum() for s in slopes)), rel=1e-6)  # the rest is 0
    for row in (0, 1):
        assert torch.allclose(masked.part(row).mapping.double(), maps[row], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("variant", ["dmbp", "dmbp_plus", "dmbp_plus_minus"])
def test_the_whole_descent_is_the_papers_algorithm(toy, image, variant):
    twin = Twin(image, 2)
    twin.initialise()
    twin.logits = [s.double().requires_grad_(True) for s in twin.logits]
    optimiser = torch.optim.RMSprop(twin.logits, lr=0.01)
    for _ in range(STEPS):
        optimiser.zero_grad()
        twin.loss(variant)[0].backward()
        optimiser.step()
    _, outputs, maps = twin.loss(variant)
    found = ex.explain(toy, image, "dmbp", target=2, iterations=STEPS, variant=variant)
    expected = (maps[0] if variant == "dmbp_plus" else maps[0] + maps[1]) * image[0]
    assert float((found.native - expected).abs().max()) < 2e-3 * float(expected.abs().max())
    assert found.extras["y_positive"][-1] == pytest.approx(outputs[0], rel=1e-3)
    assert ("negative" in found.extras) == (variant != "dmbp_plus")


def test_the_nuisance_of_two_relus_is_the_two_mixed_terms():
    module = seeded(lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(48, 20), nn.ReLU(), nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 5)), 3)
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    masked = masked_at(classifier(module, side=4), x)
    masked.set(some_sigma(masked))
    first, second = (masked.relus[name] for name in masked.network.graph.named("relu"))
    a, b = first.mask[0].clone(), second.mask[0].clone()
    open_first, open_second = (first.output[0] > 0).float(), (second.output[0] > 0).float()

    def run(m1, m2):
        h = F.relu(module[1](x.flatten(1))) * m1
        return ((module[3](h) * open_second * m2) @ module[5].weight[2]).item()

    live = (second.mask.sum(0) > 0).float()
    not_a, not_b = open_first - a, live - b
    y_plus, y_minus = masked.outputs()
    assert [y_plus, y_minus] == pytest.approx([run(a, b), run(not_a, not_b)], abs=1e-6)
    # the second layer's biases pass one mask only, so both parts hold their share: the mixed terms are those of the rest
    bias = ((module[3].bias * open_second * live) @ module[5].weight[2]).item()
    mixed = run(a, not_b) + run(not_a, b)
    assert masked.y - y_plus - y_minus == pytest.approx(mixed - bias, abs=1e-5)


def relu6_module():
    module = seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6(), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6(inplace=True),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5)), 4)
    module[2].weight.data *= 4  # so that the second layer saturates as well
    return module


def two_stems():
    class TwoStems(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 5, padding=2)
            self.dense = nn.Linear(8 * 16, 5)

        def forward(self, x):
            both = torch.cat([self.a(x).relu(), F.max_pool2d(F.relu(self.b(x)), 3, 1, 1)], 1)
            return self.dense(F.adaptive_avg_pool2d(both * 0.5, 4).flatten(1))
    return seeded(TwoStems, 6)


@pytest.fixture(params=["residual", "relu6", "two stems"])
def scene(request, image):
    """A network, an image that saturates the ReLU6, and the class."""
    module, scale = {"residual": (residual_module, 1), "relu6": (relu6_module, 8), "two stems": (two_stems, 1)}[request.param]
    return classifier(module()), scale * image, 3


def test_all_in_the_positive_part_is_gradient_times_input(scene):
    network, x, target = scene
    masked = masked_at(network, x, target)
    masked.set(torch.ones(masked.count))
    y = float(network.logits(x)[0, target]) - masked.output_bias
    assert masked.outputs() == pytest.approx([y, 0.0], abs=1e-5 * max(1, abs(y)))
    assert masked.y == pytest.approx(y, abs=1e-5)
    assert torch.allclose(masked.part(0).mapping, network.gradient(x, target)[0], rtol=1e-4, atol=1e-6)
    assert masked.part(1).mapping.abs().max() == 0


def test_the_complementary_masks_swap_the_parts(scene):
    masked = masked_at(*scene)
    sigma = some_sigma(masked)
    masked.set(sigma)
    outputs, maps = masked.outputs(), [masked.part(row).mapping for row in (0, 1)]
    masked.set(1 - sigma)
    assert masked.outputs() == pytest.approx(outputs[::-1], rel=1e-4, abs=1e-5)
    for row in (0, 1):
        assert torch.allclose(masked.part(row).mapping, maps[1 - row], rtol=1e-4, atol=1e-6)


def check_slopes(masked, tolerance):
    """Central differences; the parts are of low degree in sigma, and exactly linear in each one of them."""
    sigma, direction = some_sigma(masked) * 0.8 + 0.1, torch.randn(masked.count, generator=torch.Generator().manual_seed(9))
    masked.set(sigma)
    masked.outputs()
    slopes = [float(masked.mask_gradient(0) @ direction), -float(masked.mask_gradient(1) @ direction)]
    ends = []
    for step in (2e-3, -2e-3):
        masked.set(sigma + step * direction)
        ends.append(masked.outputs())
    assert slopes == pytest.approx([(ends[0][row] - ends[1][row]) / 4e-3 for row in (0, 1)], rel=1e-2, abs=tolerance)


def test_the_mask_gradient_is_the_slope_of_the_parts(scene):
    check_slopes(masked_at(*scene), 1e-3)


def test_a_saturated_relu6_is_a_constant_before_its_mask(image):
    network = classifier(relu6_module())
    masked = masked_at(network, 8 * image)
    capped = [len(unit.capped_live) for unit in masked.relus.values()]
    assert min(capped) > 50 and masked.count - sum(capped) > 50
    sigma = torch.zeros(masked.count)
    last = list(masked.relus.values())[-1]
    sigma[last.capped_span] = 0.5
    masked.set(sigma)  # of the positive part only the last layer's constants are left, and half of each
    weight = F.interpolate(network.module.get_parameter("7.weight")[2].view(1, 8, 2, 2), scale_factor=16) / 256
    assert masked.outputs()[0] == pytest.approx(3 * float((last.flat(weight) * last.capped).sum()), rel=1e-4)
    assert masked.part(0).mapping.abs().max() == 0


def test_half_of_everything_leaves_a_power_of_two(bias_free, image):
    masked = masked_at(bias_free, image)
    masked.set(torch.full((masked.count,), 0.5))
    assert masked.outputs() == pytest.approx([masked.y / 4] * 2, rel=1e-5)
    assert masked.output_bias == 0


def test_without_biases_the_map_sums_to_both_parts(bias_free, image):
    found = ex.explain(bias_free, image, "dmbp", target=1, iterations=20)
    assert float(found.native.sum()) == pytest.approx(found.extras["y_positive"][-1] + found.extras["y_negative"][-1], rel=1e-4)
    assert torch.allclose(found.native, found.extras["positive"] + found.extras["negative"])


def test_the_parts_and_their_biases_are_complete(pair):
    """Where the descent ends, each part is the twin's gradients times image and biases."""
    twin, masked = pair
    descend(masked, Params(iterations=3), lambda done: None)
    sigmas = [unit.shaped(unit.mask).double()[None] for unit in masked.relus.values()]
    for row, expected in enumerate(masked.outputs()):
        gradient, total = twin.part([s[:, row] for s in sigmas])
        assert total.item() == pytest.approx(expected, rel=1e-4)
        assert torch.allclose(masked.part(row).mapping.double(), gradient[0].detach(), rtol=1e-3, atol=1e-7)


def test_the_loss_is_the_larger_of_two():
    for y, plus, minus in itertools.product([-2.0, -0.3, 0.0, 1.1, 3.0], repeat=3):
        assert minus - plus + abs(y - plus - minus) == pytest.approx(max(y - 2 * plus, 2 * minus - y))


def test_the_loss_falls(toy, image):
    extras = ex.explain(toy, image, "dmbp", target=2, iterations=120).extras
    loss = [max(extras["y"] - 2 * p, 2 * n - extras["y"]) for p, n in zip(extras["y_positive"], extras["y_negative"], strict=True)]
    assert len(loss) == 121
    smooth = [sum(loss[i:i + 10]) for i in range(0, 120, 10)]
    assert smooth == sorted(smooth, reverse=True)
    assert extras["y_negative"][-1] < 0 and extras["y_positive"][-1] > extras["y"] / 2


def test_units_that_cancel_at_first_are_kept():
    """At the start both ways cancel exactly in either row; the random row still sees them."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False), nn.ReLU(),
                           nn.Linear(2, 2, bias=False))
    for layer, weight in ((1, [[1.0], [1.0]]), (3, [[2.0, 1.0], [1.0, 1.0]]), (5, [[1.0, -1.0], [1.0, 1.0]])):
        module[layer].weight.data = torch.tensor(weight)
    masked = masked_at(classifier(module, side=1, channels=1, classes=2), torch.ones(1, 1, 1, 1), 0)
    assert masked.count == 4 and masked.y == 1


def test_switches_of_every_kind_of_max_pool_stay_as_they_were(image):
    class Pools(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.dense = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 9, 5)
            self.pool, self.adaptive = nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.AdaptiveMaxPool2d(3)

        def forward(self, x):
            x = F.max_pool2d(self.pool(F.relu(self.conv(x))), (2, 2), stride=1)
            return self.dense(self.adaptive(x).flatten(1))

    network = classifier(seeded(Pools, 8))
    masked = masked_at(network, image)
    masked.set(torch.ones(masked.count))
    assert torch.allclose(masked.part(0).mapping, network.gradient(image, 2)[0], atol=1e-6)
    assert masked.outputs()[0] == pytest.approx(masked.y, abs=1e-5)


def test_it_follows_the_last_layers_weights_and_guided_backprop_does_not(toy, image):
    def drawn_anew():
        module = residual_module()
        module[8].weight.data = torch.randn(5, 12, generator=torch.Generator().manual_seed(11))
        return classifier(module)

    def alike(key, **params):
        maps = [ex.explain(n, image, key, target=2, **params).native.sum(0).flatten() for n in (toy, drawn_anew())]
        return float(torch.corrcoef(torch.stack([m.argsort().argsort().double() for m in maps]))[0, 1])

    assert abs(alike("dmbp", iterations=60)) < 0.5 < alike("guided_backprop", times_input=True)


@pytest.mark.parametrize(("name", "named"), [("convnext_tiny", "GELU"), ("mobilenet_v3_small", "Hardswish"),
                                             ("regnet_y_400mf", "Sigmoid"), ("efficientnet_b0", "SiLU")])
def test_networks_that_are_not_piecewise_linear_are_refused_with_the_reason(name, named):
    network = classifier(build(name), side=224, classes=1000)
    with pytest.raises(ex.UnsupportedError, match=f"DMBP needs .*{named}|DMBP needs ReLU"):
        ex.explain(network, torch.zeros(1, 3, 224, 224), "dmbp", target=0)


def test_a_gelu_beside_relus_is_named():
    network = classifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.GELU(), nn.Flatten(), nn.Linear(4 * 900, 5)))
    assert "GELU" in ex.methods()["dmbp"].lacks(network)
    assert "relu" not in network.graph.nonlinear_layers()


@pytest.mark.parametrize("name", ["densenet121", "googlenet", "shufflenet_v2_x0_5", "mnasnet0_5", "mobilenet_v2", "resnet18"])
def test_torchvisions_piecewise_linear_networks_are_accepted_and_exact(name):
    module = seeded(lambda: build(name, 10), 1)
    network = classifier(module, side=96 if name == "googlenet" else 64, classes=10)
    x = torch.randn(1, 3, *network.input_size, generator=torch.Generator().manual_seed(2))
    assert ex.methods()["dmbp"].lacks(network) is None
    masked = masked_at(network, x)
    masked.set(torch.ones(masked.count))
    gradient = network.gradient(x, 2)[0]
    assert masked.outputs()[0] == pytest.approx(masked.y, rel=1e-3, abs=1e-4)
    assert torch.allclose(masked.part(0).mapping, gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))


def test_a_later_gradient_leaves_an_earlier_one_alone(scene):
    masked = masked_at(*scene)
    masked.set(some_sigma(masked))
    masked.outputs()
    earlier = masked.mask_gradient(0)
    copied = earlier.clone()
    masked.mask_gradient(1).fill_(torch.nan)
    assert torch.equal(earlier, copied) and torch.equal(masked.mask_gradient(0), copied)


def test_only_the_first_relu_keeps_its_inputs_until_the_first_masked_pass(toy, image):
    masked = masked_at(toy, image)
    first, *others = (relu.inputs.numel() / relu.output.numel() for relu in masked.relus.values())
    assert others and first == 1 and max(others) < 0.01


def test_the_recorded_pass_is_given_back(toy, image):
    masked = masked_at(toy, image)
    masked.set(some_sigma(masked))
    masked.outputs(), masked.mask_gradient(0), masked.part(1).mapping
    gc.collect()
    gc.disable()
    try:
        held = weakref.ref(masked.relus["relu"] if "relu" in masked.relus else next(iter(masked.relus.values())))
        del masked
        assert held() is None, "a cycle through autograd's graph would keep every activation for ever"
    finally:
        gc.enable()


def test_previews_take_a_hundredth_of_the_time_of_a_run_of_default_length_at_most(toy):
    settings = METHOD.settings()
    passes = METHOD.time_cost(settings, toy)
    assert list(settings.previewed) == [50, 100, 150]
    assert settings.rows * len(settings.previewed) <= 0.01 * (passes.forward + passes.backward)
    assert list(METHOD.settings(iterations=30).previewed) == [10, 20]
    assert list(METHOD.settings(iterations=10).previewed) == []
