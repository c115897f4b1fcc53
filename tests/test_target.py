"""A target is a value: its classes, its words, its score."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from explainers.target import Target


@pytest.mark.parametrize(("given", "classes"), [(3, (3,)), ((3, 1), (3, 1)), ([3, 1], (3, 1)), (Target((3, 1)), (3, 1))])
def test_it_is_made_of_its_plain_form(given, classes):
    target = Target.of(given)
    assert target.classes == classes and target == Target(classes) and hash(target) == hash(Target(classes))
    assert Target.of(target) is target and Target.of(target.plain) == target


def test_one_class_and_a_contrast():
    one, contrast = Target.of(3), Target.of((3, 1))
    assert (one.first, one.contrast, one.plain) == (3, None, 3)
    assert (contrast.first, contrast.contrast, contrast.plain) == (3, 1, (3, 1))
    assert one != contrast and contrast != Target.of((1, 3))


def test_its_words_are_the_class_names():
    names = ["cat", "dog", "bird", "fish"]
    assert Target.of(3).words(names) == "fish" and Target.of((3, 1)).words(names) == "fish \u2212 dog"


def test_its_score_is_the_logit_or_the_difference_of_two():
    logits = torch.tensor([[1.0, 2.0, 5.0], [0.5, -1.0, 4.0]])
    assert Target.of(2).score(logits).tolist() == [5.0, 4.0]
    assert Target.of((2, 1)).score(logits).tolist() == [3.0, 5.0]
    assert Target.of((1, 2)).score(logits).tolist() == [-3.0, -5.0]


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Target.of(3).classes = (4,)
