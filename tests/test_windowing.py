"""Grey values beyond 8 bits: TIFF and 16-bit files, the window they open with, other windows, and TIFFs that are refused."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from support.refusals import refusal

from explainers import windowing
from explainers.pictures import PictureError, digest, read_picture
from explainers.windowing import eight_bits, first_window

SIDE = 16


def encoded(values: np.ndarray | Image.Image, kind: str = "TIFF", **options) -> bytes:
    buffer = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(low: float, high: float, dtype=np.uint16) -> np.ndarray:
    """16 x 16 values in equal steps."""
    return np.linspace(low, high, SIDE * SIDE).round(3).reshape(SIDE, SIDE).astype(dtype)


def tiff(width: int, height: int, *extra: tuple[int, int, int], data: bytes = b"", bits: int = 16, photometric: int = 1,
         sample_format: int = 1, following: int = 0) -> bytes:
    """A TIFF by hand, its pixels at the end; ``extra``: (tag, type 3 short or 4 long, value)."""
    tags = {256: (4, width), 257: (4, height), 258: (3, bits), 259: (3, 1), 262: (3, photometric), 273: (4, 0), 277: (3, 1),
            278: (4, height), 279: (4, len(data)), 339: (3, sample_format)}
    tags |= {tag: (kind, value) for tag, kind, value in extra}
    start = 8 + 2 + 12 * len(tags) + 4
    tags[273] = (4, start)
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following) + data


def grey(picture) -> np.ndarray:
    """The red channel, after checking that the picture is grey."""
    pixels = np.asarray(picture.image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


# The window


def test_a_window_is_linear_between_its_edges_and_flat_beyond():
    """Level 100, width 100: 50 and below is 0, 150 and above is 255, and a quarter of the way is a quarter of 255."""
    values = np.array([-1000, 50, 75, 100, 125, 150, 1000], np.float32)
    assert eight_bits(values, 100, 100).tolist() == [0, 0, 64, 128, 191, 255, 255]
    assert eight_bits(values, 100, 100, inverted=True).tolist() == [255, 255, 191, 128, 64, 0, 0]


def test_a_window_of_no_width_is_a_threshold_and_missing_values_are_white():
    values = np.array([99, 100, 101, np.nan], np.float32)
    assert eight_bits(values, 100, 0).tolist() == [0, 255, 255, 255]
    assert eight_bits(values, 100, 4).tolist() == [64, 128, 191, 255]
    assert eight_bits(values, 100, 0, inverted=True)[3] == 255


@pytest.mark.parametrize("width", [0, 40])
def test_many_values_are_shown_as_few_are_and_take_little_memory(monkeypatch, width):
    values = np.random.default_rng(0).normal(100, 60, (1500, 2000)).astype(np.float32)
    values[::7, ::5] = np.nan
    monkeypatch.setattr(windowing, "AT_ONCE", values.size)
    whole = eight_bits(values, 90, width), first_window(values)
    monkeypatch.setattr(windowing, "AT_ONCE", 99_999)
    tracemalloc.start()
    shown = eight_bits(values, 90, width)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(shown, whole[0]) and first_window(values) == whole[1]
    assert peak < 2 * values.size


def test_all_sixteen_bit_values_through_the_whole_range_are_divided_by_257():
    values = np.arange(65536, dtype=np.float32)
    assert np.array_equal(eight_bits(values, 32767.5, 65535), ((np.arange(65536) + 128) // 257).astype(np.uint8))


def test_the_first_window_of_twelve_bits_is_the_middle_of_their_values():
    """0..4000 in steps of 1: the 0.5 and 99.5 percentiles are 20 and 3980."""
    assert first_window(np.arange(4001, dtype=np.float32)) == ((2000.0, 3960.0), False)
    assert first_window(np.arange(40000, dtype=np.float32)) == ((32767.5, 65535.0), True)


def test_one_hot_pixel_decides_nothing():
    values = np.full(10000, 5.0, np.float32)
    values[:5000], values[77] = 3.0, 1e9
    assert first_window(values) == ((4.0, 2.0), False)


# What comes out of files


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_twelve_bits_are_shown_by_their_own_range_and_can_be_windowed(kind):
    values = ramp(0, 4000)
    picture = read_picture(encoded(values, kind))
    assert np.array_equal(picture.values, values) and picture.values.dtype == np.float32 and picture.value_range == (0, 4000)
    assert grey(picture).min() == 0 and grey(picture).max() == 255
    assert picture.notes == (f"opened with a window of the middle 99 % of its values: level {picture.window[0]:g}, "
                             f"width {picture.window[1]:g}",)
    narrow = picture.windowed(1000, 200)
    assert narrow.window == (1000, 200) and np.array_equal(grey(narrow), eight_bits(values.astype(np.float32), 1000, 200))
    assert (grey(narrow)[values < 900] == 0).all() and (grey(narrow)[values > 1100] == 255).all()
    assert digest(narrow.image) != digest(picture.image) and np.array_equal(narrow.values, picture.values)
    assert narrow.windowed(*picture.window).image.tobytes() == picture.image.tobytes()
    assert picture.windowed(width=200).window == (picture.window[0], 200)


def test_sixteen_bits_that_use_their_range_look_as_before():
    values = ramp(0, 65535)
    picture = read_picture(encoded(values))
    assert np.array_equal(grey(picture), (values.astype(int) + 128) // 257) and picture.notes == ("16-bit scaled to 8",)


@pytest.mark.parametrize("dtype, low, high", [(np.float32, -1.5, 2.5), (np.int32, -70000, 70000)])
def test_values_of_32_bits_are_shown_by_their_range(dtype, low, high):
    values = ramp(low, high, dtype)
    picture = read_picture(encoded(values))
    assert np.allclose(picture.values, values) and picture.value_range == (low, high)
    level, width = picture.window
    assert level == pytest.approx((low + high) / 2, abs=1) and width == pytest.approx(0.99 * (high - low), rel=0.01)
    assert grey(picture)[0, 0] == 0 and grey(picture)[-1, -1] == 255


def test_unsigned_32_bit_values_are_not_taken_for_negative_ones():
    values = ramp(0, 4e9, np.uint32)
    picture = read_picture(tiff(SIDE, SIDE, data=values.astype("<u4").tobytes(), bits=32))
    assert np.array_equal(picture.values, values.astype(np.float32)) and grey(picture)[-1, -1] == 255


def test_white_is_zero_is_shown_white():
    values = ramp(0, 65535)
    picture = read_picture(tiff(SIDE, SIDE, data=values.astype("<u2").tobytes(), photometric=0))
    assert picture.inverted and grey(picture)[0, 0] == 255 and grey(picture)[-1, -1] == 0
    assert grey(picture.windowed(0, 2))[-1, -1] == 0


def test_values_that_are_no_numbers_are_white_and_noted():
    values = ramp(0, 1, np.float32)
    values[3, 4], values[5, 6] = np.nan, np.inf
    picture = read_picture(encoded(values))
    assert grey(picture)[3, 4] == grey(picture)[5, 6] == 255 and picture.value_range == (0, 1)
    assert picture.notes[0] == "pixels without a value shown white"
    assert "No pixel" in refusal(encoded(np.full((SIDE, SIDE), np.nan, np.float32)))


def test_a_constant_picture_is_grey_and_not_an_error():
    assert (grey(read_picture(encoded(np.full((SIDE, SIDE), -3.5, np.float32)))) == 128).all()


def test_of_several_pages_the_first_is_used():
    pages = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
    picture = read_picture(encoded(pages[0], save_all=True, append_images=pages[1:]))
    assert picture.image.getpixel((0, 0)) == (255, 0, 0) and picture.notes == ("several pages: only the first page is used",)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiffs_are_the_same_picture(compression):
    values = ramp(0, 65535)
    assert np.array_equal(read_picture(encoded(values, compression=compression)).values, values)


def test_a_turned_tiff_is_upright():
    data = tiff(SIDE, SIDE // 2, (274, 3, 6), data=ramp(0, 65535)[: SIDE // 2].astype("<u2").tobytes())
    picture = read_picture(data)
    assert picture.image.size == (SIDE // 2, SIDE) and "rotated as its EXIF says" in picture.notes
    assert np.array_equal(picture.values, np.rot90(ramp(0, 65535)[: SIDE // 2], -1))


def test_only_deep_pictures_have_a_window():
    plain = read_picture(encoded(Image.new("RGB", (SIDE, SIDE)), "PNG"))
    assert plain.values is None and plain.window is None and plain.value_range == (0, 255)
    with pytest.raises(PictureError, match="8 bits"):
        plain.windowed(1, 2)
    deep = read_picture(encoded(ramp(0, 4000)))
    for level, width in ((0, -1), (float("nan"), 1), (0, float("inf"))):
        with pytest.raises(PictureError, match="A window needs"):
            deep.windowed(level, width)


# What is refused


@pytest.mark.parametrize("data, word", [
    (tiff(20000, 20000, data=bytes(100)), "40 million pixels"),
    (tiff(4_000_000_000, 4_000_000_000, data=bytes(100)), "40 million pixels"),
    (tiff(SIDE, SIDE, (322, 4, 60000), (323, 4, 60000), (324, 4, 8), (259, 3, 5), data=bytes(100)), "tiles of 60000 x 60000"),
    (tiff(4, 4, data=bytes(32)), "at least 8"),
    (tiff(SIDE, SIDE, data=bytes(10)), "damaged"),
    (tiff(SIDE, SIDE, (277, 3, 60000), data=bytes(600)), "TIFF"),
    (tiff(SIDE, SIDE, (258, 3, 13), data=bytes(600)), "TIFF"),
    (tiff(SIDE, SIDE, (259, 3, 60000), data=bytes(600)), "TIFF"),
    (tiff(SIDE, SIDE, (273, 4, 2**32 - 1), (259, 3, 5), data=bytes(600)), "damaged"),
], ids=["large", "huge", "tiles", "small", "cut", "samples", "bits", "compression", "lzw"])
def test_a_hostile_tiff_costs_one_sentence(data, word):
    tracemalloc.start()
    began = time.thread_time()
    assert word in refusal(data)
    assert time.thread_time() - began < 1 and tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_pages_in_a_circle_end():
    data = tiff(SIDE, SIDE, data=ramp(0, 65535).astype("<u2").tobytes(), following=8)
    assert read_picture(data).image.size == (SIDE, SIDE)
