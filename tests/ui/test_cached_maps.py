"""Clear map cache: it says what there is, deletes one view or all, and nothing before it is asked."""

from __future__ import annotations

from support import page
from support.page import click, maps, section, widget

from components.state import engine as state_engine


def opened(app):
    return page.unfold(app, "cached_maps")


def test_nothing_is_deleted_by_opening_it_and_it_says_how_much_there_is(open_app, engine):
    engine.cache.clear()
    app = open_app(query={"methods": ["Gradient"]})
    before = engine.cache.contents()
    assert before.entries > 0
    app = opened(app)
    assert engine.cache.contents() == before
    assert f"{before.entries} results" in section(app) and "0.0 MB on disk" in section(app)


def test_this_view_only_leaves_the_others(open_app, engine):
    engine.cache.clear()
    open_app(query={"methods": ["Gradient"], "picture": "cat"})
    others = engine.cache.contents().entries
    app = opened(open_app(query={"methods": ["Gradient"], "picture": "star-heart"}))
    button = widget(app, "clear_view")
    ours = engine.cache.contents().entries - others
    assert ours > 0 and f"({ours})" in button.label
    expected, runs = maps(app), engine.runs
    app = click(app, "clear_view")
    assert engine.runs > runs and maps(app) == expected  # computed again
    runs = engine.runs
    open_app(query={"methods": ["Gradient"], "picture": "cat"})
    assert engine.runs == runs


def test_fitted_statistics_serve_other_pictures_and_stay(open_app, engine):
    engine.cache.clear()
    app = page.run_all(open_app(query={
        "methods": ["MIP-IN"], "network": "Digits: MLP-M of MIP-IN", "mip_in.images": "40"}))
    app = opened(app)
    count = int(widget(app, "clear_view").label.split("(")[1].rstrip(")"))
    assert 0 < count < engine.cache.contents().entries


def test_the_oldest_result_is_dated(tmp_path, open_app, engine, monkeypatch):
    import os
    import time

    from explainers.cache import MapCache

    cache = MapCache(tmp_path)
    cache.put("abcd", 1)
    three_days_ago = time.time() - 3 * 24 * 3600
    os.utime(tmp_path / "ab" / "abcd.map", (three_days_ago, three_days_ago))
    monkeypatch.setattr(state_engine.engine(), "cache", cache)
    app = opened(open_app(query={"methods": ["Gradient"]}))
    assert "the oldest last used 3 days ago" in section(app)
