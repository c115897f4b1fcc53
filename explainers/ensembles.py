r"""Ensembles: several maps of one method and image, combined into one. They modify any method.

    ex.explain(net, x, "gradient", ensemble="smoothgrad", ensemble_samples=25)

What differs between the members, and how they are combined:

    smoothgrad          noise on the image; the mean map (Smilkov et al. 2017)
    smoothgrad_squared  noise on the image; the mean of the squared maps (Hooker et al. 2019, section 5)
    vargrad             noise on the image; the variance of the maps (Adebayo et al. 2018, "Local explanation methods", section 3)
    flips               the image and its mirror image, whose map is mirrored back; the mean map
    seeds               the random draws of the method; the mean map

How much the members differ is kept beside the map: their standard deviation at each pixel, the rank correlations between them,
and the attributions of the pixels from the highest to the lowest with that deviation around them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from explainers.context import Context, seeded
from explainers.contract import AuxiliaryOutput, RawMap
from explainers.parameters import checked, choice, integer, parameters_of, real
from explainers.resampling import reduce_channels

NONE = "none"
NOISY = ("smoothgrad", "smoothgrad_squared", "vargrad")
KINDS = (NONE, *NOISY, "flips", "seeds")
RANKS = 50  # groups of pixels of neighbouring rank, whose mean attribution and mean spread make the band
NOISE_DRAWS = 2**31  # the index of the first draw of noise, far beyond those of the methods themselves
BY_RANK = "group of pixels, highest first"
SAME = "all members are equal: these settings draw nothing at random, so other seeds change nothing"


@dataclass(frozen=True)
class Ensemble:
    """Which maps of a method are combined, and how. The default is the method's own map."""

    ensemble: str = choice(NONE, *KINDS, label="Ensemble", help=(
        "Combines several maps of this method. smoothgrad: the mean over noisy copies of the picture. smoothgrad_squared: the mean "
        "of their squares. vargrad: their variance. flips: the mean of the picture's map and its mirror image's. seeds: the mean "
        "over seeds, for methods that draw at random. How much the members differ is shown inside the map's section."))
    ensemble_samples: int = integer(10, low=2, high=200, label="Members", help=(
        "How many maps are combined. Each takes as long as the method's own map."))
    ensemble_noise: float = real(0.15, low=0.01, high=1.0, label="Noise on the picture", help=(
        "Standard deviation of the noise, as a fraction of the normalised picture's range."))

    @property
    def members(self) -> int:
        """How many maps are made."""
        return {NONE: 1, "flips": 2}.get(self.ensemble, self.ensemble_samples)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that have an effect, by name; none without an ensemble."""
        return {name: value for name, value in asdict(self).items() if name in used(self.ensemble)}

    @property
    def title(self) -> str:
        """The ensemble in words, for a title: "SmoothGrad of 10"."""
        title = {"smoothgrad": "SmoothGrad", "smoothgrad_squared": "SmoothGrad squared", "vargrad": "VarGrad", "flips": "flips",
                 "seeds": "seeds"}[self.ensemble]
        return title if self.ensemble == "flips" else f"{title} of {self.ensemble_samples}"


PARAMETERS = parameters_of(Ensemble)
NAMES = tuple(parameter.name for parameter in PARAMETERS)
AUXILIARY_OUTPUTS = (
    AuxiliaryOutput("ensemble_spread", "Spread of the members", "strength",
                    "The standard deviation of the members' maps at each pixel. Where it is as large as the map, its sign is open."),
    AuxiliaryOutput("ensemble_agreement", "Agreement of two members", "number",
                    "The rank correlation of two members' maps, the mean over all pairs: 1 where all rank the pixels alike."),
    AuxiliaryOutput("ensemble_least", "Least agreement", "number", "The rank correlation of the two members that differ most."),
    AuxiliaryOutput("ensemble_high", "Mean + spread", "trace", "The mean attribution plus the members' standard deviation.",
                    unit="attribution", along=BY_RANK, follows=False),
    AuxiliaryOutput("ensemble_mean", "Mean of the members", "trace", "The mean attribution of the pixels, from the highest on.",
                    unit="attribution", along=BY_RANK, follows=False),
    AuxiliaryOutput("ensemble_low", "Mean \u2212 spread", "trace", "The mean attribution minus the members' standard deviation.",
                    unit="attribution", along=BY_RANK, follows=False),
)


def used(ensemble: str) -> tuple[str, ...]:
    """The names of the settings that have an effect in this kind of ensemble."""
    if ensemble == NONE:
        return ()
    return NAMES if ensemble in NOISY else NAMES[:1] if ensemble == "flips" else NAMES[:2]


def split(title: str, values: Mapping[str, Any]) -> tuple[dict[str, Any], Ensemble]:
    """Settings by name as those of the method of this title, and the ensemble. Raises ParameterError for a value out of range."""
    own = {name: value for name, value in values.items() if name not in NAMES}
    return own, checked(Ensemble, title, {name: value for name, value in values.items() if name in NAMES})


def attribute(ensemble: Ensemble, explain: Callable[[Tensor, Context], RawMap], x: Tensor, context: Context) -> RawMap:
    """The ensemble's map of the image ``x`` (1, C, H, W). ``explain`` makes the method's map of an image."""
    if ensemble.ensemble == NONE:
        return explain(x, context)
    maps: list[Tensor] = []
    raws: list[RawMap] = []
    for index in range(ensemble.members):
        raw = explain(_image(ensemble, x, index, context.seed), _context(ensemble, index, context, maps))
        raws.append(raw)
        maps.append(_back(ensemble, raw.native.detach(), index))
    members = torch.stack(maps).double()
    native, unsigned = _combined(ensemble, members)
    flags = tuple(dict.fromkeys(flag for raw in raws for flag in raw.flags))
    if ensemble.ensemble == "seeds" and all(torch.equal(maps[0], each) for each in maps[1:]):
        flags = (*flags, SAME)
    flat = torch.stack([reduce_channels(each, raws[0].reduction) for each in maps])
    return RawMap(native.float(), _differences(flat), raws[0].reduction, raws[0].signed and not unsigned, flags)


def _image(ensemble: Ensemble, x: Tensor, index: int, seed: int) -> Tensor:
    """The image that the member ``index`` explains."""
    if ensemble.ensemble in NOISY:
        noise = torch.randn(x.shape, generator=seeded(seed, NOISE_DRAWS + index)).to(x.device)
        return x + ensemble.ensemble_noise * (x.max() - x.min()) * noise
    return x.flip(-1) if ensemble.ensemble == "flips" and index == 1 else x


def _context(ensemble: Ensemble, index: int, context: Context, maps: list[Tensor]) -> Context:
    """The context of the member ``index``, which reports progress as one part of the run, with the mean map so far as preview."""
    member = context.part(index, index + 1, ensemble.members, lambda: torch.stack(maps).mean(0) if maps else None)
    if ensemble.ensemble == "seeds":
        member.seed = context.seed + index
    return member


def _back(ensemble: Ensemble, native: Tensor, index: int) -> Tensor:
    """The map of a member in the image's own orientation."""
    return native.flip(-1) if ensemble.ensemble == "flips" and index == 1 else native


def _combined(ensemble: Ensemble, members: Tensor) -> tuple[Tensor, bool]:
    """The combination of maps (n, C, h, w), and whether it has no sign."""
    if ensemble.ensemble == "smoothgrad_squared":
        return members.square().mean(0), True
    if ensemble.ensemble == "vargrad":
        return members.var(0, unbiased=False), True
    return members.mean(0), False


def _ranks(values: Tensor) -> Tensor:
    """The ranks of values (n,) as float64; equal values take their mean rank."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).double()[inverse]


def _differences(flat: Tensor) -> dict[str, Any]:
    """How the members' maps (n, h, w) differ; for the auxiliary outputs."""
    mean, spread = flat.mean(0), flat.std(0, unbiased=False)
    correlations = torch.corrcoef(torch.stack([_ranks(each.flatten()) for each in flat]))
    pairs = [float(correlations[a, b]) for a, b in combinations(range(len(flat)), 2)]
    groups = mean.flatten().argsort(descending=True).tensor_split(min(RANKS, mean.numel()))
    curve, width = (torch.stack([values.flatten()[group].mean() for group in groups]).cpu() for values in (mean, spread))
    return {"ensemble_spread": spread.cpu(), "ensemble_agreement": sum(pairs) / len(pairs), "ensemble_least": min(pairs),
            "ensemble_mean": curve.tolist(), "ensemble_high": (curve + width).tolist(), "ensemble_low": (curve - width).tolist()}
