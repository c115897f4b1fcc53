"""The methods page: a card for every method and every metric, from its declaration."""

from __future__ import annotations

import re

import pytest
from support import page
from support.page import section, table, terms

import explainers as ex
from components.compute.naming import in_sentence
from components.compute.parameter_widgets import in_words
from explainers import requirements

METHODS, METRICS = ex.methods(), ex.metrics()
KINDS = {"integer", "real", "choice", "switch", "layer", "other"}


@pytest.fixture(scope="module")
def whole_page():
    """The page with all cards, opened once: the tests only read it."""
    return {}


@pytest.fixture()
def app(open_app, whole_page):
    if not whole_page:
        whole_page["app"] = open_app("methods")
    return whole_page["app"]


def cards(app) -> set[str]:
    """The keys of the methods and metrics whose cards are there."""
    return {key.removeprefix("card-") for key in page.keys(app) if key.startswith("card-")}


def test_every_method_and_metric_has_a_card(app):
    assert cards(app) == {*METHODS, *METRICS}
    for key, member in {**METHODS, **METRICS}.items():
        text, facts = section(app, f"card-{key}"), terms(app, f"card-{key}")
        equation = next(node.value for node in page.nodes(app, f"card-{key}") if node.type == "latex")
        assert f"**{member.title}**" in text and member.equation.replace(r"\qquad", r"\\") in equation
        assert facts["Limits"] == member.limits and facts["Citation"] == str(member.citation)
        assert facts["Version"] == str(member.version)


@pytest.mark.parametrize("key", METHODS)
def test_a_methods_needs_are_the_labels_of_its_requirements(app, key):
    needs = terms(app, f"card-{key}")["Needs"]
    if METHODS[key].needs:
        assert needs == "; ".join(requirement.label for requirement in METHODS[key].needs)
    else:
        assert needs.startswith("nothing")


@pytest.mark.parametrize("key", METHODS)
def test_a_card_says_what_a_contrast_is_and_what_stands_beside_the_map(app, key):
    facts, method = terms(app, f"card-{key}"), METHODS[key]
    assert facts["Values"].startswith("signed" if method.signed else "unsigned")
    assert ("Contrast" in facts) != method.is_control
    assert method.is_control or facts["Contrast"].startswith("linear") == method.linear
    assert ("Shows" in facts) == bool(method.auxiliary_outputs)
    assert all(in_sentence(output.title) in facts["Shows"] for output in method.auxiliary_outputs)


@pytest.mark.parametrize("key", METRICS)
def test_a_metrics_card_says_what_it_judges_which_way_is_better_and_what_it_costs(app, key):
    facts, metric = terms(app, f"card-{key}"), METRICS[key]
    assert facts["Judges"] and metric.judges not in ("", facts["Judges"])
    assert all(f"{score.title} ({score.better} is better)" in facts["Scores"] for score in metric.scores)
    assert re.fullmatch(r"(no passes|[\d,.]+ F( \+ [\d,.]+ B)?)(, beside \d+ maps? of a method| for 100 pictures)", facts["Cost"])


def test_the_costs_are_those_of_the_declaration(app):
    assert terms(app, "card-rise")["Cost"].startswith("4,000 F, about ")
    assert terms(app, "card-insertion_deletion")["Cost"] == "257 F, beside 1 map of a method"
    assert terms(app, "card-localisation")["Cost"] == "no passes, beside 1 map of a method"
    assert terms(app, "card-mip_in")["Cost"].endswith("on Scenes: VGG with biases, after statistics are fitted on a reference set")


def test_a_method_that_is_off_says_why(open_app, monkeypatch):
    monkeypatch.setattr(ex.Method, "lacks", lambda self, network: "It needs feathers.")
    app = open_app("methods", {"family": "Decomposition"})
    assert terms(app, "card-mip_in")["Cost"] == "2 F; off for Scenes: VGG with biases: It needs feathers."


@pytest.mark.parametrize("key", [*METHODS, *METRICS])
def test_every_setting_has_a_row(app, key):
    rows, declared = table(app, f"card-{key}"), {**METHODS, **METRICS}[key].parameters
    assert [row[0] for row in rows[1:]] == [page.plain(parameter.label) for parameter in declared]
    for row, parameter in zip(rows[1:], declared, strict=True):
        assert all(row) and row[2] not in KINDS and "None" not in row[1] + row[2]
        assert all(in_words(option) in row[2] for option in parameter.options)


def test_no_name_from_the_code_appears_on_a_card(app):
    members = {**METHODS, **METRICS}
    names = {requirement.name for requirement in vars(requirements).values() if isinstance(requirement, requirements.Requirement)}
    assert {"piecewise_linear", "feature_maps"} < names
    for parameter in (parameter for member in members.values() for parameter in member.parameters):
        names |= {parameter.name, *parameter.options}
    names = {name for name in names | set(members) if "_" in name}
    for key in members:
        html = " ".join(node.value for node in page.nodes(app, f"card-{key}") if node.type == "html")
        assert not set(re.findall(r"\w+", re.sub(r"<[^>]*>", " ", html))) & names, key


@pytest.mark.parametrize("family", sorted({method.family for method in METHODS.values()}))
def test_a_family_can_be_shown_alone(open_app, family):
    app = open_app("methods", {"family": family.capitalize()})
    assert cards(app) == {key for key, method in METHODS.items() if method.family == family}


def test_the_metrics_can_be_shown_alone(open_app):
    assert cards(open_app("methods", {"family": "Metrics"})) == set(METRICS)


def test_words_narrow_the_cards(open_app):
    assert 0 < len(cards(open_app("methods", {"search": "baseline"}))) < len(METHODS) + len(METRICS)
    app = open_app("methods", {"search": "zzzz"})
    assert not cards(app) and any("No card" in info for info in page.infos(app))


@pytest.mark.parametrize(("words", "key"), [("gxsi", "gradient_x_sign"), ("InputIBA", "input_iba"), ("perturbation", "rise"),
                                            ("metrics", "localisation"), ("petsiuk", "rise")])
def test_a_short_name_a_family_and_an_author_are_searched(open_app, words, key):
    assert key in cards(open_app("methods", {"search": words}))


def test_without_a_network_there_are_still_cards(open_app, monkeypatch):
    from components.sidebar import network_picker

    monkeypatch.setattr(network_picker, "pick", lambda: None)
    app = open_app("methods")
    assert cards(app) == {*METHODS, *METRICS} and terms(app, "card-gradient")["Cost"] == "1 F + 1 B"
