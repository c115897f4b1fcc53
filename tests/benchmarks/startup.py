"""How long a person waits: from `streamlit run app.py` to the first heatmap, and for a view that was seen before.

    python -m tests.benchmarks.startup --starts 3

Chromium is already open and asks for the page as soon as the server answers, as a person's browser would. "Painted" is
two animation frames after the map has its pixels; 10 s more means that a map waited for Explain. Every start has an empty
map cache. A start before the first leaves Python's compiled files behind, as any first start does; it is not counted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.command_line import add_summary, parser_of
from tests.benchmarks.summaries import keep

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PORT = 8647
PAINTED = """async expected => {
  const maps = () => [...document.querySelectorAll('.js-plotly-plot .heatmaplayer image, img[alt="Map so far"]')];
  const begin = performance.now();
  while (maps().length < expected && performance.now() - begin < 10000) await new Promise(f => setTimeout(f, 20));
  await new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)));
}"""
FIGURE = """async () => {
  while (!document.querySelector('.js-plotly-plot .heatmaplayer image')) await new Promise(f => setTimeout(f, 20));
  await new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)));
}"""
CHANGED = """async () => {
  const pixels = () => [...document.querySelectorAll('.js-plotly-plot .heatmaplayer image')].map(n => n.getAttribute('href')).join();
  while (!pixels() || pixels() === window.before) await new Promise(f => setTimeout(f, 10));
  await new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)));
}"""
RERUN = """async () => {
  const app = document.querySelector('[data-testid=stApp]');
  const state = () => app.getAttribute('data-test-script-state');
  const begin = performance.now();
  document.querySelector('[class*=st-key-picture-] button').click();
  while (state() !== 'running' && performance.now() - begin < 1000) await new Promise(f => setTimeout(f, 1));
  while (state() === 'running') await new Promise(f => setTimeout(f, 1));
  await new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)));
  return (performance.now() - begin) / 1000;
}"""
REMEMBER = """() => { window.before = [...document.querySelectorAll('.js-plotly-plot .heatmaplayer image')]
  .map(n => n.getAttribute('href')).join(); }"""


@dataclass(frozen=True)
class Start:
    """Seconds from the start of the process until the server answers, one map and three maps are painted, and the figure in which they
    can be zoomed has taken their place. ``cpu``: the server's CPU seconds until then, which other work on the machine hardly changes.
    ``another``: of a view of another picture that was seen before; ``same``: of the same view again, for which the whole script runs
    and the figure stays.
    """

    answered: float
    one: float
    three: float
    figure: float
    cpu: float
    another: tuple[float, ...]
    same: tuple[float, ...]


def measure_start(browser) -> Start:
    """Start a server with an empty cache, and look at it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "EXPLORER_CACHE": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        begin = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(PORT)], cwd=ROOT,
                                   env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            answered = wait(begin)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(f"http://127.0.0.1:{PORT}/", wait_until="commit")
            seconds = []
            for script, argument in ((PAINTED, 1), (PAINTED, 3), (FIGURE, None)):
                page.evaluate(script, argument)
                seconds.append(time.perf_counter() - begin)
            cpu = cpu_seconds(process.pid)
            another = cached_views(page)
            page.wait_for_timeout(700)
            same = [page.evaluate(RERUN) for _ in range(4)][1:]
            page.close()
            return Start(answered, *seconds, cpu, tuple(another), tuple(same))
        finally:
            process.terminate()
            process.wait()


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its threads (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait(begin: float) -> float:
    while time.perf_counter() - begin < 60:
        try:
            if urllib.request.urlopen(f"http://127.0.0.1:{PORT}/_stcore/health", timeout=1).read() == b"ok":
                return time.perf_counter() - begin
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("the server did not start")


def cached_views(page) -> list[float]:
    """Seconds from the click on another picture to its painted maps, once they have been seen before."""
    seconds = []
    for turn in range(8):
        page.wait_for_timeout(700)
        page.evaluate(REMEMBER)
        begin = time.perf_counter()
        page.locator("[class*=st-key-picture-]").nth(1 - turn % 2).locator("button").first.click()
        page.evaluate(CHANGED)
        if turn >= 2:  # both pictures have been computed
            seconds.append(time.perf_counter() - begin)
    return seconds


def server_side() -> list[float]:
    """Seconds of one run of the whole script with everything in the cache, without a browser."""
    os.environ["EXPLORER_CACHE"] = "off"
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        app.run()
        seconds.append(time.perf_counter() - begin)
    return seconds


def report(starts: Sequence[Start], in_server: float, summary: Path | None) -> None:
    """One line a start, and the range over all starts for RESULTS.md."""
    for number, start in enumerate(starts, start=1):
        print(f"start {number}: server answers {start.answered:.2f} s, first heatmap {start.one:.2f} s, "
              f"three heatmaps {start.three:.2f} s, the figure {start.figure:.2f} s ({start.cpu:.1f} CPU s of the server); "
              f"another cached view: median {statistics.median(start.another):.2f} s, worst {max(start.another):.2f} s; "
              f"the same view again: {statistics.median(start.same):.2f} s")
    print(f"server's part of a cached view (whole script, AppTest): median {in_server:.3f} s")
    columns = {"first heatmap": [start.one for start in starts], "all three heatmaps": [start.three for start in starts],
               "the figure that can be zoomed": [start.figure for start in starts],
               "the same view again, painted": [statistics.median(start.same) for start in starts],
               "another cached view, painted": [statistics.median(start.another) for start in starts]}
    for what, seconds in columns.items():
        keep(summary, {"what": what}, result=f"{min(seconds):.2f} to {max(seconds):.2f} s")
    keep(summary, {"what": "the same view again, in the server"}, result=f"{in_server:.2f} s")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--starts", type=int, default=3)
    add_summary(parser)
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    load = os.getloadavg()[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        measure_start(browser)  # leaves Python's compiled files behind
        starts = [measure_start(browser) for _ in range(arguments.starts)]
        browser.close()
    report(starts, statistics.median(server_side()), arguments.summary)
    print(f"{os.cpu_count()} cores, load average before the run {load:.1f}")


if __name__ == "__main__":
    main()
