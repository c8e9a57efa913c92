"""The app in a real browser, wide and narrow, loads everything from its own address."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.datasets_vision.documents.test_reading import pdf
from tests.demo.in_browser import chromium, sync_api

FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
PASTE = """([name, data]) => {
    const bytes = Uint8Array.from(atob(data), sign => sign.charCodeAt(0));
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([bytes], name, {type: "image/png"}));
    document.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true}));
}"""


STORED = """async () => [...Object.keys(localStorage), ...Object.keys(sessionStorage),
    ...(await indexedDB.databases()).map(each => each.name)]"""


@pytest.fixture
def browser() -> Iterator[Any]:
    with chromium(*FAKE_CAMERA) as browser:
        yield browser


@pytest.fixture
def page(browser: Any, address: str) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 900}, permissions=["camera"])
    page.goto(address)
    return page


def give(page: Any, photo: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(photo)
    page.locator(".caption-label").first.wait_for()


def test_a_photo_is_assessed(browser: Any, address: str, photo: Path) -> None:
    strangers, faults = list[str](), list[str]()
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 844})
        page.on(
            "console",
            lambda message: faults.append(f"{message.text} {message.location}") if message.type == "error" else None,
        )
        page.on("request", lambda request: strangers.append(request.url))
        page.goto(address)
        assess = page.get_by_role("button", name="Assess")
        assess.wait_for()
        sync_api.expect(page.locator("#result")).to_contain_text("The answer appears here")

        page.get_by_label("Adapter", exact=True).click()
        page.get_by_role("option", name="hostile").click()
        page.locator("input[type=file]").first.set_input_files(photo)
        sync_api.expect(page.locator(".caption-label").filter(has_text="plate.png, 320×240")).to_be_visible()
        assess.focus()
        page.keyboard.press("Enter")
        page.locator("#result .ask").wait_for()
        sync_api.expect(page.locator("#result .badge")).to_have_text("1")
        sync_api.expect(page.locator("#result img").first).to_be_visible()
        assert page.evaluate("window.pwned") is None
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(STORED) == []
        page.close()
    assert [url for url in strangers if not url.startswith((address, "data:", "blob:"))] == []
    assert not faults


def test_a_text_is_assessed(page: Any) -> None:
    page.get_by_label("Adapter", exact=True).click()
    page.get_by_role("option", name="contracts").click()
    page.get_by_text("Audits are allowed once a year.").click()  # an example, which is assessed at once
    sync_api.expect(page.locator("#result")).to_contain_text("not legal advice")
    sync_api.expect(page.locator("#result")).to_contain_text("Audits once a year.")
    sync_api.expect(page.locator("input[type=file]")).to_have_attribute("accept", ".pdf")  # and none for photos


def test_a_pdf_is_answered_by_passage(page: Any, tmp_path: Path) -> None:
    clauses = ("Audits", "May they audit once a year."), ("Termination", "Either side may end it within a month.")
    contract = tmp_path / "contract.pdf"
    contract.write_bytes(pdf([[(16, heading), (10, text)] for heading, text in clauses]))
    page.get_by_label("Adapter", exact=True).click()
    page.get_by_role("option", name="contracts").click()
    page.locator("input[type=file][accept='.pdf']").set_input_files(contract)
    page.get_by_text("contract.pdf").locator("visible=true").first.wait_for()
    page.get_by_role("button", name="Assess").click()
    sync_api.expect(page.get_by_role("cell", name="page 1, Audits")).to_be_visible()
    sync_api.expect(page.get_by_role("cell", name="page 2, Termination")).to_be_visible()


def test_an_example_photo_is_assessed_when_it_is_chosen(page: Any) -> None:
    page.locator(".thumbnail-item").first.click()
    sync_api.expect(page.locator("#result")).not_to_contain_text("The answer appears here")
    sync_api.expect(page.locator("#result img").first).to_be_visible()
    page.get_by_label("Clear").first.click()
    sync_api.expect(page.locator("#result")).to_contain_text("The answer appears here")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_adapters_are_compared(browser: Any, address: str, photo: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.goto(address)
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Compare").wait_for()
    page.locator("input[type=file]").last.set_input_files(photo)
    page.get_by_text("plate.png").locator("visible=true").first.wait_for()
    page.get_by_role("button", name="Compare").click()
    sync_api.expect(page.get_by_text("differs").first).to_be_visible()
    sync_api.expect(page.get_by_text("Ask a person").first).to_be_visible()
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_label("hostile").click()
    sync_api.expect(page.get_by_text("The answers appear here, one column for each adapter.")).to_be_visible()
    page.close()


def test_a_text_adapter_chats(page: Any) -> None:
    page.get_by_role("tab", name="Chat").click()
    for count in (1, 2):
        page.get_by_role("textbox", name="Message").fill("May I <b>audit</b>?")
        page.keyboard.press("Enter")
        sync_api.expect(page.get_by_text("Clause type: audit rights")).to_have_count(count)
    sync_api.expect(page.get_by_text("May I <b>audit</b>?").first).to_be_visible()
    page.get_by_role("button", name="Start again").click()
    sync_api.expect(page.get_by_text("Clause type: audit rights")).to_have_count(0)


def test_an_answer_is_downloaded(page: Any, photo: Path) -> None:
    give(page, photo)
    numbers = []
    for _ in range(2):  # the second answer's files replace the first one's
        page.get_by_role("button", name="Assess").click()
        sync_api.expect(page.get_by_role("button", name="Download PDF")).to_be_hidden()
        page.get_by_text("Answer as JSON or PDF").click()
        files = {}
        for kind in ("JSON", "PDF"):
            with page.expect_download() as download:
                page.get_by_role("button", name=f"Download {kind}").click()
            files[download.value.suggested_filename] = Path(download.value.path()).read_bytes()
        answer, pdf = files.values()
        numbers.append(json.loads(answer)["case"])
        assert list(files) == [f"{numbers[-1]}.json", f"{numbers[-1]}.pdf"]
        assert pdf.startswith(b"%PDF")
    assert len(set(numbers)) == 2


def test_files_that_are_made_late_are_those_of_the_answer_shown(
    page: Any, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("vlm_ft.demo.answer_pdf.answer_pdf", lambda *_: go_on.wait(60) and b"%PDF")
    give(page, photo)
    download = page.get_by_role("button", name="Download JSON")
    for _ in range(2):  # the first answer's files are still being made when the second one is given
        page.get_by_role("button", name="Assess").click()
        sync_api.expect(download).to_be_hidden()
        page.get_by_text("Answer as JSON or PDF").click()
        sync_api.expect(download).to_be_disabled()
    case = json.loads("".join(page.locator("#result .cm-line").all_inner_texts()))["case"]
    go_on.set()
    sync_api.expect(download).to_be_enabled()
    with page.expect_download() as saved:
        download.click()
    assert saved.value.suggested_filename == f"{case}.json"

    bad = photo.with_name("bad.jpg")
    bad.write_text("no image")
    page.locator("input[type=file]").first.set_input_files(bad)
    sync_api.expect(page.get_by_text("not a readable image")).to_be_visible()
    sync_api.expect(download).to_be_hidden()


def test_photos_are_pasted(page: Any, photo: Path) -> None:
    page.get_by_role("button", name="Assess").wait_for()
    data = base64.b64encode(photo.read_bytes()).decode()
    for count, name in ((1, "one.png"), (2, "two.png")):
        page.evaluate(PASTE, [name, data])
        sync_api.expect(page.locator(".caption-label").filter(has_text=".png, 320×240")).to_have_count(count)


def test_a_photo_is_taken(page: Any) -> None:
    page.get_by_role("button", name="Take a photo, or paste one").click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_role("button", name="capture photo").click()
    sync_api.expect(page.locator(".caption-label")).to_have_count(1)


def test_several_photos_are_answered_one_by_one(page: Any, photo: Path) -> None:
    page.get_by_role("button", name="Assess").wait_for()
    other = photo.with_name("back.png")
    Image.new("RGB", (200, 300), "white").save(other)
    page.locator("input[type=file]").first.set_input_files([photo, other])
    page.get_by_role("radio", name="Separate answers").locator("xpath=..").click()
    page.get_by_role("button", name="Assess").click()
    sync_api.expect(page.locator("#result tbody .verdict")).to_have_count(2)
    picture = page.locator("#result .thumbnail-item img")
    shown = picture.get_attribute("src")
    page.get_by_label("In full").click()
    page.get_by_role("option", name="2: back.png").click()
    sync_api.expect(picture).not_to_have_attribute("src", shown)


def test_a_box_is_hidden_and_shown_again(page: Any, photo: Path) -> None:
    page.get_by_role("button", name="Assess").wait_for()
    give(page, photo)
    page.get_by_role("button", name="Assess").click()
    box, picture = page.get_by_role("checkbox", name="2 pit"), page.locator("#result .thumbnail-item img")
    sync_api.expect(box).to_be_checked()
    shown = picture.get_attribute("src")
    box.uncheck()
    sync_api.expect(picture).not_to_have_attribute("src", shown)
    box.check()
    sync_api.expect(picture).to_have_attribute("src", shown)  # files are named by their content


def test_an_opened_photo_is_zoomed(page: Any, photo: Path) -> None:
    page.get_by_role("button", name="Assess").wait_for()
    give(page, photo)
    page.get_by_role("button", name="Assess").click()
    page.locator("#result .thumbnail-item").click()
    opened = page.get_by_test_id("detailed-image")
    width = opened.bounding_box()["width"]
    opened.hover()
    page.mouse.wheel(0, -100)
    sync_api.expect(opened).to_have_attribute("style", re.compile(r"scale\(1\.25\)"))
    assert opened.bounding_box()["width"] == pytest.approx(1.25 * width, abs=1)
    page.keyboard.press("-")
    page.keyboard.press("-")
    assert opened.bounding_box()["width"] == pytest.approx(width, abs=1)
