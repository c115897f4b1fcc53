"""The faithfulness page in chromium: curves that are painted, a slider that scrubs, a link that opens cold."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

QUICK = "faithfulness?network=Digits%3A+CNN-M+of+MIP-IN&methods=Gradient&methods=Gradient+x+Input&step=112"
LINES = "#root .st-key-curves .scatterlayer path.js-line"


def pictures(visit) -> list[str]:
    return visit.page.eval_on_selector_all(".st-key-scrub img", "nodes => nodes.map(node => node.src)")


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
    methods = page.page.locator(".st-key-scrub figure").count()
    assert methods >= 4 and page.page.locator(LINES).count() == 2 * methods
    before = pictures(page)
    page.page.locator(".st-key-share input[type=range]").focus()
    page.page.keyboard.press("End")
    page.page.wait_for_function("before => document.querySelector('.st-key-scrub img').src !== before", arg=before[0])
    page.settle()
    after = pictures(page)
    assert len(after) == 2 * methods and len(set(after[::2])) == 1  # everything is inserted: the same picture for all
    assert "share=100" in page.page.url


def test_the_downloads_are_what_they_say(visit):
    page = open_curves(visit())
    for ending, begins in (("csv", b"method,curve,fraction,probability,"), ("json", b"{")):
        with page.page.expect_download() as caught:
            page.page.locator(f".st-key-curve-download-{ending} button").first.click()
        with open(caught.value.path(), "rb") as file:
            assert file.read(len(begins)) == begins


def test_the_page_fits_a_phone(visit):
    page = open_curves(visit(390, 844))
    assert page.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.page.locator(".st-key-scrub figure").first.bounding_box()["width"] <= 390


PICTURE = ".st-key-localisation-picture"
CHANCE = ".st-key-localisation-table tr:last-child"
WHERE = "faithfulness?measurement=Localisation&picture=star-heart&methods=Gradient&class=heart"


def chance(page) -> str:
    """The region's area, as the table says it."""
    return page.page.locator(f"{CHANCE} td").nth(1).inner_text()


def test_what_is_drawn_stands_in_the_link(visit):
    page = visit().go(WHERE, wait=f"{PICTURE} .nsewdrag")
    seen = {chance(page)}
    drawn = (("Box", "box_left", [(0.2, 0.2), (0.4, 0.4), (0.6, 0.5)]), ("Box", "box_left", [(0.1, 0.2), (0.4, 0.4), (0.6, 0.5)]),
             ("Lasso", "region_outline", [(0.8, 0.4), (0.65, 0.7), (0.5, 0.4), (0.65, 0.1), (0.8, 0.4)]))
    for tool, key, corners in drawn:
        page.page.locator(f'{PICTURE} .modebar-btn[data-title*="{tool}"]').click()
        area = page.page.locator(f"{PICTURE} .nsewdrag").bounding_box()
        for place, (across, down) in enumerate(corners):
            page.page.mouse.move(area["x"] + across * area["width"], area["y"] + down * area["height"], steps=8)
            if place == 0:
                page.page.mouse.down()
        page.page.mouse.up()
        page.page.wait_for_function("key => new URL(location).searchParams.has(key)", arg=key)
        page.page.wait_for_function("([seen, row]) => !seen.includes(document.querySelector(row + ' td:nth-child(2)').innerText)",
                                    arg=[list(seen), CHANCE])
        page.settle()
        seen.add(chance(page))
    assert len(seen) == 4
    again = visit().go(page.page.url.split("/", 3)[3], wait=CHANCE)
    assert chance(again) == chance(page)


def test_the_button_gives_way_to_the_bar_and_stop_brings_it_back(visit):
    """Streamlit keeps what a former run drew until the next one has ended, unless something takes its place."""
    page = visit().go("faithfulness?picture=star-heart&methods=Gradient&class=heart&step=1&seed=9",
                      wait=".st-key-run-curves button").page
    page.locator(".st-key-run-curves button").first.click()
    page.wait_for_selector(".st-key-bar-curves [data-testid=stProgress]")
    page.wait_for_selector(".st-key-run-curves", state="detached", timeout=5000)
    page.locator(".st-key-stop-curves button").first.click()
    page.locator(".st-key-offer-curves").get_by_text("Stopped.").wait_for()
    assert page.locator(".st-key-run-curves").count() == 1 and page.locator(".st-key-bar-curves").count() == 0
