"""The start: the server finds the app and brings torch before a browser asks; pages wait for it."""

from __future__ import annotations

import subprocess
import sys

from streamlit.web.server.app_discovery import discover_asgi_app
from support.paths import ROOT

SERVED = """
import asyncio, sys
import app
from components.shell import warm_start

async def serve():
    async with warm_start.while_serving(app.app):
        early = "torch" in sys.modules
        warm_start.finish()
        print(early, "components.sidebar.sidebar" in sys.modules)

print("torch" in sys.modules)
asyncio.run(serve())
"""


def test_streamlit_run_finds_the_app():
    assert discover_asgi_app(ROOT / "app.py").import_string == "app:app"


def test_the_server_starts_without_torch_and_a_page_waits_for_it():
    done = subprocess.run([sys.executable, "-c", SERVED], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.split()[0] == "False", done.stderr
    assert done.stdout.split()[-1] == "True", done.stderr
