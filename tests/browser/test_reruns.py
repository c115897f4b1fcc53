"""How the server runs the script of a session whose person clicks faster than it computes."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

from .conftest import server


def test_a_session_never_has_two_runs_at_once(chromium, tmp_path):
    """Two runs at once would change the tables of widgets that Streamlit keeps for the session while one of them reads them."""
    with server(tmp_path, script=Path("tests/support/counting_runs.py")) as address, closing(chromium.new_page()) as page:
        page.goto(address)
        page.get_by_text("1 runs, 1 at once").wait_for()
        for _ in range(4):
            page.get_by_role("button", name="again").click()
            page.wait_for_timeout(250)  # the run of the click before is under way
        changed = page.get_by_text(re.compile("^([2-9]) runs"))
        changed.wait_for()
        page.wait_for_timeout(1500)  # the last run ends
        counts = changed.inner_text()
    assert counts.endswith(" 1 at once"), counts
