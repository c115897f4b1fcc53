"""From a picture to a network's input tensor: resize, centre crop, scale to [0, 1], normalise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocessing:
    """``resize``: the shorter side in pixels before the centre crop, at least 1. ``crop``: the side of the crop, at least 1."""

    resize: int
    crop: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"

    def crop_box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The part of a picture of ``size`` (width, height) that the network sees: left, top, right, bottom in its pixels."""
        width, height = size
        scale = min(width, height) / self.resize
        side = min(self.crop * scale, width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side

    def seen(self, image: Image.Image, fit: str = "crop") -> Image.Image:
        """The picture as the network sees it: (crop, crop) pixels, RGB or grey.

        ``fit="stretch"`` resizes both sides to ``crop`` without a crop, as the I-GOS, RISE and InputIBA papers do.
        """
        image = image.convert("L" if len(self.mean) == 1 else "RGB")
        resampling = _FILTERS[self.interpolation]
        if fit == "stretch":
            return image.resize((self.crop, self.crop), resampling)
        if fit != "crop":
            raise ValueError(f"fit must be 'crop' or 'stretch', not {fit!r}")
        width, height = image.size
        short = min(width, height)
        if short != self.resize:  # the longer side is rounded down, as torchvision does
            image = image.resize((int(self.resize * width / short), int(self.resize * height / short)), resampling)
        left, top = (round((side - self.crop) / 2) for side in image.size)
        return image.crop((left, top, left + self.crop, top + self.crop))

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

    def _columns(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(v, dtype=like.dtype, device=like.device).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return mean, std
