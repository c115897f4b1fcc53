"""What a server holds after hours: its memory over many explanations and page runs, and sessions that click at random.

    python -m tests.benchmarks.long_run explanations --count 500
    python -m tests.benchmarks.long_run pages --count 200
    python -m tests.benchmarks.long_run sessions --sessions 4 --minutes 30

Memory is the process's resident set (RSS, Linux): as it is after so many runs, and once what was freed has been given back, as the app
does when it is at rest for some seconds. The first two go over methods, photographs and classes in an order that ``--seed`` decides;
each run is a thread of its own, as in the app. What the engine keeps of results (at most 64 MB of samples) fills up first, so it is
printed beside. The third starts the app, opens chromium, and clicks on pages, pills, pickers and buttons, Stop among them; every five
minutes it pauses until the server is at rest, to read its memory. It lists every error box, every error of the browser's console and
every line of the server's log.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import explainers as ex
from explainers.memory import give_back
from tests.benchmarks import clicking
from tests.benchmarks.command_line import add_summary, parser_of
from tests.benchmarks.startup import CHROMIUM, FLAGS, PORT, ROOT, cpu_seconds, wait
from tests.benchmarks.summaries import keep

EVERY = 50  # runs
EVERY_MINUTES = 5  # at rest
REST_SECONDS, MOST_REST_SECONDS = 7.0, 150.0  # the app gives memory back within 6 s of rest; a long run may go on for minutes
CLOSED_SECONDS = 75  # after which the app has forgotten its closed tabs
MOST_PASSES = 100  # methods that need more are left out, as are those that fit statistics
PAGES = ("compare", "be_the_mask", "faithfulness", "class_sensitivity", "sanity_checks", "attribution_mask", "adversarial_attack",
         "methods")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("kind", choices=("explanations", "pages", "sessions"))
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    add_summary(parser)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EXPLORER_CACHE"] = folder
        {"explanations": explanations, "pages": pages, "sessions": sessions}[arguments.kind](arguments)


def explanations(arguments: argparse.Namespace) -> None:
    """Maps of various methods, photographs and classes by one engine."""
    chance = random.Random(arguments.seed)
    network = ex.load_model(arguments.network, device="cpu")
    engine = ex.Engine(ex.MapCache(os.environ["EXPLORER_CACHE"]))
    images = [network.preprocess(sample.load()) for sample in ex.samples()[:12]]
    methods = [method for method in ex.methods().values() if not method.lacks(network) and not method.fits_statistics
               and 0 < (passes := method.cost(method.settings(**method.cheap), network)).forward + passes.backward <= MOST_PASSES]

    def run() -> None:
        method, image, target = chance.choice(methods), chance.choice(images), chance.randrange(len(network.categories))
        engine.explain(network, image, method.key, target=target, **method.cheap)

    growth(arguments, run, lambda: engine.kept_bytes)


def pages(arguments: argparse.Namespace) -> None:
    """Runs of the whole script by Streamlit's test harness: pages and pictures."""
    from streamlit.testing.v1 import AppTest

    from components.state.engine import engine

    chance = random.Random(arguments.seed)
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=600)
    app.query_params["network"] = arguments.network
    app.run()
    names = [sample.name for sample in ex.samples()[:12]]

    def run() -> None:
        app.query_params["picture"] = chance.choice(names)
        app.switch_page(f"pages/{chance.choice(PAGES)}.py").run()
        if app.exception:
            print(f"    {app.exception}", flush=True)
        gc.collect()  # as the server does after each run of the script, but not the test harness

    growth(arguments, run, lambda: engine().kept_bytes)


def growth(arguments: argparse.Namespace, run: Callable[[], None], caches: Callable[[], int]) -> None:
    """Run so many times, each in a thread of its own, and print the memory of this process after every 50.

    caches: the bytes of the results that are kept within a bound, which fill up and are named beside.
    """
    kept: dict[int, tuple[float, float, float]] = {}  # MB at work, at rest, and of results
    begin = time.process_time()
    for number in range(1, arguments.count + 1):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if number % EVERY == 0:
            at_work = megabytes([os.getpid()])
            give_back()
            kept[number] = at_work, megabytes([os.getpid()]), caches() / 2**20
            seconds = time.process_time() - begin
            print(f"after {number}: {at_work:.0f} MB, at rest {kept[number][1]:.0f} MB, of which results {kept[number][2]:.0f} MB, "
                  f"{seconds:.0f} CPU s", flush=True)
    first, last = kept[min(kept)], kept[max(kept)]
    print(f"from {min(kept)} to {max(kept)}: {last[0] / first[0] - 1:+.1%}, at rest {last[1] / first[1] - 1:+.1%}, "
          f"at rest without results {(last[1] - last[2]) / (first[1] - first[2]) - 1:+.1%}")
    keep(arguments.summary, {"what": f"{max(kept)} {arguments.kind}"}, first=f"{first[0]:.0f} MB", last=f"{last[0]:.0f} MB",
         first_at_rest=f"{first[1]:.0f} MB", last_at_rest=f"{last[1]:.0f} MB", first_results=f"{first[2]:.0f} MB",
         last_results=f"{last[2]:.0f} MB")


def sessions(arguments: argparse.Namespace) -> None:
    """Tabs of chromium that click at random, one thread for all."""
    from playwright.sync_api import sync_playwright

    with served() as (server, log), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        wait(time.perf_counter())
        visitors = [clicking.Visitor(browser, f"http://127.0.0.1:{PORT}/", random.Random(1000 * arguments.seed + number))
                    for number in range(arguments.sessions)]
        at_work, at_rest, due, begin = [], [], 1.0, time.monotonic()  # MB, MB, minutes
        while (minutes := (time.monotonic() - begin) / 60) < arguments.minutes:
            for visitor in visitors:
                visitor.act()
            if minutes >= due:
                at_work.append(megabytes(with_children(server.pid)))
                print(f"{minutes:5.1f} min, {sum(visitor.clicks for visitor in visitors)} clicks, {at_work[-1]:.0f} MB", flush=True)
                if round(due) % EVERY_MINUTES == 0 and rests(server.pid):
                    at_rest.append(megabytes(with_children(server.pid)))
                    print(f"      at rest {at_rest[-1]:.0f} MB", flush=True)
                due += 1
        problems: Counter[str] = sum((visitor.problems for visitor in visitors), Counter())
        clicked: Counter[str] = sum((visitor.clicked for visitor in visitors), Counter())
        browser.close()
        time.sleep(CLOSED_SECONDS)
        rests(server.pid)
        closed = megabytes(with_children(server.pid))
        lines = [line for line in log.read_text().splitlines() if line.strip() and "URL:" not in line and "can now view" not in line]
    print(f"all tabs closed {closed:.0f} MB; clicks on {dict(clicked.most_common(12))}")
    for what, count in [*problems.most_common(), *Counter(lines).most_common(40)]:
        print(f"{count:5d} x {what}")
    keep(arguments.summary, {"what": f"{arguments.sessions} sessions for {arguments.minutes:g} min"},
         **{name: f"{size:.0f} MB" for name, sizes in (("", at_work), ("_at_rest", at_rest)) if sizes
            for name, size in ((f"first{name}", sizes[0]), (f"last{name}", sizes[-1]))},
         closed=f"{closed:.0f} MB", problems=str(problems.total()), log_lines=str(len(lines)), clicks=str(clicked.total()))


def rests(process: int) -> bool:
    """Wait until a process has hardly worked for a while; False where it still works after the longest wait."""
    end = time.monotonic() + MOST_REST_SECONDS
    while time.monotonic() < end:
        before = cpu_seconds(process)
        time.sleep(REST_SECONDS)
        if cpu_seconds(process) - before < 0.05 * REST_SECONDS:
            return True
    return False


@contextmanager
def served() -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The app's server with an empty cache, and its log."""
    log = Path(os.environ["EXPLORER_CACHE"]) / "server.log"
    environment: Mapping[str, Any] = {**os.environ, "EXPLORER_CACHE": str(log.with_name("maps"))}
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(PORT)], cwd=ROOT,
                                   env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield process, log
        finally:
            process.terminate()
            process.wait()


def megabytes(processes: list[int]) -> float:
    """The resident memory of processes, shared pages counted for each."""
    pages = sum(int(Path(f"/proc/{process}/statm").read_text().split()[1]) for process in processes)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def with_children(process: int) -> list[int]:
    """A process and those that it started and that still run."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(each for child in children for each in with_children(int(child)))]


if __name__ == "__main__":
    main()
