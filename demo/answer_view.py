"""An answer as HTML. The markup follows from the kinds of the form's fields; all text is escaped.

It uses only the classes of `style.CSS`, and no scripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from vlm_ft.adapters import Card
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxKind, Choice, FieldSpec, Flag, Integer, Items, Kind, Text
from vlm_ft.answers.prediction import FieldValue, Prediction, option_name
from vlm_ft.answers.verdict import verdict_of

from .answered import Answered
from .derived_view import derived_view
from .markup import advised, framed, section, table
from .photo_view import PHOTO, Mark, colour, marks, undrawn
from .wording import NO, YES, in_words, option_in_words, percent, referral, title, verdict_in_words, words

MAX_BARS = 6
MAX_CHIPS = 12
RELIABLE = '<p class="rest own">Sure enough on its own.</p>'
NUMBER = "No."
"""The column of the numbers that mark the boxes on the photo."""


def head_view(card: Card, prediction: Prediction) -> str:
    """What comes first: the verdict, the decision if a person must decide, and the notice."""
    if prediction.error is not None:
        return ""
    body = verdict_view(card.form, prediction) + _decision(prediction) + notice_view(card.notice)
    return f'<div class="answer" role="status">{body}</div>'


def answer_view(card: Card, prediction: Prediction, photos: int = 1) -> str:
    """The fields of an answer about this many photos, and its derived results. An error is one line."""
    if prediction.error is not None:
        return message_view(prediction.error, card.notice)
    placed = marks(card.form, prediction, photos)
    fields = "".join(
        section(
            title(field.name),
            field.description,
            _body(visible(field, photos), prediction.fields[field.name], placed) + _on_field(field.name, prediction),
        )
        for field in card.form.fields
        if field.name in prediction.fields
    )
    remark = undrawn(card.form, prediction, photos)
    below = f'<p class="rest">{escape(remark)}</p>' if remark else ""
    return framed(fields + below + derived_view(card.form, prediction))


def verdict_view(form: Form, prediction: Prediction) -> str:
    """What the answer comes down to, in colour; without a fill if a person must decide."""
    verdict = verdict_of(form, prediction)
    if verdict is None:
        return ""
    unsure = "" if prediction.decision == "answer" else " unsure"
    return f'<p class="verdict {verdict.tone}{unsure}">{escape(verdict_in_words(verdict))}</p>'


def overview(answers: Sequence[Answered], remark: str = "") -> str:
    """A row for each answer: what it is about, its verdict and the decision; then a remark."""
    rows = [
        [str(number), escape(each.about), verdict_view(each.card.form, each.prediction), _advice(each.prediction)]
        for number, each in enumerate(answers, 1)
    ]
    below = f'<p class="rest">{escape(remark)}</p>' if remark else ""
    return framed(table([NUMBER, "About", "Verdict", "Decision"], rows) + below)


def _advice(prediction: Prediction) -> str:
    if prediction.error is not None:
        return f"No answer: {escape(prediction.error)}"
    return escape(referral(prediction)) or "Answer"


def message_view(message: str, notice: str = "") -> str:
    """One line that gives the reason for a missing answer."""
    line = escape(" ".join(message.split()))
    return (
        f'<div class="answer"><p class="banner wrong" role="alert"><strong>No answer.</strong> {line}</p>'
        f"{notice_view(notice)}</div>"
    )


def empty_view(card: Card) -> str:
    """The fields that this adapter answers, shown before the first answer."""
    asked = "".join(
        f"<li><strong>{escape(title(field.name))}</strong> <span>{escape(_expected(field.kind))}</span></li>"
        for field in card.form.fields
    )
    return (
        '<div class="answer empty"><p>The answer appears here. This adapter answers:</p>'
        f'<ul class="expected">{asked}</ul>{notice_view(card.notice)}</div>'
    )


def notice_view(notice: str) -> str:
    """The notice that accompanies every answer, if any."""
    return f'<p class="notice">{escape(notice)}</p>' if notice else ""


def _decision(prediction: Prediction) -> str:
    advice = referral(prediction)
    return f'<p class="banner ask">{advised(advice)}</p>' if advice else ""


def _on_field(name: str, prediction: Prediction) -> str:
    """What the adapter's decision on a field adds if the whole answer is left to a person."""
    entry = prediction.fields[name]
    if prediction.decision != "ask a person" or entry.decision is None:
        return ""
    if entry.decision == "answer":
        return RELIABLE
    advice = referral(entry) if entry.reason != prediction.reason else ""
    return f'<p class="rest own">{advised(advice)}</p>' if advice else ""


def visible(field: FieldSpec, photos: int) -> FieldSpec:
    """The field as it is shown: without photo numbers if there is only one photo."""
    if photos > 1 or not isinstance(field.kind, Items):
        return field
    parts = tuple(part for part in field.kind.fields if part.name != PHOTO)
    return field.model_copy(update={"kind": field.kind.model_copy(update={"fields": parts})})


def _body(field: FieldSpec, entry: FieldValue, placed: Sequence[Mark]) -> str:
    match field.kind:
        case Choice(options=options):
            return _choice(options, entry)
        case Flag():
            return _flag(entry)
        case Integer(minimum=minimum, maximum=maximum):
            return _integer(minimum, maximum, entry)
        case Text():
            return f'<p class="text">{escape(str(entry.value))}</p>'
        case BoxKind():
            numbers = "".join(badge(mark.number) for mark in placed if mark.field == field.name)
            return f"<p>{numbers} {_cell(field.kind, entry.value)}</p>"
        case Items():
            return _items(field.name, field.kind, entry.value, placed)


def _choice(options: Sequence[str], entry: FieldValue) -> str:
    chosen = str(entry.value)
    label = f'<p class="label">{escape(words(chosen))}</p>'
    if entry.distribution is not None:
        return label + _bars(options, entry)
    chips = "".join(
        f'<li class="chosen" aria-current="true">{escape(words(option))}</li>'
        if option == chosen
        else f"<li>{escape(words(option))}</li>"
        for option in options
    )
    if len(options) <= MAX_CHIPS:
        return f'<ul class="chips">{chips}</ul>'
    return f'{label}<details><summary>of {len(options)} options</summary><ul class="chips">{chips}</ul></details>'


def _flag(entry: FieldValue) -> str:
    mark, word, style = ("✓", YES, "yes") if entry.value else ("✕", NO, "no")
    pill = f'<p class="flag {style}"><span aria-hidden="true">{mark}</span> {word}</p>'
    return pill + _bars(("true", "false"), entry)


def _integer(minimum: int, maximum: int, entry: FieldValue) -> str:
    number = f'<p class="number">{entry.value} <small>of {minimum} to {maximum}</small></p>'
    return number + _bars(tuple(entry.distribution or ()), entry)


def _bars(options: Sequence[str], entry: FieldValue) -> str:
    """A bar per option, in the form's order; if there are many, only the chosen one and the likeliest."""
    if entry.distribution is None:
        return ""
    chosen, distribution = option_name(entry.value), entry.distribution
    likeliest = sorted(options, key=lambda option: (option != chosen, -distribution.get(option, 0.0)))
    shown = [option for option in options if option in likeliest[:MAX_BARS]]
    bars = "".join(_bar(option_in_words(option), distribution.get(option, 0.0), option == chosen) for option in shown)
    left = len(options) - len(shown)
    rest = f'<p class="rest">and {left} less likely</p>' if left else ""
    return f'<ul class="bars">{bars}</ul>{rest}'


def _bar(word: str, share: float, chosen: bool) -> str:
    style = ' class="chosen" aria-current="true"' if chosen else ""
    return (
        f"<li{style}><span>{escape(word)}</span>"
        f'<span class="bar"><i style="width:{100 * share:.1f}%"></i></span><b>{escape(percent(share))}</b></li>'
    )


def _items(name: str, kind: Items, rows: Sequence[Mapping[str, Any]], placed: Sequence[Mark]) -> str:
    if not rows:
        return '<p class="none">None listed.</p>'
    numbers = {mark.index: badge(mark.number) for mark in placed if mark.field == name}
    names = [title(part.name) for part in kind.fields]
    cells = [[_cell(part.kind, row.get(part.name)) for part in kind.fields] for row in rows]
    if not numbers:
        return table(names, cells)
    return table([NUMBER, *names], ([numbers.get(index, ""), *row] for index, row in enumerate(cells)))


def badge(number: int) -> str:
    """The number of a box, in its colour."""
    return f'<span class="badge" style="background:{colour(number)}">{number}</span>'


def _cell(kind: Kind, value: Any) -> str:
    text = escape(in_words(kind, value))
    return f'<span class="place">{text}</span>' if isinstance(kind, BoxKind) else text


def _expected(kind: Kind) -> str:
    match kind:
        case Choice(options=options):
            listed = ", ".join(map(words, options[:MAX_BARS]))
            return listed if len(options) <= MAX_BARS else f"one of {len(options)}: {listed} …"
        case Flag():
            return "yes or no"
        case Integer(minimum=minimum, maximum=maximum):
            return f"a number from {minimum} to {maximum}"
        case Text(max_length=length):
            return f"text, up to {length} characters"
        case BoxKind():
            return "marked on the photo"
        case Items(max_items=count):
            return f"up to {count}, marked on the photo" if kind.boxed else f"up to {count}"
