"""How long a person waits: from `streamlit run app.py` to the first heatmap, and for a view that was seen before.

    python tests/benchmarks/startup.py [--starts 3]

Chromium is already open and asks for the page as soon as the server answers, as a person's browser would. "Painted" is
two animation frames after the map has its pixels; 10 s more means that a map waited for Explain. Every start has an empty
map cache. A start before the first leaves Python's compiled files behind, as any first start does; it is not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

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


def first_heatmap(browser) -> tuple[float, float, float, float, float, list[float], list[float]]:
    """Seconds from the start of the process until the server answers, one map and three maps are painted, and the figure in which
    they can be zoomed has taken their place; then the
    server's CPU seconds so far (which hardly depend on what else the machine does); then cached views: another picture that
    was seen before, and the same picture again (the whole script runs, the figure stays)."""
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
            page.evaluate(PAINTED, 1)
            one = time.perf_counter() - begin
            page.evaluate(PAINTED, 3)
            three = time.perf_counter() - begin
            page.evaluate(FIGURE)
            figure = time.perf_counter() - begin
            cpu = cpu_seconds(process.pid)
            again = cached_views(page)
            page.wait_for_timeout(700)
            same = [page.evaluate(RERUN) for _ in range(4)][1:]
            page.close()
            return answered, one, three, figure, cpu, again, same
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
    sys.path.insert(0, str(ROOT))
    os.environ["EXPLORER_CACHE"] = "off"
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        app.run()
        seconds.append(time.perf_counter() - begin)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=3)
    starts = parser.parse_args().starts
    from playwright.sync_api import sync_playwright

    load = os.getloadavg()[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        first_heatmap(browser)
        for start in range(starts):
            answered, one, three, figure, cpu, again, same = first_heatmap(browser)
            print(f"start {start + 1}: server answers {answered:.2f} s, first heatmap {one:.2f} s, three heatmaps {three:.2f} s, "
                  f"the figure {figure:.2f} s ({cpu:.1f} CPU s of the server); "
                  f"another cached view: median {statistics.median(again):.2f} s, worst {max(again):.2f} s; "
                  f"the same view again: {statistics.median(same):.2f} s")
        browser.close()
    print(f"server's part of a cached view (whole script, AppTest): median {statistics.median(server_side()):.3f} s")
    print(f"{os.cpu_count()} cores, load average before the run {load:.1f}")


if __name__ == "__main__":
    main()
