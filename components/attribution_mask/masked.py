"""A base method with its finished masks, as both panels of the page read it."""

from __future__ import annotations

from dataclasses import dataclass

import explainers as ex


@dataclass(frozen=True)
class Masked:
    """One base method with its finished masks. ``key`` is that of its question."""

    base: str
    attribution: ex.Attribution
    key: str

    @property
    def title(self) -> str:
        """The base method's name for people."""
        return title_of(self.base)

    def number(self, name: str, step: int) -> float:
        """The entry of the trace ``name`` after ``step`` masks; 0 is the picture itself."""
        return self.attribution.extras[name][step]


def title_of(base: str) -> str:
    """A base method's name for people."""
    return ex.methods()[base].title


def masks_in_words(count: int) -> str:
    """How many masks: "1 mask", "3 masks"."""
    return f"{count} mask{'' if count == 1 else 's'}"
