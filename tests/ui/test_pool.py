"""What a session remembers: its pool of uploaded pictures, what its link says, and the results of each view."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace

import pytest
import streamlit as st
from PIL import Image

import explainers as ex
from components.state import link, pool, used_keys
from components.state.pool import EXPLAIN, LABELLED, REFERENCE


@pytest.fixture(autouse=True)
def session(monkeypatch):
    """A session and a URL of their own."""
    state = SimpleNamespace(session_state={}, query_params={})
    for name, value in vars(state).items():
        monkeypatch.setattr(st, name, value)
    return state


def picture(grey: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (20, 20), (grey, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def names(role: str = "") -> list[str]:
    return [upload.file_name for upload in pool.uploads(role)]


def test_one_picture_may_have_several_roles_and_leaves_with_its_last():
    first = pool.add("a.png", picture(1), [EXPLAIN])
    pool.add("b.png", picture(2), [REFERENCE])
    pool.add("again.png", picture(1), [REFERENCE])
    assert names() == ["again.png", "b.png"] and names(EXPLAIN) == ["again.png"] and names(REFERENCE) == ["again.png", "b.png"]
    pool.remove(pool.uploads(REFERENCE), REFERENCE)
    assert names() == names(EXPLAIN) == ["again.png"] and pool.find(first.name).digest == first.digest
    pool.remove(pool.uploads(), LABELLED)
    assert names() == ["again.png"]
    pool.remove(pool.uploads(), EXPLAIN)
    assert names() == [] and pool.find(first.name) is None


@pytest.mark.parametrize(("limit", "value"), [("MOST_PICTURES", 2), ("MOST_BYTES", len(picture(1)) + len(picture(2)) + 5)])
def test_a_full_pool_takes_no_other_picture(monkeypatch, limit, value):
    monkeypatch.setattr(pool, limit, value)
    for grey in (1, 2):
        pool.add(f"{grey}.png", picture(grey), [EXPLAIN])
    with pytest.raises(ex.ExplainerError, match="already 2 uploaded pictures"):
        pool.add("3.png", picture(3), [EXPLAIN])
    assert pool.add("1 again.png", picture(1), [LABELLED]).roles == {EXPLAIN, LABELLED} and len(names()) == 2


def test_a_set_is_known_by_its_pictures_in_whatever_order():
    a, b = (pool.add(f"{grey}.png", picture(grey), [REFERENCE]) for grey in (1, 2))
    assert pool.fingerprint([a, b]) == pool.fingerprint([b, a]) != pool.fingerprint([a])
    assert len(pool.fingerprint([a])) == 12 and pool.fingerprint([]) == ""


def test_the_link_is_remembered_where_a_change_of_page_drops_it(session):
    session.query_params["picture"] = "cat"
    assert link.get("picture") == "cat" and link.get("network") == ""
    session.query_params.clear()
    assert link.get("picture") == "cat" and session.query_params == {"picture": "cat"}
    link.put("picture", "dog")
    assert session.query_params == {"picture": "dog"}
    link.put("picture", "")
    assert link.get("picture") == "" and session.query_params == {}


def test_a_forgotten_link_comes_back_only_from_the_url(session):
    link.put("picture", "cat")
    link.forget()
    assert link.get("picture") == "cat"
    session.query_params.clear()
    link.forget()
    assert link.get("picture") == "" and session.query_params == {}


def test_results_belong_to_the_network_and_the_picture_that_used_them(monkeypatch):
    cache = ex.MapCache()
    monkeypatch.setattr(used_keys, "engine", lambda: SimpleNamespace(cache=cache))
    for view, key in ((("net", "cat"), "aaaa"), (("net", "dog"), "bbbb"), (("other", "cat"), "cccc")):
        with used_keys.recorded(*view):
            cache.put(key, 1)
        assert used_keys.of_view() == {key}
    with used_keys.recorded("net", "cat"):
        pass
    assert used_keys.of_view() == {"aaaa"}
