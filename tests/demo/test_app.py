"""Questions to the app, through its handler and through its address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pydicom
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from fpdf import FPDF
from gradio_client import Client, handle_file
from PIL import Image
from vlm_ft.demo.answer_pdf import answer_pdf
from vlm_ft.demo.answer_view import answer_view, overview
from vlm_ft.demo.app import NO_ADAPTER, build_app, mount, titled
from vlm_ft.demo.asking import MAX_TEXT, Given, ask
from vlm_ft.demo.assess_tab import APART, ONE_CASE, _usual
from vlm_ft.demo.card_view import card_view
from vlm_ft.demo.compare_tab import compare
from vlm_ft.demo.handlers import errors_shown
from vlm_ft.demo.photo_view import UNDRAWN
from vlm_ft.demo.photos import MAX_PHOTOS

from datasets_vision.images import open_image
from tests.demo.conftest import assess, card_of
from tests.demo.test_downloads import text_of
from tests.forms import form_of
from vlm_ft.answers.kinds import BoxKind
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.errors import DataError
from vlm_ft.inference.request import Attributed
from vlm_ft.tasks import TASKS


def test_a_photo_is_answered(known: Any, photo: Path) -> None:
    images, html, answered = assess(known, "plates", [str(photo)], " look at the edge ")
    assert [image.size for image in images] == [(640, 480)]  # enlarged: its boxes are named
    assert "scratch" in html
    assert answered.prediction.values["kind"] == "scratch"
    assert known.asked[0].turns[0].text == answered.text == "look at the edge"
    assert known.asked[0].case == answered.case


def test_a_text_adapter_gets_no_photo(known: Any, photo: Path) -> None:
    images, html, _ = assess(known, "contracts", [str(photo)], "Audits are allowed.")
    assert images == []
    assert "audit rights" in html
    assert known.asked[0].images == ()
    assert "Give a text first" in assess(known, "contracts", [str(photo)], "")[1]


def test_an_adapter_trained_on_photos_alone_gets_no_text(known: Any, photo: Path) -> None:
    known.cards = {"plates": known.cards["plates"].model_copy(update={"inputs": ("photo",)})}
    assess(known, "plates", [str(photo)], "a text left over from another adapter")
    assert known.asked[0].turns == ()
    assert "Give a photo first" in assess(known, "plates", None, "a text")[1]
    boxes = [part for part in build_app(known).get_config_file()["components"] if part["type"] == "textbox"]
    assert [box["props"]["visible"] for box in boxes] == [False]


def test_each_box_is_on_its_own_photo(known: Any, photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "back.png"
    Image.new("RGB", (200, 300), "white").save(other)
    found = [{"kind": "scratch", "severity": "minor", "box": [100, 100, 900, 900], "photo": 1}]
    answer = Prediction({"findings": FieldValue(found)})
    known.predict = lambda requests: [Attributed.to(known.cards["plates"], answer)]
    (first, second), html, _ = assess(known, "plates", [str(photo), str(other)], None)
    assert len(first.getcolors(1 << 20)) > 1
    assert second.getcolors() == [(200 * 300, (255, 255, 255))]
    assert "Photo</th>" in html
    assert UNDRAWN not in html
    assert "Photo</th>" not in assess(known, "plates", [str(photo)], None)[1]  # a single photo needs no number


@pytest.mark.parametrize("numbers_photos", [True, False])
def test_a_box_on_an_unknown_photo_is_not_drawn_and_the_answer_says_so(
    known: Any, photo: Path, numbers_photos: bool
) -> None:
    found = [{"kind": "scratch", "severity": "minor", "box": [100, 100, 900, 900]} for _ in range(2)]
    if numbers_photos:
        found[0] |= {"photo": 3}
        found[1] |= {"photo": 2}
    answer = Prediction({"findings": FieldValue(found)})
    known.predict = lambda requests: [Attributed.to(known.cards["plates"], answer)]
    pictures, html, answered = assess(known, "plates", [str(photo)] * 2, None)
    assert [len(picture.getcolors(1 << 20)) > 1 for picture in pictures] == [False, numbers_photos]
    assert [mark.index for mark in answered.marks] == [1] * numbers_photos
    assert UNDRAWN in html
    assert UNDRAWN in " ".join(text_of(answer_pdf(answered, pictures)).split())
    _, html, answered = assess(known, "plates", [str(photo)], None)
    assert [mark.index for mark in answered.marks] == [0, 1]
    assert UNDRAWN not in html


def test_a_single_box_is_not_drawn_on_one_of_several_photos() -> None:
    card = card_of(TASKS["product_defects"]).model_copy(update={"form": form_of(place=BoxKind())})
    answer = Prediction({"place": FieldValue([100, 100, 900, 900])})
    alone, among = (answer_view(card, answer, photos) for photos in (1, 2))
    assert ("badge" in alone, UNDRAWN in alone) == (True, False)
    assert ("badge" in among, UNDRAWN in among) == (False, True)


def test_scans_are_opened_as_in_scoring(known: Any, tmp_path: Path) -> None:
    rising = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    Image.fromarray(rising).save(tmp_path / "sixteen.png")
    scan = pydicom.Dataset()
    scan.Rows, scan.Columns, scan.BitsAllocated, scan.BitsStored, scan.HighBit = 48, 64, 16, 16, 15
    scan.SamplesPerPixel, scan.PhotometricInterpretation, scan.PixelRepresentation = 1, "MONOCHROME2", 0
    scan.PixelData, scan.SOPClassUID = rising.tobytes(), "1.2.840.10008.5.1.4.1.1.7"
    scan.file_meta = pydicom.dataset.FileMetaDataset()
    scan.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    scan.SOPInstanceUID = pydicom.uid.generate_uid()
    scan.save_as(tmp_path / "scan.dcm", enforce_file_format=True)
    files = [tmp_path / "scan.dcm", tmp_path / "sixteen.png"]
    assess(known, "plates", [str(file) for file in files], None)
    for seen, file in zip(known.asked[0].images, files, strict=True):
        assert seen.tobytes() == open_image(file).tobytes()
        assert seen.getextrema()[0] == (0, 255)


def test_several_photos_are_one_case_or_have_answers_of_their_own(known: Any, photo: Path) -> None:
    other = photo.with_name("back.png")
    Image.new("RGB", (30, 30)).save(other)
    photos = [str(photo), str(other)]
    assert len(ask(known, "plates", Given(photos)).answers) == 1
    assert [len(request.images) for request in known.asked] == [2]
    known.asked.clear()
    apart = ask(known, "plates", Given(photos, "the left one", apart=True))
    assert [len(request.images) for request in known.asked] == [1, 1]
    assert [request.turns[0].text for request in known.asked] == ["the left one"] * 2
    assert [answered.about for answered in apart.answers] == ["plate.png", "back.png"]
    assert len({answered.case for answered in apart.answers}) == 2
    assert [seen.size for seen in apart.photos] == [(320, 240)]


@pytest.mark.parametrize(
    ("most", "numbered", "usual"),
    [(1, True, APART), (3, False, ONE_CASE), (None, True, ONE_CASE), (None, False, APART)],
)
def test_several_photos_are_one_case_if_the_adapter_has_learned_from_such(
    known: Any, most: int | None, numbered: bool, usual: str
) -> None:
    card = known.cards["plates" if numbered else "contracts"].model_copy(update={"most_photos": most})
    assert _usual(card) == usual
    assert (f"of up to {most} photos" in card_view(card, "plates")) is (usual == ONE_CASE and most is not None)


def test_too_many_photos_are_refused(known: Any, photo: Path) -> None:
    html = assess(known, "plates", [str(photo)] * (MAX_PHOTOS + 1), None)[1]
    assert f"exceed the limit of {MAX_PHOTOS}" in html
    assert known.asked == []


@pytest.mark.parametrize("name", ["text.jpg", "empty.jpg", "cut.png", "huge.png"])
def test_a_bad_upload_gives_one_line(known: Any, photo: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    whole = photo.read_bytes()
    match name:
        case "huge.png":
            Image.new("1", (20_000, 20_000)).save(path)
        case "cut.png":
            path.write_bytes(whole[: len(whole) // 2])
        case _:
            path.write_text("no image" if name == "text.jpg" else "")
    images, html, answered = assess(known, "plates", [str(photo), str(path)], "")
    assert (images, answered, known.asked) == ([], None, [])
    assert f"</strong> {name}: " in html
    assert str(tmp_path) not in html


def test_a_photo_that_has_since_been_deleted_has_to_be_uploaded_again(known: Any, photo: Path) -> None:
    photo.unlink()
    _, html, answered = assess(known, "plates", [str(photo)], None)
    assert answered is None
    assert "deletes photos and PDFs an hour after upload; upload them again" in html


def test_a_text_that_is_too_long_is_refused(known: Any) -> None:
    assert assess(known, "contracts", None, "a" * MAX_TEXT)[2] is not None
    known.asked.clear()
    html = assess(known, "contracts", None, "a" * (MAX_TEXT + 1))[1]
    assert f"longer than {MAX_TEXT} characters" in html
    assert known.asked == []


@pytest.mark.usefixtures("no_photo_process")
def test_a_user_is_asked_to_retry_while_no_process_can_decode_photos(known: Any, photo: Path) -> None:
    images, html, answered = assess(known, "plates", [str(photo)], "")
    assert (images, answered, known.asked) == ([], None, [])
    assert "</strong> photos: no process is available to decode them; retry later" in html


@pytest.mark.parametrize("asked", [assess, compare])
def test_an_answer_names_the_version_that_gave_it(known: Any, photo: Path, asked: Any) -> None:
    promoted = known.cards["plates"].model_copy(update={"pixels": (1, 2)})
    answer, before = known.predict, known.cards

    def replaced_meanwhile(requests: Any) -> Any:
        known.cards = {**before, "plates": promoted}
        answers = answer(requests)
        known.cards = before
        return answers

    known.predict = replaced_meanwhile
    if asked is assess:
        assert assess(known, "plates", [str(photo)], None)[2].version == promoted.fingerprint[:8]
    else:
        assert [column.card for column in compare(known, [str(photo)], ["plates"], base=False)[1]] == [promoted]


def test_an_internal_error_shows_no_traceback(known: Any, photo: Path) -> None:
    def fail(requests: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    known.predict = fail
    html = assess(known, "plates", [str(photo)], "")[1]
    assert "Something went wrong on the server" in html
    assert "CUDA" not in html
    assert "reload this page" in assess(known, "gone", [str(photo)], "")[1]
    assert "Give a photo or a text first" in assess(known, "plates", None, None)[1]


def test_what_an_error_quotes_is_not_taken_for_html() -> None:
    with pytest.raises(gr.Error) as shown, errors_shown():
        raise DataError("zip", "'<b>x.csv' is a link", "pack the file itself")
    assert "'&lt;b&gt;x.csv' is a link" in shown.value.message


CLAUSE = " ".join(["Audits are allowed once a year."] * 30)


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """A PDF of three pages, the second without text."""
    pdf, path = FPDF(), tmp_path / "contract.pdf"
    pdf.set_font("helvetica", size=11)
    for text in (CLAUSE, "", "Either side may end the contract within a month. " * 10):
        pdf.add_page()
        pdf.multi_cell(0, 6, text)
    pdf.output(str(path))
    return path


def test_a_pdf_is_answered_by_passage_with_the_page(known: Any, contract: Path) -> None:
    asked = ask(known, "contracts", Given(text="May they audit?", pdf=str(contract)))
    first, last = (request.turns[0].text for request in known.asked)
    assert first == f"May they audit?\n\n{CLAUSE}"
    assert last.endswith("Either side may end the contract within a month.")
    assert [answered.passage for answered in asked.answers] == ["page 1", "page 3"]
    assert asked.remark == "No text was found on page 2: a scan or a figure."
    assert json.loads(asked.answers[1].to_json())["passage"] == "page 3"
    assert "page 3" in overview(asked.answers, asked.remark)
    known.asked.clear()
    assert "Give a photo or a text first" in ask(known, "plates", Given(pdf=str(contract))).message  # reads photos, too
    assert known.asked == []


def test_a_long_pdf_is_answered_in_part_and_says_so(
    known: Any, contract: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlm_ft.demo.asking.MAX_PASSAGES", 1)
    asked = ask(known, "contracts", Given(pdf=str(contract)))
    assert len(asked.answers) == 1
    assert asked.remark.startswith("Only the first 1 of 2 passages are answered.")


def test_a_file_that_is_no_pdf_gives_one_line(known: Any, contract: Path) -> None:
    contract.write_text("no PDF")
    message = ask(known, "contracts", Given(pdf=str(contract))).message
    assert "</strong> contract.pdf: not a PDF file; give a .pdf file that opens in a viewer" in message
    contract.unlink()
    assert "upload them again" in ask(known, "contracts", Given(pdf=str(contract))).message


def test_a_missing_adapter_is_reported(known: Any) -> None:
    known.cards = {}
    blocks = build_app(known)
    assert NO_ADAPTER in json.dumps(blocks.get_config_file())


def test_adapters_are_listed_again_whenever_the_page_is_loaded(known: Any) -> None:
    blocks = build_app(known)
    del known.cards["hostile"]
    loaded = [entry.fn for entry in blocks.fns.values() if "load" in [event for _, event in entry.targets]]
    listed = [[name for _, name in fn()["choices"]] for fn in loaded]
    assert listed == [["plates", "contracts"], ["plates"], ["contracts"]]


def test_the_address_answers(address: str, photo: Path, tmp_path: Path) -> None:
    client = Client(address, verbose=False)
    shown, html, raw, *_ = client.predict("plates", [handle_file(photo)] * 2, "", api_name="/assess")
    pictures = shown["value"] if isinstance(shown, dict) else shown
    assert [Path(picture["image"]).is_file() for picture in pictures] == [True, True]
    assert "scratch" in html
    assert json.loads(raw)["decision"] == "answer"
    bad = tmp_path / "bad.jpg"
    bad.write_text("no image")
    assert "not a readable image" in client.predict("plates", [handle_file(bad)], "", api_name="/assess")[1]
    assert list(client.view_api(return_format="dict", print_info=False)["named_endpoints"]) == ["/assess"]


def test_the_app_can_be_mounted_in_a_service(known: Any) -> None:
    with TestClient(mount(FastAPI(), build_app(known))) as client:
        assert client.get("/app/").status_code == 200
        assert client.get("/").status_code == 404
        assert client.get("/app/config").json()["run_history"] is False  # the browser stores no questions and answers


def test_the_title_names_what_the_adapters_read(known: Any) -> None:
    plates, contracts = known.cards["plates"], known.cards["contracts"]
    photos_only = plates.model_copy(update={"inputs": ("photo",)})
    assert titled([photos_only])[0] == "Photo assessor"
    assert titled([contracts])[0] == build_app(_only(known, "contracts")).title == "Text assessor"
    assert titled([photos_only, contracts])[0] == "Photo and text assessor"


def _only(known: Any, name: str) -> Any:
    known.cards = {name: known.cards[name]}
    return known
