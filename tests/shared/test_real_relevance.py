"""zennit's relevance on the real SqueezeNet, and conservation on real networks with batch norms, shortcuts and ReLU6."""

from __future__ import annotations

import pytest
import torch
from support import zennit_maps
from support.captum_maps import relative_error
from torch import nn

import explainers as ex
from explainers.networks.checkpoints import read_weights
from explainers.networks.torchvision_models import build

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def module(weights):
    module = build("squeezenet1_0")
    module.load_state_dict(read_weights(weights))
    for part in module.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("target", [243, 282])
def test_maps_equal_zennits(squeezenet, module, dog_and_cat, target):
    """All pixels do, by the rules that pass on positive contributions. The epsilon rule is as sensitive as the gradient: where a
    unit's value is rounding, which depends on the number of threads, it may be open in one map and shut in the other."""
    low, high = (squeezenet.preprocessing.normalise(torch.full((1, 3, 1, 1), value)) for value in (0.0, 1.0))
    compared = [("lrp_epsilon", {"rule": rule}, zennit_maps.lrp(rule), "logit")
                for rule in ("epsilon", "epsilon_plus", "epsilon_plus_flat", "alpha2_beta1")]
    compared += [("deep_taylor", {"first": first}, zennit_maps.deep_taylor(first, low, high), "relu")
                 for first in ("z_box", "w_squared", "z_plus")]
    errors, unequal = {}, 0.0
    for key, settings, composite, start in compared:
        ours = ex.explain(squeezenet, dog_and_cat, key, target=target, **settings).native[None]
        theirs = zennit_maps.relevance(module, dog_and_cat, target, composite, start)
        errors[key, *settings.values()] = relative_error(ours, theirs)
        if settings == {"rule": "epsilon"}:
            unequal = float(((ours - theirs).abs() > 1e-4 * theirs.abs().max()).float().mean())
    print(*(f"{' '.join(name):40s} {error:.1e}" for name, error in errors.items()), sep="\n")
    assert unequal < 0.03 and errors.pop(("lrp_epsilon", "epsilon")) < 0.02
    assert max(errors.values()) < 1e-4


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2"])
def test_full_grad_is_complete_and_lrp_says_what_biases_take(name, shared_data):
    files = {"mobilenet_v2": shared_data / "weights" / "mobilenet_v2-imagenet.safetensors"}
    network = ex.load_model(name, weights=files.get(name), device="cpu")
    x = network.preprocess(ex.load_image(shared_data / "imagenet" / "dog_and_cat.png"))
    logit = float(network.logits(x).max())
    assert sum(ex.explain(network, x, "full_grad").extras["parts"]) == pytest.approx(logit, rel=1e-4)
    parts = ex.explain(network, x, "lrp_epsilon").extras["parts"]
    print(f"{name}: logit {logit:.3f}, of which biases take {parts[1]:.3f}")
    assert sum(parts) == pytest.approx(logit, rel=1e-4) and abs(parts[1]) > 0.1 * logit
