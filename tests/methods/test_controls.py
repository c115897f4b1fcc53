"""The controls that this project adds to random, centre and Sobel: the input's magnitude, and the gradient of random weights."""

from __future__ import annotations

import pytest
import torch
from support.networks import classifier, drawn_images, residual_module, seeded
from torch import nn

import explainers as ex
from explainers.networks.randomised import randomised
from explainers.networks.stages import stages


def test_the_magnitude_is_the_distance_from_the_mean_colour_in_the_normalised_scale(toy, image):
    magnitude = ex.explain(toy, image, "input_magnitude", target=0)
    assert torch.equal(magnitude.native, image[0].abs()) and not magnitude.signed
    assert torch.allclose(torch.from_numpy(magnitude.heatmap()), image[0].abs().sum(0), atol=1e-6)
    assert (magnitude.passes.forward, magnitude.passes.backward) == (0, 0)


def test_the_gradient_of_random_weights_is_the_gradient_of_the_re_initialised_network(toy, image):
    untrained = randomised(toy, stages(toy), seed=4)
    assert untrained.fingerprint != toy.fingerprint
    control = ex.explain(toy, image, "random_weights_gradient", target=3, seed=4)
    assert torch.allclose(control.native, untrained.gradient(image, 3)[0], atol=1e-7)
    assert (control.passes.forward, control.passes.backward) == (1, 1)


def test_it_does_not_depend_on_what_the_network_has_learned(image):
    """Two networks with one architecture and different weights, norms and biases have the same map."""
    trained = classifier(residual_module())
    other = classifier(seeded(residual_module, 8))
    with torch.no_grad():
        for parameter in other.module.parameters():
            parameter.mul_(1.7)
    maps = [ex.explain(network, image, "random_weights_gradient", target=1).native for network in (trained, other)]
    assert torch.equal(*maps) and not torch.equal(trained.gradient(image, 1), other.gradient(image, 1))
    assert not torch.equal(maps[0], ex.explain(trained, image, "random_weights_gradient", target=1, seed=1).native)
    assert not torch.equal(maps[0], ex.explain(trained, image, "random_weights_gradient", target=2).native)


def test_all_weights_are_drawn_anew(toy):
    every = {name for stage in stages(toy, 1) for name in stage.parameters}
    assert every == {name for name, _ in toy.module.named_parameters()}


def test_a_network_without_weights_has_no_random_weights():
    network = classifier(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), classes=12)
    with pytest.raises(ex.UnsupportedError, match="layers with weights that can be drawn anew, and this network has none"):
        ex.explain(network, drawn_images(1, seed=1), "random_weights_gradient", target=0)


def test_controls_know_nothing_of_the_trained_network(toy, image):
    """Each control's map is the same for a network with other weights."""
    other = randomised(toy, stages(toy), "normal", seed=3)
    for key, method in ex.methods().items():
        if method.is_control:
            ours, theirs = (ex.explain(network, image, key, target=1).native for network in (toy, other))
            assert torch.allclose(ours, theirs, atol=1e-6), key
