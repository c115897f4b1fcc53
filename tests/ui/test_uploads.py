"""What people drop on the app: one line for what cannot be used, a note for what was changed, and nothing lost."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from support import page
from support.corpus_pictures import many_scans
from support.page import chosen_picture, click, errors, maps

from components.state import decoded
from explainers.decoding import Decoders


def photo(width: int = 160, height: int = 120) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x % 256, y % 256, (x * y) % 256], -1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG that promises 20,000 x 20,000 pixels in a few bytes."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def animation() -> bytes:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def sixteen_bit() -> bytes:
    return encoded(Image.fromarray((np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16)), "PNG")


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(photo(), "JPEG", exif=exif)


REFUSED = {
    "text.jpg": lambda: b"this is no picture\n" * 20,
    "truncated.jpg": lambda: encoded(photo(), "JPEG")[:1500],
    "empty.png": lambda: b"",
    "one.png": lambda: encoded(Image.new("RGB", (1, 1)), "PNG"),
    "bomb.png": bomb,
}
ACCEPTED = {
    "photo.jpg": lambda: encoded(photo(), "JPEG"),
    "animation.gif": animation,
    "print.jpg": lambda: encoded(photo().convert("CMYK"), "JPEG"),
    "scan.png": sixteen_bit,
    "palette.png": lambda: encoded(photo().convert("P"), "PNG", transparency=photo().convert("P").getpixel((5, 5))),
    "turned.jpg": turned,
}


def give(app, *files: tuple[str, bytes]):
    return page.upload(app, "uploaded_files", *((name, data, "image/png") for name, data in files))


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_file_gets_one_line_and_the_picture_stays(open_app, name):
    app = open_app(query={"methods": ["Gradient"]})
    before = maps(app)
    app = give(app, (name, REFUSED[name]()))
    assert not app.exception
    assert len(errors(app)) == 1 and "\n" not in errors(app)[0] and errors(app)[0].startswith(name)
    assert maps(app) == before
    app = give(app, ("photo.jpg", ACCEPTED["photo.jpg"]()))
    assert not errors(app) and maps(app) != before


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_picture_of_any_kind_is_taken_and_chosen(open_app, name):
    app = open_app(query={"methods": ["Gradient"]})
    before = maps(app)
    app = give(app, (name, ACCEPTED[name]()))
    assert not app.exception and not errors(app)
    assert maps(app) != before and chosen_picture(app).startswith("upload-")
    notes = page.captions(app, "picture_notes")
    assert bool(notes) == (name != "photo.jpg"), notes


def test_a_good_file_among_bad_ones_is_taken(open_app):
    app = open_app(query={"methods": ["Gradient"]})
    before = maps(app)
    app = give(app, ("bad.png", b""), ("good.jpg", ACCEPTED["photo.jpg"]()))
    assert len(errors(app)) == 1 and maps(app) != before


def test_costly_files_are_ended_and_the_good_one_is_taken(open_app, monkeypatch):
    workers = Decoders(most=1, seconds=1)
    monkeypatch.setattr(decoded, "decoders", lambda: workers)
    app = open_app(query={"methods": ["Gradient"]})
    before = maps(app)
    app = give(app, ("slow.jpg", many_scans(1500, 4000)), ("good.jpg", ACCEPTED["photo.jpg"]()), ("bomb.png", bomb()))
    assert not app.exception and len(errors(app)) == 2 and "takes more than 1 s" in errors(app)[0]
    assert maps(app) != before and page.value(app, "methods") == ["gradient"]
    workers.close()


def test_a_hostile_name_is_shown_as_plain_text(open_app):
    app = open_app()
    app = give(app, ("<img src=x onerror=alert(1)> [a](http://b).png", b""))
    (line,) = errors(app)
    assert not any(markup in line for markup in (" <img", "[a]", "http:")) and page.read(line).startswith("<img src=x onerror=alert")


def test_the_part_that_the_network_sees_is_told(open_app):
    app = open_app(query={"methods": ["Gradient"]})
    app = give(app, ("wide.jpg", encoded(photo(320, 160), "JPEG")))
    assert "320 \u00d7 160, framed part seen at 128 \u00d7 128" in page.section(app, "overview")


TWELVE = [(f"{number}.png", encoded(photo(40 + number, 40), "PNG")) for number in range(12)]


def test_twelve_uploads_are_stepped_through_and_named(open_app):
    app = give(open_app(query={"methods": ["Gradient"]}), *TWELVE)
    steps = page.section(app, "upload_steps")
    assert "1 of 12: 0.png" in steps and page.widget(app, "previous_picture").disabled
    thumbnails = [key for key in page.keys(app) if key.startswith("picture-upload-")]
    assert len(thumbnails) == 8 and len(page.keys(app)) < 120
    for _ in range(8):
        app = click(app, "next_picture")
    assert "9 of 12: 8.png" in page.section(app, "upload_steps")
    assert len([key for key in page.keys(app) if key.startswith("picture-upload-")]) == 4
    assert app.query_params["picture_file"] in ("8.png", ["8.png"])
    app = click(app, "remove_picture")
    assert "9 of 11: 9.png" in page.section(app, "upload_steps")


def test_uploads_added_later_join_the_earlier_ones(open_app):
    app = give(open_app(query={"methods": ["Gradient"]}), TWELVE[0])
    first = maps(app)
    app = give(app, TWELVE[1])
    assert "2 of 2: 1.png" in page.section(app, "upload_steps") and maps(app) != first
    assert maps(click(app, "previous_picture")) == first


def test_the_first_picture_follows_the_network_too(open_app):
    """Nobody has chosen a picture, and the first choice on the page is another network."""
    app = page.choose(open_app(query={"methods": ["Gradient"]}), "network", "digits_cnn")
    assert chosen_picture(app).startswith("digit-") and not page.has(app, "picture_mismatch")


def test_the_gallery_follows_the_network_and_other_pictures_can_be_reached(open_app):
    app = open_app(query={"methods": ["Gradient"]})
    assert not page.has(app, "picture-digit-3") and not page.has(app, "picture_mismatch")
    app = page.unfold(app, "other_pictures")
    app = click(app, "picture-digit-3")
    assert chosen_picture(app) == "digit-3" and not errors(app)
    assert "outside what it knows" in page.section(app, "picture_mismatch")
    assert "picture-digit-3" in {each.key for each in page.nodes(app, "gallery")}
