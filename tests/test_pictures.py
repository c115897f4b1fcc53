"""Every kind of picture that a person may bring, built here in memory, with the pixel values that must come out."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from explainers.errors import ExplainerError
from explainers.pictures import PictureError, digest, load_image, read_picture

SIDE = 16


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, colour: int, raw: bytes, extra: bytes = b"") -> bytes:
    """A PNG by hand: sizes that Pillow would not write, depths that it cannot."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def noise(size: int = 64, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def pixel(source) -> tuple[int, ...]:
    return load_image(source).getpixel((SIDE // 2, SIDE // 2))


def refusal(source) -> str:
    """The message, after checking that it is one readable sentence."""
    with pytest.raises(PictureError) as caught:
        load_image(source)
    message = str(caught.value)
    assert issubclass(PictureError, ExplainerError)
    assert message.endswith(".") and message.count(". ") == 0 and "\n" not in message
    assert not any(word in message for word in ("Traceback", "BytesIO", "Error", "0x"))
    return message


# What comes out


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
def test_lossless_picture_keeps_its_pixels(kind):
    image = Image.new("RGB", (SIDE, SIDE), (10, 200, 30))
    picture = read_picture(encoded(image, kind))
    assert picture.image.mode == "RGB" and picture.image.tobytes() == image.tobytes() and picture.notes == ()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_photograph_formats_are_read(kind):
    assert pixel(encoded(Image.new("RGB", (SIDE, SIDE), (10, 200, 30)), kind, quality=100)) == pytest.approx(
        (10, 200, 30), abs=3
    )


@pytest.mark.parametrize("value, expected", [(0, 0), (40000, 156), (65535, 255), (257, 1), (128, 0), (129, 1)])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(value, expected):
    image = Image.fromarray(np.full((SIDE, SIDE), value, np.uint16))
    picture = read_picture(encoded(image))
    assert picture.image.getpixel((0, 0)) == (expected,) * 3
    assert picture.notes == ("16-bit scaled to 8",)


def test_big_endian_and_32_bit_grey_are_scaled_too():
    grey = np.full((SIDE, SIDE), 40000)
    big = Image.frombytes("I;16B", (SIDE, SIDE), grey.astype(">u2").tobytes())
    assert pixel(big) == pixel(Image.fromarray(grey.astype(np.int32))) == (156, 156, 156)


def test_sixteen_bit_colour():
    rows = (b"\0" + struct.pack(">HHH", 40000, 0, 65535) * SIDE) * SIDE
    picture = read_picture(png(SIDE, SIDE, 16, 2, rows))
    assert picture.image.getpixel((3, 3)) == (156, 0, 255) and picture.notes == ("16-bit scaled to 8",)


def test_sixteen_bit_grey_with_a_transparent_value():
    rows = (b"\0" + struct.pack(">H", 20000) * 8 + struct.pack(">H", 40000) * 8) * SIDE
    image = load_image(png(SIDE, SIDE, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 40000))))
    assert image.getpixel((0, 0)) == (78, 78, 78) and image.getpixel((15, 0)) == (255, 255, 255)


def test_transparency_is_shown_over_white():
    hidden = Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, 0))
    half = Image.new("RGBA", (SIDE, SIDE), (200, 0, 0, 128))
    picture = read_picture(encoded(hidden))
    assert picture.image.getpixel((0, 0)) == (255, 255, 255) and picture.notes == ("transparency shown over white",)
    assert pixel(encoded(half)) == pytest.approx((227, 127, 127), abs=1)  # 0.5 * colour + 0.5 * white
    assert pixel(encoded(Image.new("LA", (SIDE, SIDE), (0, 128)))) == pytest.approx((127, 127, 127), abs=1)
    assert read_picture(encoded(Image.new("RGBA", (SIDE, SIDE), (1, 2, 3, 255)))).notes == ()


@pytest.mark.parametrize("kind, transparency", [("PNG", b"\xff\x00"), ("GIF", 1)])
def test_palette_with_transparency(kind, transparency):
    image = Image.new("P", (SIDE, SIDE), 0)
    image.putpalette([200, 10, 10, 0, 255, 0])
    image.paste(1, (8, 0, 16, 16))
    shown = load_image(encoded(image, kind, transparency=transparency))
    assert shown.getpixel((0, 0)) == (200, 10, 10) and shown.getpixel((12, 8)) == (255, 255, 255)


@pytest.mark.parametrize("mode, value, expected", [("1", 1, 255), ("L", 7, 7)])
def test_black_and_white_and_grey(mode, value, expected):
    assert pixel(encoded(Image.new(mode, (SIDE, SIDE), value))) == (expected,) * 3


def test_cmyk_red_as_a_viewer_shows_it():
    """Pillow writes CMYK JPEGs as Adobe does, inverted: read plainly, red would come out cyan."""
    red = Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0))
    inverted = encoded(red, "JPEG", quality=100)
    assert b"Adobe" in inverted
    picture = read_picture(inverted)
    assert picture.image.getpixel((8, 8)) == pytest.approx((255, 0, 0), abs=2)
    assert picture.notes == ("CMYK converted to RGB",)
    assert pixel(red) == (255, 0, 0)


def test_cmyk_with_a_broken_or_foreign_profile_falls_back_to_the_plain_rule():
    red = Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0))
    screen = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (b"not a profile", screen):
        assert pixel(encoded(red, "JPEG", quality=100, icc_profile=profile)) == pytest.approx((255, 0, 0), abs=2)


def printing_profile(lightness: int) -> bytes:
    """A CMYK profile by hand (ICC.1, lut8): all inks together are black, every other mixture is a grey of this L*."""
    curve = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table += curve * 4 + bytes([round(lightness * 2.55), 128, 128]) * 15 + bytes([0, 128, 128]) + curve * 3
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(table))
    head = struct.pack(">I4sI4s4s4s12x4s", 144 + len(table), b"    ", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    white = struct.pack(">3i", 63190, 65536, 54061)  # D50
    return (head.ljust(68, b"\0") + white).ljust(128, b"\0") + tags + table


def test_cmyk_follows_the_profile_of_its_printer():
    red = Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0))
    shown = pixel(encoded(red, "JPEG", quality=100, icc_profile=printing_profile(50)))
    assert shown == pytest.approx((119, 119, 119), abs=3)  # L* 50 in sRGB


@pytest.mark.parametrize(
    "orientation, corner",
    [(1, (0, 0)), (2, (23, 0)), (3, (23, 15)), (4, (0, 15)), (5, (0, 0)), (6, (15, 0)), (7, (15, 23)), (8, (0, 23))],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation_moves_the_marked_corner(kind, orientation, corner):
    image = Image.new("RGB", (24, 16), "black")
    image.paste("white", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_picture(encoded(image, kind, exif=exif))
    assert picture.image.size == ((24, 16) if orientation < 5 else (16, 24))
    assert min(picture.image.getpixel(corner)) > 240
    assert np.asarray(picture.image).mean() == pytest.approx(255 * 64 / (24 * 16), abs=2)
    assert picture.notes == (("rotated as its EXIF says",) if orientation > 1 else ())


def test_metadata_is_dropped_and_broken_metadata_is_survived():
    exif = Image.Exif()
    exif[0x010E] = "a patient's name"
    image = load_image(encoded(noise(), "JPEG", exif=exif, comment="secret", dpi=(72, 72)))
    assert image.info == {} and not image.getexif() and b"patient" not in encoded(image, "JPEG")
    assert read_picture(encoded(noise(), "JPEG", exif=b"Exif\0\0garbage")).image.size == (64, 64)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_used(kind):
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = read_picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert picture.image.getpixel((8, 8)) == (255, 0, 0)
    assert picture.notes == ("animated: only the first frame is used",)


def test_a_pil_image_is_left_as_it_was():
    image = Image.new("RGBA", (SIDE, SIDE), (9, 9, 9, 0))
    image.info["dpi"] = (1, 1)
    plain = Image.new("RGB", (SIDE, SIDE), (1, 2, 3))
    load_image(plain).putpixel((0, 0), (9, 9, 9))
    assert load_image(image).getpixel((0, 0)) == (255, 255, 255)
    assert image.mode == "RGBA" and image.info and plain.getpixel((0, 0)) == (1, 2, 3)


def test_a_file_is_read_by_its_content(tmp_path):
    path = tmp_path / "wrong-name.txt"
    path.write_bytes(encoded(noise()))
    assert load_image(path).tobytes() == load_image(str(path)).tobytes() == noise().tobytes()


# What is refused


@pytest.mark.parametrize("severity", ["ignore", "error"])
def test_a_bomb_is_refused_from_its_header(severity):
    """20,000 x 20,000 pixels in a few KB; decoded it would take 400 MB."""
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(b"\0" * 20001) for _ in range(20)) + rows.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    assert len(bomb) < 5000
    for data in (bomb, png(7000, 7000, 8, 2, b"\0"), png(12000, 12000, 8, 2, b"\0"), webp_canvas(60000, 60000)):
        tracemalloc.start()
        began = time.thread_time()
        with warnings.catch_warnings():
            warnings.simplefilter(severity)
            assert "40 million pixels" in refusal(data)
        assert time.thread_time() - began < 1
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()


def webp_canvas(width: int, height: int) -> bytes:
    """An animated WebP of one 16 x 16 frame on a canvas of any size."""
    still = encoded(Image.new("RGB", (16, 16)), "WEBP", lossless=True)[12:]
    frame = bytes(6) + (15).to_bytes(3, "little") * 2 + (100).to_bytes(3, "little") + b"\0"
    canvas = b"\2\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body += b"ANMF" + struct.pack("<I", len(frame) + len(still)) + frame + still
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_a_lazily_opened_bomb_is_refused_before_it_is_decoded():
    opened = Image.open(io.BytesIO(png(7000, 7000, 8, 2, b"\0")))
    assert "40 million pixels (7000 x 7000)" in refusal(opened)


@pytest.mark.parametrize("size, word", [((1, 1), "at least 8"), ((7, 50), "at least 8"), ((8, 161), "20 times")])
def test_tiny_and_thin_pictures(size, word):
    message = refusal(encoded(Image.new("RGB", size)))
    assert word in message and f"{size[0]} x {size[1]}" in message


@pytest.mark.parametrize("size", [(8, 8), (8, 160), (160, 8)])
def test_the_limits_themselves_are_allowed(size):
    assert load_image(encoded(Image.new("RGB", size))).size == size


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated_pictures(kind, part):
    data = encoded(noise(), kind)
    assert load_image(data).size == (64, 64)
    assert "damaged" in refusal(data[: int(len(data) * part)])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("length", [1, 4, 12, 20, 30])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's own words about a cut TIFF
def test_pictures_cut_within_the_header(kind, length):
    assert refusal(encoded(noise(), kind)[:length])


def test_damaged_pixels():
    data = bytearray(encoded(noise()))
    data[len(data) // 2] ^= 0xFF
    assert "damaged" in refusal(bytes(data))


@pytest.mark.parametrize(
    "data, word",
    [
        (b"", "empty"),
        (b"These are only words.\n" * 20, "not a picture"),
        (bytes(500), "not a picture"),
        (b"II*\0" + bytes(100), "TIFF"),
        (b"MM\0*" + bytes(3), "TIFF"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "HEIC"),
        (b"%PDF-1.7" + bytes(100), "PDF"),
    ],
)
def test_files_that_are_no_pictures(data, word, tmp_path):
    assert word in refusal(data)
    named = tmp_path / "holiday.jpg"
    named.write_bytes(data)
    assert word in refusal(named)


def test_folders_missing_files_and_names_that_lie(tmp_path):
    assert "folder" in refusal(tmp_path)
    for name in ("<script>alert(1)</script>.png", "n" * 5000, "null\0byte.png"):
        message = refusal(str(tmp_path / name))
        assert "script" not in message and str(tmp_path) not in message
    assert "no picture file" in refusal(Path("/dev/zero"))


# The digest


def test_digest_is_sha256_of_mode_size_and_pixels():
    image = noise()
    assert len(digest(image)) == 64 and digest(image) == digest(load_image(encoded(image)))
    changed = image.copy()
    changed.putpixel((63, 63), tuple(255 - value for value in image.getpixel((63, 63))))
    wide, tall = Image.new("RGB", (16, 8)), Image.new("RGB", (8, 16))
    grey = Image.new("L", (24, 16))  # as many bytes as wide and tall
    assert len({digest(image), digest(changed), digest(wide), digest(tall), digest(grey)}) == 5


def test_digest_of_a_large_picture_notices_one_pixel():
    """Streamlit's own hash samples large arrays and misses such a change in most trials."""
    large = noise(600)
    changed = large.copy()
    changed.putpixel((300, 301), (0, 0, 0))
    assert large.getpixel((300, 301)) != (0, 0, 0) and digest(large) != digest(changed)
