"""Bring torch and the default network, which take seconds, while the server starts and the browser is still fetching the page.

The server calls ``while_serving`` once. A page waits in ``finish`` for the libraries, so that two threads never import the same
packages at once. The network follows in the same thread, while the page draws its sidebar; a page that needs it waits for it there.
Later the thread gives memory back whenever the server is at rest (see ``idle_memory``).
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

_warming: threading.Thread | None = None
_imported = threading.Event()
_ended = threading.Event()


@asynccontextmanager
async def while_serving(_server: Any) -> AsyncIterator[dict[str, Any]]:
    """What the server holds open from its start to its end."""
    global _warming
    _ended.clear()
    _warming = threading.Thread(target=_serve, name="warm start", daemon=True)
    _warming.start()
    yield {}
    _ended.set()


def _serve() -> None:
    _warm()
    from components.shell import idle_memory
    from explainers.memory import give_back

    idle_memory.return_when_idle(_ended, give_back)


def _warm() -> None:
    try:
        importlib.import_module("components.sidebar.sidebar")
    finally:
        _imported.set()  # also after a failure, which the page then meets itself
    from components.sidebar.network_picker import DEFAULT
    from components.state.engine import network
    from explainers.errors import ExplainerError

    try:
        default = network(DEFAULT)
    except ExplainerError:
        return  # the page loads it again, and shows the reason
    default.measure()
    default.pass_seconds()


def finish() -> None:
    """Wait until the libraries are there; without a server, as in tests, they come with the first import."""
    if _warming is not None:
        _imported.wait()
