"""Outputs that are no plain logits are recognised, and what is taken is the logits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from support.networks import classifier, drawn_images, seeded
from torch import nn
from torch.nn import functional as F

import explainers as ex


def head(*ending: nn.Module) -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 5), *ending))


class Ending(nn.Module):
    """A network whose output is made of its logits and its image by ``ending``."""

    def __init__(self, ending):
        super().__init__()
        self.logits, self.ending = head(), ending

    def forward(self, x):
        return self.ending(self.logits(x), x)


def network(ending) -> ex.Classifier:
    return classifier(Ending(ending), side=8)


@pytest.fixture(scope="module")
def images():
    return drawn_images(4, 3, side=8)


CONTAINERS = {
    "a tuple": (lambda logits, x: (x.mean(), logits), "a tuple of 2 values; output[1] is"),
    "the first of two": (lambda logits, x: [logits, 2 * logits], "a list of 2 values; output[0] is"),
    "a dict": (lambda logits, x: {"features": x, "logits": logits}, "a dict with features, logits; output['logits'] is"),
    "an object": (lambda logits, x: SimpleNamespace(loss=None, logits=logits), "output.logits is"),
    "nested": (lambda logits, x: {"heads": [logits]}, "output['heads'][0] is"),
    "a name for other values": (lambda logits, x: {"logits": logits[:, :4], "final": logits}, "output['final'] is"),
}


@pytest.mark.parametrize("case", CONTAINERS)
def test_the_logits_are_found_in_a_container(case, images):
    ending, says = CONTAINERS[case]
    loaded = network(ending)
    assert loaded.graph is not None and says in loaded.notes[0]
    assert torch.equal(loaded.logits(images), Ending(ending).logits(images))


def test_maps_of_one_cell_are_logits_without_a_word(images):
    loaded = network(lambda logits, x: logits[:, :, None, None])
    assert loaded.notes == () and torch.equal(loaded.logits(images), head()(images))


@pytest.mark.parametrize(("ending", "name"), [
    (nn.Softmax(1), "softmax"), (nn.LogSoftmax(-1), "log-softmax"), (nn.Sigmoid(), "sigmoid")])
def test_a_softmax_at_the_end_is_left_out(ending, name, images):
    loaded = classifier(head(ending), side=8)
    assert loaded.notes == (f"The network ends in a {name}; the values before it are taken as the logits.",)
    assert torch.equal(loaded.logits(images), head()(images)) and loaded.graph.kinds[loaded.graph.output] == "linear"


@pytest.mark.parametrize("ending", [
    lambda z, x: F.softmax(z, dim=1), lambda z, x: z.softmax(-1), lambda z, x: torch.log(z.softmax(1))])
def test_a_softmax_that_is_called_is_left_out(ending, images):
    assert torch.equal(network(ending).logits(images), head()(images))


def test_a_softmax_over_the_batch_is_not_one_over_classes(images):
    loaded = network(lambda logits, x: logits.softmax(0))
    assert loaded.notes == () and torch.allclose(loaded.logits(images), head()(images).softmax(0))


@pytest.mark.parametrize("ending", [
    lambda z, x: z.exp() / z.exp().sum(1, keepdim=True),
    lambda z, x: z.softmax(1) if x.sum() > -1e9 else z,
    lambda z, x: z.log_softmax(1) if x.sum() > -1e9 else z,
], ids=["written out", "untraceable softmax", "untraceable log-softmax"])
def test_of_other_probabilities_the_logarithms_are_taken(ending, images):
    loaded = network(ending)
    assert "up to a constant for each picture" in " ".join(loaded.notes)
    difference = loaded.logits(images) - head()(images)
    assert torch.allclose(difference, difference[:, :1].expand_as(difference), atol=1e-5)
    assert torch.allclose(loaded.gradient(images, (3, 1)), network(lambda z, x: z).gradient(images, (3, 1)), atol=1e-5)


def test_a_probability_of_zero_has_a_logarithm(images):
    loaded = network(lambda z, x: (1000 * z).softmax(1) if x.sum() > -1e9 else z)
    assert loaded.logits(images).isfinite().all() and torch.equal(loaded.logits(images).argmax(1), head()(images).argmax(1))


def test_a_constant_output_tells_nothing(images):
    loaded = network(lambda z, x: 0 * z + 0.2)
    assert loaded.notes == () and torch.allclose(loaded.logits(images), torch.full((4, 5), 0.2))


def test_checks_of_shapes_are_no_part_of_the_graph(images):
    def checked(logits, x):
        torch._assert(x.shape[1] == 3, "three colours")
        return 2 * logits

    loaded = network(checked)
    assert torch._assert not in {node.target for node in loaded.graph.nodes.values()}
    assert torch.allclose(loaded.logits(images), 2 * head()(images))


def test_a_branch_on_the_size_of_a_map_is_followed_for_any_number_of_images(images):
    def branching(logits, x):
        smaller = x[..., ::2, ::2] if x.shape[2] > 4 else x
        return logits + smaller.reshape(x.shape[0], -1)[:, :5]

    loaded = network(branching)
    assert loaded.graph is not None
    assert torch.allclose(loaded.logits(images), head()(images) + images[..., ::2, ::2].flatten(1)[:, :5], atol=1e-6)


def test_an_untraceable_network_says_so_in_a_note():
    loaded = network(lambda z, x: z if x.sum() > -1e9 else -z)
    assert loaded.graph is None and "cannot be followed" in loaded.notes[-1]


def test_a_value_that_is_changed_in_place_is_followed(images):
    def in_place(logits, x):
        logits.mul_(2.0)
        return logits + 1

    loaded = network(in_place)
    assert loaded.graph is not None and torch.allclose(loaded.logits(images), 2 * head()(images) + 1)


class Reused(nn.Module):
    """A network that uses the input of an in-place activation once more."""

    def __init__(self, activation):
        super().__init__()
        self.features, self.activation, self.head = nn.Conv2d(3, 4, 3), activation, nn.Linear(144, 5)

    def forward(self, x):
        before = self.features(x)
        return self.head(torch.flatten(self.activation(before) + before, 1))


@pytest.mark.parametrize("activation", [
    nn.ReLU(True), nn.SiLU(True), F.relu_, lambda x: F.relu(x, inplace=True), lambda x: F.relu(x, True)])
def test_what_an_in_place_layer_changed_is_what_later_layers_take(activation, images):
    module = seeded(lambda: Reused(activation))
    loaded = classifier(module, side=8)
    with torch.no_grad():
        expected = module(images)
        assert not torch.allclose(expected, seeded(lambda: Reused(lambda x: x.relu()))(images), atol=0.01)
    assert loaded.graph is not None and torch.allclose(loaded.logits(images), expected, atol=1e-6)


def test_an_in_place_layer_that_cannot_be_followed_is_refused():
    class Branching(Reused):
        def forward(self, x):
            return super().forward(x if x.sum() > -1e9 else -x)

    with pytest.raises(ex.ExplainerError, match="inplace=False"):
        classifier(seeded(lambda: Branching(nn.ReLU(True))), side=8)
    assert classifier(seeded(lambda: Branching(nn.ReLU())), side=8).graph is None


def test_a_graph_that_computes_other_values_is_refused():
    def part_in_place(logits, x):
        logits[:, 1:].mul_(2.0)  # through a view, which tracing cannot see
        return logits + 1

    loaded = network(part_in_place)
    assert loaded.graph is None and "computes other values" in loaded.untraceable


@pytest.mark.parametrize(("ending", "says"), [
    (lambda z, x: None, "an object (NoneType), in which there are no logits"),
    (lambda z, x: x, r"values of shape \(N, 3, 8, 8\), in which there are no logits"),
    (lambda z, x: z[:, :4], "has 4 outputs, but 5 names"),
])
def test_an_output_without_logits_is_one_sentence(ending, says):
    with pytest.raises(ex.ExplainerError, match=says.replace("(NoneType)", r"\(NoneType\)")):
        network(ending)
