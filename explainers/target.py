"""What a map explains: the logit of one class, or the difference of two logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

PlainTarget = int | tuple[int, int]
"""A target as people write it: a class index, or ``(a, b)`` for logit a - logit b."""


@dataclass(frozen=True)
class Target:
    """One class, or a contrast of two: ``classes`` holds one index or two.

    A ``Target`` does not know any network, so its indices are checked where the two meet (``Classifier.target``).

    >>> Target.of((3, 7)).words(["cat"] * 4 + ["dog"] * 4)
    'cat \u2212 dog'
    """

    classes: tuple[int, ...]

    @classmethod
    def of(cls, given: Target | PlainTarget) -> Target:
        """A target from its plain form; a ``Target`` stays as it is."""
        if isinstance(given, Target):
            return given
        return cls(tuple(given) if isinstance(given, (tuple, list)) else (given,))

    @property
    def first(self) -> int:
        """The explained class; of a contrast a - b, class a."""
        return self.classes[0]

    @property
    def contrast(self) -> int | None:
        """Class b of a contrast a - b; None where a single class is explained."""
        return self.classes[1] if len(self.classes) == 2 else None

    @property
    def plain(self) -> PlainTarget:
        """The class index, or the pair of a contrast."""
        return self.first if self.contrast is None else (self.first, self.contrast)

    def words(self, categories: Sequence[str]) -> str:
        """The target with class names: ``umbrella``, or ``umbrella \u2212 heart`` for a contrast."""
        return " \u2212 ".join(categories[index] for index in self.classes)

    def score(self, values: Tensor) -> Tensor:
        """The scores (N,) from logits or probabilities (N, K): those of the class, or the differences of the two classes."""
        if self.contrast is None:
            return values[:, self.first]
        return values[:, self.first] - values[:, self.contrast]
