"""What the app shows is derived from the form, and nothing that a model writes becomes markup."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops
from vlm_ft.demo.answer_view import answer_view, empty_view, head_view, message_view, overview
from vlm_ft.demo.asking import Given, ask
from vlm_ft.demo.card_view import METRICS, card_view, figures, in_a_line
from vlm_ft.demo.photo_view import MAX_SIDE, drawn, marks
from vlm_ft.demo.wording import verdict_in_words

from tests import cards
from tests.cards import sample_prediction
from tests.demo.conftest import HOSTILE, card_of
from tests.forms import form_of
from vlm_ft.adapters import Card
from vlm_ft.answers.derivations.estimate import read_rate_card
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxKind, Choice, FieldSpec, Flag, Integer, Items
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.answers.task import Task
from vlm_ft.answers.verdict import verdict_of
from vlm_ft.evaluation.results import MAIN
from vlm_ft.recipe import find_rate_card
from vlm_ft.tasks import TASKS
from vlm_ft.tasks.aviation_maintenance import PRIORITIES

TAGS = {"div", "section", "h2", "p", "strong", "small", "span", "b", "i", "ul", "li", "details", "summary"}
EMPTY_TAGS = {"img"}
TAGS |= {"table", "caption", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd", "pre", "iframe", "progress"}
ATTRIBUTES = {"class", "role", "style", "scope", "tabindex", "aria-current", "aria-hidden", "aria-label", "data-of"}
ATTRIBUTES |= {"sandbox", "title", "srcdoc"}  # of an iframe with a page
ATTRIBUTES |= {"value", "max"}  # of a progress bar


class Markup(HTMLParser):
    """Collects the text; fails on a tag or attribute that is not ours, or is left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.headings: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS | EMPTY_TAGS
        if tag in EMPTY_TAGS:
            assert dict(attrs)["src"].startswith("data:image/jpeg;base64,")
            assert {name for name, _ in attrs} == {"src", "alt", "width", "height"}
            return
        assert {name for name, _ in attrs} <= ATTRIBUTES
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open and self._open[-1] == "th":
            self.headings.append(data)


def whole_view(card: Card, prediction: Prediction) -> str:
    return head_view(card, prediction) + answer_view(card, prediction)


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_every_sample_is_shown(task: Task) -> None:
    card, prediction = card_of(task), sample_prediction(task)
    text = Markup(whole_view(card, prediction)).text
    for field in card.form.fields:
        assert field.name.replace("_", " ").capitalize() in text
    for value in prediction.values.values():
        assert isinstance(value, bool | list) or str(value).replace("_", " ") in text.replace("_", " ")
    assert card.notice in text
    assert card.notice in Markup(empty_view(card)).text
    assert card.form.title in Markup(card_view(card, HOSTILE)).text


def test_a_card_says_tested_only_if_it_has_figures() -> None:
    card = card_of(TASKS["legal_documents"])
    card = card.model_copy(
        update={"provenance": card.provenance.model_copy(update={"counts": {"train": 8, "test": 5}})}
    )
    assert "tested on 5" in card_view(card, "one")
    bare = card_view(card.model_copy(update={"metrics": {}}), "one")
    assert "tested on" not in bare
    assert "5 kept for testing" in bare
    assert "Not evaluated yet." in bare


def test_an_adapter_in_a_line() -> None:
    card = card_of(TASKS["product_defects"])
    assert in_a_line(card, "plates") == "plates · Product defects · passed macro-F1 0.94"
    figures = {**card.metrics, "kind.macro_f1": {"value": 0.5}, "findings.f1": {"value": 0.1}}
    assert in_a_line(card.model_copy(update={"metrics": figures}), "plates").endswith(" · kind macro-F1 0.50")
    assert in_a_line(card.model_copy(update={"metrics": {}}), "plates") == "plates · Product defects · not evaluated"


def test_derived_results_are_shown() -> None:
    card, answer = card_of(TASKS["car_damage"]), sample_prediction(TASKS["car_damage"])
    form = card.form.with_derivation(read_rate_card(find_rate_card("example_eur"))).with_derivation(PRIORITIES)
    card = card.model_copy(update={"form": form})
    text = Markup(whole_view(card, replace(answer, derived=form.derive(answer.values)))).text
    assert "EUR 558 to 748" in text
    assert "5.5 h × 72 = 396" in text
    assert "Example prices" in text
    assert "Maintenance priority" in text
    assert "next check" in text
    tag = "<b onclick=x>&"
    unpriced = {"findings": [{"part": tag, "kind": tag, "severity": "minor"}]}
    text = Markup(whole_view(card, replace(answer, derived=form.derive(unpriced)))).text
    assert f"no row for part '{tag}'" in text
    assert "not priced" in text
    assert "Ask a person" in text
    assert "Repair estimate" not in Markup(whole_view(card, answer)).text


def every_kind(hostile: str, bars: bool) -> tuple[Form, Prediction]:
    parts = (FieldSpec(name=hostile, kind=Choice(options=(hostile,))), FieldSpec(name="b", kind=BoxKind()))
    options = (hostile, *"abcdefghijklmnop")
    fields = (
        FieldSpec(name="choice", description=hostile, kind=Choice(options=options)),
        FieldSpec(name="flag", kind=Flag()),
        FieldSpec(name="number", kind=Integer(minimum=0, maximum=20)),
        FieldSpec(name="place", kind=BoxKind()),
        FieldSpec(name="items", kind=Items(fields=parts, max_items=3)),
        FieldSpec(name="nothing", kind=Items(fields=parts, max_items=3)),
    )
    form = Form(task="own", title=hostile, instruction=hostile, notice=hostile, fields=fields)
    answer = Prediction(
        {
            "choice": FieldValue(hostile, {hostile: 0.001, "a": 0.999} if bars else None),
            "flag": FieldValue(True, {"true": 0.75, "false": 0.25} if bars else None),
            "number": FieldValue(7, {str(n): 1 / 21 for n in range(21)} if bars else None),
            "place": FieldValue([0, 0, 500, 500]),
            "items": FieldValue([{hostile: hostile, "b": [10, 20, 30, 40]}]),
            "nothing": FieldValue([]),
        }
    )
    return form, answer


@pytest.mark.parametrize("bars", [True, False])
def test_no_text_becomes_markup(bars: bool) -> None:
    form, answer = every_kind(HOSTILE, bars)
    base = card_of(TASKS["legal_documents"])
    card = base.model_copy(
        update={
            "form": form,
            "base": base.base.model_copy(update={"name": HOSTILE}),
            "metrics": {HOSTILE: {"value": 0.5}},
        }
    )
    views = (whole_view(card, answer), empty_view(card), card_view(card, HOSTILE), message_view(HOSTILE, HOSTILE))
    assert all(HOSTILE in Markup(view).text for view in views)
    text = Markup(views[0]).text
    assert "None listed." in text
    assert ("75 %" in text) is bars
    assert ("<1 %" in text) is bars


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_an_answer_begins_with_its_verdict(task: Task) -> None:
    card, prediction = card_of(task), sample_prediction(task)
    verdict = verdict_of(card.form, prediction)
    assert verdict is not None
    shown = whole_view(card, prediction)
    assert Markup(shown).text.startswith(verdict_in_words(verdict))
    assert f'class="verdict {verdict.tone}"' in shown
    referred = whole_view(card, replace(prediction, decision="ask a person", reason="too dark"))
    assert f'class="verdict {verdict.tone} unsure"' in referred
    assert Markup(referred).text.startswith(f"{verdict_in_words(verdict)}Ask a person: too dark")


def test_decision_and_error_are_shown() -> None:
    task = TASKS["product_defects"]
    card, prediction = card_of(task), sample_prediction(task)
    assert "Ask a person" not in whole_view(card, prediction)
    assert "Ask a person" in whole_view(card, replace(prediction, decision="ask a person"))
    failed = Markup(whole_view(card, Prediction.failed("answer is not JSON\nat all"))).text
    assert failed == f"No answer. answer is not JSON at all{card.notice}"


def test_several_answers_are_a_table(known: Any, photo: Path) -> None:
    plates, hostile = (ask(known, name, Given([str(photo)])).answers[0] for name in ("plates", "hostile"))
    table = Markup(overview([plates, hostile]))
    assert table.headings == ["No.", "About", "Verdict", "Decision"]
    assert "1plate.pngFAIL: scratchAnswer" in table.text
    assert f"Ask a person: {HOSTILE}" in table.text


@pytest.mark.parametrize("size", [(40, 30), (4000, 300)])
@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_boxes_are_drawn(task: Task, size: tuple[int, int]) -> None:
    photo = Image.new("RGB", size, "white")
    placed = marks(card_of(task).form, sample_prediction(task))
    scene = drawn(photo, placed)
    assert max(scene.size) <= MAX_SIDE
    assert (ImageChops.invert(scene).getbbox() is not None) is bool(placed)
    assert [mark.number for mark in placed] == list(range(1, len(placed) + 1))


def test_every_main_metric_has_words() -> None:
    assert METRICS.keys() == set(MAIN)


def test_figures_are_listed_with_their_intervals() -> None:
    metrics = {"kind.accuracy": {"value": 0.5, "low": 0.25, "high": 0.75, "count": 12}, "plain": {"value": 0.125}}
    assert list(figures(metrics)) == [("kind accuracy", "0.50 (0.25 to 0.75)"), ("plain", "0.12")]


def test_each_field_says_what_its_own_decision_adds() -> None:
    card = cards.card_of(form_of(kind=Choice(options=("dent", "scratch")), passed=Flag()))
    answer = Prediction(
        {
            "kind": FieldValue("dent", {"dent": 0.95, "scratch": 0.05}, decision="answer"),
            "passed": FieldValue(True, {"true": 0.7, "false": 0.3}, decision="ask a person", reason="70% sure"),
        }
    )
    asked = Markup(answer_view(card, answer.doubted("passed: 70% sure, 0.66 for the whole answer"))).text
    assert "Sure enough on its own." in asked
    assert "Ask a person: 70% sure" in asked
    assert "Ask a person" not in Markup(answer_view(card, answer)).text  # the whole answer may be given
    strange = Markup(answer_view(card, answer.doubted("70% sure"))).text
    assert "Ask a person" not in strange  # the banner above says it once
