"""Where answers are shown: several as a table and one of them in full, with its photos, files and review."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL.Image import Image

from vlm_ft.adapters import Card
from vlm_ft.errors import UserError
from vlm_ft.work.workplace import Workplace

from .answer_view import answer_view, empty_view, head_view, overview
from .answered import Answered
from .asking import Asked
from .handlers import PRIVATE, QUIET, errors_shown, in_toast
from .photo_view import gallery
from .photos import opened
from .review_panel import review_panel
from .wording import words

KINDS = ("JSON", "PDF")
"""The files that an answer is offered as."""


class AnswerColumn:
    """The components that show answers, and the updates that fill them."""

    def __init__(self, card: Card, work: Workplace | None) -> None:
        """Create them, empty, for the first adapter."""
        self._table = gr.HTML(visible=False)
        self._which = gr.Dropdown(label="In full", filterable=False, visible=False)
        self._head = gr.HTML(visible=False)
        self._photos = gallery(
            label="Photos with findings",
            show_label=False,
            format="jpeg",
            visible=False,
            buttons=["download", "fullscreen"],
        )
        self._boxes = gr.CheckboxGroup(label="Findings on the photo", visible=False)
        self._answer = gr.HTML(empty_view(card))
        with gr.Accordion("Answer as JSON or PDF", open=False, visible=False) as self._files:
            with gr.Row():
                buttons = [gr.DownloadButton(f"Download {kind}", size="sm", interactive=False) for kind in KINDS]
            self._raw = gr.Code(language="json", interactive=False, show_label=False)
        self._answers = gr.State(())
        self._answered = gr.State()
        self._review = gr.Column(visible=False) if work is None else review_panel(work, self._answered)
        making = self._files.expand(partial(_files, buttons), self._answered, buttons, **PRIVATE)
        self._answered.change(_no_files, None, buttons, cancels=making, **QUIET)
        self._which.input(self._other, [self._answers, self._which], self._of_one, **QUIET)
        self._boxes.input(_redrawn, [self._answered, self._boxes], self._photos, **QUIET)

    @property
    def components(self) -> list[Any]:
        """The components, in the order of the updates."""
        return [*self._of_one, self._table, self._which, self._answers]

    @property
    def _of_one(self) -> list[Any]:
        """Those that show one answer in full."""
        return [
            self._photos,
            self._answer,
            self._raw,
            self._head,
            self._boxes,
            self._files,
            self._answered,
            self._review,
        ]

    def shown(self, asked: Asked) -> list[Any]:
        """The updates that show answers, or the message; their files are made when their place is opened."""
        if not asked.answers:
            return self.without_answer(asked.message)
        several = len(asked.answers) > 1
        choices = [(f"{place + 1}: {answered.about}", place) for place, answered in enumerate(asked.answers)]
        return [
            *_in_full(asked.answers[0], asked.photos),
            gr.update(value=overview(asked.answers, asked.remark), visible=several or bool(asked.remark)),
            gr.update(choices=choices, value=0, visible=several),
            asked.answers,
        ]

    def without_answer(self, html: str) -> list[Any]:
        """The updates that show a message instead of answers."""
        hidden = gr.update(visible=False)
        photos = gr.update(value=None, visible=False)
        return [photos, html, "", hidden, hidden, hidden, None, hidden, hidden, hidden, ()]

    def _other(self, answers: Sequence[Answered], place: int) -> list[Any]:
        with errors_shown():
            answered = answers[place]
            return _in_full(answered, opened(answered.card, answered.photos))


def _in_full(answered: Answered, photos: Sequence[Image]) -> list[Any]:
    prediction, marked = answered.prediction, answered.marks
    choices = [(f"{mark.number} {words(mark.name)}", mark.number) for mark in marked]
    return [
        _pictures(answered.drawn(photos)),
        answer_view(answered.card, prediction, len(photos)),
        answered.to_json(),
        gr.update(value=head_view(answered.card, prediction), visible=True),
        gr.update(choices=choices, value=[mark.number for mark in marked], visible=bool(marked and photos)),
        gr.update(visible=True, open=False),
        answered,
        gr.update(visible=bool(prediction.fields)),
    ]


def _pictures(images: Sequence[Image]) -> Any:
    captioned = [(image, f"Photo {number}" if len(images) > 1 else None) for number, image in enumerate(images, 1)]
    return gr.update(value=captioned, visible=bool(images), columns=min(2, len(images)) or 1, selected_index=None)


def _redrawn(answered: Answered, numbers: Sequence[int]) -> Any:
    """The update that draws only the boxes with these numbers."""
    with errors_shown():
        return _pictures(answered.drawn(opened(answered.card, answered.photos), set(numbers)))


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
