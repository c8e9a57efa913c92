"""Accept, correct or reject an answer; the fields to correct follow from the adapter's form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from vlm_ft.adapters import Card
from vlm_ft.answers.kinds import BoxKind, Choice, FieldSpec, Flag, Integer, Items, Kind, Text
from vlm_ft.answers.task import Values
from vlm_ft.errors import FormError
from vlm_ft.review.store import Verdict
from vlm_ft.work.workplace import Workplace

from .answered import Answered
from .handlers import PRIVATE, permitted
from .photo_view import legible
from .photos import opened
from .wording import NO, YES, column_width, words

SIDES = ("left %", "top %", "right %", "bottom %")


def review_panel(work: Workplace, answered: gr.State) -> gr.Accordion:
    """The panel. `answered`: the answer that is shown; None before there is one."""
    with gr.Accordion("Review this answer", open=False, visible=False) as panel:

        def fields(shown: Answered | None) -> None:
            if shown is not None:
                _fields(work, shown)

        gr.render(inputs=answered)(fields)

    return panel


def _fields(work: Workplace, answered: Answered) -> None:
    card, answer = answered.card, answered.prediction.values
    gr.HTML("<p class='rest'>Correct what is wrong. What you store here trains the next version.</p>")
    widgets = [_widget(field, answer.get(field.name)) for field in card.form.fields]
    _drawing(answered, widgets)
    with gr.Row():
        accept = gr.Button("Accept", variant="primary", size="sm", min_width=90)
        correct = gr.Button("Save correction", size="sm", min_width=90)
        reject = gr.Button("Reject", variant="stop", size="sm", min_width=90)
    stored = gr.HTML()

    verdicts = _Verdicts(work, answered)
    accept.click(verdicts.accept, None, stored, **PRIVATE)
    reject.click(verdicts.reject, None, stored, **PRIVATE)
    correct.click(verdicts.correct, widgets, stored, **PRIVATE)


@dataclass(frozen=True)
class _Verdicts:
    """What the buttons store; each returns a confirmation."""

    work: Workplace
    answered: Answered

    def accept(self, request: gr.Request) -> str:
        return self._stored("accepted", request)

    def reject(self, request: gr.Request) -> str:
        return self._stored("rejected", request)

    def correct(self, request: gr.Request, *given: Any) -> str:
        return self._stored("corrected", request, given)

    def _stored(self, verdict: Verdict, request: gr.Request, given: Sequence[Any] | None = None) -> str:
        work, answered, card = self.work, self.answered, self.answered.card
        with permitted(work, request, "review") as user:
            photos = opened(card, answered.photos)
            values = _values(card, given) if given is not None else None
            review = work.reviews.add(card, photos, answered.text, answered.prediction.values, verdict, values, user)
        count = len(work.reviews.of(card.name, card.form.task))
        return f"<p role='status'>Stored as {review.verdict}. Reviewed answers of this adapter: {count}.</p>"


def _widget(field: FieldSpec, value: Any) -> Any:
    title = words(field.name).capitalize()
    match field.kind:
        case Choice(options=options):
            return gr.Dropdown(
                [(words(option), option) for option in options or ()], value=value, label=title, interactive=True
            )
        case Flag():
            return gr.Radio([YES, NO], value=YES if value else NO, label=title, interactive=True)
        case Integer(minimum=minimum, maximum=maximum):
            return gr.Number(value, label=title, precision=0, minimum=minimum, maximum=maximum, interactive=True)
        case Text(max_length=length):
            return gr.Textbox(value, label=title, max_length=length, lines=2, interactive=True)
        case BoxKind():
            return gr.Dataframe([_in_percent(value)], headers=list(SIDES), label=title, interactive=True, type="array")
        case Items() as kind:
            return gr.Dataframe(
                [*(_cells(kind, item) for item in value or ()), [""] * len(_headers(kind))],
                headers=_headers(kind),
                label=f"{title}: one row for each; clear a row to remove it",
                interactive=True,
                type="array",
                column_count=(len(_headers(kind)), "fixed"),
                column_widths=_widths(kind),
                wrap=True,
            )


def _drawing(answered: Answered, widgets: Sequence[Any]) -> None:
    """A photo on which two clicks, at opposite corners, add a box to the boxed list."""
    card = answered.card
    place = next((at for at, field in enumerate(card.form.fields) if _boxed(field.kind)), None)
    if place is None or len(answered.photos) != 1:
        return
    kind = card.form.fields[place].kind
    assert isinstance(kind, Items)
    photo = legible(opened(card, answered.photos)[0])
    shown = gr.Image(
        photo, label="To add a box, click two opposite corners", interactive=False, buttons=["fullscreen"], height=420
    )
    corner = gr.State()

    def clicked(first: Any, rows: list[list[Any]], at: gr.SelectData) -> tuple[Any, Any]:
        here = (100 * at.index[0] / photo.width, 100 * at.index[1] / photo.height)
        if first is None:
            return here, gr.skip()
        sides = [min(first[0], here[0]), min(first[1], here[1]), max(first[0], here[0]), max(first[1], here[1])]
        box = [round(10 * side) for side in sides]
        kept = [row for row in rows if any(_filled(cell) for cell in row)]
        added = _cells(kind, {**_first_options(kind), str(kind.box): box})
        return None, [*kept, added, [""] * len(added)]

    shown.select(clicked, [corner, widgets[place]], [corner, widgets[place]], **PRIVATE)


def _boxed(kind: Kind) -> bool:
    return isinstance(kind, Items) and bool(kind.boxed)


def _first_options(kind: Items) -> Values:
    return {
        part.name: part.kind.options[0] for part in kind.fields if isinstance(part.kind, Choice) and part.kind.options
    }


def _headers(kind: Items) -> list[str]:
    return [
        header for part in kind.fields for header in (SIDES if isinstance(part.kind, BoxKind) else (words(part.name),))
    ]


def _widths(kind: Items) -> list[str]:
    """Column widths that break no option and no word of a heading."""
    parts = [(part, part.kind.options or () if isinstance(part.kind, Choice) else ()) for part in kind.fields]
    return [
        column_width([*header.split(), *options])
        for part, options in parts
        for header in (SIDES if isinstance(part.kind, BoxKind) else (words(part.name),))
    ]


def _cells(kind: Items, item: Values) -> list[Any]:
    cells: list[Any] = []
    for part in kind.fields:
        value = item.get(part.name)
        match part.kind:
            case BoxKind():
                cells += _in_percent(value)
            case Flag():
                cells.append("" if value is None else YES if value else NO)
            case _:
                cells.append("" if value is None else value)
    return cells


def _in_percent(box: Sequence[int] | None) -> list[Any]:
    return [side / 10 for side in box] if box else [""] * len(SIDES)


def _values(card: Card, given: Sequence[Any]) -> Values:
    """The values that the widgets hold. Raises `FormError` for a cell that cannot be read."""
    return {field.name: _value(field.name, field.kind, raw) for field, raw in zip(card.form.fields, given, strict=True)}


def _value(name: str, kind: Kind, raw: Any) -> Any:
    match kind:
        case Flag():
            return _flag(name, raw)
        case Integer():
            return _number(name, raw)
        case BoxKind():
            return _box(name, raw[0])
        case Items():
            return [_item(name, kind, row) for row in raw if any(_filled(cell) for cell in row)]
    return raw or ""


def _item(name: str, kind: Items, row: Sequence[Any]) -> Values:
    cells, item = iter(row), Values()
    for part in kind.fields:
        if isinstance(part.kind, BoxKind):
            item[part.name] = _box(f"{name}: {part.name}", [next(cells) for _ in SIDES])
        else:
            item[part.name] = _value(f"{name}: {part.name}", part.kind, next(cells))
    return item


def _box(name: str, cells: Sequence[Any]) -> list[int]:
    return [round(10 * _number(name, cell, whole=False)) for cell in cells]


def _flag(name: str, raw: Any) -> bool:
    flags, word = {"yes": True, "true": True, "no": False, "false": False}, str(raw).strip().lower()
    if word not in flags:
        raise FormError(name, f"{str(raw)[:20]!r} is neither {YES} nor {NO}", "correct it")
    return flags[word]


def _number(name: str, raw: Any, *, whole: bool = True) -> Any:
    try:
        number = float(raw)
        if not math.isfinite(number) or (whole and number != round(number)):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise FormError(name, f"{str(raw)[:20]!r} is not a {'whole ' if whole else ''}number", "correct it") from error
    return round(number) if whole else number


def _filled(cell: Any) -> bool:
    return cell is not None and str(cell).strip() != ""
