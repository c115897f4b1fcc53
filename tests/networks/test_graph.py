"""The canonical graph computes what the network computes, holds one node a ReLU call, and changes nothing."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from support.architectures import ARCHITECTURES, architecture
from support.networks import classifier, drawn_images, residual_module
from support.threads import run_in_threads
from torch import fx, nn

from explainers.networks.graph import Graph


def test_it_gives_the_networks_own_logits(image):
    module = residual_module().eval()
    with torch.no_grad():
        assert torch.equal(Graph(module).run(image), module(image))


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "untraceable"])
def test_a_walk_is_that_of_torchs_interpreter(name):
    graph, x = architecture(name).walkable, drawn_images(2, seed=5)
    with torch.no_grad():
        assert torch.equal(graph.run(x), fx.Interpreter(graph.module).run(x))


def test_a_walk_lists_no_modules(image, monkeypatch):
    """Listing them, as torch's interpreter does before every walk, takes as long as some layers of a small network."""
    graph = Graph(residual_module())
    expected = graph.run(image)

    def listed(*_, **__):
        raise AssertionError("the modules are listed")

    monkeypatch.setattr(nn.Module, "named_modules", listed)
    assert torch.equal(graph.run(image), expected)


def test_every_relu_call_is_a_node_of_its_own():
    graph = Graph(residual_module())
    assert len(graph.named("relu")) == 4  # stem, twice in the block, before the pooling
    assert len(set(graph.named("relu"))) == 4
    assert "iadd" not in str(graph.module.code) and "inplace = True" not in str(graph.module.code)


def test_the_original_module_is_left_as_it_was():
    module = residual_module()
    before = copy.deepcopy(module.state_dict())
    Graph(module)
    assert module.training and all(p.requires_grad for p in module.parameters())
    assert module[1].inplace and all(torch.equal(before[k], v) for k, v in module.state_dict().items())


def test_a_rule_acts_at_every_call_of_its_kind(image):
    graph = Graph(residual_module())
    seen = []

    def leaky(call, x):
        seen.append(call.name)
        return torch.nn.functional.leaky_relu(x, 0.5)

    changed = graph.run(image, {"relu": leaky})
    assert tuple(seen) == graph.named("relu")
    assert not torch.allclose(changed, graph.run(image))


def test_a_rule_that_only_calls_plain_changes_nothing(image):
    graph = Graph(residual_module())
    kinds = {kind for kind in graph.kinds.values() if kind not in {"placeholder", "output"}}
    assert {"relu", "conv", "batch_norm", "add", "max_pool", "avg_pool", "linear", "flatten"} <= kinds
    plain = {kind: lambda call, *inputs: call.plain(*inputs) for kind in kinds}
    assert torch.equal(graph.run(image, plain), graph.run(image))


def test_walking_in_two_parts_equals_walking_at_once(image):
    graph = Graph(residual_module())
    places = [name for name in graph.nodes if graph.commands(name) and graph.kinds[name] not in {"placeholder", "output"}]
    assert len(places) > 5
    for name in places:
        middle = graph.run(image, stop=name)
        assert torch.equal(graph.run(middle, start=name), graph.run(image)), name


def test_a_node_beside_a_shortcut_does_not_command_the_logits(image):
    graph = Graph(residual_module())
    beside = graph.named("batch_norm")[0]
    assert not graph.commands(beside)
    with pytest.raises(ValueError, match="around"):
        graph.run(torch.zeros(1, 8, 16, 16), start=beside)


def test_kept_values_are_those_of_the_nodes(image):
    graph = Graph(residual_module())
    logits, kept = graph.run(image, keep=graph.named("relu"))
    assert set(kept) == set(graph.named("relu")) and all((v >= 0).all() for v in kept.values())
    assert torch.equal(graph.run(kept[graph.named("relu")[-1]], start=graph.named("relu")[-1]), logits)


def test_the_default_feature_layer_is_the_last_activation_before_the_head(toy, linear):
    assert toy.features.sizes[toy.features.default] == (12, 8, 8)
    assert toy.graph.kinds[toy.features.default] == "relu"
    assert linear.features.default is None


def test_multiplications_of_known_layers():
    network = classifier(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 64, 5)), side=8)
    counted = [shape.macs for shape in network.shapes.values() if shape.macs]
    assert counted == [4 * 64 * 27, 5 * 256]


def test_two_threads_walk_one_graph_with_different_rules(image):
    graph = Graph(residual_module())
    rules = [{}, {"relu": lambda call, x: x}]
    alone = [graph.run(image, rule) for rule in rules]

    def walk(which):
        return [graph.run(image, rules[which]) for _ in range(100)]

    for i, together in enumerate(run_in_threads([partial(walk, i % 2) for i in range(4)])):
        assert all(torch.equal(logits, alone[i % 2]) for logits in together)


def test_an_untraceable_network_keeps_logits_and_gradients(image):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(3 * 32 * 32, 5)

        def forward(self, x):
            return self.dense(x.flatten(1)) if x.mean() > -10 else x

    network = classifier(Branching())
    assert network.graph is None and "trace" in network.untraceable
    assert network.gradient(image, 1).shape == image.shape


def test_networks_are_traced_while_others_run():
    """torch.fx replaces methods of nn.Module in the whole process while it traces."""
    module, image = residual_module(), torch.randn(1, 3, 32, 32)
    expected, nodes = module(image), list(Graph(module).nodes)

    def run() -> list[bool]:
        return [torch.equal(module(image), expected) for _ in range(200)]

    def trace() -> list[bool]:
        return [list(Graph(module).nodes) == nodes for _ in range(20)]

    assert all(all(equal) for equal in run_in_threads([run, trace, run, trace]))
