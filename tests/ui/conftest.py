"""The app in Streamlit's own test harness: no browser, one thread, every element at hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.runtime.caching import cache_data_api, cache_resource_api
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.testing.v1 import AppTest
from support.networks import APP_NETWORK
from support.paths import ROOT

import explainers as ex
from components.state import engine as state_engine


@pytest.fixture(autouse=True)
def main_module(monkeypatch) -> None:
    """AppTest makes the app's script ``__main__`` and leaves it there; a process that a later test starts would run it."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(autouse=True)
def a_session_without_the_app(monkeypatch) -> None:
    """What a test calls itself, without AppTest, belongs to a session too, as far as the caches of a session are concerned."""
    def session_id() -> str:
        context = get_script_run_ctx(suppress_warning=True)
        return context.session_id if context else "test"

    for api in (cache_data_api, cache_resource_api):
        monkeypatch.setattr(api, "get_session_id_or_throw", session_id)


@pytest.fixture(scope="session")
def engine() -> ex.Engine:
    """The engine of this process, which the app uses in all tests; its maps stay in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(state_engine.CACHE_FOLDER, "off")
        state_engine.engine.clear()
        return state_engine.engine()


@pytest.fixture()
def open_app(engine) -> Callable[..., AppTest]:
    """Opens the start page, or ``page`` as a link to it does, with query parameters; on ``APP_NETWORK`` unless they say otherwise
    (None: nothing)."""

    def opened(page: str = "", query: dict[str, Any] | None = None) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
        for name, value in {"network": APP_NETWORK, **(query or {})}.items():
            if value is not None:
                app.query_params[name] = value
        if page:
            app.switch_page(f"pages/{page}.py")
        app.run()
        assert not app.exception, app.exception
        return app

    return opened
