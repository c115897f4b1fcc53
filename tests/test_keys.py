"""Cache keys: equal parts, and only they, share one."""

from __future__ import annotations

import hashlib
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from explainers.keys import array_digest, key_of
from explainers.passes import Passes
from explainers.target import Target


@dataclass
class Two:
    forward: float = 0
    backward: float = 0


class Named:
    def __init__(self, identity):
        self.identity = identity


class Other(Named):
    pass


Pair = namedtuple("Pair", "forward backward")
A, B = torch.zeros(2, 3), torch.tensor([[0.0, 0, 0], [0, 0, 1e-30]])
DIFFERENT = [  # no two of these may share a key
    None, True, False, 0, 1, 2, -1, 10**30, 0.0, -0.0, 1.0, 0.1, 0.1 + 2**-56, float("nan"), float("inf"),
    "", "1", "None", "nan", "true", (), [], {}, (1,), [1], (1, 2), (2, 1), ((1,), 2), (1, (2,)), [[1], 2],
    ("1", 2), {"a": 1}, {"a": 2}, {"b": 1}, {"a": 1, "b": 2}, {1: "x"}, {"1": "x"},
    {"a": {"b": 1}}, Passes(1, 2), Passes(2, 1), Two(1, 2), Pair(1, 2), Target((1,)), Target((1, 2)), Named("a"), Named("b"),
    Other("a"), A, B, A.T, A.double(), A.int(), A.flatten(), torch.tensor(0.0), A[0], {"array": array_digest(A)},
]


def test_what_differs_in_value_or_type_has_another_key():
    keys = [key_of(part) for part in DIFFERENT]
    shared = [(one, other) for i, one in enumerate(DIFFERENT) for j, other in enumerate(DIFFERENT[:i]) if keys[i] == keys[j]]
    assert shared == []


@pytest.mark.parametrize(("one", "other"), [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (np.float64(0.5), 0.5), (np.int64(3), 3), (A, A.clone()), (A, A.numpy()),
    (A.T, A.T.contiguous()), (A.requires_grad_(False), A.clone().requires_grad_(True)), (Target.of([1, 2]), Target((1, 2))),
])
def test_what_is_equal_shares_a_key(one, other):
    assert key_of(one) == key_of(other) and key_of("name", one) == key_of("name", other)


def test_the_parts_are_told_apart():
    assert len({key_of("a", "b"), key_of("ab"), key_of("b", "a"), key_of("a", "b", None), key_of(("a", "b")), key_of()}) == 6


def test_a_key_is_a_name_for_a_file():
    assert len(key_of("a")) == 64 and set(key_of("a")) <= set("0123456789abcdef")


@pytest.mark.parametrize("part", [object(), {1, 2}, len, Passes, b"bytes", 1j, range(3)])
def test_what_has_no_plain_form_is_refused_wherever_it_stands(part):
    for place in (part, (part,), [1, part], {"a": part}, Two(part)):
        with pytest.raises(TypeError, match=type(part).__name__):
            key_of(place)


@pytest.mark.parametrize("array", [
    np.float32(2.5), np.zeros((0, 3)), np.arange(24.0).reshape(2, 3, 4)[:, ::2].T, np.array([True, False]), np.array(["a", "bc"]),
    np.arange(3, dtype=">i4"), torch.arange(24.0).reshape(1, 3, 4, 2).contiguous(memory_format=torch.channels_last),
], ids=str)
def test_the_array_digest_is_that_of_shape_type_and_bytes(array):
    """So that entries that are on disk keep their keys."""
    plain = np.ascontiguousarray(array)
    assert array_digest(array) == hashlib.sha256(f"{plain.shape} {plain.dtype}".encode() + plain.tobytes()).hexdigest()


def test_a_single_value_changes_the_array_digest():
    image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    other = image.clone()
    other[0, 0, 0, 0] += 1e-6
    assert array_digest(image) != array_digest(other) and array_digest(image) == array_digest(image.clone())
