"""Reads a person's picture as plain RGB, or refuses it with one sentence that says why.

The header is checked before any pixel is decoded, because 18 KB of PNG can hold 700 MB of pixels. What a photo viewer does
silently (rotating, scaling 16 bits to 8, filling transparency) is done here too, and each step leaves a note, because it changes
what the network sees. Grey values beyond 8 bits are kept, so that they can be shown through another window (see ``windowing``).
Nothing is written to disk. No message repeats a file's name or metadata, which may hold anything.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from explainers.dicom import is_dicom, read_dicom
from explainers.picture_limits import (
    ACCEPTED,
    MAX_FILE_BYTES,
    MAX_PIXELS,
    CostlyPicture,
    PictureError,
    damaged,
    needs_memory,
    not_a_picture,
    refuse_size,
    too_large,
)
from explainers.windowing import eight_bits, first_window

__all__ = ["ACCEPTED", "Picture", "PictureError", "digest", "load_image", "picture_digest", "read_picture"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
PHOTOMETRIC, TILE_WIDTH, TILE_LENGTH, BITS, SAMPLE_FORMAT, ORIENTATION = 262, 322, 323, 258, 339, 274  # TIFF 6.0 tags


@dataclass(frozen=True)
class Picture:
    """An RGB picture without metadata, and notes on what was done to the file to get it.

    values: of a DICOM file or one with grey values beyond 8 bits these values, float32 (H, W), not a number where the pixel is
    transparent or has no value; None for other files. window: the (level, width) through which ``image`` shows them. inverted: small
    values are white.
    """

    image: Image.Image
    notes: tuple[str, ...] = ()
    values: np.ndarray | None = field(default=None, compare=False)
    window: tuple[float, float] | None = None
    inverted: bool = False

    @cached_property
    def value_range(self) -> tuple[float, float]:
        """The smallest and the largest value, of 8-bit pictures 0 and 255."""
        return (0.0, 255.0) if self.values is None else (float(np.nanmin(self.values)), float(np.nanmax(self.values)))

    def windowed(self, level: float | None = None, width: float | None = None) -> Picture:
        """The same picture through another window, see ``windowing``; None: the level or the width that it has.

        Raises PictureError for a picture of 8 bits, and for a window that is no range of numbers.
        """
        if self.values is None or self.window is None:
            raise PictureError("This picture has 8 bits a channel, so there is no window to choose.")
        level, width = (self.window[0] if level is None else level), (self.window[1] if width is None else width)
        if not (math.isfinite(level) and math.isfinite(width) and width >= 0):
            raise PictureError(f"A window needs a level and a width of at least 0, not {level:g} and {width:g}.")
        return replace(self, image=_shown(self.values, level, width, self.inverted), window=(float(level), float(width)))


def load_image(source: str | Path | bytes | Image.Image) -> Image.Image:
    """The picture alone: mode RGB, upright, metadata dropped. Raises PictureError; see read_picture for the rules."""
    return read_picture(source).image


def read_picture(source: str | Path | bytes | Image.Image) -> Picture:
    """Read a path, a file's bytes or a PIL image of any mode, which is not changed. Of an animation the first frame is used, of a TIFF
    the first page. DICOM files need the package pydicom.

    Raises PictureError for everything that is no picture with sides of at least 8 pixels, at most 40 million pixels, and a
    longer side of at most 20 times the shorter one.
    """
    if isinstance(source, Image.Image):
        return _prepared(source)
    data = source if isinstance(source, bytes) else _file_bytes(source)
    return _from_dicom(data) if is_dicom(data) else _prepared(_opened(data))


def digest(image: Image.Image) -> str:
    """sha256 (64 hex digits) of mode, size and pixels: two pictures share it only if the network sees the same."""
    sha256 = hashlib.sha256(f"{image.mode} {image.width}x{image.height} ".encode())
    if image.mode in ("P", "PA"):  # the pixels of a palette image mean nothing without their colours
        sha256.update(bytes(image.getpalette("RGB") or ()))
    sha256.update(image.tobytes())
    return sha256.hexdigest()


def picture_digest(picture: Picture) -> str:
    """sha256 (64 hex digits) of what a picture shows and holds: ``digest`` of its image, and with grey values beyond 8 bits of them
    too, because different values may show the same through a window."""
    pixels, values = digest(picture.image), picture.values
    if values is None:
        return pixels
    of_values = hashlib.sha256(f"{values.shape} {values.dtype}".encode() + values.tobytes()).hexdigest()  # as keys.array_digest
    return hashlib.sha256(f"{pixels} {of_values}".encode()).hexdigest()


def _file_bytes(path: str | Path) -> bytes:
    try:
        path = Path(path)
        if path.is_dir():
            raise PictureError("This is a folder, not a picture; choose one file in it.")
        if not path.is_file():  # also refuses devices and pipes, whose reading may never end
            raise PictureError("There is no picture file at this place; check the path.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PictureError(f"This file is larger than {MAX_FILE_BYTES // 10**6} MB; save a smaller picture.")
        return path.read_bytes()
    except PermissionError as error:
        raise PictureError("This file may not be read; change its permissions or choose another one.") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise PictureError("This file could not be read from its disk; copy it elsewhere and try again.") from error


def _from_dicom(data: bytes) -> Picture:
    _refuse_file_size(data)
    frame = read_dicom(data)
    if frame.values.ndim == 3:
        return Picture(Image.fromarray(frame.values), frame.notes)
    return _through_first_window(frame.values, list(frame.notes), frame.window, frame.inverted)


def _refuse_file_size(data: bytes) -> None:
    if not data:
        raise PictureError("This file is empty (0 bytes); save or upload the picture again.")
    if len(data) > MAX_FILE_BYTES:
        raise PictureError(f"This file is larger than {MAX_FILE_BYTES // 10**6} MB; save a smaller picture.")


def _opened(data: bytes) -> Image.Image:
    """The picture with its header read; no pixel is decoded yet."""
    _refuse_file_size(data)
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(too_large()) from error
    except Image.UnidentifiedImageError as error:
        raise PictureError(not_a_picture(data)) from error
    except Exception as error:  # decoders raise many kinds: OSError, SyntaxError, ValueError, struct.error ...
        raise PictureError(damaged()) from error


def _prepared(opened: Image.Image) -> Picture:
    refuse_size(*opened.size)
    notes: list[str] = []
    try:
        _refuse_tiles(opened)
        if getattr(opened, "is_animated", False) and opened.format != "MPO":  # MPO: a photograph with a preview
            what, each = ("several pages", "page") if opened.format == "TIFF" else ("animated", "frame")
            notes.append(f"{what}: only {'one' if opened.tell() else 'the first'} {each} is used")
        sixteen_bit_colour = _has_sixteen_bit_colour(opened)
        inverted = _tag(opened, PHOTOMETRIC) == 0  # TIFF's WhiteIsZero; Pillow applies it to 8-bit values only
        unsigned = _is_unsigned(opened)
        image = _upright(opened, notes)
        if _is_deep_grey(image):
            return _through_first_window(_values(image, unsigned, notes), notes, None, inverted)
        if sixteen_bit_colour:
            notes.append("16-bit scaled to 8")
        rgb = _rgb(image, notes)
    except PictureError:
        raise
    except MemoryError as error:
        raise CostlyPicture(needs_memory()) from error
    except Exception as error:  # as above; the pixels are decoded here
        raise PictureError(damaged()) from error
    refuse_size(*rgb.size)
    clean = Image.new("RGB", rgb.size)  # a new image holds no EXIF, profile, text or file handle
    clean.paste(rgb)
    return Picture(clean, tuple(notes))


def _tag(opened: Image.Image, tag: int) -> Any:
    """The value of a TIFF tag, None where it is missing or the file is no TIFF."""
    return getattr(opened, "tag_v2", {}).get(tag) if opened.format == "TIFF" else None


def _refuse_tiles(opened: Image.Image) -> None:
    """Raise PictureError for a TIFF whose tiles are far larger than the picture: each is decoded whole."""
    width, length = _tag(opened, TILE_WIDTH), _tag(opened, TILE_LENGTH)
    if width is not None and length is not None and width * length > MAX_PIXELS:
        raise PictureError(too_large(f" (in tiles of {width} x {length})"))


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _has_sixteen_bit_colour(opened: Image.Image) -> bool:
    """Whether colours have 16 bits a channel. Pillow scales them while decoding, so only the tiles' raw mode shows it."""
    tiles = getattr(opened, "tile", ()) if opened.format in ("PNG", "TIFF") else ()
    raw_modes = (tile.args if isinstance(tile.args, str) else str(tile.args[0]) for tile in tiles if tile.args)
    return not _is_deep_grey(opened) and any(";16" in mode for mode in raw_modes)


def _is_unsigned(opened: Image.Image) -> bool:
    """Whether the file holds unsigned 32-bit values; Pillow keeps their bits as signed ones."""
    return opened.mode == "I" and _tag(opened, BITS) == (32,) and _tag(opened, SAMPLE_FORMAT) in (None, (1,))


def _upright(opened: Image.Image, notes: list[str]) -> Image.Image:
    """The decoded picture, rotated as the EXIF orientation says. Pillow rotates TIFFs itself while it decodes them."""
    orientation = _tag(opened, ORIENTATION)
    opened.load()
    image = opened  # no copy: a large picture takes 160 MB, and nothing here changes it
    if orientation is None:
        try:
            orientation = opened.getexif().get(ORIENTATION, 1)
            turned = ImageOps.exif_transpose(opened) if orientation in range(2, 9) else None
        except Exception:  # only the metadata is damaged, and it is dropped anyway
            notes.append("its EXIF could not be read and is ignored")
            return image
        image = image if turned is None else turned
    if orientation in range(2, 9):
        notes.append("rotated as its EXIF says")
    return image


def _values(image: Image.Image, unsigned: bool, notes: list[str]) -> np.ndarray:
    """The grey values beyond 8 bits of a decoded picture, float32 (H, W); not a number where it is transparent or has no value."""
    stored = np.asarray(image)
    values = (stored.view(np.uint32) if unsigned else stored).astype(np.float32)
    missing = ~np.isfinite(values)
    transparent = image.info.get("transparency")
    hidden = stored == transparent if isinstance(transparent, int) else np.zeros_like(missing)
    values[missing | hidden] = np.nan
    if hidden.any():
        notes.append("transparency shown over white")
    if missing.any():
        notes.append("pixels without a value shown white")
    return values


def _through_first_window(values: np.ndarray, notes: list[str], window: tuple[float, float] | None, inverted: bool) -> Picture:
    """A picture of grey values through the file's own window, or else through one that fits them."""
    refuse_size(values.shape[1], values.shape[0])
    if not np.isfinite(values).any():
        raise PictureError("No pixel of this picture has a value; save or upload it again.")
    whose = "the file's own window"
    if window is None:
        window, whole = first_window(values)
        whose = "" if whole else "a window of the middle 99 % of its values"
    level, width = window
    notes.append(f"opened with {whose}: level {level:g}, width {width:g}" if whose else "16-bit scaled to 8")
    return Picture(_shown(values, level, width, inverted), tuple(notes), values, (float(level), float(width)), inverted)


def _shown(values: np.ndarray, level: float, width: float, inverted: bool) -> Image.Image:
    """Grey values (H, W) through a window, in mode RGB."""
    return Image.fromarray(eight_bits(values, level, width, inverted)).convert("RGB")


def _rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """Any mode to RGB, as a photo viewer shows it."""
    if image.mode == "CMYK":
        notes.append("CMYK converted to RGB")
        return _from_cmyk(image)
    if image.has_transparency_data:
        return _over_white(image, notes)
    return image.convert("RGB")


def _from_cmyk(image: Image.Image) -> Image.Image:
    """CMYK to RGB by the colour profile in the file, else as (1 - ink)(1 - black). Pillow has already undone Adobe's inversion."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:  # None is only returned for a conversion in place
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # a damaged or unsuitable profile: viewers use the simple rule, too
    return image.convert("RGB")


def _over_white(image: Image.Image, notes: list[str]) -> Image.Image:
    """The picture over white. A plain conversion to RGB would show the colours under transparent pixels."""
    layered = image.convert("RGBA")
    if np.asarray(layered.getchannel("A")).min() < 255:
        notes.append("transparency shown over white")
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert("RGB")
