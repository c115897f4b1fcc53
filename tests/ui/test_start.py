"""The start: the server finds the app and brings torch before a browser asks; pages wait for it. And what the server refuses."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from browser.conftest import server
from streamlit.web.server.app_discovery import discover_asgi_app
from support.paths import ROOT

from components.shell import headers

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


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Iterator[int]:
    """The port of a real server."""
    with server(tmp_path_factory.mktemp("server")) as address:
        yield int(address.rpartition(":")[2])


def ask(port: int, path: str, host: str = "", method: str = "GET", **more: str) -> http.client.HTTPResponse:
    """The server's answer to a request that names a host of its own choice; ``_`` in the names of further headers stands for ``-``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    for name, value in {"Host": host or f"127.0.0.1:{port}", **more}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    connection.close()
    return answer


SOCKET = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13",
          "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
PATHS = ("/", "/compare", "/_stcore/health", "/_stcore/host-config", "/static/missing.js", "/media/missing", "/_stcore/metrics")


def test_every_answer_forbids_what_comes_from_elsewhere(port):
    for path in PATHS:
        answer = ask(port, path)
        policy = answer.headers["Content-Security-Policy"]
        sources = {name: words for name, *words in (part.split() for part in policy.split("; "))}
        assert sources["default-src"] == ["'self'"] and sources["frame-ancestors"] == ["'none'"], path
        assert not re.search(r"https?:|\*|'unsafe-eval'", policy) and "'unsafe-inline'" not in sources["script-src"]
        assert (answer.headers["X-Content-Type-Options"], answer.headers["X-Frame-Options"]) == ("nosniff", "DENY")
        assert answer.headers["Referrer-Policy"] == "same-origin" and len(answer.headers.get_all("Referrer-Policy")) == 1


@pytest.mark.parametrize("path", PATHS)
def test_a_request_under_a_foreign_name_is_refused(port, path):
    for host in ("localhost", f"LOCALHOST:{port}", "127.0.0.1"):
        assert ask(port, path, host=host).status in (200, 404), host
    for host in ("foreign.example", f"foreign.example:{port}", "localhost.foreign.example", "foreign.example@localhost", "[::1", " "):
        assert ask(port, path, host=host).status == 400, host


def test_statistics_are_closed_and_health_is_open(port):
    assert ask(port, "/_stcore/health").status == 200
    for path in ("/_stcore/metrics", "/_stcore/metrics/", "/_stcore/metrics?families=sessions", "/_stcore/%6detrics"):
        assert ask(port, path).status == 404, path


def test_a_websocket_is_opened_by_the_app_alone(port):
    own = f"127.0.0.1:{port}"
    assert ask(port, "/_stcore/stream", **SOCKET, Origin=f"http://{own}").status == 101
    assert ask(port, "/_stcore/stream", **SOCKET, Origin="http://foreign.example").status == 403
    assert ask(port, "/_stcore/stream", host="foreign.example", **SOCKET, Origin="http://foreign.example").status == 403


@pytest.mark.parametrize(("host", "allowed", "answer"), [
    ("localhost:80", ["localhost"], True), ("LOCALHOST.", ["localhost"], True), ("a.b.org", ["*.b.org"], True), ("x", ["*"], True),
    ("anything", [], True), ("[::1]:80", ["::1"], True), ("xb.org", ["*.b.org"], False), ("b", ["a"], False),
    ("a:b", ["a"], False), ("a/b", ["a"], False), ("u@a", ["a"], False), ("", ["*"], False), ("a:99999", ["a"], False)])
def test_hosts_are_compared_by_name(host, allowed, answer):
    assert headers.is_allowed(host, allowed) is answer
