"""From a picture to a network's input tensor: fit it into a square, scale to [0, 1], normalise.

There are three ways to fit a picture. "crop" resizes the shorter side and cuts the centre out, as the network was evaluated by its
makers. "whole" (letterbox) resizes the longer side to the network's input size and fills the rest with the mean colour. "stretch"
resizes both sides, which changes the picture's proportions; the I-GOS, RISE and InputIBA papers do this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from explainers.errors import ExplainerError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FITS = ("crop", "whole", "stretch")
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocessing:
    """``resize``: the shorter side in pixels before the centre crop, at least 1. ``crop``: the side of the crop, at least 1."""

    resize: int
    crop: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"

    def crop_box(self, size: tuple[int, int], fit: str = "crop") -> tuple[float, float, float, float]:
        """The rectangle of a picture of ``size`` (width, height) that the network's input covers: left, top, right, bottom.

        In the picture's pixels, so that a place in the input can be found in the picture. With "whole" it reaches beyond the
        picture by the borders that are filled. Raises ExplainerError for an unknown fit.
        """
        width, height = size
        _check_fit(fit)
        if fit == "stretch":
            return 0.0, 0.0, float(width), float(height)
        if fit == "whole":
            fitted, (left, top) = self._letterbox(size)
            across, down = width / fitted[0], height / fitted[1]  # pixels of the picture for each pixel of the input
            return -left * across, -top * down, (self.crop - left) * across, (self.crop - top) * down
        side = min(self.crop * min(width, height) / self.resize, width, height)
        return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2

    def seen(self, image: Image.Image, fit: str = "crop") -> Image.Image:
        """The picture as the network sees it: (crop, crop) pixels, RGB or grey. Raises ExplainerError for an unknown fit."""
        grey = len(self.mean) == 1
        levels = tuple(round(255 * value) for value in self.mean)  # borders are 0 after ``normalise`` but for this rounding
        return self._fitted(image.convert("L" if grey else "RGB"), fit, levels[0] if grey else levels)

    def seen_mask(self, mask: np.ndarray, fit: str = "crop") -> np.ndarray:
        """A mask (H, W) of a picture's pixels as the network sees it: bool (crop, crop), False on borders."""
        levels = Image.fromarray(mask.astype(np.uint8) * 255)
        return np.asarray(self._fitted(levels, fit, 0)) >= 128

    def tensor(self, image: Image.Image, fit: str = "crop") -> Tensor:
        """The network's input (1, C, crop, crop), float32, normalised."""
        pixels = np.atleast_3d(np.asarray(self.seen(image, fit), dtype=np.float32)) / 255  # (H, W, C)
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
        return self.normalise(x)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels (N, C, H, W) from 0 to 1 to the network's normalised scale."""
        mean, std = self._columns(pixels)
        return (pixels - mean) / std

    def pixels(self, x: Tensor) -> Tensor:
        """The inverse of ``normalise``, clamped to 0..1."""
        mean, std = self._columns(x)
        return (x * std + mean).clamp(0, 1)

    def picture(self, x: Tensor) -> Image.Image:
        """One preprocessed image (C, H, W) as an RGB or grey picture; values outside 0..1 are clipped."""
        levels = (self.pixels(x[None])[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)

    def _letterbox(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """The size to which "whole" resizes a picture of ``size``, at least 1 pixel a side, and the left upper corner of its place."""
        scale = self.crop / max(size)
        width, height = (max(1, round(side * scale)) for side in size)
        return (width, height), ((self.crop - width) // 2, (self.crop - height) // 2)

    def _fitted(self, image: Image.Image, fit: str, border: int | tuple[int, ...]) -> Image.Image:
        """The image fitted into (crop, crop) pixels; ``border``: the colour around it where it is fitted whole."""
        _check_fit(fit)
        resampling = FILTERS[self.interpolation]
        if fit == "stretch":
            return image.resize((self.crop, self.crop), resampling)
        if fit == "whole":
            fitted, corner = self._letterbox(image.size)
            square = Image.new(image.mode, (self.crop, self.crop), border)
            square.paste(image.resize(fitted, resampling), corner)
            return square
        width, height = image.size
        short = min(width, height)
        if short != self.resize:  # the longer side is rounded down, as torchvision does
            image = image.resize((int(self.resize * width / short), int(self.resize * height / short)), resampling)
        left, top = (round((side - self.crop) / 2) for side in image.size)
        return image.crop((left, top, left + self.crop, top + self.crop))

    def _columns(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(v, dtype=like.dtype, device=like.device).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return mean, std


def _check_fit(fit: str) -> None:
    if fit not in FITS:
        raise ExplainerError(f"A picture is fitted by {', '.join(FITS[:-1])} or {FITS[-1]}, not by {fit!r}.")
