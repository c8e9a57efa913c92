"""Give an adapter photos or a text, and read its typed answer."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import gradio as gr
from PIL.Image import Image

from datasets_vision.example import Turn
from vlm_ft.adapters import Card
from vlm_ft.errors import DataError, UserError
from vlm_ft.inference.request import Predictor, Request
from vlm_ft.work.workplace import Workplace

from .answer_view import answer_view, empty_view, message_view
from .answered import Answered, new_case
from .card_view import card_view
from .handlers import MODEL_QUEUE, PRIVATE, QUIET, adapter_choice, in_toast, user_of
from .photo_view import drawn, gallery
from .photos import caption, opened, photo_input, photo_taken, reads_photos, reads_text, small
from .review_panel import review_panel

TO_RESULT = """() => {
    const result = document.getElementById("result");
    if (result.getBoundingClientRect().top > 0.6 * innerHeight) result.scrollIntoView({behavior: "smooth"});
}"""
"""Scrolls to the answer, which is below the fold on a phone."""

Examples = Mapping[str, Sequence[Path | str]]
"""Adapter -> examples to try: a `Path` is an image, a `str` is a text."""

LONGEST_TEXT = 20_000  # characters
EXAMPLE_SIDE = 320  # pixels of an example's longer side
BROKEN = "Something went wrong on the server; details are in its log. Try again, or contact the operator."

ASSESS = "assess"
"""The id of the tab."""

KINDS = ("JSON", "PDF")
"""The files that an answer is offered as."""

PREVIEW_QUEUE: dict[str, Any] = {**PRIVATE, "concurrency_limit": 1, "concurrency_id": "look"}
"""The settings of an event that shows photos, which are large."""

log = logging.getLogger(__name__)


def assess_tab(predictor: Predictor, examples: Examples, work: Workplace | None) -> tuple[gr.Dropdown, gr.File]:
    """The tab's content; returns the adapter and the photos, which other tabs can set."""
    names = list(predictor.cards)
    first = predictor.cards[names[0]]
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            adapter = adapter_choice(predictor, lambda _: True)
            with gr.Column(visible=reads_photos(first)) as photo_place:
                photos = photo_input("Photos or scans; several are one case", height=200, allow_reordering=True)
                with gr.Accordion("Take a photo, or paste one", open=False):
                    photo_taken(photos)
                seen = gallery(label="As the adapter sees them", columns=3, fit_columns=False, visible=False)
            text = gr.Textbox(
                label=_text_label(first), lines=3, max_lines=12, max_length=LONGEST_TEXT, visible=reads_text(first)
            )
            button = gr.Button("Assess", variant="primary")
            example = gr.State("")  # the path of the example photo that was clicked last
            tries = {
                name: _examples(examples[name], photos, example, text, visible=name == names[0])
                for name in names
                if examples.get(name)
            }
        with gr.Column(scale=3, min_width=300, elem_id="result"):
            results = _result(first, work)
            with gr.Accordion("About this adapter"):
                about = gr.HTML(card_view(first, names[0]))

    def assessed(
        adapter: str, photos: Sequence[str] | None, text: str | None, request: gr.Request
    ) -> tuple[Any, ...]:  # Gradio finds the request by the annotation, which it does not see in a `partial`
        return _assess_shown(*assess(predictor, adapter, photos, text, user_of(request)))

    asked, preview, previewed = [adapter, photos, text], partial(_preview, predictor), [*results, seen]
    asking = gr.on([button.click, text.submit], assessed, asked, results, api_name="assess", **MODEL_QUEUE)
    asking.then(fn=None, js=TO_RESULT)
    photos.change(preview, [adapter, photos, example], previewed, **PREVIEW_QUEUE)
    for clicked in chain.from_iterable(clicks for _, clicks in tries.values()):
        shown_example = clicked.then(preview, [adapter, photos], previewed, **PREVIEW_QUEUE)
        shown_example.then(assessed, asked, results, **PRIVATE, **MODEL_QUEUE)
    changed = [*previewed, photo_place, text, about, *(place for place, _ in tries.values())]
    adapter.change(partial(_adapter_shown, predictor, list(tries)), [adapter, photos], changed, **PREVIEW_QUEUE)
    return adapter, photos


def assess(
    predictor: Predictor,
    adapter: str,
    photos: Sequence[str] | None,
    text: str | None,
    by: str | None = None,
) -> tuple[list[Image], str, Answered | None]:
    """(the photos with their boxes, the answer as HTML, the answer); user errors become messages.

    `by`: who asks.
    """
    card = predictor.cards.get(adapter)
    if card is None:
        return [], message_view(f"adapter {adapter!r} is no longer loaded; reload this page"), None
    try:
        case = opened(card, photos or ())
        asked = (text or "").strip() if reads_text(card) else ""
        _require_usable(card, case, asked)
        number, time = new_case()
        turns = (Turn("user", asked),) if asked else ()
        (prediction,) = predictor.predict([Request(case, turns, adapter, by=by, case=number)])
        answered = Answered(number, time, prediction, tuple(photos or ()), asked)
    except UserError as error:
        return [], message_view(error.public(), card.notice), None
    except Exception:  # the page stays usable; the log has the details
        log.exception("assessing with adapter %r failed", adapter)
        return [], message_view(BROKEN, card.notice), None
    return answered.drawn(case), answer_view(answered.card, prediction, len(case)), answered


def _require_usable(card: Card, case: Sequence[Image], text: str) -> None:
    if not case and not text:
        inputs = " or ".join(["a photo"] * reads_photos(card) + ["a text"] * reads_text(card))
        raise DataError("", f"Give {inputs} first, then press Assess.")
    if len(text) > LONGEST_TEXT:  # Gradio leaves the limit to the browser
        raise DataError("", f"the text is longer than {LONGEST_TEXT} characters", "shorten it")


def _result(card: Card, work: Workplace | None) -> list[Any]:
    """The components that show an answer, in the order of `_assess_shown`."""
    shown = gallery(
        label="Photos with findings", show_label=False, format="jpeg", visible=False, buttons=["download", "fullscreen"]
    )
    answer = gr.HTML(empty_view(card), elem_id="answer")
    with gr.Accordion("Answer as JSON or PDF", open=False, visible=False) as raw_place:
        with gr.Row():
            files = [gr.DownloadButton(f"Download {kind}", size="sm", interactive=False) for kind in KINDS]
        raw = gr.Code(language="json", interactive=False, show_label=False)
    answered = gr.State()
    making = raw_place.expand(partial(_files, files), answered, files, **PRIVATE)
    answered.change(_no_files, None, files, cancels=making, **QUIET)
    panel = gr.Column(visible=False) if work is None else review_panel(work, answered)
    return [shown, answer, raw, raw_place, answered, panel]


def _examples(
    tries: Sequence[Path | str], photos: gr.File, example: gr.State, text: gr.Textbox, *, visible: bool
) -> tuple[gr.Column, list[Any]]:
    """Photos and texts to try, and the events of clicks on them; one on a photo sets `example` to its path."""
    texts, clicks = [[item] for item in tries if isinstance(item, str)], list[Any]()
    pictures = {path: small(path, EXAMPLE_SIDE) for path in tries if isinstance(path, Path)}
    with gr.Column(visible=visible) as place:
        if pictures:
            clicks.append(_example_photos(pictures, photos, example))
        if texts:
            label = "Or choose an example"
            table = gr.Examples(texts, text, label=label, cache_examples=False, **PRIVATE)
            clicks.append(table.load_input_event)
    return place, clicks


def _example_photos(pictures: Mapping[Path, Image], photos: gr.File, example: gr.State) -> Any:
    """A gallery of example photos; unlike Gradio's own table of examples, it shows files of any kind.

    Returns the event of a click.
    """
    named = [(picture, path.name) for path, picture in pictures.items()]
    shown = gallery(value=named, label="Or choose an example", columns=3, allow_preview=False)
    files = [photos.move_resource_to_block_cache(path) for path in pictures]
    photos.keep_in_cache.update(files)

    def selected(clicked: gr.SelectData) -> tuple[list[str], str]:
        return [files[clicked.index]], files[clicked.index]

    return shown.select(selected, None, [photos, example], queue=False, **PRIVATE)


def _text_label(card: Card) -> str:
    return "Text, if any" if reads_photos(card) else "Text"


def _assess_shown(images: Sequence[Image], html: str, answered: Answered | None) -> tuple[Any, ...]:
    """The updates that show an answer; the files are made when their place is opened."""
    if answered is None:
        return _without_answer(html)
    captioned = [(image, f"Photo {number}" if len(images) > 1 else None) for number, image in enumerate(images, 1)]
    pictures = gr.update(value=captioned, visible=bool(images), columns=min(2, len(images)) or 1, selected_index=None)
    closed = gr.update(visible=True, open=False)
    return pictures, html, answered.to_json(), closed, answered, gr.update(visible=bool(answered.prediction.fields))


def _no_files() -> list[Any]:
    """The updates that withdraw the files of an earlier answer."""
    return [gr.update(value=None, interactive=False) for _ in KINDS]  # Gradio changes each of them


def _files(buttons: Sequence[gr.DownloadButton], answered: Answered) -> list[Any]:
    """The updates that offer the answer as files; without its photos, there is no PDF."""
    from .answer_pdf import answer_pdf  # imports matplotlib

    contents = [answered.to_json().encode()]
    try:
        photos = opened(answered.card, answered.photos)
        contents.append(answer_pdf(answered, answered.drawn(photos)))
    except UserError as error:
        gr.Warning(f"There is no PDF: {in_toast(error)}")
    offered = _no_files()
    with tempfile.TemporaryDirectory() as folder:
        for place, (button, kind, content) in enumerate(zip(buttons, KINDS, contents, strict=False)):
            file = Path(folder) / f"{answered.case}.{kind.lower()}"
            file.write_bytes(content)
            offered[place] = gr.update(value=button.move_resource_to_block_cache(file), interactive=True)
    return offered


def _without_answer(html: str) -> tuple[Any, ...]:
    """The updates that show a message instead of an answer."""
    hidden = gr.update(visible=False)
    return gr.update(value=None, visible=False), html, "", hidden, None, hidden


def _preview(predictor: Predictor, adapter: str, photos: Sequence[str] | None, example: str | None = None) -> Any:
    """The updates that show the photos as the adapter will see them, and clear the answer.

    There are none for an example's photo, as the click on it has its own.
    """
    if photos == [example]:
        return gr.skip()
    no_photos, card = gr.update(value=None, visible=False), predictor.cards.get(adapter)
    if card is None:
        return *_without_answer(""), no_photos
    try:
        case = opened(card, photos or ())
    except UserError as error:
        return *_without_answer(message_view(error.public(), card.notice)), no_photos
    pictures = [(drawn(photo, []), caption(file, photo)) for file, photo in zip(photos or (), case, strict=False)]
    return *_without_answer(empty_view(card)), gr.update(value=pictures, visible=bool(pictures))


def _adapter_shown(
    predictor: Predictor, tried: Sequence[str], adapter: str, photos: Sequence[str] | None
) -> tuple[Any, ...]:
    card = predictor.cards[adapter]
    return (
        *_preview(predictor, adapter, photos),
        gr.update(visible=reads_photos(card)),
        gr.update(label=_text_label(card), visible=reads_text(card)),
        card_view(card, adapter),
        *(gr.update(visible=name == adapter) for name in tried),
    )
