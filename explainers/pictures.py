"""Bytes that somebody else made -> a plain RGB picture, or one sentence that says why not.

The header is judged before a single pixel is decoded: 18 KB of PNG can hold 700 MB of pixels. What a photo viewer
does silently (turning, scaling 16 bits, putting colour behind transparency) is done here too and told in notes,
because each of them changes what the network sees. Nothing is ever written to disk, and no message repeats a file's
name or its metadata: both are the words of whoever made the file.
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

# TIFF is left out on purpose: its tiles may be far larger than the picture that the header promises.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
ACCEPTED = "PNG, JPEG, WebP, GIF or BMP"

# (where, the bytes there, what such a file is): only for a better sentence than "not a picture".
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
    """A picture that cannot be used; the message is one sentence with the cause and the cure."""


@dataclass(frozen=True)
class Picture:
    """An RGB picture without metadata, and in plain words what was done to the file to get it."""

    image: Image.Image
    notes: tuple[str, ...] = ()


def load_image(source: str | Path | bytes | Image.Image) -> Image.Image:
    """The picture alone: mode RGB, upright, metadata dropped. Raises PictureError; see read_picture for the rules."""
    return read_picture(source).image


def read_picture(source: str | Path | bytes | Image.Image) -> Picture:
    """Read a path, a file's bytes or a PIL image of any mode; a PIL image given here is not changed.

    Sides from 8 px, at most 40 million pixels, at most 20 times longer than wide. Of an animation the first frame
    is used. Raises PictureError for everything that cannot become such a picture.
    """
    if isinstance(source, Image.Image):
        return _prepared(source)
    data = source if isinstance(source, bytes) else _file_bytes(source)
    return _prepared(_opened(data))


def digest(image: Image.Image) -> str:
    """sha256 (64 hex digits) of mode, size and pixels: two pictures share it only if the network sees the same."""
    seen = hashlib.sha256(f"{image.mode} {image.width}x{image.height} ".encode())
    if image.mode in ("P", "PA"):  # the pixels of a palette image mean nothing without their colours
        seen.update(bytes(image.getpalette("RGB") or ()))
    seen.update(image.tobytes())
    return seen.hexdigest()


def _file_bytes(path: str | Path) -> bytes:
    try:
        path = Path(path)
        if path.is_dir():
            raise PictureError("This is a folder, not a picture; choose one file in it.")
        if not path.is_file():  # also devices and pipes, which could be read for ever
            raise PictureError("There is no picture file at this place; check the path.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PictureError(f"This file is larger than {MAX_FILE_BYTES // 10**6} MB; save a smaller picture.")
        return path.read_bytes()
    except PermissionError as error:
        raise PictureError("This file may not be read; change its permissions or choose another one.") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise PictureError("This file could not be read from its disk; copy it elsewhere and try again.") from error


def _opened(data: bytes) -> Image.Image:
    """The header, read; no pixel decoded yet."""
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
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, ValueError, struct.error ...
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
    clean = Image.new("RGB", rgb.size)  # a fresh image carries no EXIF, profile, text or file handle along
    clean.paste(rgb)
    return Picture(clean, tuple(notes))


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode == "I" or image.mode.startswith("I;16")


def _has_sixteen_bits(opened: Image.Image) -> bool:
    """Also true of 16-bit colour, which Pillow scales while it decodes: then only the raw mode in the tiles tells."""
    tiles = getattr(opened, "tile", ()) if opened.format in ("PNG", "TIFF") else ()
    return _is_deep_grey(opened) or any(";16" in str(tile[-1]) for tile in tiles)


def _upright(opened: Image.Image, notes: list[str]) -> Image.Image:
    """A decoded copy, turned as the camera meant it."""
    image = opened.copy()
    try:
        orientation = opened.getexif().get(0x0112, 1)
        turned = ImageOps.exif_transpose(image) if orientation in range(2, 9) else None
    except Exception:  # the pixels are fine; only the metadata is broken, and we are about to drop it
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
    """16-bit grey to L, or to LA where one value stands for transparent; Pillow itself would clip 40000 to 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError("This picture's values go beyond 16 bits (0 to 65535); scale them and save it as PNG first.")
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 = 255 * 257, rounded to the nearest
    if not isinstance(image.info.get("transparency"), int):
        return grey
    visible = Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, visible))


def _from_cmyk(image: Image.Image) -> Image.Image:
    """By the printer's profile in the file, else by (1 - ink)(1 - black). Pillow undoes Adobe's inversion itself."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # a broken or foreign profile: the plain rule is what a viewer falls back to
    return image.convert("RGB")


def _over_white(image: Image.Image, notes: list[str]) -> Image.Image:
    """RGB would show the colours that hide under transparency: lay the picture on white paper instead."""
    layered = image.convert("RGBA")
    if layered.getextrema()[3][0] < 255:
        notes.append("transparency shown over white")
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert("RGB")


def _refuse_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(_too_large(f" ({width} x {height})"))
    if min(width, height) < MIN_SIDE:
        raise PictureError(
            f"This picture is {width} x {height} pixels; both sides must be at least {MIN_SIDE}, so use a larger one."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(
            f"This picture is {width} x {height} pixels, more than {MAX_ASPECT} times longer in one direction; "
            "crop it to the part that matters."
        )


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
