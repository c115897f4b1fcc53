"""One method twice, in a real browser: the URL gets a copy's settings, a reload brings them back, and another page keeps them."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

pytestmark = pytest.mark.browser

LINK = "?methods=SmoothGrad&smoothgrad.samples=2&seed=7"
TITLES = ["SmoothGrad \u00b7 samples 2", "SmoothGrad \u00b7 samples 3"]
BUTTONS = ".st-key-settings [data-testid=stPopoverButton]:visible"


def labels(seen) -> list[str]:
    """The titles on the buttons of the settings, without the names of their icons."""
    return [text.split("\n")[0].strip() for text in seen.page.locator(BUTTONS).all_inner_texts()]


def query(seen) -> dict[str, list[str]]:
    return parse_qs(urlsplit(seen.page.url).query)


def test_a_copy_is_made_changed_reloaded_and_carried_to_another_page(visit):
    seen = visit().go(LINK)
    seen.page.locator(BUTTONS).first.click()
    seen.page.get_by_role("button", name="Compare with other settings").click()
    seen.settle()
    seen.painted(2)
    assert query(seen)["copies"] == ["smoothgrad~2"] and query(seen)["smoothgrad~2.samples"] == ["2"]
    assert labels(seen) == ["SmoothGrad 1", "SmoothGrad 2"]
    seen.page.keyboard.press("Escape")
    seen.page.locator(BUTTONS).nth(1).click()
    samples = seen.page.locator(".st-key-smoothgrad-2-samples input")
    samples.fill("3")
    samples.press("Enter")
    seen.settle()
    assert labels(seen) == TITLES and seen.page.locator("[data-testid=stPopoverBody]").count() == 1
    seen.page.keyboard.press("Escape")
    first, second = seen.painted(2)
    assert first != second and query(seen)["smoothgrad~2.samples"] == ["3"]
    again = visit().go(seen.page.url.split("/", 3)[3])
    assert labels(again) == TITLES and again.painted(2) == [first, second]
    again.page.get_by_role("link", name="Sanity checks").click()
    again.page.wait_for_selector(".strip")
    again.settle()
    assert labels(again) == TITLES
    again.page.get_by_role("link", name="Compare").click()
    again.page.wait_for_selector(".js-plotly-plot .heatmaplayer image")
    again.settle()
    again.page.locator(BUTTONS).nth(1).click()
    again.page.get_by_role("button", name="Remove", exact=True).click()
    again.settle()
    assert labels(again) == ["SmoothGrad"] and not {"copies", "smoothgrad~2.samples"} & query(again).keys()
    again.page.locator(BUTTONS).first.click()
    again.page.get_by_role("button", name="Compare with other settings").click()
    again.settle()
    assert labels(again) == ["SmoothGrad 1", "SmoothGrad 2"] and query(again)["smoothgrad~2.samples"] == ["2"]


def test_how_maps_are_drawn_is_kept_on_another_page_and_in_its_address(visit):
    seen = visit().go("?methods=Gradient&values=Magnitude&backdrop=Colour&clip=95+%25")
    pages = {"Methods": "[class*=st-key-card-]", "Class sensitivity": ".class-row", "Compare": ".js-plotly-plot .heatmaplayer image"}
    for link, wait in pages.items():
        seen.page.get_by_role("link", name=link, exact=True).click()
        seen.page.wait_for_selector(wait)
        seen.settle()
        assert {name: query(seen).get(name) for name in ("values", "backdrop", "clip")} == {
            "values": ["Magnitude"], "backdrop": ["Colour"], "clip": ["95 %"]}
    chosen = seen.page.locator(".st-key-values [role=radio][aria-checked=true], .st-key-values button[kind$=Active]")
    assert chosen.inner_text().split("\n")[0].strip() == "Magnitude"
