"""More than a thousand seeded picture files as strangers could send them: sound, damaged, lying about themselves, and costly.

``light()`` is cheap to make and to decode; COSTLY makes few files, each small and expensive for whoever decodes it.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from PIL import Image

from support.dicom_files import dicom

Named = tuple[str, bytes]
SIZES = (0, 1, 7, 8, 65535, 2**31 - 1, 2**32 - 1)  # planted where a file states a width, a height or a length
JPEG_SCAN, JPEG_END = b"\xff\xda", b"\xff\xd9"


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(side: int = 48, seed: int = 0) -> Image.Image:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


@cache
def sound() -> dict[str, bytes]:
    """Files that can be read, of every format and mode."""
    rgb = photo()
    grey, turned = rgb.convert("L"), Image.Exif()
    turned[0x0112] = 6
    deep = np.asarray(grey).astype(np.uint16) * 250
    frames = [photo(seed=seed) for seed in (1, 2)]
    files = {
        "rgb.png": encoded(rgb, "PNG"), "grey.png": encoded(grey, "PNG"), "bits.png": encoded(grey.convert("1"), "PNG"),
        "palette.png": encoded(rgb.quantize(40), "PNG", transparency=3), "alpha.png": encoded(rgb.convert("RGBA"), "PNG"),
        "deep.png": encoded(Image.fromarray(deep), "PNG"), "animated.png": encoded(rgb, "PNG", save_all=True, append_images=frames),
        "profile.png": encoded(rgb, "PNG", icc_profile=bytes(400)), "text.png": png(48, 48, 8, 2, bytes(145 * 48), chunk(
            b"zTXt", b"a\0\0" + zlib.compress(b"words " * 50)) + chunk(b"iTXt", b"b\0\0\0\0\0words")),
        "rgb.jpg": encoded(rgb, "JPEG"), "grey.jpg": encoded(grey, "JPEG"), "steps.jpg": encoded(rgb, "JPEG", progressive=True),
        "ink.jpg": encoded(rgb.convert("CMYK"), "JPEG"), "turned.jpg": encoded(rgb, "JPEG", exif=turned),
        "profile.jpg": encoded(rgb, "JPEG", icc_profile=bytes(range(256)) * 3),
        "comment.jpg": encoded(rgb, "JPEG", comment=b"x" * 900),
        "rgb.webp": encoded(rgb, "WEBP"), "exact.webp": encoded(rgb, "WEBP", lossless=True),
        "alpha.webp": encoded(rgb.convert("RGBA"), "WEBP", exif=turned),
        "animated.webp": encoded(rgb, "WEBP", save_all=True, append_images=frames),
        "still.gif": encoded(rgb, "GIF"), "animated.gif": encoded(rgb, "GIF", save_all=True, append_images=frames, transparency=0),
        "rgb.bmp": encoded(rgb, "BMP"), "palette.bmp": encoded(rgb.quantize(16), "BMP"), "bits.bmp": encoded(grey.convert("1"), "BMP"),
        "rgb.tif": encoded(rgb, "TIFF"), "deflated.tif": encoded(rgb, "TIFF", compression="tiff_deflate"),
        "lzw.tif": encoded(rgb, "TIFF", compression="tiff_lzw", tiffinfo={274: 6}), "deep.tif": encoded(Image.fromarray(deep), "TIFF"),
        "float.tif": encoded(Image.fromarray(deep.astype(np.float32)), "TIFF"), "ink.tif": encoded(rgb.convert("CMYK"), "TIFF"),
        "jpeg.tif": encoded(rgb, "TIFF", compression="jpeg"), "pages.tif": encoded(rgb, "TIFF", save_all=True, append_images=frames),
        "fax.tif": encoded(grey.convert("1"), "TIFF", compression="group4"),
    }
    return {**files, **{f"{name}.dcm": data for name, data in scans().items()}}


def scans() -> dict[str, bytes]:
    """DICOM files; none where pydicom is missing."""
    try:
        import pydicom  # noqa: F401
    except ImportError:
        return {}
    stored = (np.arange(32 * 24, dtype=np.uint16) * 40).reshape(32, 24)
    return {"scan": dicom(stored), "window": dicom(stored, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400),
            "frames": dicom(np.stack([stored, stored]), NumberOfFrames=2), "bytes": dicom(stored.astype(np.uint8))}


def light(seed: int = 0) -> Iterator[Named]:
    """At least 1000 files, each decoded or refused within milliseconds."""
    rng = np.random.default_rng(seed)
    for name, data in sound().items():
        yield name, data
        yield from truncated(name, data, rng)
        yield from flipped(name, data, rng)
        yield from resized(name, data, rng)
        yield f"{name} in another's clothes", b"\x89PNG\r\n\x1a\n" + data
        yield f"{name} with a tail", data + rng.bytes(300)
    yield from chunks(rng)
    yield from tags(rng)
    yield from metadata(rng)
    yield from strange_scans()
    yield from no_pictures(rng)


def truncated(name: str, data: bytes, rng: np.random.Generator) -> Iterator[Named]:
    """Cut off: in the header, anywhere, and just before the end."""
    for length in (*rng.integers(1, 60, 2), *rng.integers(1, len(data), 4), len(data) - 1, len(data) - 12):
        yield f"{name} cut to {length}", data[:length]


def flipped(name: str, data: bytes, rng: np.random.Generator) -> Iterator[Named]:
    """Some bytes replaced: few or many, anywhere or in the header; and a piece that is there twice or not at all."""
    for count, end in ((1, 40), (1, len(data)), (3, 200), (8, len(data)), (40, len(data)), (2, 100), (1, 100)):
        damaged = bytearray(data)
        for place in rng.integers(0, min(end, len(data)), count):
            damaged[place] = rng.integers(256)
        yield f"{name} with {count} bytes of {end} replaced", bytes(damaged)
    begin, end = sorted(int(place) for place in rng.integers(0, len(data), 2))
    yield f"{name} repeated from {begin} to {end}", data[:end] + data[begin:]
    yield f"{name} without {begin} to {end}", data[:begin] + data[end:]


def resized(name: str, data: bytes, rng: np.random.Generator) -> Iterator[Named]:
    """Another number wherever the header states a size; of a PNG with its checksum mended, so that the size is believed."""
    if data.startswith(b"\x89PNG"):
        for width, height in rng.choice(SIZES, (4, 2)):
            yield f"{name} of {width} x {height}", _png_header(data, int(width), int(height))
        yield f"{name} of 900 x 900", _png_header(data, 900, 900)
        return
    places = {b"\xff\xd8": _jpeg_sizes(data), b"GI": [(6, "<H"), (8, "<H")], b"BM": [(18, "<i"), (22, "<i"), (10, "<I"), (46, "<I")],
              b"RI": [(4, "<I"), (16, "<I"), (23, "<H"), (26, "<H")]}.get(data[:2], [])
    for place, form in places:
        for size in rng.choice(SIZES, 3):
            damaged = bytearray(data)
            bits = 8 * struct.calcsize(form)
            damaged[place:place + bits // 8] = struct.pack(form.upper(), int(size) % 2**bits)
            yield f"{name} with {size} at {place}", bytes(damaged)


def _png_header(data: bytes, width: int, height: int) -> bytes:
    return data[:8] + chunk(b"IHDR", struct.pack(">II", width, height) + data[24:29]) + data[33:]


def _jpeg_sizes(data: bytes) -> list[tuple[int, str]]:
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return [(frame + 5, ">H"), (frame + 7, ">H"), (frame + 2, ">H")]


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, colour: int, raw: bytes, extra: bytes = b"") -> bytes:
    """A PNG with these rows before compression, and with ``extra`` chunks."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(raw, 1)) + chunk(b"IEND", b"")


def chunks(rng: np.random.Generator) -> Iterator[Named]:
    """PNGs with hostile chunks: texts and profiles that unpack to megabytes, thousands of them, lengths that lie, animations of
    huge frames, every combination of depth and colour."""
    rows = bytes(145 * 48)
    bomb = zlib.compress(bytes(3_000_000))
    frame = struct.pack(">5IHHBB", 0, 2**30, 2**30, 0, 0, 1, 1, 0, 0)
    for name, extra in {
        "a text bomb": chunk(b"zTXt", b"a\0\0" + bomb), "a profile bomb": chunk(b"iCCP", b"a\0\0" + bomb),
        "thousands of texts": chunk(b"tEXt", b"a\0b") * 4000, "a long length": struct.pack(">I", 2**31 - 1) + b"tEXtab",
        "a huge frame": chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) + chunk(b"fcTL", frame),
        "no palette entry": chunk(b"PLTE", b""), "EXIF rot": chunk(b"eXIf", rng.bytes(200)),
        "a second header": chunk(b"IHDR", bytes(13)),
    }.items():
        yield f"PNG with {name}", png(48, 48, 8, 2, rows, extra)
    for depth in (0, 1, 2, 4, 8, 16, 32):
        for colour in (0, 2, 3, 4, 6, 7):
            yield f"PNG of depth {depth} and colour {colour}", png(16, 16, depth, colour, rng.bytes(16 * 16 * 8 + 16))
    yield "PNG with far too many rows", png(16, 16, 8, 2, bytes(2_000_000))


def tags(rng: np.random.Generator) -> Iterator[Named]:
    """TIFFs by hand, whose tags say what is not so: sizes, bits, strips, tiles, compressions, and directories in a circle."""
    basic = {256: 32, 257: 32, 258: 8, 259: 1, 262: 1, 273: 400, 277: 1, 278: 32, 279: 1024}
    changes = [(tag, value) for tag in basic for value in (0, 3, 255, 65535, 2**31, 2**32 - 1)]
    changes += [(259, value) for value in (2, 5, 6, 7, 8, 32773, 32946, 34712, 34887, 34925, 50000, 50001)]
    changes += [(tag, 65000) for tag in (322, 323, 324, 325, 338, 339, 274, 700, 33723, 34377, 34665, 34675, 34853, 330, 37724)]
    for tag, value in changes:
        yield f"TIFF with tag {tag} = {value}", tiff({**basic, tag: value}, rng.bytes(1024))
    yield "TIFF in tiles of 6000 x 6000", tiff({**basic, 322: 6000, 323: 6000, 324: 400, 325: 1024}, rng.bytes(1024))
    yield "TIFF of 40 million rows", tiff({**basic, 257: 4_000_000, 256: 10}, rng.bytes(1024))
    yield "TIFF in a circle", tiff(basic, bytes(1024), following=8)
    yield "TIFF with a directory of 65535 tags", b"II*\0\x08\0\0\0" + b"\xff\xff" + struct.pack("<HHII", 256, 4, 1, 32) * 3000


def tiff(values: dict[int, int], pixels: bytes, following: int = 0) -> bytes:
    """A little-endian TIFF whose tags hold one number each; its pixels begin at byte 400."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(values.items()))
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(values)) + entries + struct.pack("<I", following)
    return head.ljust(400, b"\0") + pixels


def metadata(rng: np.random.Generator) -> Iterator[Named]:
    """JPEGs with damaged EXIF, colour profiles and segments, and EXIF whose directories point at each other."""
    image = photo()
    for number in range(30):
        exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", number % 7) + rng.bytes(12 * (number % 7 + 1))
        yield f"EXIF rot {number}", encoded(image, "JPEG", exif=exif)
    circle = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<HHII", 0x0112, 3, 1, 9)
    yield "EXIF in a circle", encoded(image, "JPEG", exif=circle + struct.pack("<I", 8))
    for number in range(20):
        profile = rng.bytes(36) + b"acsp" + rng.bytes(200 + 40 * number)
        yield f"profile rot {number}", encoded(image.convert("CMYK"), "JPEG", icc_profile=profile)
    plain = encoded(image, "JPEG")
    for marker in range(0xC0, 0x100, 3):
        yield f"JPEG with segment {marker:x}", plain[:2] + bytes([0xFF, marker, 0, 20]) + rng.bytes(18) + plain[2:]
    yield "JPEG of markers", b"\xff\xd8" + b"\xff\xd0" * 20_000 + plain[2:]


def strange_scans() -> Iterator[Named]:
    """DICOM files whose elements contradict their pixels."""
    if not scans():
        return
    stored = np.zeros((16, 16), np.uint16)
    for name, value in (("Rows", 65535), ("Rows", 0), ("Columns", 65535), ("SamplesPerPixel", 3), ("BitsAllocated", 1),
                        ("BitsAllocated", 64), ("BitsStored", 0), ("NumberOfFrames", 2**31 - 1), ("NumberOfFrames", 0),
                        ("PixelRepresentation", 7), ("PhotometricInterpretation", "PALETTE COLOR"), ("RescaleSlope", 1e300),
                        ("RescaleSlope", 0), ("RescaleIntercept", -1e300), ("WindowWidth", 0), ("WindowWidth", -5),
                        ("WindowCenter", 1e300)):
        yield f"DICOM with {name} {value}", dicom(stored, **{name: value})
    plain = dicom(stored)
    begin = plain.index(b"\xe0\x7f\x10\x00")  # the pixels' element
    nested = (b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 5000
    yield "DICOM of 5000 nested sequences", plain[:begin] + nested + plain[begin:]
    yield "DICOM with an element of 4 GB", plain[:begin] + b"\x08\x00\x16\x11UN\0\0\xfe\xff\xff\xff" + plain[begin:]


def no_pictures(rng: np.random.Generator) -> Iterator[Named]:
    """Other files, beginnings of formats before noise, and nothing at all."""
    yield from (("nothing", b""), ("zeros", bytes(5000)), ("words", b"These are only words.\n" * 50), ("brackets", b"[" * 50_000))
    for mark in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x90\x01\0\0WEBPVP8 ", b"RIFF\x90\x01\0\0WEBPVP8L", b"GIF89a", b"BM",
                 b"II*\0", b"MM\0*", b"II+\0", b"\0\0\0\x18ftypavif", b"%PDF-1.7", b"<svg", b"PK\x03\x04", bytes(128) + b"DICM", b""):
        for number in range(4):
            yield f"{mark[:12]!r} before noise {number}", mark + rng.bytes(400)


def many_scans(side: int, count: int) -> bytes:
    """A progressive JPEG of side x side pixels, whose last scan comes ``count`` times; each is decoded anew."""
    plain = encoded(Image.new("L", (side, side), 90), "JPEG", progressive=True, quality=30)
    begin, end = plain.rindex(JPEG_SCAN), plain.rindex(JPEG_END)
    return plain[:begin] + plain[begin:end] * count + JPEG_END


def flat(**options: object) -> bytes:
    """A WebP of 40 million pixels of one colour."""
    return encoded(Image.new("RGB", (7000, 5700), (9, 80, 200)), "WEBP", method=0, **options)


COSTLY: dict[str, Callable[[], bytes]] = {  # seconds or gigabytes each, and the largest pictures that are allowed
    "JPEG of 4000 scans": lambda: many_scans(1500, 4000),
    "WebP of 40 million pixels": lambda: flat(quality=1),
    "lossless WebP of 40 million pixels": lambda: flat(lossless=True, quality=0),
    "PNG of 40 million pixels with alpha": lambda: png(7000, 5700, 8, 6, bytes((4 * 7000 + 1) * 5700)),
    "PNG of 400 million pixels": lambda: png(20_000, 20_000, 8, 0, bytes(20_001 * 20)),
    "GIF of 40 million pixels": lambda: encoded(Image.new("P", (7000, 5700)), "GIF"),
}
