"""The list of methods in a real browser: it opens at once on every screen, a preset changes the URL, and Undo brings it back."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from support.paths import ROOT

pytestmark = pytest.mark.browser

LINK = "?methods=Gradient&methods=Occlusion"
TEXTS = (ROOT / "tests" / "browser" / "texts.js").read_text()
LIST = "[data-testid=stPopoverBody]"
LEAST_CONTRAST, SMALLEST = 4.5, 12.0


def chosen(seen) -> list[str]:
    return parse_qs(urlsplit(seen.page.url).query).get("methods", [])


def open_list(seen) -> None:
    seen.page.get_by_role("button", name="Presets and families").click()
    seen.page.locator(LIST).get_by_role("button", name="Quick look").wait_for()


@pytest.mark.parametrize(("width", "height", "theme"), [(1280, 720, "light"), (390, 844, "dark")])
def test_the_list_fits_the_screen_can_be_read_and_opens_without_a_run(visit, width, height, theme):
    seen, sent = visit(width, height, color_scheme=theme), []
    seen.page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    seen.go(LINK)
    if width < 640:
        seen.page.get_by_test_id("stExpandSidebarButton").first.click()
        seen.page.wait_for_timeout(600)
    assert sent
    before = len(sent)
    open_list(seen)
    seen.page.wait_for_timeout(400)
    assert len(sent) == before, "opening the list must not run the page, which would stop what it computes"
    box = seen.page.locator(LIST).bounding_box()
    assert box["x"] >= 0 and box["y"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= height
    assert seen.page.locator(LIST).evaluate("body => body.scrollWidth <= body.clientWidth + 1")
    seen.page.set_viewport_size({"width": width, "height": 4000})  # a text that is scrolled away lies on another ground
    seen.page.wait_for_function(
        "list => { const body = document.querySelector(list); return body.scrollHeight <= body.clientHeight + 1; }", arg=LIST)
    words = seen.page.locator(LIST).inner_text()
    texts = [each for each in seen.page.evaluate(TEXTS) if each["text"] in words]
    assert len(texts) > 20
    assert not [each for each in texts if each["ratio"] < LEAST_CONTRAST or each["size"] < SMALLEST]


def test_a_preset_a_family_and_undo_change_the_url_and_the_maps(visit):
    seen = visit().go(LINK)
    open_list(seen)
    listed = seen.page.locator(LIST)
    listed.get_by_role("button", name="Quick look").click()
    seen.page.wait_for_function("() => new URLSearchParams(location.search).getAll('methods').includes('Grad-CAM')")
    seen.settle()
    assert chosen(seen) == ["Grad-CAM", "Gradient x Input", "Guided Backpropagation"] and listed.is_visible()
    seen.painted(3)
    listed.get_by_role("button", name="Deconvnet").click()
    seen.page.wait_for_function("() => new URLSearchParams(location.search).getAll('methods').includes('Deconvnet')")
    seen.settle()
    assert chosen(seen)[-1] == "Deconvnet" and len(chosen(seen)) == 4
    seen.painted(4)
    listed.get_by_role("button", name="Undo").click()
    seen.page.wait_for_function("() => new URLSearchParams(location.search).getAll('methods').includes('Occlusion')")
    seen.settle()
    assert chosen(seen) == ["Gradient", "Occlusion"]
    seen.page.keyboard.press("Escape")
    again = visit().go(seen.page.url.split("/", 3)[3])
    tags = again.page.locator(".st-key-methods [data-testid=stMultiSelectTagsContainer] span[title]")
    assert tags.first.inner_text() == "Gradient"


def test_typing_a_short_name_finds_the_method_and_enter_chooses_it_alone(visit):
    seen = visit().go("?methods=Gradient")
    field = seen.page.locator(".st-key-methods input")
    field.click()
    field.type("GxSI")
    seen.page.get_by_role("option", name="Gradient x Sign (GxSI)").wait_for()
    seen.page.keyboard.press("Enter")
    seen.page.wait_for_function("() => new URLSearchParams(location.search).getAll('methods').length > 1")
    seen.settle()
    assert chosen(seen) == ["Gradient", "Gradient x Sign (GxSI)"]
