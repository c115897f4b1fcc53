"""Pictures of auxiliary outputs: single tiles, and films with one tile for each iteration or layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np
from PIL import Image

import explainers as ex
from components.drawing import colour, map_words
from components.drawing.colour import Display, Shown
from components.drawing.heatmaps import data_uri, exact_uri
from components.drawing.masked import SMALL
from components.drawing.numbers import significant
from components.state.workspace import Workspace
from explainers.contract import AuxiliaryOutput
from explainers.resampling import reduce_channels, resample

MOST_PICTURES = 10
FULL_COLOUR = 99.95  # percentile of the weights' magnitudes that gets full colour (the DMBP authors' plots clip there or at 99.99)
CHANNELS = {1: ("",), 3: ("R", "G", "B")}
CHANNEL_WORDS = {"": "", "R": ", red", "G": ", green", "B": ", blue"}

There = Sequence[tuple[AuxiliaryOutput, Any]]
"""The auxiliary outputs of a map that its settings did not leave out, with their values."""


@dataclass(frozen=True)
class Tile:
    """A picture, or a map (``shown``) over a picture or over nothing, with its title and the text below it.

    alt: of the picture, for people who do not see it; the title where it is empty. masks: pictures of a mask's channels, each with
    its letter and what it shows in words; they stand below one another in place of the picture.
    """

    title: str
    text: str
    picture: Image.Image | None = None
    shown: Shown | None = None
    alt: str = ""
    masks: tuple[tuple[str, str, Image.Image], ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, those of the map where there is one."""
        if self.shown is not None:
            height, width = self.shown.values.shape
            return width, height
        return self.picture.size if self.picture else (1, 1)


@dataclass(frozen=True)
class Film:
    """Tiles in a row of their own, with a heading where they belong together: one for each iteration, or for each layer."""

    title: str
    text: str
    tiles: tuple[Tile, ...]


class Drawing:
    """Makes the tiles of one map's auxiliary outputs."""

    def __init__(self, workspace: Workspace, method: ex.Method, attribution: ex.Attribution, display: Display) -> None:
        self._picture_of = workspace.network.preprocessing.picture
        self._upsample = method.upsample
        self._extras = attribution.extras
        self._size = attribution.input_size
        self._display = display
        self._under = colour.backdrop(workspace.input.seen, display.backdrop)

    def films(self, there: There) -> list[Film]:
        """The single pictures in one row without a heading, in the order of the declaration, and then each film."""
        parts, limit = self._signed_parts(there), weights_limit([value for output, value in there if output.kind == "weights"])
        single: list[Tile] = []
        films: list[Film] = []
        for output, value in there:
            if output.kind == "map":
                single.append(Tile(output.title, output.help, self._under, parts[output.name]))
            elif output.kind in {"strength", "fraction"}:
                single.append(Tile(output.title, output.help, self._under, self._unsigned(value, output.kind == "fraction")))
            elif output.kind == "signal":
                single.append(self._signal(output.title, value, output.help))
            elif output.kind == "weights":
                single.append(_weights(output, value, limit))
            elif output.kind == "pictures" and len(value) == 1:
                single.append(Tile(output.title, output.help, self._picture_of(value[0])))
            elif output.kind in {"pictures", "signals", "maps", "masks"}:
                films.append(Film(output.title, output.help, self._film(output, value)))
        return [*([Film("", "", tuple(single))] if single else []), *films]

    def _film(self, output: AuxiliaryOutput, value: Any) -> tuple[Tile, ...]:
        """Of many pictures ``MOST_PICTURES`` at even distances, the first and the last among them."""
        chosen = np.unique(np.linspace(0, len(value) - 1, min(len(value), MOST_PICTURES)).round().astype(int)).tolist()
        names = list(self._extras[output.labels]) if output.labels else []
        tiles = []
        for at in chosen:
            below = ", ".join(f"{name.replace('_', ' ')} {significant(self._extras[name][at])}" for name in output.numbers)
            if output.kind == "pictures":
                tiles.append(Tile("The image" if at == 0 else f"{output.title} {at}", below, self._picture_of(value[at])))
            elif output.kind == "signals":
                tiles.append(self._signal(names[at] if names else f"{output.title} {at + 1}", value[at], below))
            elif output.kind == "maps":
                shown = colour.prepare([(self._flat(value[at], "sum"), True)], self._display)[0]
                tiles.append(Tile(f"{output.title} {at + 1}", below, self._under, shown))
            else:
                tiles.append(_mask(f"{output.title} {at + 1}", below, value[at]))
        return tuple(tiles)

    def _signed_parts(self, there: There) -> dict[str, Shown]:
        """Signed parts add up to the map, so they share one scale."""
        signed = [(output.name, (self._flat(value, "sum"), True)) for output, value in there if output.kind == "map"]
        scaled = colour.prepare([flat for _, flat in signed], replace(self._display, scale="Shared"))
        return {name: shown for (name, _), shown in zip(signed, scaled, strict=True)}

    def _unsigned(self, value: Any, fraction: bool) -> Shown:
        shown = colour.prepare([(self._flat(value, "sum"), False)], self._display)[0]
        return replace(shown, limit=1.0, floor=0.0) if fraction else shown

    def _signal(self, title: str, value: Any, text: str) -> Tile:
        """A signal as a picture where it has the input's shape, a vector as cells, else the mean of its channels as a map."""
        if value.ndim == 1:
            shape = f"{len(value)} numbers, row by row" if len(value) > 1 else significant(float(value[0]))
            return Tile(title, f"{text} {shape}".strip(), shown=_cells(value, self._display))
        if tuple(value.shape[-2:]) == tuple(self._size):
            return Tile(title, text, self._picture_of(value))
        shape = f"Mean of {len(value)} channels, {value.shape[1]} \u00d7 {value.shape[2]}"
        shown = colour.prepare([(self._flat(value, "mean"), True)], self._display)[0]
        return Tile(title, f"{text} {shape}.".strip(), self._under, shown)

    def _flat(self, value: Any, how: str) -> np.ndarray:
        """A tensor (h, w) or (C, h, w) as (H, W) float32."""
        cells = value.cpu().float()
        cells = cells[None] if cells.ndim == 2 else cells
        flat = cells.mean(0) if how == "mean" else reduce_channels(cells, "sum")
        return np.nan_to_num((flat if tuple(flat.shape) == tuple(self._size) else resample(flat, self._size, self._upsample)).numpy())


def weights_limit(values: Sequence[Any]) -> float:
    """The magnitude of the weights, (C, H, W) each, that gets full colour: one for all, so that they can be compared."""
    if not values:
        return 1.0
    strength = np.concatenate([np.abs(_array(value)).ravel() for value in values])
    return float(np.percentile(strength, FULL_COLOUR)) or float(strength.max()) or 1.0


def _weights(output: AuxiliaryOutput, value: Any, limit: float) -> Tile:
    weights = _array(value)
    levels = (np.clip(weights / limit, -1, 1) * 127.5 + 127.5).round().astype(np.uint8)
    picture = Image.fromarray(levels.transpose(1, 2, 0)) if len(levels) == 3 else Image.fromarray(levels.mean(0).astype(np.uint8))
    ends = f"from {significant(float(weights.min()))} to {significant(float(weights.max()))}"
    return Tile(output.title, f"{output.help} Grey is 0, full colour \u00b1{significant(limit)}.", picture,
                alt=f"{output.title} in colour: {ends}, grey is 0")


def _mask(title: str, text: str, value: Any) -> Tile:
    """A mask (C, H, W) from 0, black, to 1, white, channel by channel."""
    channels = _array(value)
    letters = CHANNELS.get(len(channels), tuple(str(number + 1) for number in range(len(channels))))
    masks = []
    for letter, channel in zip(letters, channels, strict=True):
        words = f"{title}{CHANNEL_WORDS.get(letter, f', channel {letter}')}: mean {significant(float(channel.mean()))}"
        masks.append((letter, words, Image.fromarray((channel.clip(0, 1) * 255).round().astype(np.uint8))))
    return Tile(title, text, masks=tuple(masks))


def _cells(value: Any, display: Display) -> Shown:
    """A vector (d,) as the cells of a square, row by row; cells behind its end are empty."""
    numbers = _array(value)
    side = int(np.ceil(np.sqrt(len(numbers))))
    cells = np.zeros(-(-len(numbers) // side) * side, np.float32)
    cells[:len(numbers)] = numbers
    shown = colour.prepare([(cells.reshape(-1, side), True)], replace(display, smoothing=0.0, threshold=0))[0]
    empty = np.arange(cells.size).reshape(shown.values.shape) >= len(numbers)
    return replace(shown, values=np.where(empty, np.float32(np.nan), shown.values))


def _array(value: Any) -> np.ndarray:
    return np.nan_to_num(value.cpu().float().numpy())


def as_html(film: Film, on_dark: bool) -> str:
    """A row of tiles below its heading."""
    figures = "".join(_figure(tile, on_dark) for tile in film.tiles)
    if not film.title:
        return f'<div class="extras">{figures}</div>'
    narrow = " narrow" if film.tiles[0].masks else ""  # three channels below one another
    return f'<h4 class="film">{escape(film.title)}<span>{escape(film.text)}</span></h4><div class="extras row{narrow}">{figures}</div>'


def _figure(tile: Tile, on_dark: bool) -> str:
    width, height = tile.size
    title = escape(tile.title)
    body = _channels(tile) if tile.masks else _layers(tile, on_dark)
    text = f"<p>{escape(tile.text)}</p>" if tile.text else ""
    return (f'<figure class="{"coarse" if min(width, height) < SMALL else ""}"><figcaption>{title}</figcaption>{body}{text}</figure>')


def _layers(tile: Tile, on_dark: bool) -> str:
    width, height = tile.size
    words = escape(tile.alt or tile.title)
    layers = f'<img src="{data_uri(tile.picture)}" alt="{"" if tile.shown else words}">' if tile.picture else ""
    below = ""
    if tile.shown:
        layers += f'<img src="{_overlay(tile.shown, on_dark)}" alt="{words}: {map_words.in_words(tile.shown.values)}">'
        low, high = tile.shown.range
        ends = "".join(f"<span>{significant(value)}</span>" for value in (low, (low + high) / 2, high))
        below = f'<div class="ramp" style="background: {colour.ramp(tile.shown, on_dark)}"></div><div class="ends">{ends}</div>'
    return f'<div class="layers" style="aspect-ratio: {width} / {height}">{layers}</div>{below}'


def _channels(tile: Tile) -> str:
    rows = (f'<div class="channel"><span>{escape(letter)}</span>'
            f'<img class="{"coarse" if min(picture.size) < SMALL else ""}" src="{data_uri(picture)}" alt="{escape(words)}"></div>'
            for letter, words, picture in tile.masks)
    return "".join(rows)


def _overlay(shown: Shown, on_dark: bool) -> str:
    """A map alone, transparent where it is zero, as a data URI."""
    pixels = colour.rgba(shown, on_dark)
    pixels[..., 3] = (pixels[..., 3] * colour.OPACITY).astype(np.uint8)
    return exact_uri(Image.fromarray(pixels))
