"""A link whose picture, network or reference pictures are not here: the page says so, takes them, and computes nothing meanwhile."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pytest
import safetensors.torch
from PIL import Image
from support import page
from support.networks import seeded
from support.page import choose, chosen_picture, click, has, maps, widget

import explainers as ex
from components.state import pool
from explainers.networks import torchvision_models
from explainers.networks.classifier import Classifier

MIP = {"methods": ["MIP-IN"], "network": "Digits: MLP-M of MIP-IN", "mip_in.images": "40", "reference": "Uploaded pictures"}


def picture(seed: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def name_of(data: bytes) -> str:
    return pool.PREFIX + ex.digest(ex.load_image(data))[:12]


LINK = {"methods": ["Gradient"], "picture": name_of(picture(1)), "picture_file": "dog_and_cat.png", "seed": "7"}


def drop(app, *files: tuple[str, bytes], place: str = "missing_picture"):
    return page.upload(app, place, *((name, data, "image/png") for name, data in files))


def warnings(app) -> list[str]:
    return [page.read(each.value) for each in page.nodes(app, "missing") if each.type == "warning"]


@pytest.fixture()
def no_computing(monkeypatch, engine):
    """Fails when a network predicts or the engine runs; gives the function that allows it again."""
    runs = engine.runs

    def refuse(*_args, **_rest):
        raise AssertionError("something was computed for a picture that is not the link's")

    monkeypatch.setattr(Classifier, "predict", refuse)
    monkeypatch.setattr(engine, "explain", refuse)
    monkeypatch.setattr(engine, "measure_together", refuse)

    def allow() -> None:
        assert engine.runs == runs
        monkeypatch.undo()

    return allow


@pytest.mark.parametrize("name", ["", "be_the_mask", "faithfulness", "class_sensitivity", "sanity_checks", "attribution_mask",
                                  "adversarial_attack",
                                  "methods"])
def test_every_page_says_what_is_missing_and_computes_nothing(open_app, no_computing, name):
    app = open_app(name, LINK)
    assert warnings(app) == [f"This link needs dog_and_cat.png (sha {LINK['picture'][7:]})."]
    assert not page.charts(app) and not has(app, "heading") and chosen_picture(app) == LINK["picture"]


def test_the_right_file_opens_the_view_with_all_its_settings(open_app, no_computing):
    app = open_app(query=LINK)
    no_computing()
    app = drop(app, ("another name.png", picture(1)))
    assert not has(app, "missing") and len(maps(app)) == 1
    assert page.value(app, "seed") == 7 and page.value(app, "methods") == ["gradient"]


def test_another_file_is_called_another_picture_and_opens_only_when_asked(open_app, no_computing):
    app = open_app(query=LINK)
    app = drop(app, ("horse.png", picture(2)))
    assert warnings(app) and f"horse.png is another picture (sha {name_of(picture(2))[7:]})." in page.infos(app)
    assert chosen_picture(app) == LINK["picture"]
    no_computing()
    app = click(app, f"open-{name_of(picture(2))}")
    assert not has(app, "missing") and maps(app) and chosen_picture(app) == name_of(picture(2))


def test_a_file_that_is_no_picture_gets_a_line(open_app, no_computing):
    app = drop(open_app(query=LINK), ("notes.png", b"no picture"))
    assert len(page.errors(app)) == 1 and page.errors(app)[0].startswith("notes.png:") and warnings(app)


def test_a_sample_that_is_not_in_this_installation_is_missing_too(open_app, no_computing):
    app = open_app(query={"picture": "../../etc/passwd"})
    assert warnings(app) == ["This link needs ../../etc/passwd."]


def test_the_start_page_is_offered_instead(open_app, no_computing):
    app = open_app(query=LINK)
    no_computing()
    app = click(app, "open_start")
    assert not has(app, "missing") and page.charts(app)
    assert not chosen_picture(app).startswith("upload-") and "picture_file" not in app.query_params


def test_the_link_of_an_upload_names_its_file_and_opens_elsewhere(open_app):
    app = page.upload(open_app(query={"methods": ["Gradient"]}), "uploaded_files", ("my dog.png", picture(3), "image/png"))
    expected = maps(app)
    link = {name: values if isinstance(values, list) else [values] for name, values in app.query_params.items()}
    other = open_app(query=link)
    assert "my dog.png" in warnings(other)[0]
    assert maps(drop(other, ("x.png", picture(3)))) == expected


@pytest.fixture()
def own_set(open_app):
    """A page whose MIP-IN is fitted on three uploaded pictures, and its link."""
    app = open_app(query=MIP)
    app = page.upload(app, "reference_files", *((f"{seed}.png", picture(seed), "image/png") for seed in range(3)))
    return app, {name: values if isinstance(values, list) else [values] for name, values in app.query_params.items()}


def test_reference_pictures_are_asked_for(open_app, own_set, no_computing):
    _, link = own_set
    app = open_app(query=link)
    assert warnings(app) == [f"This link needs 3 reference pictures (sha {link['reference_id'][0]})."]
    app = drop(app, ("0.png", picture(0)), ("9.png", picture(9)), place="missing_reference")
    assert warnings(app) and has(app, "accept_reference")
    no_computing()
    app = drop(app, ("2.png", picture(2)), ("1.png", picture(1)), place="missing_reference")
    assert warnings(app)  # one too many
    app = click(app, "accept_reference")
    assert not has(app, "missing") and "4 pictures uploaded here" in page.section(app, "reference_all_row")


def test_the_same_reference_pictures_in_another_order_are_the_same_set(open_app, own_set):
    app, link = own_set
    expected = maps(page.run_all(app))
    other = drop(open_app(query=link), *((f"{seed}.png", picture(seed)) for seed in (2, 0, 1)), place="missing_reference")
    assert not has(other, "missing") and maps(page.run_all(other)) == expected


def test_it_goes_on_without_reference_pictures_when_asked(open_app, own_set):
    app = click(open_app(query=own_set[1]), "no_reference")
    assert not has(app, "missing") and widget(app, "reference").value == "Fresh digits"


def test_a_network_that_is_not_here_is_asked_for(open_app, no_computing):
    app = open_app(query={"network": "my lab's (uploaded)", "network_id": "0123456789ab", "methods": ["Gradient"]})
    assert len(warnings(app)) == 1 and warnings(app)[0].endswith("(sha 0123456789ab).") and "my lab" in warnings(app)[0]
    assert has(app, "own_files") and not page.charts(app)
    no_computing()
    app = page.choose(app, "network", "scenes_vgg")
    assert not has(app, "missing") and maps(app)


CARD = b'{"categories": ["ant", "bee", "cat", "dog"], "input_size": 64, "resize_size": 64}'


def checkpoint(seed: int) -> bytes:
    return safetensors.torch.save(seeded(lambda: torchvision_models.build("squeezenet1_0", 4), seed).state_dict())


def drop_checkpoint(app, data: bytes):
    app = page.upload(app, "own_files", ("mine.safetensors", data, ""), ("mine.json", CARD, ""))
    return click(app, "own_load")


def test_the_checkpoint_of_the_link_is_loaded_where_the_page_asks_for_it(open_app, no_computing):
    data = checkpoint(1)
    fingerprint = ex.load_uploaded_model("mine.safetensors", data, "squeezenet1_0", json.loads(CARD)).fingerprint[:12]
    app = open_app(query={"network": "mine (uploaded)", "network_id": fingerprint, "methods": ["Gradient"], "class": "dog"})
    assert warnings(app)[0].endswith(f"(sha {fingerprint}).")
    app = choose(app, "own_architecture", "squeezenet1_0")
    app = drop_checkpoint(app, b"no weights")
    assert warnings(app) and len(page.errors(app)) == 1
    no_computing()
    app = drop_checkpoint(app, data)
    assert not app.exception and not has(app, "missing") and not page.errors(app) and not app.warning
    assert len(maps(app)) == 1 and page.value(app, "class") == "dog" and page.value(app, "network") == "mine (uploaded)"


def test_a_checkpoint_with_other_weights_is_warned_of(open_app):
    app = open_app(query={"network": "mine (uploaded)", "network_id": "0123456789ab", "methods": ["Gradient"]})
    app = drop_checkpoint(choose(app, "own_architecture", "squeezenet1_0"), checkpoint(2))
    assert maps(app) and [page.read(each.value) for each in app.warning] == [
        "This link was made with other weights of mine (sha 0123456789ab); the maps may differ."]
