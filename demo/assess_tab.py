"""Give an adapter photos, a text or a PDF, and read its typed answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import gradio as gr
from PIL.Image import Image

from datasets_vision.metadata import remove_metadata
from vlm_ft.adapters import Card
from vlm_ft.errors import UserError
from vlm_ft.inference.request import Predictor
from vlm_ft.work.workplace import Workplace

from .answer_column import AnswerColumn
from .answer_view import empty_view, message_view
from .asking import MAX_TEXT, Given, ask
from .card_view import card_view
from .handlers import MODEL_QUEUE, PRIVATE, adapter_choice, user_of
from .photo_view import drawn, gallery, numbers_photos
from .photos import (
    caption,
    opened,
    pdf_input,
    photo_input,
    photo_taken,
    reads_photos,
    reads_text,
    reads_texts_alone,
    small,
)

TO_RESULT = """() => {
    const result = document.getElementById("result");
    if (result.getBoundingClientRect().top > 0.6 * innerHeight) result.scrollIntoView({behavior: "smooth"});
}"""
"""Scrolls to the answer, which is below the fold on a phone."""

Examples = Mapping[str, Sequence[Path | str]]
"""Adapter -> examples to try: a `Path` is an image, a `str` is a text."""

EXAMPLE_SIDE = 320  # pixels of an example's longer side

ASSESS = "assess"
"""The id of the tab."""

PREVIEW_QUEUE: dict[str, Any] = {**PRIVATE, "concurrency_limit": 1, "concurrency_id": "look"}
"""The settings of an event that shows photos, which are large."""

ONE_CASE, APART = "One case", "Separate answers"
"""What several photos are."""


def assess_tab(predictor: Predictor, examples: Examples, work: Workplace | None) -> tuple[gr.Dropdown, gr.File]:
    """The tab's content; returns the adapter and the photos, which other tabs can set."""
    names = list(predictor.cards)
    first = predictor.cards[names[0]]
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            adapter = adapter_choice(predictor, lambda _: True)
            with gr.Column(visible=reads_photos(first)) as photo_place:
                photos = photo_input("Photos or scans", height=200, allow_reordering=True)
                several = gr.Radio([ONE_CASE, APART], value=_usual(first), label="Several photos are", visible=False)
                with gr.Accordion("Take a photo, or paste one", open=False):
                    photo_taken(photos)
                seen = gallery(label="As the adapter sees them", columns=3, fit_columns=False, visible=False)
            text = gr.Textbox(
                label=_text_label(first), lines=3, max_lines=12, max_length=MAX_TEXT, visible=reads_text(first)
            )
            pdf = pdf_input(visible=reads_texts_alone(first))
            button = gr.Button("Assess", variant="primary")
            example = gr.State("")  # the path of the example photo that was clicked last
            tries = {
                name: _examples(examples[name], photos, example, text, visible=name == names[0])
                for name in names
                if examples.get(name)
            }
        with gr.Column(scale=3, min_width=300, elem_id="result"):
            column = AnswerColumn(first, work)
            results = column.components
            with gr.Accordion("About this adapter"):
                about = gr.HTML(card_view(first, names[0]))

    def assessed(
        adapter: str,
        photos: Sequence[str] | None,
        text: str | None,
        request: gr.Request,  # Gradio finds it by the annotation, which it does not see in a `partial`
        several: str = ONE_CASE,
        pdf: str | None = None,
    ) -> list[Any]:
        given = Given(photos or (), text or "", several == APART, pdf)
        return column.shown(ask(predictor, adapter, given, user_of(request)))

    asked, preview = [adapter, photos, text, several, pdf], partial(_preview, predictor, column)
    previewed = [*results, seen, several]
    asking = gr.on([button.click, text.submit], assessed, asked, results, api_name="assess", **MODEL_QUEUE)
    asking.then(fn=None, js=TO_RESULT)
    photos.change(preview, [adapter, photos, several, example], previewed, **PREVIEW_QUEUE)
    for clicked in chain.from_iterable(clicks for _, clicks in tries.values()):
        shown_example = clicked.then(preview, [adapter, photos, several], previewed, **PREVIEW_QUEUE)
        shown_example.then(assessed, asked, results, **PRIVATE, **MODEL_QUEUE)
    changed = [*previewed, photo_place, text, pdf, about, *(place for place, _ in tries.values())]
    shown = partial(_adapter_shown, predictor, column, list(tries))
    adapter.change(shown, [adapter, photos], changed, **PREVIEW_QUEUE)
    return adapter, photos


def _examples(
    tries: Sequence[Path | str], photos: gr.File, example: gr.State, text: gr.Textbox, *, visible: bool
) -> tuple[gr.Column, list[Any]]:
    """Photos and texts to try, and the events of clicks on them; a click on a photo sets `example` to its path."""
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
    for file in files:
        remove_metadata(Path(file))  # as from an upload
    photos.keep_in_cache.update(files)

    def selected(clicked: gr.SelectData) -> tuple[list[str], str]:
        return [files[clicked.index]], files[clicked.index]

    return shown.select(selected, None, [photos, example], queue=False, **PRIVATE)


def _text_label(card: Card) -> str:
    return "Text, if any" if reads_photos(card) else "Text"


def _usual(card: Card) -> str:
    """How this adapter treats several photos by default: as one case if it was trained on cases of several."""
    several = numbers_photos(card.form) if card.most_photos is None else card.most_photos > 1
    return ONE_CASE if several else APART


def _preview(
    predictor: Predictor,
    column: AnswerColumn,
    adapter: str,
    photos: Sequence[str] | None,
    several: str | None = None,
    example: str | None = None,
) -> Any:
    """The updates that show the photos as the adapter will see them, ask what several are, and clear the answer.

    There are none for an example's photo, as the click on it has its own. `several`: what was chosen before, if it was
    for this adapter.
    """
    if photos == [example]:
        return gr.skip()
    no_photos, card = gr.update(value=None, visible=False), predictor.cards.get(adapter)
    if card is None:
        return *column.without_answer(""), no_photos, gr.skip()
    try:
        case = opened(card, photos or ())
    except UserError as error:
        return *column.without_answer(message_view(error.public(), card.notice)), no_photos, gr.skip()
    pictures = [(drawn(photo, []), caption(file, photo)) for file, photo in zip(photos or (), case, strict=False)]
    return (
        *column.without_answer(empty_view(card)),
        gr.update(value=pictures, visible=bool(pictures)),
        gr.update(value=several or _usual(card), visible=len(pictures) > 1),
    )


def _adapter_shown(
    predictor: Predictor, column: AnswerColumn, tried: Sequence[str], adapter: str, photos: Sequence[str] | None
) -> tuple[Any, ...]:
    card = predictor.cards[adapter]
    return (
        *_preview(predictor, column, adapter, photos),
        gr.update(visible=reads_photos(card)),
        gr.update(label=_text_label(card), visible=reads_text(card)),
        gr.update(visible=reads_texts_alone(card)),
        card_view(card, adapter),
        *(gr.update(visible=name == adapter) for name in tried),
    )
