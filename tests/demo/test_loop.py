"""The whole loop in a browser: an answer is corrected, the next version is trained, promoted, and answers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from vlm_ft.demo.app import build_app, mount
from vlm_ft.demo.error_browser import LEGEND

from tests.command_here import start_here
from tests.demo.in_browser import chromium, sync_api
from tests.service.servers import running
from vlm_ft.registry import Registry
from vlm_ft.review.store import Reviews
from vlm_ft.scoring.first import FIRST
from vlm_ft.service.app import build_service
from vlm_ft.service.current import Current, open_engine
from vlm_ft.service.meter import Meter
from vlm_ft.service.recorded import DecisionLog, Recorded
from vlm_ft.work.jobs import Jobs
from vlm_ft.work.workplace import Workplace

PATIENCE = 90_000  # milliseconds for a training


@pytest.fixture
def work(run_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setattr(Jobs, "_start", start_here)
    registry = Registry(tmp_path / "adapters")
    registry.add("parts", run_of("fast_vlm", fields=["passed", "kind", "findings"]))
    (tmp_path / "root").mkdir()
    return Workplace(registry, Reviews(tmp_path / "reviews"), Jobs(tmp_path / "jobs"), tmp_path / "root")


@pytest.fixture
def address(work: Workplace, tmp_path: Path) -> Iterator[str]:
    log = DecisionLog(tmp_path / "decisions.jsonl")
    predictor = Recorded(Current(open_engine([], work.registry, None), work.registry), Meter(), log)
    api = build_service(predictor, work=work)
    mount(api, build_app(predictor, work=work, history=log.search))
    with running(api) as (host, port):
        yield f"http://{host}:{port}/app/"
    work.jobs.close()


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.goto(address)
        yield page


def answer_shown(page: Any) -> dict[str, Any]:
    """Ask about the photo, and download the answer."""
    page.get_by_role("tab", name="Assess").click()
    page.get_by_role("button", name="Assess", exact=True).click()
    download = page.get_by_role("button", name="Download JSON")
    sync_api.expect(download).to_be_hidden()  # of the answer before
    page.get_by_text("Answer as JSON or PDF").click(timeout=PATIENCE)
    with page.expect_download() as saved:
        download.click()
    answer: dict[str, Any] = json.loads(Path(saved.value.path()).read_bytes())
    return answer


def test_a_correction_becomes_the_next_version(page: Any, work: Workplace, drawings: Path) -> None:
    photo = sorted((drawings / "JPEGImages").glob("*.png"))[0]
    page.get_by_role("button", name="Assess", exact=True).wait_for()
    page.locator("input[type=file]").first.set_input_files(photo)
    page.locator(".caption-label").first.wait_for()
    first = answer_shown(page)
    page.get_by_text("Review this answer").click()
    panel = page.locator("#result")
    no = panel.get_by_role("radio", name="No", exact=True)
    no.wait_for()
    before = no.is_checked()
    panel.get_by_role("radio", name="Yes" if before else "No", exact=True).locator("xpath=..").click()
    image = panel.locator(".image-frame img")
    image.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#result .image-frame img').naturalWidth > 0")
    page.wait_for_timeout(1000)  # until the page stands still
    size = image.bounding_box()
    side = min(size["width"], size["height"])  # the photo is a square in the middle
    for share in (-0.25, 0.25):  # two corners of a box
        with page.expect_response("**/queue/data*"):  # the click has been dealt with
            page.mouse.click(
                size["x"] + size["width"] / 2 + share * side, size["y"] + size["height"] / 2 + share * side
            )
        page.wait_for_timeout(500)
    page.get_by_role("button", name="Save correction").click()
    page.get_by_text("Stored as corrected. Reviewed answers of this adapter: 1.").wait_for()
    (review,) = work.reviews.last()
    assert review.correct is not None
    assert review.correct["passed"] is before
    left, top, right, bottom = review.correct["findings"][-1]["box"]
    assert all(abs(side - 250) < 40 for side in (left, top)), review.correct
    assert all(abs(side - 750) < 40 for side in (right, bottom))

    page.get_by_role("tab", name="Adapters").click()
    page.get_by_role("button", name="Train the next version").click()
    page.get_by_role("cell", name="done", exact=True).first.wait_for(timeout=PATIENCE)
    page.get_by_label("Margin").fill("1")
    page.get_by_role("button", name="Compare the chosen adapter").click()
    page.get_by_text("test examples", exact=False).first.wait_for(timeout=PATIENCE)
    assert work.registry.current("parts").number == 2
    second = answer_shown(page)
    assert (first["version"], second["version"]) == (1, 2)
    assert second["fields"]["kind"]["distribution"] != first["fields"]["kind"]["distribution"]
    page.get_by_role("tab", name="Adapters").click()
    page.get_by_text("Test samples of the current version").click()
    page.get_by_text(LEGEND).or_(page.get_by_text("No matching samples.")).first.wait_for()
    page.get_by_role("radio", name="All samples").locator("xpath=..").click()
    page.get_by_text(re.compile(r"1 to \d of \d")).wait_for()
    page.get_by_label("Field").click()
    page.get_by_role("option", name="Passed").click()
    page.get_by_text("Misses and false rejects").wait_for()
    page.get_by_role("button", name="Go back to the previous version").click()
    page.get_by_text("rolled back from 2").wait_for()
    assert work.registry.current("parts").number == 1
    third = answer_shown(page)
    assert third["version"] == first["version"]
    assert third["fields"]["kind"]["distribution"] == pytest.approx(first["fields"]["kind"]["distribution"])

    page.get_by_role("tab", name="History").click()
    page.get_by_label("Search").fill("parts")
    page.get_by_role("cell", name="parts", exact=True).first.wait_for()
    page.get_by_label("Search").fill("no such adapter")
    page.keyboard.press("Enter")
    page.get_by_text("Nothing found.").wait_for()


def score(page: Any, work: Workplace, drawings: Path) -> None:
    """Score photos in a folder on the server."""
    assert work.root is not None
    shutil.copytree(drawings / "JPEGImages", work.root / "line 1")
    page.get_by_role("tab", name="Batch").click()
    page.get_by_label("Or a folder on the server").fill("line 1")
    page.get_by_role("button", name="Score", exact=True).click()


def test_a_folder_is_scored(page: Any, work: Workplace, drawings: Path) -> None:
    page.get_by_role("tab", name="Batch").click()
    page.get_by_label("Or a folder on the server").fill("nowhere")
    page.get_by_role("button", name="Score", exact=True).click()
    page.get_by_text("no folder 'nowhere' under the service's root").first.wait_for()
    score(page, work, drawings)
    page.get_by_text("scene_00000.png").locator("visible=true").first.wait_for(timeout=PATIENCE)
    page.locator(".stem").filter(has_text="scores").wait_for()


def test_a_photo_is_chosen_for_review(page: Any, work: Workplace, drawings: Path) -> None:
    score(page, work, drawings)
    page.get_by_text("Review first").wait_for(timeout=PATIENCE)
    (job,) = work.jobs.all()
    first, *_ = work.jobs.result(job.id).with_name(FIRST).read_text().splitlines()
    page.locator(".thumbnail-item").filter(has_text=first).click()
    page.locator(".caption-label").filter(has_text=f"{first}, ").wait_for()
    sync_api.expect(page.get_by_role("button", name="Assess", exact=True)).to_be_visible()


@pytest.mark.usefixtures("one_shape", "shipped_tiny")
def test_an_adapter_is_trained_on_new_data(page: Any, work: Workplace, drawings: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", drawings)
    page.get_by_role("tab", name="Train").click()
    page.get_by_label("Recipe").click()
    page.get_by_role("option", name="steel_surface_voc").click()
    page.get_by_role("button", name="Read and check the data").click()
    page.get_by_text("is taken, or not a plain word").first.wait_for()
    page.get_by_label("Name of the new adapter").fill("castings")
    page.locator("input[type=file]").last.set_input_files(archive)
    page.get_by_text("set.zip").locator("visible=true").first.wait_for()
    page.get_by_role("button", name="Read and check the data").click()
    page.get_by_role("heading", name="Cost of training").wait_for(timeout=PATIENCE)
    sync_api.expect(page.frame_locator("iframe.checks").get_by_text("Data check: castings")).to_be_visible()
    button = page.get_by_role("button", name="Train", exact=True)
    button.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)  # until the page stands still
    button.click()
    page.get_by_text("Trained. To serve it").wait_for(timeout=PATIENCE)
    assert [job.state for job in work.jobs.all()] == ["done", "done"]
