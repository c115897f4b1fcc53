"""What a session remembers: its pool of uploaded pictures, what its link says, and the results of each view."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace

import pytest
import streamlit as st
from PIL import Image
from support.corpus_pictures import many_scans

import explainers as ex
from components.state import decoded, link, pool, used_keys
from components.state.pool import EXPLAIN, LABELLED, REFERENCE
from explainers.cache import Owner
from explainers.picture_limits import CostlyPicture


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


def test_after_some_costly_files_no_further_one_is_decoded(monkeypatch):
    workers = decoded.decoders()

    def check(data: bytes, waiting) -> object:
        if data == b"costly":
            raise CostlyPicture("Decoding this picture takes more than 1 s of computing.")
        return workers.check(data, waiting)

    monkeypatch.setattr(decoded, "decoders", lambda: SimpleNamespace(check=check))
    files = [picture(1), b"no picture", b"costly", picture(2), b"costly", b"costly", picture(3), b"costly"]
    outcomes = list(pool.add_each((str(number), data, [EXPLAIN]) for number, data in enumerate(files)))
    assert names() == ["0", "3"] and [type(outcome) for outcome in outcomes[:2]] == [pool.Upload, ex.PictureError]
    assert all("was not read" in str(outcome) for outcome in outcomes[6:]) and len(outcomes) == 8


def test_an_upload_ends_with_the_script_that_waits_for_it(monkeypatch, session):
    """Streamlit ends a replaced or abandoned script by an exception where it looks at the session's state."""

    class Left(BaseException):
        pass

    class Gone(dict):
        def __contains__(self, name: object) -> bool:
            raise Left

    pool.add("a.png", picture(1), [EXPLAIN])
    monkeypatch.setattr(st, "session_state", Gone())
    with pytest.raises(Left):
        pool.add("slow.jpg", many_scans(1500, 4000), [EXPLAIN])


def test_what_stays_decoded_is_bounded_for_a_session_and_for_the_server(monkeypatch, session):
    uploads = [pool.add(f"{grey}.png", picture(grey), [EXPLAIN]) for grey in range(6)]
    size = decoded.bytes_of(uploads[0].read())
    assert size == 4 * 20 * 20
    kept = [upload.read() for upload in uploads]
    store = session.session_state[decoded.STORE]
    assert list(store.pictures) == [upload.digest for upload in uploads[2:]] and uploads[5].read() is kept[5]
    assert uploads[2].read() is kept[2] and list(store.pictures)[-1] == uploads[2].digest
    monkeypatch.setattr(decoded, "SESSION_BYTES", 2 * size)
    again = uploads[0].read()
    assert again == kept[0] and again is not kept[0] and list(store.pictures) == [uploads[2].digest, uploads[0].digest]
    monkeypatch.setattr(decoded, "SESSION_BYTES", size - 1)
    uploads[1].read()
    assert list(store.pictures) == [uploads[1].digest]
    monkeypatch.setattr(decoded, "SERVER_BYTES", size)
    monkeypatch.setattr(st, "session_state", {})
    uploads[3].read()
    assert not store.pictures and list(st.session_state[decoded.STORE].pictures) == [uploads[3].digest]


def test_a_set_of_pictures_is_decoded_and_not_kept(session):
    upload = pool.add("a.png", picture(1), [REFERENCE])
    assert decoded.fresh(upload.data) == ex.read_picture(upload.data) and decoded.STORE not in session.session_state


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
    monkeypatch.setattr(used_keys.visit, "owner", Owner)  # the real one asks Streamlit for its session
    for view, key in ((("net", "cat"), "aaaa"), (("net", "dog"), "bbbb"), (("other", "cat"), "cccc")):
        with used_keys.recorded(*view):
            cache.put(key, 1)
        assert used_keys.of_view() == {key}
    with used_keys.recorded("net", "cat"):
        pass
    assert used_keys.of_view() == {"aaaa"}
