"""The real SqueezeNet and a real photograph: Captum's maps, and what the picture is known to hold."""

from __future__ import annotations

import pytest
import torch
from support.captum_maps import compare, prepared, table, without_noise

import explainers as ex
from explainers.networks.checkpoints import read_weights
from explainers.networks.torchvision_models import build

pytestmark = pytest.mark.shared


def rank_correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    ranks = torch.stack([m.flatten().argsort().argsort().double() for m in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


@pytest.mark.parametrize("target", [243, 282])
def test_maps_equal_captums(squeezenet, weights, dog_and_cat, target):
    module = build("squeezenet1_0")
    module.load_state_dict(read_weights(weights))
    module = prepared(module)
    errors = compare(squeezenet, module, module.features, dog_and_cat, target)
    errors["smoothgrad"] = without_noise(squeezenet, module, dog_and_cat, target)
    print(table(errors))
    assert max(errors.values()) < 1e-5, table(errors)


def test_the_dog_and_the_cat_are_among_the_top_classes(squeezenet, dog_and_cat):
    top = squeezenet.predict(dog_and_cat)[0].topk(5).indices.tolist()
    assert top[0] == 243 and 282 in top


def test_grad_cam_moves_from_the_dog_to_the_cat_and_guided_backprop_stays(squeezenet, dog_and_cat):
    maps = {(key, c): torch.from_numpy(ex.explain(squeezenet, dog_and_cat, key, target=c).heatmap())
            for key in ("grad_cam", "guided_backprop") for c in (243, 282)}
    dog, cat = maps["grad_cam", 243], maps["grad_cam", 282]
    assert dog[:112].sum() > 2 * dog[112:].sum()  # the dog's head is in the upper half, the cat below
    assert cat[112:].sum() > 2 * cat[:112].sum()
    alike = rank_correlation(maps["guided_backprop", 243], maps["guided_backprop", 282])
    assert alike > 0.5 > rank_correlation(dog, cat)


def test_preprocessed_photographs_are_recognised(squeezenet, shared_data):
    """58 of the 100 photographs, as recorded with the weights; a wrong normalisation or channel order falls far below."""
    files = sorted((shared_data / "imagenet").glob("[0-9][0-9][0-9]_*.jpg"))
    right = sum(int(squeezenet.predict(squeezenet.preprocess(ex.load_image(f))).argmax()) == int(f.name[:3]) for f in files)
    print(f"SqueezeNet recognises {right} of {len(files)} photographs")
    assert 55 <= right <= 61
