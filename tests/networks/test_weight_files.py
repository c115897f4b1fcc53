"""Compact weights: every level comes back exactly, each weight comes back to within its step, and older files are still read."""

from __future__ import annotations

import torch

from explainers.networks.weight_files import SCALE, levels_of, packed, six_bits, unpacked


def random_weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"dense.weight": (60, 1000), "kernel.weight": (40, 20, 3, 3)}
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def test_six_bits_bring_every_level_back_exactly():
    levels = torch.arange(-31, 32, dtype=torch.int8)
    for shift in range(4):  # each level stands at each of the four places of a group
        matrix = torch.stack([levels.roll(shift)[:60], levels.flip(0).roll(shift)[:60]])
        stored = six_bits(matrix)
        assert stored.dtype == torch.uint8 and stored.shape == (2, 45)
        assert torch.equal(levels_of(stored), matrix)


def test_six_bits_are_laid_out_as_the_docstring_says():
    """The four levels 0b000001, 0b000010, 0b000011 and 0b111110 (stored with 31 added) fill 24 bits from the left."""
    stored = six_bits(torch.tensor([[1, 2, 3, 62]], dtype=torch.int8) - 31)
    bits = "".join(f"{byte:08b}" for byte in stored[0].tolist())
    assert bits == "000001" "000010" "000011" "111110"


def test_every_weight_comes_back_to_within_half_a_step_of_its_row():
    generator = torch.Generator().manual_seed(1)
    weights = {**random_weights(1), "odd.weight": torch.randn(500, 101, generator=generator), "small.weight": torch.rand(3, 4),
               "bias": torch.randn(7000, generator=generator)}
    weights["dense.weight"][3] *= 100  # a row of another size must not cost the others their precision
    weights["dense.weight"][5] = 0
    small = packed(weights)
    kinds = {key: value.dtype for key, value in small.items() if not key.endswith(SCALE)}
    assert kinds == {"dense.weight": torch.uint8, "kernel.weight": torch.int8, "odd.weight": torch.int8, "small.weight": torch.float16,
                     "bias": torch.float16}
    restored = unpacked(small)
    assert restored.keys() == weights.keys() and all(value.dtype == torch.float32 for value in restored.values())
    for key, most in (("dense.weight", 31), ("kernel.weight", 127), ("odd.weight", 127)):
        error, step = ((restored[key] - weights[key]).flatten(1).abs(), weights[key].flatten(1).abs().amax(1, keepdim=True) / most)
        assert (error <= 0.5001 * step).all() and error.max() > 0
    torch.testing.assert_close(restored["bias"], weights["bias"], rtol=1e-3, atol=1e-6)


def test_packing_what_was_unpacked_gives_the_same_levels():
    once = packed(random_weights(2))
    again = packed(unpacked(once))
    assert torch.equal(again["dense.weight"], once["dense.weight"]) and torch.equal(again["kernel.weight"], once["kernel.weight"])


def test_matrices_of_8_bits_with_one_scale_a_row_are_still_read():
    stored = {"dense.weight": torch.tensor([[127, -64], [1, 0]], dtype=torch.int8), "dense.weight" + SCALE: torch.tensor([0.5, 2.0])}
    assert torch.equal(unpacked(stored)["dense.weight"], torch.tensor([[63.5, -32.0], [2.0, 0.0]]))


def test_counters_of_batches_are_not_stored():
    assert packed({"norm.num_batches_tracked": torch.tensor(3)}) == {}
