"""A network of one class: it has no second class, no contrast and always the probability 1, and every page is drawn."""

from __future__ import annotations

import pytest
from support import page
from support.paths import ROOT

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
FILE = """
import explainers as ex
import torch
from torch import nn

def single():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    return ex.classifier(module, categories=["defect"], input_size=16)
"""


@pytest.fixture()
def single(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(FILE)
    monkeypatch.setenv("EXPLORER_NETWORKS", str(tmp_path / "nets.py"))
    return {"network": "nets.single", "methods": ["Gradient", "Grad-CAM"]}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_drawn_without_an_error(open_app, single, name):
    app = open_app("" if name == "compare" else name, single)
    places = sorted(key.removeprefix("run-") for key in page.keys(app) if key.startswith("run-"))
    for place in places:  # what waits for a click
        app = page.run_all(app, place)
    assert not app.exception
    says = {"adversarial_attack": (page.errors, "has one class only"), "class_sensitivity": (page.infos, "has only one")}
    assert not page.errors(app) or name == "adversarial_attack"
    if name in says:
        read, words = says[name]
        assert any(words in message for message in read(app))


def test_it_is_said_that_the_probability_is_always_1(open_app, single):
    app = open_app(query=single)
    assert "one class, whose probability is always 1" in page.section(app, "network_notes")
    assert page.widget(app, "class").options[1:] == ["defect"]
    app = page.choose(app, "class", "defect")
    app = page.choose(app, "against", "defect")
    assert page.maps(app) and not app.exception and not page.errors(app)
