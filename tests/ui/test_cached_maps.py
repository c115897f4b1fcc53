"""Clear map cache: it says what there is, deletes one view or all, and nothing before it is asked."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image
from support import page
from support.page import chosen_picture, click, maps, section, widget

from components.state import engine as state_engine
from explainers.cache import MapCache


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


PAGES = ("faithfulness", "class_sensitivity", "be_the_mask")


def test_nothing_computed_from_an_upload_is_on_disk(tmp_path, open_app, engine, monkeypatch):
    """Not on these pages, nor for a sample that is looked at beside it, because a page may measure all uploaded pictures."""
    cache = MapCache(tmp_path)
    monkeypatch.setattr(state_engine.engine(), "cache", cache)
    app = open_app(query={"methods": ["Gradient", "Gradient × Input"]})
    assert cache.contents().disk_bytes > 0  # of the sample
    cache.clear()
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(buffer, "PNG")
    app = page.upload(app, "uploaded_files", ("own.png", buffer.getvalue(), "image/png"))
    assert chosen_picture(app).startswith("upload-")
    for name in PAGES:
        before = cache.contents().memory_bytes
        app.switch_page(f"pages/{name}.py").run()
        assert not app.exception and cache.contents().disk_bytes == 0, name
    assert cache.contents().memory_bytes >= before > 0
    app = click(app, "picture-star-heart")
    assert cache.contents().disk_bytes == 0 and "in memory alone" in section(opened(app))


def test_the_oldest_result_is_dated(tmp_path, open_app, engine, monkeypatch):
    import os
    import time

    cache = MapCache(tmp_path)
    cache.put("abcd", 1)
    three_days_ago = time.time() - 3 * 24 * 3600
    os.utime(tmp_path / "ab" / "abcd.result", (three_days_ago, three_days_ago))
    monkeypatch.setattr(state_engine.engine(), "cache", cache)
    app = opened(open_app(query={"methods": ["Gradient"]}))
    assert "the oldest last used 3 days ago" in section(app)
