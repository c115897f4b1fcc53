"""The app in Streamlit's own test harness: no browser, one thread, every element at hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import explainers as ex
from components import session

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def main_module(monkeypatch) -> None:
    """AppTest makes the app's script ``__main__`` and leaves it there; a process that a later test starts would run it."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session")
def shared_engine() -> ex.Engine:
    """One engine for all app tests; its maps stay in memory."""
    return ex.Engine(cache=ex.MapCache(None))


@pytest.fixture()
def engine(shared_engine, monkeypatch) -> ex.Engine:
    """The engine that the app uses in this test."""
    monkeypatch.setattr(session, "engine", lambda: shared_engine)
    return shared_engine


@pytest.fixture()
def open_app(engine) -> Callable[..., AppTest]:
    """Opens the start page, or ``page``, with query parameters."""

    def opened(page: str = "", query: dict[str, Any] | None = None) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
        for name, value in (query or {}).items():
            app.query_params[name] = value
        app.run()
        if page:
            app.switch_page(f"pages/{page}.py").run()
        assert not app.exception, app.exception
        return app

    return opened
