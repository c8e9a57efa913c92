"""One photo, as several adapters and their bare base see it, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import gradio as gr
from PIL.Image import Image

from vlm_ft.adapters import Card
from vlm_ft.answers.kinds import BoxKind, Items
from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import DataError
from vlm_ft.inference.request import Predictor, Request, new_case

from .answer_view import badge, notice_view, visible
from .derived_view import views
from .handlers import MODEL_QUEUE, PRIVATE, QUIET, errors_shown, fitting, list_when_loaded, user_of
from .markup import advised, framed, table
from .photo_view import Mark, drawn, gallery, marks
from .photos import caption, opened, photo_input, reads_photos
from .wording import in_words, probability_in_words, referral, title

CHOSEN_AT_FIRST = 4
BARE = "Bare base"
UNCALIBRATED = "Answer, not calibrated"
EMPTY = '<p class="rest">The answers appear here, one column for each adapter.</p>'


@dataclass(frozen=True, slots=True)
class Column:
    """The answer of one adapter, or of the base with an adapter's form. `case`: its number in the decision log.

    `calibrated`: whether its probabilities are, so that it can say when to ask a person.
    """

    name: str
    card: Card
    prediction: Prediction
    case: str
    calibrated: bool = True

    @property
    def marks(self) -> list[Mark]:
        """Its boxes."""
        return marks(self.card.form, self.prediction)

    def said(self, name: str) -> str:
        """A field's answer in words; "" if there is none."""
        if name not in self.prediction.fields:
            return ""
        kind, value = visible(self.card.form.field(name), 1).kind, self.prediction.fields[name].value
        if not isinstance(kind, Items):
            return in_words(kind, value)
        parts = [part for part in kind.fields if not isinstance(part.kind, BoxKind)]
        items = (", ".join(in_words(part.kind, item.get(part.name)) for part in parts) or "one" for item in value)
        return "; ".join(items) or "none"

    def compared(self, name: str) -> str | None:
        """A field's value as JSON that does not depend on the order of items; None if it is missing."""
        if name not in self.prediction.fields:
            return None
        value = self.prediction.fields[name].value
        if isinstance(self.card.form.field(name).kind, Items):
            value = sorted(json.dumps(item, sort_keys=True) for item in value)
        return json.dumps(value)


def compare_tab(predictor: Predictor) -> None:
    """The tab's content."""
    choices = fitting(predictor, reads_photos)
    names = [name for _, name in choices]
    has_base = not any(predictor.cards[name].weights for name in names)  # a whole model is its own base
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            photo = photo_input("Photo or scan", height=160)
            chosen = gr.CheckboxGroup(choices, value=names[:CHOSEN_AT_FIRST], label="Adapters")
            base = gr.Checkbox(has_base, label="Also ask the bare base", visible=has_base)
            button = gr.Button("Compare", variant="primary")
        with gr.Column(scale=3, min_width=300):
            answers = gr.HTML(EMPTY)
            shown = gallery(label="Photo with findings", show_label=False, format="jpeg", columns=2, visible=False)

    def answered(
        files: Sequence[str] | None, adapters: Sequence[str], base: bool, request: gr.Request
    ) -> tuple[str, Any]:
        with errors_shown():
            pictures, columns = compare(predictor, files, adapters, base, user_of(request))
        return comparison_view(columns), gr.update(value=pictures, visible=True, selected_index=None)

    button.click(answered, [photo, chosen, base], [answers, shown], **PRIVATE, **MODEL_QUEUE)
    changed = [photo.change, chosen.change, base.change]
    gr.on(changed, lambda: (EMPTY, gr.update(value=None, visible=False)), None, [answers, shown], **QUIET)
    list_when_loaded(chosen, predictor, reads_photos)


def compare(
    predictor: Predictor, files: Sequence[str] | None, adapters: Sequence[str], base: bool, by: str | None = None
) -> tuple[list[tuple[Image, str]], list[Column]]:
    """The photo with the boxes of each answer, and the answers, which are computed in one batch.

    With `base`, the bare base is asked to fill in each of the adapters' forms. Raises `UserError`.
    """
    if not files or len(files) > 1 or not adapters:
        raise DataError("", "Choose one photo and at least one adapter", "then press Compare")
    cards = {name: predictor.cards[name] for name in adapters}
    (photo,) = opened(cards[adapters[0]], files)
    asked = [(name, card, Request((photo,), adapter=name, by=by)) for name, card in cards.items()]
    forms = {card.form.fingerprint: name for name, card in reversed(cards.items())} if base else {}
    like = sorted(forms.values(), key=list(cards).index)
    for name in like:
        column = BARE if len(like) == 1 else f"{BARE}, asked as {name}"
        asked.append((column, cards[name], Request((photo,), form=cards[name].form, like=name, by=by)))
    requests = [replace(request, case=new_case().number) for *_, request in asked]
    columns = [
        Column(name, answer.card or card, answer, str(request.case), bool(answer.card and answer.card.confidence))
        for (name, card, _), request, answer in zip(asked, requests, predictor.predict(requests), strict=True)
    ]
    placed = [(column.name, column.marks) for column in columns]
    pictures = [(drawn(photo, boxes), name) for name, boxes in placed if boxes]
    return pictures or [(drawn(photo, []), caption(files[0], photo))], columns


def comparison_view(columns: Sequence[Column]) -> str:
    """A row for the decision, each field, each derived result and the case; fields that differ are marked."""
    rows = [["Decision", *(_decision(column) for column in columns)]]
    for name in dict.fromkeys(name for column in columns for name in column.card.form.names):
        differs = " <small>differs</small>" if len({column.compared(name) for column in columns} - {None}) > 1 else ""
        rows.append([escape(title(name)) + differs, *(_cell(name, column) for column in columns)])
    derived = [{view.title: view for view in views(column.card.form, column.prediction)} for column in columns]
    for heading in dict.fromkeys(heading for found in derived for heading in found):
        cells = (escape(found[heading].headline) if heading in found else "" for found in derived)
        rows.append([escape(heading), *cells])
    rows.append(["Case", *(f'<span class="time">{escape(column.case)}</span>' for column in columns)])
    notices = dict.fromkeys(column.card.notice for column in columns)
    return framed(table(["", *(column.name for column in columns)], rows) + "".join(map(notice_view, notices)))


def _decision(column: Column) -> str:
    if column.prediction.error is not None:
        return f"No answer: {escape(column.prediction.error)}"
    return advised(referral(column.prediction)) or ("Answer" if column.calibrated else UNCALIBRATED)


def _cell(name: str, column: Column) -> str:
    share = escape(probability_in_words(column.prediction.fields.get(name)))
    boxes = "".join(f"{badge(mark.number)} " for mark in column.marks if mark.field == name)
    return f"{boxes}{escape(column.said(name))}" + (f" <small>{share}</small>" if share else "")
