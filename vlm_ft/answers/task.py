"""`Task`: the questions about an image or a text, and how a data set's labels answer them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field as PydanticField

from datasets_vision.example import Label, LabelledObject, box_area
from vlm_ft.answers.derivations import Derivation
from vlm_ft.answers.kinds import Answer, BoxedList, Choice, FieldSpec, Integer, Items, Strict, fields_of

NOTHING = "none"
"""The class of an image that was examined and shows no finding."""

CHOSEN = "chosen"
"""The column with the preferred reply of a pair."""

Values = dict[str, Any]
"""Field name -> plain JSON value; a name that is absent is unobserved."""

Follows = Literal["any", "none", "count", "largest"]
"""How a field is computed from the list with boxes: is anything listed, is nothing, how many, which is the largest."""

DECISIONS = ("any", "none")


class Headline(Strict):
    """What the first line of an answer states: the values of `fields`, which are flags, choices or numbers.

    `words`: for a flag, how to say that it is true and that it is false; by default its name, with "not" if false.
    `graded`: the choices whose options go from harmless to serious.

    >>> Headline(fields=("passed", "fault"), words={"passed": ("pass", "fail")}).names
    ('passed', 'fault', 'passed')
    """

    fields: tuple[str, ...] = ()
    words: dict[str, tuple[str, str]] = PydanticField(default_factory=dict)
    graded: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every field that it mentions."""
        return (*self.fields, *self.words, *self.graded)

    def narrow(self, asked: Collection[str]) -> Headline:
        """The same without the fields that are not asked for."""
        return Headline(
            fields=tuple(name for name in self.fields if name in asked),
            words={name: words for name, words in self.words.items() if name in asked},
            graded=tuple(name for name in self.graded if name in asked),
        )


@dataclass(frozen=True, kw_only=True)
class Task:
    """One use case. Everything else (prompt, grammar, metrics, columns, widgets) follows from the form.

    A label's class, if it has one, is the value of `class_field`, and its objects are the items of `list_field`. `read`
    returns the other values that a label states. `follows` says which fields are computed from the list with boxes, in
    labels and when the answers about tiles are merged; the class NOTHING means an empty list. `derivations` compute
    results from an answer without a model. `headline` says what an answer comes down to. `notice` accompanies every
    output. `sample` is one complete answer. `augment` is the preset that suits its photos, if the labels stay true
    under it; None for a task about texts.

    >>> from vlm_ft import Answer, Task
    >>> class Verdict(Answer):
    ...     passed: bool
    >>> task = Task(
    ...     name="verdict",
    ...     title="Verdict",
    ...     answer=Verdict,
    ...     instruction="Judge the part.",
    ...     sample=Verdict(passed=True),
    ...     read=lambda label: {"passed": label.image_class == "good"},
    ... )
    >>> task.values(Label(image_class="dent"))
    {'passed': False}
    """

    name: str
    title: str
    answer: type[Answer]
    instruction: str
    sample: Answer
    class_field: str = ""
    list_field: str = ""
    read: Callable[[Label], Values] = lambda label: {}
    notice: str = ""
    follows: Mapping[str, Follows] = field(default_factory=dict)
    derivations: tuple[Derivation, ...] = ()
    augment: str | None = None
    headline: Headline = field(default_factory=Headline)

    @property
    def fields(self) -> tuple[FieldSpec, ...]:
        """The fields of the answer type; open choices have no options."""
        return fields_of(self.answer)

    def listed(self, name: str, objects: tuple[LabelledObject, ...]) -> list[Values]:
        """Labelled objects as the items of that field, largest first, up to its limit.

        An object's name becomes the item's name. Attributes named like a part are kept unless they are None.
        """
        kind = next(spec.kind for spec in self.fields if spec.name == name)
        assert isinstance(kind, Items)
        parts = [part.name for part in kind.fields]
        rows = []
        for item in sorted(objects, key=lambda item: (-box_area(item.box), item.box or (0, 0, 0, 0)))[: kind.max_items]:
            row: Values = {part: value for part, value in item.attributes.items() if value is not None}
            if kind.name:
                row[kind.name] = item.name
            if kind.box and item.box is not None:
                row[kind.box] = list(item.box)
            rows.append({part: row[part] for part in parts if part in row})
        return rows

    def values(self, label: Label) -> Values:
        """What the label states: its class and objects, fields computed from them, and columns that name a field."""
        names = {spec.name for spec in self.fields}
        columns = {name: value for name, value in label.columns.items() if name in names}
        values: Values = {}
        if self.list_field and label.objects is not None:
            values[self.list_field] = self.listed(self.list_field, label.objects)
        if self.class_field and label.image_class is not None:
            values[self.class_field] = label.image_class
        values |= self.read(label)
        followed = following(self.fields, self.follows, values)
        if label.image_class is not None:
            nothing = label.image_class == NOTHING
            followed |= {name: nothing is (rule == "none") for name, rule in self.follows.items() if rule in DECISIONS}
        return {**followed, **values, **columns}

    def __str__(self) -> str:
        return self.name


def following(fields: Sequence[FieldSpec], rules: Mapping[str, Follows], values: Values) -> Values:
    """The fields that `rules` compute from the list with boxes, which is sorted by size; {} without such a list.

    A name that is not an option of its field is left out.
    """
    boxed = next((entry for entry in BoxedList.all_in(fields) if entry.name in values), None)
    if boxed is None:
        return {}
    rows, found = values[boxed.name], Values()
    for target in fields:
        match rules.get(target.name), target.kind:
            case "any", _:
                found[target.name] = bool(rows)
            case "none", _:
                found[target.name] = not rows
            case "count", Integer(maximum=maximum):
                found[target.name] = min(len(rows), maximum)
            case "largest", Choice(options=options):
                word = rows[0].get(boxed.kind.name or "") if rows else NOTHING
                if word is not None and word in (options or (word,)):
                    found[target.name] = word
    return found


def judged_replies(label: Label) -> list[tuple[str | Values, bool]]:
    """The replies that people rated, and whether they liked each: both of a pair, or one with a thumbs up or down.

    A reply is a text, or the values of an answer's fields.
    """
    columns = label.columns
    pair = [(columns[name], liked) for name, liked in ((CHOSEN, True), ("rejected", False)) if name in columns]
    return pair or ([(columns["completion"], columns["liked"])] if {"completion", "liked"} <= columns.keys() else [])


def preferred_reply(label: Label, field: str = "reply") -> Values:
    """The reply that people prefer: the chosen one of a pair, or a liked completion; {} if there is none.

    A text is the value of `field`.
    """
    chosen = next((reply for reply, liked in judged_replies(label) if liked is True), None)
    return {} if chosen is None else dict(chosen) if isinstance(chosen, Mapping) else {field: chosen}
