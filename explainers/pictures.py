"""Reads a person's picture as plain RGB, or refuses it with one sentence that says why.

The header is checked before any pixel is decoded, because 18 KB of PNG can hold 700 MB of pixels. What a photo viewer does
silently (rotating, scaling 16 bits to 8, filling transparency) is done here too, and each step leaves a note, because it changes
what the network sees. Nothing is written to disk. No message repeats a file's name or metadata, which may hold anything.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from explainers.errors import ExplainerError

MAX_PIXELS = 40_000_000
MAX_ASPECT = 20
MIN_SIDE = 8
MAX_FILE_BYTES = 200_000_000

# TIFF is left out, because its tiles may be far larger than the picture size in its header.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
ACCEPTED = "PNG, JPEG, WebP, GIF or BMP"

# (offset, the bytes there, what such a file is), for a message that is more exact than "not a picture".
OTHER_KINDS = (
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (4, b"ftypavi", "an AVIF picture"),
    (4, b"ftyphei", "an HEIC picture"),
    (4, b"ftypmif1", "an HEIC picture"),
    (4, b"ftyp", "a video"),
    (128, b"DICM", "a DICOM file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"PK\x03\x04", "a zip archive"),
)


class PictureError(ExplainerError):
    """A picture that cannot be used; the message is one sentence that says why and what to do."""


@dataclass(frozen=True)
class Picture:
    """An RGB picture without metadata, and notes on what was done to the file to get it."""

    image: Image.Image
    notes: tuple[str, ...] = ()


def load_image(source: str | Path | bytes | Image.Image) -> Image.Image:
    """The picture alone: mode RGB, upright, metadata dropped. Raises PictureError; see read_picture for the rules."""
    return read_picture(source).image


def read_picture(source: str | Path | bytes | Image.Image) -> Picture:
    """Read a path, a file's bytes or a PIL image of any mode, which is not changed. Of an animation the first frame is used.

    Raises PictureError for everything that is no picture with sides of at least 8 pixels, at most 40 million pixels, and a
    longer side of at most 20 times the shorter one.
    """
    if isinstance(source, Image.Image):
        return _prepared(source)
    data = source if isinstance(source, bytes) else _file_bytes(source)
    return _prepared(_opened(data))


def digest(image: Image.Image) -> str:
    """sha256 (64 hex digits) of mode, size and pixels: two pictures share it only if the network sees the same."""
    sha256 = hashlib.sha256(f"{image.mode} {image.width}x{image.height} ".encode())
    if image.mode in ("P", "PA"):  # the pixels of a palette image mean nothing without their colours
        sha256.update(bytes(image.getpalette("RGB") or ()))
    sha256.update(image.tobytes())
    return sha256.hexdigest()


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


def _opened(data: bytes) -> Image.Image:
    """The picture with its header read; no pixel is decoded yet."""
    if not data:
        raise PictureError("This file is empty (0 bytes); save or upload the picture again.")
    if len(data) > MAX_FILE_BYTES:
        raise PictureError(f"This file is larger than {MAX_FILE_BYTES // 10**6} MB; save a smaller picture.")
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(_too_large()) from error
    except Image.UnidentifiedImageError as error:
        raise PictureError(_not_a_picture(data)) from error
    except Exception as error:  # decoders raise many kinds: OSError, SyntaxError, ValueError, struct.error ...
        raise PictureError(_damaged()) from error


def _prepared(opened: Image.Image) -> Picture:
    _refuse_size(*opened.size)
    notes: list[str] = []
    try:
        if getattr(opened, "is_animated", False) and opened.format != "MPO":  # MPO: a photograph with a preview
            notes.append(f"animated: only {'one' if opened.tell() else 'the first'} frame is used")
        if _has_sixteen_bits(opened):
            notes.append("16-bit scaled to 8")
        rgb = _rgb(_upright(opened, notes), notes)
    except PictureError:
        raise
    except MemoryError as error:
        raise PictureError(_too_large()) from error
    except Exception as error:  # as above; the pixels are decoded here
        raise PictureError(_damaged()) from error
    _refuse_size(*rgb.size)
    clean = Image.new("RGB", rgb.size)  # a new image holds no EXIF, profile, text or file handle
    clean.paste(rgb)
    return Picture(clean, tuple(notes))


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode == "I" or image.mode.startswith("I;16")


def _has_sixteen_bits(opened: Image.Image) -> bool:
    """Whether the file has 16 bits a channel. Pillow scales 16-bit colour while decoding, so only the tiles' raw mode shows it."""
    tiles = getattr(opened, "tile", ()) if opened.format in ("PNG", "TIFF") else ()
    return _is_deep_grey(opened) or any(";16" in str(tile[-1]) for tile in tiles)


def _upright(opened: Image.Image, notes: list[str]) -> Image.Image:
    """A decoded copy, rotated as the EXIF orientation says."""
    image = opened.copy()
    try:
        orientation = opened.getexif().get(0x0112, 1)
        turned = ImageOps.exif_transpose(image) if orientation in range(2, 9) else None
    except Exception:  # only the metadata is damaged, and it is dropped anyway
        notes.append("its EXIF could not be read and is ignored")
        return image
    if turned is None:
        return image
    notes.append("rotated as its EXIF says")
    return turned


def _rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """Any mode to RGB, as a photo viewer shows it."""
    if _is_deep_grey(image):
        image = _eight_bit(image)
    if image.mode == "F":
        raise PictureError("This picture has floating-point values; scale them to 0..255 and save it as PNG first.")
    if image.mode == "CMYK":
        notes.append("CMYK converted to RGB")
        return _from_cmyk(image)
    if image.has_transparency_data:
        return _over_white(image, notes)
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey to L, or to LA where one value means transparent. Pillow's own conversion would clip all values above 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError("This picture's values go beyond 16 bits (0 to 65535); scale them and save it as PNG first.")
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 = 255 * 257, rounded to the nearest
    if not isinstance(image.info.get("transparency"), int):
        return grey
    visible = Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, visible))


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


def _refuse_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(_too_large(f" ({width} x {height})"))
    if min(width, height) < MIN_SIDE:
        raise PictureError(f"This picture is {width} x {height} pixels; both sides must be at least {MIN_SIDE}, so use a larger one.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(f"This picture is {width} x {height} pixels, more than {MAX_ASPECT} times longer in one direction; "
                           "crop it to the part that matters.")


def _too_large(size: str = "") -> str:
    return f"This picture has more than {MAX_PIXELS // 10**6} million pixels{size}; make it smaller and try again."


def _damaged() -> str:
    return "This picture is damaged or cut off before its end; save or upload it again."


def _not_a_picture(data: bytes) -> str:
    for start, mark, kind in OTHER_KINDS:
        if data[start : start + len(mark)] == mark:
            return f"This file is {kind}, which cannot be read here; save the picture as PNG or JPEG."
    if data.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")):
        return _damaged()
    return f"This file is not a picture, whatever its name says; use a {ACCEPTED} file."
