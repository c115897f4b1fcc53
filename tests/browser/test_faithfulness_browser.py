"""The faithfulness page in chromium: curves that are painted, a slider that scrubs, a link that opens cold."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

QUICK = "faithfulness?network=Digits%3A+CNN-M+of+MIP-IN&methods=Gradient&methods=Gradient+x+Input&step=112"
LINES = "#root .st-key-curves .scatterlayer path.js-line"


def pictures(visit) -> list[str]:
    return visit.page.eval_on_selector_all(".scrub img", "nodes => nodes.map(node => node.src)")


def open_curves(visit, link: str = QUICK):
    page = visit.go(link, wait=".st-key-curves .js-plotly-plot, .st-key-run-curves button")
    waiting = page.page.locator(".st-key-run-curves button").first
    if waiting.count():  # on a busy machine the estimate may pass the limit
        waiting.click()
    page.page.wait_for_selector(LINES)
    page.settle()
    return page


def test_curves_are_painted_and_the_slider_scrubs_all_methods(visit):
    page = open_curves(visit())
    methods = page.page.locator(".scrub figure").count()
    assert methods >= 4 and page.page.locator(LINES).count() == 2 * methods
    before = pictures(page)
    page.page.locator(".st-key-share input[type=range]").focus()
    page.page.keyboard.press("End")
    page.page.wait_for_function("before => document.querySelector('.scrub img').src !== before", arg=before[0])
    page.settle()
    after = pictures(page)
    assert len(after) == 2 * methods and len(set(after[::2])) == 1  # everything is inserted: the same picture for all
    assert "share=100" in page.page.url


def test_the_downloads_are_what_they_say(visit):
    page = open_curves(visit())
    for ending, begins in (("csv", b"method,curve,fraction,probability\n"), ("json", b"{")):
        with page.page.expect_download() as caught:
            page.page.locator(f".st-key-curve-download-{ending} button").first.click()
        with open(caught.value.path(), "rb") as file:
            assert file.read(len(begins)) == begins


def test_the_page_fits_a_phone(visit):
    page = open_curves(visit(390, 844))
    assert page.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.page.locator(".scrub figure").first.bounding_box()["width"] <= 390
