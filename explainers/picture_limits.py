"""Which pictures are too large, too small or too costly to be used, and the sentences that say so, for whoever reads picture files."""

from __future__ import annotations

from explainers.errors import ExplainerError

ACCEPTED = "PNG, JPEG, WebP, GIF, BMP, TIFF or DICOM"
MAX_PIXELS = 40_000_000
MAX_ASPECT = 20
MIN_SIDE = 8
MAX_FILE_BYTES = 200_000_000

# What decoding a file may cost where it is done in a worker process (see ``decoding``). A file of 20 kB can ask for any of it.
DECODING_SECONDS = 6  # of one core's time
DECODING_BYTES = 1_200_000_000  # of memory, on Linux
DECODING_WAIT_SECONDS = 60  # by the clock, in case the worker neither computes nor answers
MOST_DECODERS = 2  # workers of one server, whatever the number of its sessions

# (offset, the bytes there, what such a file is), for a message that is more exact than "not a picture".
OTHER_KINDS = (
    (4, b"ftypavi", "an AVIF picture"),
    (4, b"ftyphei", "an HEIC picture"),
    (4, b"ftypmif1", "an HEIC picture"),
    (4, b"ftyp", "a video"),
    (0, b"%PDF", "a PDF document"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"PK\x03\x04", "a zip archive"),
)
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class PictureError(ExplainerError):
    """A picture that cannot be used; the message is one sentence that says why and what to do."""


class CostlyPicture(PictureError):
    """A picture whose decoding was ended, because it took too much time or memory, or crashed."""


def refuse_size(width: int, height: int) -> None:
    """Raise PictureError for a picture with too many pixels, a side that is too short, or a shape that is too long."""
    if width * height > MAX_PIXELS:
        raise PictureError(too_large(f" ({width} x {height})"))
    if min(width, height) < MIN_SIDE:
        raise PictureError(f"This picture is {width} x {height} pixels; both sides must be at least {MIN_SIDE}, so use a larger one.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(f"This picture is {width} x {height} pixels, more than {MAX_ASPECT} times longer in one direction; "
                           "crop it to the part that matters.")


def too_large(size: str = "") -> str:
    """The sentence for too many pixels; ``size``: " (width x height)", where it is known."""
    return f"This picture has more than {MAX_PIXELS // 10**6} million pixels{size}; make it smaller and try again."


def damaged() -> str:
    """The sentence for a file that begins as a picture and cannot be decoded."""
    return "This picture is damaged or cut off before its end; save or upload it again."


def too_slow(seconds: int = DECODING_SECONDS) -> str:
    """The sentence for a file whose decoding was ended after so many seconds."""
    return f"Decoding this picture takes more than {seconds} s of computing; save it again as a plain PNG or JPEG."


def needs_memory() -> str:
    """The sentence for a file whose decoding needs more than DECODING_BYTES, or more than there is."""
    return (f"Decoding this picture needs more than {DECODING_BYTES // 10**6} MB of memory, or more than is free; make it smaller, or "
            "save it as a plain PNG or JPEG.")


def not_a_picture(data: bytes) -> str:
    """The sentence for a file that no decoder takes, by how it begins."""
    for start, mark, kind in OTHER_KINDS:
        if data[start : start + len(mark)] == mark:
            return f"This file is {kind}, which cannot be read here; save the picture as PNG or JPEG."
    if data.startswith(TIFF_MARKS):
        return "This TIFF is damaged, or holds its pixels in a way that cannot be read here; save it as 8- or 16-bit grey or RGB."
    if data.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")):
        return damaged()
    return f"This file is not a picture, whatever its name says; use a {ACCEPTED} file."
