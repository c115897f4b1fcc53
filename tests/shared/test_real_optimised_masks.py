"""Masks that are optimised on the real SqueezeNet, on a photograph with a dog above a cat."""

from __future__ import annotations

import pytest
import torch

import explainers as ex

pytestmark = pytest.mark.shared

DOG = 243


def upper_half(attribution) -> float:
    """The fraction of the map's highest tenth in the upper half, where the dog's head is."""
    heat = torch.from_numpy(attribution.heatmap())
    highest = heat >= heat.flatten().quantile(0.9)
    return float(highest[:112].sum() / highest.sum())


def test_meaningful_perturbation_removes_the_dog(squeezenet, dog_and_cat):
    attribution = ex.explain(squeezenet, dog_and_cat, "meaningful_perturbation", target=DOG, iterations=60)
    whole, left = attribution.extras["whole_probability"], attribution.extras["probability"][-1]
    print(f"probability {whole:.3f} before, {left:.4f} after; {upper_half(attribution):.2f} of the highest tenth in the upper half")
    assert left < 0.1 * whole and attribution.native.mean() < 0.5


def test_the_extremal_perturbation_settles_on_the_dog(squeezenet, dog_and_cat):
    attribution = ex.explain(squeezenet, dog_and_cat, "extremal_perturbation", target=DOG, iterations=150)
    reward = attribution.extras["reward"]
    print(f"logit {reward[0]:.4f} before, {reward[75]:.4f}, {reward[-1]:.4f} after; "
          f"{upper_half(attribution):.2f} of the highest tenth in the upper half")
    assert reward[-1] > 0.8 * reward[0] and attribution.native.mean() < 0.6 and upper_half(attribution) > 0.7


def test_i_gos_plus_plus_deletes_and_inserts_the_dog(squeezenet, dog_and_cat):
    attribution = ex.explain(squeezenet, dog_and_cat, "i_gos_plus_plus", target=DOG, iterations=3, points=5)
    deletion, insertion = attribution.extras["deletion"], attribution.extras["insertion"]
    print(f"deletion {deletion[0]:.3f} to {deletion[-1]:.3f}, insertion {insertion[0]:.3f} to {insertion[-1]:.3f}")
    assert deletion[-1] < 0.7 * deletion[0] and insertion[-1] > insertion[0]
