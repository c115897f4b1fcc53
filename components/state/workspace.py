"""What a person has chosen in the sidebar, as one value that every page reads. Nothing is drawn here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import explainers as ex
from components.state.model_input import ModelInput, Picture
from explainers import ensembles
from explainers.attribution import Standing
from explainers.data.reference import ReferenceSet

LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Workspace:
    """A network, a picture, a target and the chosen methods.

    methods: the keys of the entries (see ``entries``), copies of a method among them, the controls last. reference: the images chosen
    for methods that fit statistics; None for the network's own.
    """

    network: ex.Classifier
    picture: Picture
    input: ModelInput
    target: ex.Target
    methods: tuple[str, ...]
    seed: int
    reference: ReferenceSet | None = None

    @property
    def target_words(self) -> str:
        """What the maps explain, for a caption: ``umbrella``, or ``umbrella \u2212 heart`` for a contrast."""
        return self.target.words(self.network.categories)

    @property
    def sentence(self) -> str:
        """What the maps show; it says so where they explain a contrast, or a class that the network does not see."""
        names = self.network.categories
        first = names[self.target.first]
        if self.target.contrast is None:
            return f"How much each pixel counts for {first} (its logit).{self._standing}"
        other = names[self.target.contrast]
        return f"What speaks for {first} rather than {other}: logit({first}) \u2212 logit({other}).{self._standing}"

    @property
    def _standing(self) -> str:
        """A sentence on an explained class that is improbable or not the first choice; else empty."""
        standing = Standing.of(self.target.first, self.input.probabilities)
        if not standing.is_doubtful:
            return ""
        probability = f"{100 * standing.probability:.1f} %" if standing.probability >= 0.0005 else "less than 0.1 %"
        rank = "its first choice" if standing.rank == 1 else f"rank {standing.rank}"
        return f" The network gives {self.network.categories[self.target.first]} {probability}: {rank} of {standing.classes} classes."

    def question(self, method: ex.Method, params: Mapping[str, Any]) -> ex.Question:
        """The question to one method with these settings, those of an ensemble among them. Raises ExplainerError for settings outside
        their range."""
        own, ensemble = ensembles.split(method.title, params)
        settings = method.settings(**own)
        return ex.Question(self.network, self.input.x, method, self.target, settings, self.seed, self.reference, ensemble,
                           self.picture.is_private)


@lru_cache(maxsize=16)
def class_labels(categories: tuple[str, ...]) -> tuple[str, ...]:
    """The class names, made unique: ImageNet has two cranes."""
    counts = Counter(categories)
    return tuple(f"{name} ({index})" if counts[name] > 1 else name for index, name in enumerate(categories))
