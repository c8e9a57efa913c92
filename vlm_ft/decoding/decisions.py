"""The decisions in an answer, in order: the one definition of how an answer is written.

An answer is compact JSON. Between two decisions its text is fixed, so each option includes the text up to the next
decision. No option's text is a prefix of another's, and each is tokenized separately, so training and decoding see the
same tokens for every option.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from vlm_ft.answers.box_format import BoxFormat, Size
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxKind, Choice, FieldSpec, Flag, Integer, Items, Kind, Text
from vlm_ft.answers.task import Values

Path = tuple[str | int, ...]
"""A place in the answer: ``("findings", 0, "box", 2)``; ``("findings", 1)`` is whether there is a second item."""

SIDES = 4


@dataclass(frozen=True, eq=False)
class Options:
    """The options at one place: their values, and the text of each up to the next decision."""

    values: tuple[Any, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """A choice of one option. ``fixed``: there is only one. ``item``: whether the list continues."""

    path: Path
    options: Options
    kind: Literal["fixed", "closed", "side", "item"]


@dataclass(frozen=True)
class FreeText:
    """A free text of at most `max_length` characters, followed by its closing quotation mark."""

    path: Path
    max_length: int


Step = Decision | FreeText
Walk = Generator[Step, Any, None]


def walk(form: Form) -> Walk:
    """Yield every step of an answer to the form; send back each decided value (texts without quotation marks)."""
    yield _fixed((), "{" + _opening(form.fields[0], form.boxes))
    yield from _record(form.fields, form.boxes, ())


def target_steps(form: Form, values: Values, size: Size | None) -> Iterator[tuple[Step, Any]]:
    """The steps of a correct answer, each with its value. `size` is the image's, for boxes in pixels.

    If the form's boxes are interpolated, a side may lie between two options.
    """
    steps = walk(form)
    step: Step | None = next(steps)
    while step is not None:
        if isinstance(step, Decision) and step.kind == "fixed":
            value = step.options.values[0]
        else:
            value = _at(values, step, form.boxes, size)
        yield step, value
        step = step_after(value, steps)


def leaves_open(form: Form) -> bool:
    """Whether an answer to the form has anything to decide: not if each of its fields has a single option."""
    steps = walk(form)
    step: Step | None = next(steps)
    while isinstance(step, Decision) and len(step.options.values) == 1:
        step = step_after(step.options.values[0], steps)
    return step is not None


def step_after(value: Any, steps: Walk) -> Step | None:
    """The step after the present one is decided with this value; None at the end of the answer."""
    try:
        return steps.send(value)
    except StopIteration:
        return None


def quoted(text: str) -> str:
    """The text as a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def _at(values: Any, step: Step, boxes: BoxFormat, size: Size | None) -> Any:
    *above, last = step.path
    for part in above:
        values = values[part]
    match step:
        case Decision(kind="item"):
            return int(last) < len(values)
        case Decision(kind="side"):
            sides = boxes.exact if boxes.interpolated else boxes.sides
            return sides(values, size)[int(last)]
    return values[last]


def _record(fields: Sequence[FieldSpec], boxes: BoxFormat, path: Path) -> Walk:
    """The steps of a record whose first field is already opened."""
    for field, following in zip(fields, [*fields[1:], None], strict=True):
        rest = "}" if following is None else "," + _opening(following, boxes)
        yield from _value(field.kind, boxes, (*path, field.name), rest)


def _opening(field: FieldSpec, boxes: BoxFormat) -> str:
    """A field's name, and the text that always begins its value."""
    match field.kind:
        case Choice() | Text():
            begin = '"'
        case Items():
            begin = "["
        case BoxKind():
            begin = boxes.opening
        case _:
            begin = ""
    return f"{quoted(field.name)}:{begin}"


def _value(kind: Kind, boxes: BoxFormat, path: Path, after: str) -> Walk:
    match kind:
        case Choice(options=names):
            yield Decision(path, _names(names, after), "closed")
        case Flag():
            yield Decision(path, _options((True, False), ("true" + after, "false" + after)), "closed")
        case Integer(minimum=low, maximum=high):
            yield Decision(path, _numbers(low, high, after), "closed")
        case Text(max_length=length):
            yield FreeText(path, length)
            yield _fixed(path, after)
        case BoxKind():
            for side in range(SIDES):
                rest = boxes.between if side < SIDES - 1 else boxes.closing + after
                yield Decision((*path, side), _sides(boxes, rest), "side")
        case Items():
            yield from _items(kind, boxes, path, after)


def _items(kind: Items, boxes: BoxFormat, path: Path, after: str) -> Walk:
    another, end = "{" + _opening(kind.fields[0], boxes), "]" + after
    for place in range(kind.max_items):
        options = _options((True, False), (("," if place else "") + another, end))
        if not (yield Decision((*path, place), options, "item")):
            return
        yield from _record(kind.fields, boxes, (*path, place))
    yield _fixed(path, end)


def _fixed(path: Path, text: str) -> Decision:
    return Decision(path, _options((None,), (text,)), "fixed")


@lru_cache(maxsize=4096)
def _options(values: tuple[Any, ...], texts: tuple[str, ...]) -> Options:
    """Cached, so that equal options are tokenized once."""
    return Options(values, texts)


@lru_cache(maxsize=1024)
def _names(names: tuple[str, ...], after: str) -> Options:
    return Options(names, tuple(quoted(name)[1:] + after for name in names))


@lru_cache(maxsize=256)
def _numbers(low: int, high: int, after: str) -> Options:
    return Options(tuple(range(low, high + 1)), tuple(f"{number}{after}" for number in range(low, high + 1)))


@lru_cache(maxsize=256)
def _sides(boxes: BoxFormat, after: str) -> Options:
    sides = range(boxes.largest + 1)
    return Options(tuple(sides), tuple(boxes.side(number) + after for number in sides))
