"""Bring torch, which takes seconds, while the server starts and the browser is still fetching the page.

The server calls ``while_serving`` once. A page that needs the libraries waits in ``finish``, so that two threads never import
the same packages at once.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

_warming: threading.Thread | None = None


@asynccontextmanager
async def while_serving(_server: Any) -> AsyncIterator[dict[str, Any]]:
    """What the server holds open from its start to its end."""
    global _warming
    _warming = threading.Thread(target=importlib.import_module, args=("components.sidebar.sidebar",), name="warm start", daemon=True)
    _warming.start()
    yield {}


def finish() -> None:
    """Wait until the libraries are there; without a server, as in tests, they come with the first import."""
    if _warming is not None:
        _warming.join()
