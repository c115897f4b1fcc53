"""Which pictures are too large or too small to be used, and the sentences that say so, for all readers of picture files."""

from __future__ import annotations

from explainers.errors import ExplainerError

MAX_PIXELS = 40_000_000
MAX_ASPECT = 20
MIN_SIDE = 8
MAX_FILE_BYTES = 200_000_000


class PictureError(ExplainerError):
    """A picture that cannot be used; the message is one sentence that says why and what to do."""


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
