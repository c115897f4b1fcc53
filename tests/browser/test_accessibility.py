"""Every page in chromium, light and dark: axe-core, contrast and size of texts; keyboard, announced states, what fits a screen."""

from __future__ import annotations

import re

import pytest
from support.paths import ROOT

pytestmark = pytest.mark.browser

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
TEXTS = (ROOT / "tests" / "browser" / "texts.js").read_text()
LINK = "?network=scenes_vgg&methods=Grad-CAM&methods=Gradient"
FIVE = ("?network=scenes_vgg&methods=Grad-CAM&methods=Gradient&methods=Guided+Backpropagation&methods=Integrated+Gradients"
        "&methods=Positive+Gradient+x+Input")
LEAST_CONTRAST, SMALLEST = 4.5, 12.0
FEWEST_TEXTS = 30  # on a page that is there
MAP = ".js-plotly-plot .heatmaplayer image"


def opened(visit, name: str, theme: str, width: int = 1440, height: int = 900):
    page = visit(width, height, color_scheme=theme)
    return page.go(("" if name == "compare" else name) + LINK, wait=".st-key-heading h1")


def serious(page) -> list[str]:
    """What axe-core finds serious or critical, with the first part of the page that it names."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in axe.run(page).response["violations"]
            if each["impact"] in ("serious", "critical")]


def hard_to_read(page) -> list[str]:
    """The texts that are too faint on their ground, or too small."""
    texts = page.evaluate(TEXTS)
    assert len(texts) > FEWEST_TEXTS
    return [f"{each['text'][:40]!r}: {each['ratio']:.2f}:1, {each['size']:g} px, {each['where']}" for each in texts
            if each["ratio"] < LEAST_CONTRAST or each["size"] < SMALLEST]


@pytest.mark.parametrize("name", PAGES)
def test_every_page_can_be_read_and_passes_axe(visit, name):
    shown = opened(visit, name, "light")
    page, grounds = shown.page, []
    for theme in ("light", "dark"):
        if theme == "dark":
            page.emulate_media(color_scheme="dark")
            page.reload()  # charts are drawn in the colours of the theme that the page is opened with
            page.wait_for_selector(".st-key-heading h1")
            shown.settle()
        page.wait_for_timeout(1500)  # charts find their size, and the script of accessibility.py waits for the page to rest
        shown.settle()  # what a new run has not drawn yet is faded
        page.wait_for_function("() => document.getAnimations().every(each => each.transitionProperty !== 'opacity')")
        grounds.append(page.evaluate("() => getComputedStyle(document.querySelector('.stApp')).backgroundColor"))
        assert not hard_to_read(page)
        if theme == "light":  # the one rule of axe-core that depends on the theme is contrast, which was measured just now
            assert not serious(page)
    light, dark = ([int(part) for part in re.findall(r"\d+", ground)[:3]] for ground in grounds)
    assert min(light) > 200 and max(dark) < 60, "the page follows the theme"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_caption_in_a_popover_can_be_read(visit, theme):
    page = opened(visit, "compare", theme).page
    page.get_by_role("button", name="Use another network").click()
    page.locator("[data-testid=stPopoverBody]").wait_for()
    page.evaluate("""() => { const caption = document.querySelector('.stApp [data-testid=stCaptionContainer]').cloneNode(true);
        caption.querySelector('p').textContent = 'A caption in a popover';
        document.querySelector('[data-testid=stPopoverBody]').prepend(caption); }""")  # none of the app's popovers has a caption now
    (caption,) = [each for each in page.evaluate(TEXTS) if each["text"] == "A caption in a popover"]
    assert caption["ratio"] >= LEAST_CONTRAST


@pytest.mark.parametrize("width", [1440, 390])
def test_no_equation_and_no_table_is_wider_than_its_card(visit, width):
    page = opened(visit, "methods", "light", width).page
    page.wait_for_selector("[class*=st-key-card-] .katex-display")
    wide = page.evaluate("""() => [...document.querySelectorAll("[class*=st-key-card-] :is(.katex-display, .parameters)")]
        .filter(each => each.scrollWidth > each.clientWidth + 2 || each.clientWidth > each.parentElement.clientWidth + 2)
        .map(each => each.textContent)""")
    assert not wide
    assert page.locator(".katex-error").count() == 0


def test_faint_and_small_text_would_be_found(visit):
    page = opened(visit, "methods", "light").page
    page.evaluate("""() => { const heading = document.querySelector('.st-key-heading h1');
        heading.style.opacity = 0.4; document.querySelector('.heading p').style.fontSize = '10px'; }""")
    assert len(hard_to_read(page)) == 2


def test_the_chosen_picture_is_announced_and_chosen_by_keyboard(visit):
    page = opened(visit, "compare", "light").page
    page.wait_for_selector("[class*=st-key-picture-] button[aria-current=true]")
    buttons = page.locator(".st-key-gallery button:visible")  # Streamlit draws a second one for narrow pages and hides it
    other = next(place for place in range(buttons.count()) if buttons.nth(place).get_attribute("aria-current") is None)
    name = buttons.nth(other).inner_text()
    buttons.nth(other).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")  # focus that came by keyboard is shown
    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_function("name => document.querySelector('.st-key-gallery button[aria-current=true]')?.innerText === name", arg=name)
    assert page.locator(".st-key-gallery button[aria-current=true]:visible").count() == 1


def test_the_opacity_slider_works_by_keyboard_and_keeps_the_zoom(visit):
    page = opened(visit, "compare", "light")
    page.page.wait_for_selector(MAP)
    page.settle()
    page = page.page
    box = page.locator(".js-plotly-plot .nsewdrag").nth(1).bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 140, steps=5)
    page.mouse.up()
    zoomed = "() => Math.round(document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range[1])"
    page.wait_for_function(f"() => ({zoomed})() < 110")
    zoom = page.evaluate(zoomed)
    slider = page.get_by_role("slider", name="Opacity of the maps")
    slider.focus()
    page.keyboard.press("Home")
    page.wait_for_function("() => getComputedStyle(document.querySelector('.st-key-maps .heatmaplayer')).opacity === '0'")
    assert page.evaluate(zoomed) == zoom


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 844)])
def test_the_maps_are_on_the_first_screen(visit, width, height):
    page = visit(width, height).go(LINK)
    for place in range(2):  # the picture as the network sees it, and the first map
        box = page.page.locator(".js-plotly-plot .nsewdrag").nth(place).bounding_box()
        assert box["y"] + box["height"] / 2 <= height


@pytest.mark.parametrize("width", [1280, 390])
def test_no_text_of_the_figure_runs_into_another(visit, width):
    page = visit(width, 900).go(FIVE)
    page.page.wait_for_function("() => document.querySelectorAll('.st-key-maps .annotation-text').length > 12")
    boxes = page.page.eval_on_selector_all(".st-key-maps .annotation-text", """nodes => nodes.map(node => {
        const {left, right, top, bottom} = node.getBoundingClientRect(); return [node.textContent, left, right, top, bottom]; })""")
    overlaps = [(box[0], other[0]) for place, box in enumerate(boxes) for other in boxes[place + 1:]
                if box[1] + 1 < other[2] and other[1] + 1 < box[2] and box[3] + 3 < other[4] and other[3] + 3 < box[4]]
    assert not overlaps
