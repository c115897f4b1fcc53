"""How long a person waits for a cheap map while another session's long run computes on the same server.

    python -m tests.benchmarks.beside_long_runs --methods rise input_iba dmbp

Two tabs of chromium at a server with an empty cache, and EfficientNet-Lite0. The first starts the long run. The second, which is open,
turns to pictures that nobody has looked at: seconds from the click until the changed map is painted. The same is measured with other
pictures before the long run, when nothing else computes.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import explainers as ex
from tests.benchmarks.command_line import add_summary, parser_of
from tests.benchmarks.long_run import served
from tests.benchmarks.startup import CHANGED, CHROMIUM, FLAGS, PORT, REMEMBER, wait
from tests.benchmarks.summaries import keep

CHEAP = "Gradient"
BEFORE, DURING = range(1, 4), range(4, 8)  # places in the row of pictures; the page opens with the first


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--methods", nargs="+", default=["rise", "input_iba", "dmbp"], help="keys of the long runs")
    add_summary(parser)
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    for method in (ex.methods()[key].title for key in arguments.methods):
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
            os.environ["EXPLORER_CACHE"] = folder
            with served():
                wait(time.perf_counter())
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                alone, beside = measured(browser, method)
                browser.close()
        for what, seconds in (("nothing", alone), (method, beside)):
            print(f"{CHEAP} beside {what}: {', '.join(f'{each:.2f}' for each in seconds)} s", flush=True)
        keep(arguments.summary, {"what": f"beside {method}"},
             result=f"{min(beside):.2f} to {max(beside):.2f} s (alone {statistics.median(alone):.2f} s)")


def measured(browser: Any, method: str) -> tuple[list[float], list[float]]:
    """Seconds of each view of the cheap map: before the long run of this method and during it."""
    tab = opened(browser, CHEAP, seed=1)
    tab.locator(".js-plotly-plot .heatmaplayer image").first.wait_for()
    tab.wait_for_timeout(3000)
    alone = turns(tab, BEFORE)
    other = opened(browser, method, seed=2)
    other.get_by_role("button", name="Explain, about").first.click()
    other.locator("[data-testid=stProgress]").first.wait_for()
    tab.wait_for_timeout(3000)
    beside = turns(tab, DURING)
    if not other.locator("[data-testid=stProgress]").count():
        raise SystemExit(f"{method} ended before the cheap maps were painted: choose a longer one.")
    return alone, beside


def opened(browser: Any, method: str, seed: int) -> Any:
    """A new tab of a new session."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(60_000)
    page.goto(f"http://127.0.0.1:{PORT}/?" + urlencode({"network": "efficientnet_lite0", "methods": method, "seed": seed}))
    return page


def turns(tab: Any, places: Sequence[int]) -> list[float]:
    """Seconds from the click on each of these pictures until its map is painted."""
    seconds = []
    for number in places:
        tab.wait_for_timeout(700)
        tab.evaluate(REMEMBER)
        begin = time.perf_counter()
        tab.locator("[class*=st-key-picture-]").nth(number).locator("button").first.click()
        tab.evaluate(CHANGED)
        seconds.append(time.perf_counter() - begin)
    return seconds


if __name__ == "__main__":
    main()
