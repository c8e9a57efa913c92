"""Every tab in a real browser, on a desktop and a phone, light and dark: nothing is cut off, and axe finds no fault."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from PIL import Image
from vlm_ft.demo.app import build_app, mount

from datasets_vision.source import Source, read
from datasets_vision.synthetic import write_set
from tests.demo.conftest import Known
from tests.demo.in_browser import chromium, sync_api
from tests.service.servers import running
from vlm_ft.adapters import PEFT_FILES
from vlm_ft.answers.confidence import Bound, Confidence
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, Items
from vlm_ft.answers.prediction import FieldValue, Prediction, option_name
from vlm_ft.answers.task import Values
from vlm_ft.data.preflight import CHECK_PAGE, EXAMPLES, ROWS, Preflight
from vlm_ft.registry import Registry
from vlm_ft.review.store import Reviews
from vlm_ft.runs import RECIPE, Run, store
from vlm_ft.scoring.export import write_table
from vlm_ft.scoring.first import FIRST
from vlm_ft.scoring.ledger import Row
from vlm_ft.tasks import TASKS
from vlm_ft.training.plan import Plan
from vlm_ft.work.jobs import LOG, Jobs, Kind, State
from vlm_ft.work.workplace import DATA, PHOTOS, PREFLIGHT, RUN, Workplace

axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

PICTURES = os.environ.get("VLM_FT_SCREENSHOTS")
"""A folder for a picture of each screen, if they are wanted."""

PICTURE_HEIGHT = 1330  # pixels, at most
FAULTS = ("moderate", "serious", "critical")
TASK = TASKS["product_defects"]

CUT_OFF = r"""() => {
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode());) {
        const parent = node.parentElement;
        if (!node.data.trim() || !parent.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
        if (parent.closest("script, style, textarea, .cm-scroller, [aria-hidden=true]")) continue;
        for (const word of node.data.matchAll(/\S+/g)) {
            const range = document.createRange();
            range.setStart(node, word.index);
            range.setEnd(node, word.index + word[0].length);
            const boxes = [...range.getClientRects()].filter(box => box.width > 0);
            if (!boxes.length) continue;
            const tops = new Set(boxes.map(box => Math.round(box.top)));
            if (tops.size > 1 && /^\p{L}{2,20}$/u.test(word[0])) found.push(`broken: ${word[0]}`);
            for (let place = parent; place; place = place.parentElement) {
                const style = getComputedStyle(place), edge = place.getBoundingClientRect();
                if (style.clipPath !== "none" || style.clip !== "auto" || style.position === "fixed") break;
                if (["auto", "scroll"].includes(style.overflowX)) break;
                if (!["hidden", "clip"].includes(style.overflowX)) continue;
                if (boxes.some(box => box.right > edge.right + 1 || box.left < edge.left - 1)) {
                    found.push(`cut off: ${word[0]}`);
                    break;
                }
            }
        }
    }
    return [...new Set(found)];
}"""
"""Words that are broken, or that reach beyond an element that hides what does."""


def app_with_everything(folder: Path) -> Any:
    """The app with all tabs, and with something to show on each."""
    known = Known()
    photo, form, values = drawn(folder / "drawn")
    bound = Bound(risk=0.05, level=0.95, threshold=0.83, count=90, needed=59, answered=70, wrong=0)
    metrics = {"passed.f1": {"value": 0.91, "low": 0.85, "high": 0.95}, "kind.macro_f1": {"value": 0.72}}
    calibrated = {"confidence": Confidence(temperatures={"kind": 1.3}, bound=bound), "metrics": metrics, "number": 1}
    card = known.cards["plates"].model_copy(update={"form": form, **calibrated})
    known.cards["plates"], known.answers["plates"] = card, likely(form, values, 0.97)
    trained = folder / "trained"
    card.write(trained)
    for name in PEFT_FILES:
        (trained / name).touch()
    registry = Registry(folder / "adapters")
    for _ in range(2):
        registry.add("plates", trained, by="ann")
    work = Workplace(registry, Reviews(folder / "reviews"), Jobs(folder / "jobs"), folder)
    work.reviews.add(card, [Image.open(photo)], "", values, "accepted", reviewer="ann")
    _scored(work, card, photo, values)
    _in_training(work)
    _checked(work)
    entry = {"time": "2026-01-02T03:04:05", "by": "ann", "case": "20260102-030405-abcdef", "adapter": "plates"}
    entry |= {"version": 1, "card": card.fingerprint, "decision": "answer"}
    history = [{**entry, "answer": values}] * 3
    examples = {"plates": [photo], "contracts": ["Audits are allowed once a year."]}
    return build_app(known, examples, work, lambda words, most: history)


def drawn(folder: Path) -> tuple[Path, Form, Values]:
    """A drawn surface with a fingerprint, the form that the labels of such drawings fill, and its label."""
    write_set("product_defects", folder, 5, 3, size=320)
    labelled = {example.label.image_class: example for example in read(Source(path=folder)).examples}
    options = {"kind": tuple(labelled), "findings.kind": tuple(labelled)}
    form = Form.of(TASK, options, only=("passed", "kind", "findings.kind", "findings.box"))
    example = labelled["fingerprint"]
    photo = shutil.copy(example.images[0], folder / "plate.png")
    return photo, form, form.check(TASK.values(example.label))


def likely(form: Form, values: Values, share: float) -> Prediction:
    """An answer whose choices and flags have this probability, and the other options the rest."""
    found = {}
    for field in form.fields:
        value, options = values[field.name], field.kind.options if isinstance(field.kind, Choice) else (True, False)
        rest = (1 - share) / (len(options) - 1)
        shares = {option_name(option): share if option == value else rest for option in options}
        found[field.name] = FieldValue(value, None if isinstance(field.kind, Items) else shares)
    return Prediction(found)


def _job(work: Workplace, kind: Kind, state: State, title: str, out: str, *arguments: str) -> Path:
    """The folder of a job that is in this state."""
    with work.jobs.preparing() as place:
        job = work.jobs.submit(place, kind, title, arguments, out, None)
    if state == "running":
        work.jobs._running = job.id
    else:
        work.jobs._write(job, state=state, ended=datetime.now(UTC).isoformat(timespec="seconds"))
    return place


def _scored(work: Workplace, card: Any, photo: Path, values: Values) -> None:
    version = str(work.registry.current("plates").folder)
    place = _job(work, "score", "done", "plates 1: 40 files", "scores.csv", "score", "", "--adapter", version)
    (job,) = work.jobs.all()
    work.jobs._write(job, arguments=("score", str(place / PHOTOS), "--adapter", version))
    (place / PHOTOS).mkdir()
    rows = []
    for number in range(40):
        shutil.copy(photo, place / PHOTOS / f"{number:03}.png")
        unsure = {"decision": "ask a person", "reason": "kind: 61 % sure"} if number > 30 else {}
        answer = replace(likely(card.form, values, 1 - number / 100), **unsure)
        rows.append(Row(f"{number:03}.png", "", 320, 320, answer))
    write_table(place / "scores.csv", card, rows)
    (place / FIRST).write_text("039.png\n038.png\n037.png\n", encoding="utf-8")


def _in_training(work: Workplace) -> None:
    place = _job(work, "train", "running", "castings: set.zip", RUN)
    run = Run(place / RUN)
    run.folder.mkdir()
    store(run.plan, Plan(steps=40, rows=8, every=20, step=1.0, look=0.0).model_dump())
    run.losses.write_text("".join(f'{{"step": {step}, "loss": {9 / (step + 3)}}}\n' for step in range(1, 25)))
    (place / LOG).write_text("step 24/40  loss 0.333  18 s left\n")


def _checked(work: Workplace) -> None:
    place = _job(work, "preflight", "done", "castings: set.zip", PREFLIGHT)
    (place / DATA).mkdir()
    folder = place / PREFLIGHT
    folder.mkdir()
    read = ("Form: passed, kind, findings", "set aside: none")
    Preflight(title="Castings: train 10", read=read, errors=0, warnings=2, cost="40 steps: about 3 min").write(folder)
    (folder / ROWS).write_text("row 1: 214 tokens")
    (folder / RECIPE).write_text("name: castings\ntask: product_defects\n")
    (folder / CHECK_PAGE).write_text("<html lang=en><title>Checks</title><body><p>2 warnings</p></body></html>")
    Image.effect_noise((600, 300), 60).save(folder / EXAMPLES)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the app with everything; its jobs stay as they are."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Jobs, "_next", lambda _: None)
        blocks = app_with_everything(tmp_path_factory.mktemp("everything"))
        with running(mount(FastAPI(), blocks)) as (host, port):
            yield f"http://{host}:{port}/app/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(params=["light", "dark"], scope="module")
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[1280, 360], scope="module")
def page(request: pytest.FixtureRequest, scheme: str, browser: Any, address: str) -> Iterator[Any]:
    page = opened(browser, address, request.param, scheme)
    yield page
    page.close()


def opened(browser: Any, address: str, width: int, scheme: str) -> Any:
    """A page with the app."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(address)
    page.get_by_role("button", name="Assess", exact=True).wait_for()
    return page


def tab(page: Any, name: str) -> None:
    """Open a tab; on a phone, some are in a menu."""
    found = page.get_by_role("tab", name=name, exact=True)
    if not found.is_visible():
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button").filter(has_text=name).click()
        return
    found.click()


def assess(page: Any) -> None:
    tab(page, "Assess")
    page.locator(".thumbnail-item").first.click()
    page.get_by_text("Review this answer").click()
    page.get_by_role("button", name="Save correction").wait_for()


def compare(page: Any) -> None:
    tab(page, "Compare")
    photo = BytesIO()
    Image.effect_noise((320, 240), 60).save(photo, "PNG")
    sent = {"name": "plate.png", "mimeType": "image/png", "buffer": photo.getvalue()}
    page.locator("[role=tabpanel]:visible input[type=file]").set_input_files(sent)
    page.locator("[role=tabpanel]:visible").get_by_text("plate.png").first.wait_for()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text("differs").first.wait_for()


def chat(page: Any) -> None:
    tab(page, "Chat")
    page.get_by_role("textbox", name="Message").fill("May I audit?")
    page.keyboard.press("Enter")
    page.get_by_text("Clause type: audit rights").first.wait_for()


def batch(page: Any) -> None:
    tab(page, "Batch")
    page.get_by_text("40 of 40 rows").wait_for()
    page.get_by_text("Uncertain, and unlike each other").wait_for()


def checked(page: Any) -> None:
    tab(page, "Train")
    page.get_by_role("heading", name="Cost of training").wait_for()


def in_training(page: Any) -> None:
    tab(page, "Train")
    page.get_by_label("Job", exact=True).locator("visible=true").click()
    page.get_by_role("option", name="castings: set.zip (train, running)").click()
    page.get_by_text("Training. The curve").wait_for()
    page.get_by_text("Loss by step").wait_for()


def adapters(page: Any) -> None:
    tab(page, "Adapters")
    page.get_by_text("at most 5% of the answers").locator("visible=true").first.wait_for()


def history(page: Any) -> None:
    tab(page, "History")
    page.get_by_text("20260102-030405-abcdef").first.wait_for()


SCREENS = (assess, compare, chat, batch, checked, in_training, adapters, history)


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.__name__)
def test_a_screen_can_be_read_and_used_by_all(page: Any, scheme: str, screen: Callable[[Any], None]) -> None:
    screen(page)
    page.wait_for_timeout(500)  # until the page stands still
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.evaluate(CUT_OFF) == []
    found = axe_playwright.Axe().run(page).response["violations"]
    faults = {
        fault["id"]: [node["html"][:300] for node in fault["nodes"]] for fault in found if fault["impact"] in FAULTS
    }
    assert faults == {}
    if PICTURES is not None:
        file = Path(PICTURES) / f"{screen.__name__}-{page.viewport_size['width']}-{scheme}.png"
        shown = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": PICTURE_HEIGHT}
        page.screenshot(path=file, full_page=True, clip=shown)


def test_a_batch_is_sorted_by_confidence_and_filtered_by_decision(browser: Any, address: str) -> None:
    page = opened(browser, address, 1280, "light")
    batch(page)
    first = page.locator("[role=gridcell]:visible").first
    sync_api.expect(first).to_have_text("000.png")
    menu = page.locator("th[title=confidence]:visible").get_by_label("Open cell menu")
    sync_api.expect(menu).to_have_attribute("tabindex", "0")
    menu.press("Enter")
    page.get_by_role("menuitem", name="Sort ascending").press("Enter")
    sync_api.expect(first).to_have_text("039.png")
    page.get_by_label("Ask a person", exact=True).locator("visible=true").check()
    page.get_by_text("9 of 40 rows").wait_for()
    sync_api.expect(first).to_have_text("039.png")
    page.close()
