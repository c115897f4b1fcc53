"""The app as a person meets it, in chromium: painted maps, uploads, links, downloads, a stop that stops, a phone."""

from __future__ import annotations

import json
import re
import time
from io import BytesIO
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from browser.conftest import free_port, server

pytestmark = pytest.mark.browser

THREE = "methods=Grad-CAM&methods=Gradient&methods=Guided+Backpropagation"


def jpeg() -> bytes:
    y, x = np.mgrid[:200, :320]
    pixels = np.stack([x % 256, (y * 2) % 256, (x + y) % 256], -1).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def upload(visit, name: str, kind: str, data: bytes) -> None:
    visit.page.locator("[class*=st-key-uploaded_files] input[type=file]").set_input_files(
        {"name": name, "mimeType": kind, "buffer": data})


def test_the_start_page_paints_three_maps(visit):
    page, files = visit(), []
    page.page.on("request", lambda request: files.append(request.url) if urlsplit(request.url).path.startswith("/media/") else None)
    page.go(network="")
    waiting = page.page.locator(".st-key-run-maps button").first
    if waiting.count():  # on a busy machine the estimate may pass the limit
        waiting.click()
    assert all(source and source.startswith("data:image/png") for source in page.painted(3))
    first = page.page.locator(".st-key-previews")
    assert first.count() <= 1 and not first.is_visible()  # the pictures that were there before the figure
    assert not files, "a picture file that another replaces is gone before a slow browser asks for it"


def test_a_real_file_is_uploaded_and_explained_by_three_methods(visit):
    page = visit().go("?" + THREE)
    before = page.painted(3)
    upload(page, "photo.jpg", "image/jpeg", jpeg())
    page.page.get_by_text("framed part seen at").wait_for()
    page.settle()
    assert not set(page.painted(3)) & set(before)
    assert "picture=upload-" in page.page.url


def test_a_bad_file_gets_a_line_and_the_maps_stay(visit):
    page = visit().go("?" + THREE)
    before = page.painted(3)
    upload(page, "notes.jpg", "image/jpeg", b"not a picture")
    page.page.get_by_text("notes.jpg:").wait_for()
    page.settle()
    assert page.painted(3) == before


@pytest.fixture()
def cold(tmp_path):
    """A server of its own, which is named before ``visit`` so that it stops after the page was closed: pages ask for fonts late."""
    with server(tmp_path) as started:
        yield started


@pytest.mark.parametrize(("link", "sign"), [("?" + THREE, ".js-plotly-plot"), ("methods?family=Control", "[class*=st-key-card-]")])
def test_a_cold_deep_link_brings_the_whole_app(cold, visit, link, sign):
    """On a cold server Streamlit runs a linked page without app.py, unless the page takes care."""
    page = visit(at=cold).go(link, wait=sign)
    assert page.page.get_by_role("button", name="Use another network").is_visible()
    assert page.page.get_by_role("link", name="Methods").first.is_visible()
    assert page.page.locator("[data-testid=stDialog]").count() == 0


def test_after_a_restart_the_open_tab_says_what_is_missing(visit, tmp_path):
    """Streamlit leaves the old view on the screen when the server is back; the next rerun, here by its key R, asks for the file."""
    port = free_port()
    connection = "() => document.querySelector('[data-testid=stApp]').dataset.testConnectionState"
    with server(tmp_path, port) as first:
        page = visit(at=first).go("?methods=Gradient")
        upload(page, "photo.jpg", "image/jpeg", jpeg())
        page.page.wait_for_function("() => location.search.includes('picture_file=photo.jpg')")
        page.settle()
        before = page.painted(1)
    page.page.wait_for_function(f"{connection} !== 'CONNECTED'")
    with server(tmp_path, port):
        page.page.wait_for_function(f"{connection} === 'CONNECTED'")
        page.page.keyboard.press("r")
        page.page.locator(".st-key-missing").get_by_text("This link needs photo.jpg").wait_for()
        page.settle()
        assert page.maps() == 0
        page.page.locator("[class*=st-key-missing_picture] input[type=file]").set_input_files(
            {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": jpeg()})
        assert page.painted(1) == before
    page.problems.clear()  # the connection was refused while there was no server


def test_a_display_control_redraws_without_computing(visit):
    page = visit().go("?" + THREE)
    before, cost = page.painted(3), page.page.locator(".st-key-settings").inner_text()
    page.page.get_by_role("radio", name="Magnitude").click()
    page.page.wait_for_function("() => location.search.includes('values=Magnitude')")
    page.page.wait_for_timeout(300)
    page.settle()
    assert page.painted(3) != before
    assert page.page.locator(".st-key-settings").inner_text() == cost


def test_the_figure_answers_in_the_browser(visit):
    """Hovering and linked zoom need no rerun; opacity has a test in test_accessibility.py."""
    page = visit().go("?" + THREE).page
    graph = "document.querySelector('.js-plotly-plot')"

    box = page.locator(".js-plotly-plot .nsewdrag").nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2 + 3)
    page.wait_for_selector(".js-plotly-plot .hoverlayer .hovertext")
    assert "% of the pixels" in page.locator(".hoverlayer").text_content()

    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 140, steps=5)
    page.mouse.up()
    page.wait_for_function(f"() => {graph}._fullLayout.xaxis.range[1] < 110")
    ranges = page.evaluate(f"() => ['xaxis', 'xaxis2', 'xaxis4'].map(a => {graph}._fullLayout[a].range.map(Math.round))")
    assert ranges[0] == ranges[1] == ranges[2]


def test_downloads_arrive(visit):
    page = visit().go("?" + THREE)
    files = {}
    for ending in ("png", "svg", "npz", "json"):
        with page.page.expect_download() as waiting:
            page.page.locator(f".st-key-download-{ending} button").first.click()
        files[ending] = waiting.value.path().read_bytes()
        assert waiting.value.suggested_filename.endswith(ending)
    assert Image.open(BytesIO(files["png"])).width > 1500 and b"<svg" in files["svg"][:500]
    arrays = np.load(BytesIO(files["npz"]))
    assert arrays["gradient.native"].shape == (3, 128, 128) and arrays["grad_cam.heatmap"].shape == (128, 128)
    settings = json.loads(files["json"])
    assert set(settings["methods"]) == {"grad_cam", "gradient", "guided_backprop"}


def test_stop_stops_and_keeps_what_is_there(visit):
    page = visit().go("?methods=Gradient&methods=RISE&rise.masks=20000", wait=".st-key-run-maps button")
    page.page.locator(".st-key-run-maps button").first.click()
    page.page.get_by_text(re.compile("^RISE, about .* left$")).first.wait_for()
    page.page.wait_for_timeout(600)
    begin = time.monotonic()
    page.page.locator(".st-key-stop-maps button").first.click()
    page.page.locator(".st-key-stop-maps").wait_for(state="detached")
    page.page.get_by_text(re.compile("^Explain, about")).first.wait_for()
    assert time.monotonic() - begin < 3
    page.settle()
    assert page.maps() == 2  # Gradient, and the draft of RISE that ran by itself


def test_a_changed_widget_abandons_the_run(visit):
    page = visit().go("?methods=RISE&rise.masks=20000", wait=".st-key-run-maps button")
    page.page.locator(".st-key-run-maps button").first.click()
    page.page.locator(".st-key-stop-maps button").first.wait_for()
    page.page.locator("[class*=st-key-picture-]").nth(1).locator("button").first.click()
    page.page.get_by_text(re.compile("^Explain, about")).first.wait_for(timeout=5000)
    page.settle()
    assert page.page.locator(".st-key-stop-maps").count() == 0


def test_the_choice_survives_a_change_of_page(visit):
    page = visit().go("?" + THREE + "&gradient.times_input=true")
    page.page.locator("[class*=st-key-picture-]").nth(2).locator("button").first.click()
    page.page.wait_for_function("() => location.search.includes('picture=')")
    page.settle()
    before = page.painted(3)
    page.page.get_by_role("link", name="Methods").first.click()
    page.page.wait_for_selector("[class*=st-key-card-]")
    page.settle()
    page.page.get_by_role("link", name="Compare").first.click()
    page.page.wait_for_selector(".js-plotly-plot .heatmaplayer image")
    page.settle()
    assert page.painted(3) == before and "gradient.times_input=true" in page.page.url


@pytest.mark.parametrize("link", ["?" + THREE + "&controls=true", "methods"])
def test_a_phone_never_scrolls_sideways(visit, link):
    page = visit(390, 844).go(link, wait="[class*=st-key-card-]" if link == "methods" else ".js-plotly-plot .heatmaplayer image")
    assert page.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert page.page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollWidth <= innerWidth")


def test_the_link_is_copied_by_keyboard(visit, chromium):
    chromium.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit().go("?methods=Gradient")
    page.page.get_by_role("button", name="Copy link").focus()
    page.page.keyboard.press("Enter")
    page.page.get_by_text("Copied").wait_for()
    assert page.page.evaluate("navigator.clipboard.readText()") == page.page.url
    assert "picture=star-heart" in page.page.url and "network_id=" in page.page.url
