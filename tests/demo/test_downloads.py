"""An answer as JSON and as PDF: both say which case it is and which version answered, and hold all that is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from unicodedata import bidirectional

import gradio as gr
import matplotlib
import pytest
from fontTools.ttLib import TTFont
from PIL import Image
from pypdf import PdfReader
from vlm_ft.demo.answer_column import KINDS, _files
from vlm_ft.demo.answer_pdf import UNKNOWN, answer_pdf
from vlm_ft.demo.answered import Answered

from tests.cards import sample_prediction
from tests.demo.conftest import assess, card_of
from vlm_ft.answers.derivations.estimate import read_rate_card
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.answers.task import Task
from vlm_ft.inference.request import Attributed, new_case
from vlm_ft.recipe import find_rate_card
from vlm_ft.tasks import TASKS


def answered_with(card: Any, prediction: Prediction, text: str = "") -> Answered:
    number, time = new_case()
    return Answered(number, time, Attributed.to(card, prediction), ("uploads/plate.png",), text)


def text_of(pdf: bytes) -> str:
    """The text of all pages, without line breaks."""
    return " ".join(" ".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages).split())


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_a_pdf_holds_the_whole_answer(task: Task) -> None:
    card, prediction = card_of(task), sample_prediction(task)
    answered = answered_with(card, prediction)
    photos = answered.drawn([Image.new("RGB", (400, 300), "grey")])
    pdf = answer_pdf(answered, photos)
    text = text_of(pdf)
    for fact in (*answered.facts.values(), card.form.title, card.notice, "plate.png"):
        assert " ".join(fact.split()) in text
    for name, value in prediction.values.items():
        assert name.replace("_", " ").capitalize() in text
        assert isinstance(value, bool | list) or " ".join(str(value).replace("_", " ").split()) in text.replace(
            "_", " "
        )
    (picture,) = (picture for page in PdfReader(BytesIO(pdf)).pages for picture in page.images)
    assert picture.image.size == photos[0].size


def test_probabilities_decision_and_estimate_are_in_it() -> None:
    card, answer = card_of(TASKS["car_damage"]), sample_prediction(TASKS["car_damage"])
    form = card.form.with_derivation(read_rate_card(find_rate_card("example_eur")))
    damaged = FieldValue(True, {"true": 0.93, "false": 0.07})
    doubtful = replace(answer, decision="ask a person", reason="blurred", derived=form.derive(answer.values))
    doubtful = replace(doubtful, fields={**answer.fields, "damaged": damaged})
    text = text_of(answer_pdf(answered_with(card.model_copy(update={"form": form}), doubtful), []))
    for said in (
        "DAMAGED: moderate, dent, repair Ask a person: blurred",
        "Damaged Yes 93 % No 7 %",
        "EUR 558 to 748",
        "5.5 h × 72 = 396",
        "Example prices",
    ):
        assert said in text
    assert "No answer too large" in text_of(answer_pdf(answered_with(card, Prediction.failed("too large")), []))


@pytest.mark.parametrize(
    "text", ["Διάβρωση, трещина", "**b** <i>&amp; %s", "日本語 한글 😀", "سطح", "שלום", "\ud800 \x07\x00", "{nb}"]
)
def test_text_stays_text(text: str) -> None:
    task = TASKS["legal_documents"]
    answer = replace(sample_prediction(task), decision="ask a person", reason=text)
    found = text_of(answer_pdf(answered_with(card_of(task, name=text), answer, text), []))
    assert (text in found) is not (UNKNOWN in found)
    assert (UNKNOWN in found) is text.startswith(("日", "س", "ש", "\ud800"))
    assert found.endswith("1 / 1")


@pytest.mark.parametrize("text", ["\n" * 400 + "end", "W" * 3000, "a\nb"])
def test_any_text_fits_in_a_table(text: str) -> None:
    item = {"kind": text, "severity": "minor", "box": [0, 0, 90, 90]}
    answer = Prediction({"kind": FieldValue(text), "findings": FieldValue([item])})
    answered = answered_with(card_of(TASKS["product_defects"], name=text), answer)
    names = tuple(f"{number}-{'photo' * 40}.jpg" for number in range(8))
    found = text_of(answer_pdf(replace(answered, photos=names), []))
    assert ("…" in found) is (len(text) == 3000)
    assert found.replace(" ", "").count("photo") == 8 * 40


def test_long_answers_take_several_pages() -> None:
    item = {"kind": "scratch", "severity": "minor", "box": [0, 0, 90, 90]}
    answer = Prediction({"findings": FieldValue([item] * 80)})
    pdf = answer_pdf(answered_with(card_of(TASKS["product_defects"]), answer, "W" * 20_000), [])
    assert len(PdfReader(BytesIO(pdf)).pages) > 2
    assert text_of(pdf).count("scratch") == 80
    assert text_of(pdf).count("W") == 20_000


def test_headings_are_written_in_characters_of_the_bold_font() -> None:
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    regular, bold = (TTFont(fonts / f"DejaVuSans{style}.ttf").getBestCmap() for style in ("", "-Bold"))
    lacking = chr(min(code for code in regular.keys() - bold if bidirectional(chr(code)) == "L"))
    card = card_of(TASKS["legal_documents"])
    card = card.model_copy(update={"form": card.form.model_copy(update={"title": lacking})})
    found = text_of(answer_pdf(answered_with(card, sample_prediction(TASKS["legal_documents"])), []))
    assert found.startswith(UNKNOWN)


def test_without_its_photo_an_answer_has_no_pdf(known: Any, photo: Path) -> None:
    _, _, answered = assess(known, "plates", [str(photo)], None)
    photo.unlink()
    with pytest.warns(UserWarning, match="There is no PDF: The app deletes photos"):
        offered, withheld = _files([gr.DownloadButton() for _ in KINDS], answered)
    assert json.loads(Path(offered["value"]).read_text())["case"] == answered.case
    assert (withheld["value"], withheld["interactive"]) == (None, False)


def test_the_json_says_which_case_it_is(known: Any, photo: Path) -> None:
    _, _, answered = assess(known, "plates", [str(photo)], None)
    found = json.loads(answered.to_json())
    card = known.cards["plates"]
    assert found["case"] == known.asked[0].case
    assert (found["adapter"], found["version"], found["card"]) == ("plates", None, card.fingerprint)
    assert found["photos"] == ["plate.png"]
    assert found["notice"] == card.notice
    assert Prediction.from_json(answered.to_json()).values == answered.prediction.values


def test_an_answer_names_its_version() -> None:
    card, answer = card_of(TASKS["product_defects"]), sample_prediction(TASKS["product_defects"])
    assert answered_with(card, answer).version == card.fingerprint[:8]
    numbered = card.model_copy(update={"number": 3})
    assert answered_with(numbered, answer).version == f"3 ({card.fingerprint[:8]})"
