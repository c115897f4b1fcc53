"""A real server and Debian's chromium. Skipped where there is none, unless EXPLORER_REQUIRE_BROWSER=1 asks for a failure."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.networks import APP_NETWORK
from support.paths import ROOT

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PAINTED = ".js-plotly-plot .heatmaplayer image"


@contextmanager
def server(folder: Path, port: int | None = None, script: Path = Path("app.py")) -> Iterator[str]:
    """A fresh Streamlit server of the app, or of another script, with a map cache of its own; gives its address."""
    port = port or free_port()
    log = folder / "server.log"
    environment = {**os.environ, "EXPLORER_CACHE": str(folder / "maps")}
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port)],
            cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(address, process, log)
            yield address
        finally:
            process.terminate()
            process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    """Until the server answers. Raises RuntimeError with its log when it does not."""
    for _ in range(600):
        try:
            if urllib.request.urlopen(address + "/_stcore/health", timeout=1).read() == b"ok":
                return
        except OSError:
            time.sleep(0.05)
        if process.poll() is not None:
            break
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """One browser for all tests, with a profile on the disk: there it keeps the compiled scripts of the pages, as a person's browser
    does, and a visit takes less time."""
    def missing(reason: str) -> None:
        (pytest.fail if os.environ.get("EXPLORER_REQUIRE_BROWSER") == "1" else pytest.skip)(reason)

    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed")
    if not Path(CHROMIUM).exists():
        missing(f"{CHROMIUM} is not here")
    with sync_playwright() as playwright:
        profile = tmp_path_factory.mktemp("profile")
        browser = playwright.chromium.launch_persistent_context(profile, executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(chromium, tmp_path_factory) -> Iterator[str]:
    """The address of one warm server."""
    with server(tmp_path_factory.mktemp("server")) as started:
        yield started


class Visit:
    """A page in the browser that remembers what went wrong and whom it asked."""

    def __init__(self, page, address: str):
        self.page, self.address = page, address
        self.problems: list[str] = []
        self.hosts: set[str] = set()
        page.set_default_timeout(45_000)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._console)
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2] if "://" in request.url else ""))

    def _console(self, message) -> None:
        address = message.location.get("url", "")
        probe = "/_stcore/" in address  # Streamlit looks for its base path on a deep link
        if message.type == "error" and not probe:
            self.problems.append(f"{message.text} {address}")

    def go(self, link: str = "", wait: str = PAINTED, network: str = APP_NETWORK) -> Visit:
        """Open a link, on this network unless the link names one; an empty name leaves the choice to the app."""
        if network and "network=" not in link:
            link += f"{'&' if '?' in link else '?'}network={network}"
        self.page.goto(f"{self.address}/{link}")
        self.page.wait_for_selector(wait)
        self.settle()
        return self

    def settle(self) -> None:
        """Until the script has ended and nothing on the page is stale."""
        self.page.wait_for_timeout(150)
        self.page.wait_for_function(
            "() => !document.querySelector('[data-testid=stStatusWidget], [data-stale=true]')"
            " && document.querySelector('[data-testid=stApp]').dataset.testScriptState !== 'running'")

    def maps(self) -> int:
        return self.page.locator(PAINTED).count()

    def painted(self, maps: int) -> list[str]:
        """The pixels of the maps, once as many are painted: on a busy machine plotly paints them one after another."""
        self.page.wait_for_function(f"() => document.querySelectorAll('{PAINTED}').length === {maps}")
        return self.images()

    def images(self) -> list[str]:
        """The pixels of the maps that are painted."""
        return self.page.eval_on_selector_all(
            PAINTED, "nodes => nodes.map(n => n.getAttribute('href') || n.getAttribute('xlink:href'))")

    def check(self) -> None:
        """Nothing failed: no exception on the page, no error in the console, no foreign host."""
        assert self.page.locator("[data-testid=stException]").count() == 0
        assert not self.problems
        assert {host.split(":")[0] for host in self.hosts} <= {"127.0.0.1", ""}


@pytest.fixture()
def visit(chromium, address) -> Iterator[Callable[..., Visit]]:
    """Opens a page of the warm server (or of ``at``) in a tab of its own, and checks at the end that nothing failed. What the page has
    stored in the browser, and what it was permitted, is then removed."""
    opened = []

    def open_page(width: int = 1440, height: int = 900, at: str = "", color_scheme: str = "light") -> Visit:
        page = chromium.new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=color_scheme)
        opened.append(Visit(page, at or address))
        return opened[-1]

    yield open_page
    try:
        for each in opened:
            each.check()
    finally:
        for each in opened:
            each.page.evaluate("() => localStorage.clear()")
            each.page.close()
        chromium.clear_permissions()
