"""`Form`: the fields of a task that one recipe asks for. An adapter's card stores it in full."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from datasets_vision.example import BOX_SCALE
from vlm_ft.answers.box_format import STANDARD, BoxFormat, Size
from vlm_ft.answers.derivations import Derivation
from vlm_ft.answers.kinds import BoxKind, Choice, FieldSpec, Flag, Integer, Items, Kind, Strict, Text
from vlm_ft.answers.task import Follows, Headline, Task, Values
from vlm_ft.errors import FormError, nearest, problem_of

Options = Mapping[str, Sequence[str]]
"""Field path ("kind", "findings.kind") -> the names allowed."""


class Form(Strict):
    """The fields that the data label, with the options in use, and how the prompt asks for them."""

    task: str
    title: str
    instruction: str
    notice: str = ""
    fields: tuple[FieldSpec, ...]
    follows: dict[str, Follows] = Field(default_factory=dict)
    headline: Headline = Field(default_factory=Headline, exclude_if=lambda headline: not headline.names)
    derivations: tuple[Derivation, ...] = ()
    boxes: BoxFormat = STANDARD
    thresholds: dict[str, float] = Field(
        default_factory=dict, description="the least probability at which a flag is true, or a list has another item"
    )

    @classmethod
    def of(cls, task: Task, options: Options | None = None, only: Iterable[str] | None = None) -> Form:
        """The task's form with these options, narrowed to these field paths ("kind", "findings.box").

        Raises `FormError` for an unknown path, an option that a closed field does not have, or an open choice
        left without options.
        """
        options = dict(options or {})
        known = by_path(task.fields)
        for path in [*options, *(only or ()), *task.follows, *task.headline.names]:
            if path not in known:
                raise FormError(f"task {task.name}", f"no field {path!r}", nearest(path, known))
        fields = _narrowed(task.fields, set(known if only is None else only))
        asked = by_path(fields)
        return cls(
            task=task.name,
            title=task.title,
            instruction=task.instruction,
            notice=task.notice,
            fields=tuple(_with_options(field, field.name, options, task.name) for field in fields),
            follows={name: rule for name, rule in task.follows.items() if name in asked},
            headline=task.headline.narrow(asked),
            derivations=tuple(entry for entry in task.derivations if entry.derivable(asked)),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields, in the order in which they are answered."""
        return tuple(field.name for field in self.fields)

    @property
    def numbers_rows(self) -> bool:
        """Whether the form asks for boxes in a convention that numbers the rows of an image's tokens."""
        kinds = [field.kind for field in self.fields]
        boxed = any(isinstance(kind, BoxKind) or (isinstance(kind, Items) and kind.boxed) for kind in kinds)
        return boxed and self.boxes.numbered_rows

    def field(self, name: str) -> FieldSpec:
        return next(field for field in self.fields if field.name == name)

    def narrow(self, names: Iterable[str]) -> Form:
        """The same form with only these fields, for an example that labels no others."""
        selected = set(names)
        kept = tuple(field for field in self.fields if field.name in selected)
        return self if len(kept) == len(self.fields) else self.model_copy(update={"fields": kept})

    def with_boxes(self, boxes: BoxFormat) -> Form:
        """The same form with boxes in a base's own convention."""
        return self.model_copy(update={"boxes": boxes})

    def with_thresholds(self, thresholds: Mapping[str, float]) -> Form:
        """The same form with these thresholds: the least probability at which a flag is true or a list continues.

        A field without a threshold takes the more probable option. Raises `FormError` for a field that is neither a
        flag nor a list, and for a threshold outside (0, 1).
        """
        kinds = {field.name: field.kind for field in self.fields}
        for name, threshold in thresholds.items():
            if not isinstance(kinds.get(name), Flag | Items):
                names = [other for other, kind in kinds.items() if isinstance(kind, Flag | Items)]
                raise FormError(f"threshold of {name}", "is not a flag or a list of the form", nearest(name, names))
            if not 0 < threshold < 1:
                raise FormError(f"threshold of {name}", f"{threshold} is not a probability between 0 and 1", "give 0.3")
        return self.model_copy(update={"thresholds": {**self.thresholds, **thresholds}})

    def with_derivation(self, derivation: Derivation) -> Form:
        """The same form with this derivation. Raises `FormError` if the form lacks the fields that it needs."""
        if not derivation.derivable(by_path(self.fields)):
            raise FormError(
                f"{derivation.kind} {derivation.name}",
                f"the form lists no findings by kind (it asks for {', '.join(self.names)})",
                "ask for them, or leave it out",
            )
        others = tuple(entry for entry in self.derivations if entry.kind != derivation.kind)
        return self.model_copy(update={"derivations": (*others, derivation)})

    def derive(self, values: Values) -> dict[str, Values]:
        """The derived results of an answer, by kind; a derivation that lacks a value is left out."""
        results = {entry.kind: entry.derive(values) for entry in self.derivations}
        return {kind: result.model_dump(mode="json") for kind, result in results.items() if result is not None}

    @property
    def prompt(self) -> str:
        """The rendered instruction: the constant part of every prompt."""
        lines = [f"{field.name}: {_described(field.kind, self.boxes)}{_gloss(field)}" for field in self.fields]
        return "\n".join([self.instruction, "Answer in JSON with these fields:", *lines])

    @property
    def schema_of_answer(self) -> dict[str, Any]:
        """The JSON schema of the compact answer; closed, ordered and bounded, so that decoding ends."""
        return _object_schema(self.fields, self.boxes)

    @property
    def fingerprint(self) -> str:
        """A hash of the prompt and schema; forms with equal fingerprints are compatible."""
        text = self.prompt + json.dumps(self.schema_of_answer)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def target(self, values: Values) -> str:
        """The supervised answer: compact JSON in the form's order. Raises `FormError` if the values do not fit."""
        missing = [name for name in self.names if name not in values]
        if missing:
            raise FormError("answer", f"lacks {', '.join(missing)}", "narrow the form to the observed fields")
        ordered = _ordered(self.fields, values)
        return json.dumps(self.check(ordered), separators=(",", ":"), ensure_ascii=False)

    def parse(self, text: str) -> Values:
        """The values of an answer's JSON. Raises `FormError`, in one line, if it does not fit."""
        return self.check(_loaded(text))

    def read(self, text: str, size: Size | None = None) -> Values:
        """Like `parse`, for an answer whose boxes are in the base's own convention.

        `size`: width and height of the image as the base sees it, for boxes in pixels.
        """
        return self.check(_with_stored_boxes(self.fields, _loaded(text), self.boxes, size))

    def check(self, values: Any) -> Values:
        """The values, unchanged, if they fit. Raises `FormError` naming the field, the value and what is allowed."""
        try:
            return _model(self.fields).model_validate(values).model_dump(mode="json")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = " ".join(".".join(str(part) for part in first["loc"]).split()) or "answer"  # a key may be any text
            raise FormError(place[:60], f"{str(first['input'])[:60]!r} does not fit: {problem_of(first)}") from error


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise FormError("answer", f"not JSON at character {error.pos}: {text[:60]!r}") from error
    except (ValueError, RecursionError) as error:  # a number with thousands of digits, deep nesting
        raise FormError("answer", f"not readable as JSON: {text[:60]!r}") from error


def _with_stored_boxes(fields: Iterable[FieldSpec], values: Any, boxes: BoxFormat, size: Size | None) -> Any:
    """The values with stored boxes; anything that does not fit the fields is left unchanged."""
    if not isinstance(values, dict):
        return values
    stored = dict(values)
    for field in fields:
        value = values.get(field.name)
        if isinstance(field.kind, BoxKind) and field.name in values:
            stored[field.name] = boxes.read(value, size)
        elif isinstance(field.kind, Items) and isinstance(value, list):
            stored[field.name] = [_with_stored_boxes(field.kind.fields, row, boxes, size) for row in value]
    return stored


def by_path(fields: Iterable[FieldSpec]) -> dict[str, FieldSpec]:
    """Every field and every part of a list, in order: "kind", "findings", "findings.kind" and so on."""
    found = {}
    for field in fields:
        found[field.name] = field
        if isinstance(field.kind, Items):
            found |= {f"{field.name}.{part.name}": part for part in field.kind.fields}
    return found


def _narrowed(fields: Iterable[FieldSpec], only: set[str]) -> list[FieldSpec]:
    """The fields whose path is in `only`. A list named without parts keeps them all."""
    kept = []
    for field in fields:
        inner = {path.split(".", 1)[1] for path in only if path.startswith(field.name + ".")}
        if field.name not in only and not inner:
            continue
        if isinstance(field.kind, Items) and inner:
            parts = tuple(part for part in field.kind.fields if part.name in inner)
            field = field.model_copy(update={"kind": field.kind.model_copy(update={"fields": parts})})
        kept.append(field)
    return kept


def _with_options(field: FieldSpec, path: str, options: Options, task: str) -> FieldSpec:
    kind: Kind = field.kind
    if isinstance(kind, Items):
        inner = tuple(_with_options(part, f"{path}.{part.name}", options, task) for part in kind.fields)
        return field.model_copy(update={"kind": kind.model_copy(update={"fields": inner})})
    if not isinstance(kind, Choice):
        if path in options:
            raise FormError(f"task {task}", f"field {path!r} is not a choice", "give labels for choices only")
        return field
    given = tuple(options.get(path, kind.options))
    if not given:
        raise FormError(
            f"task {task}", f"field {path!r} has no options", f"name them in the recipe: labels: {path}: [...]"
        )
    repeated = sorted({name for name in given if given.count(name) > 1})
    if repeated:
        raise FormError(f"task {task}", f"field {path!r} lists {repeated[0]!r} twice")
    if kind.options:
        for name in given:
            if name not in kind.options:
                raise FormError(f"task {task}", f"field {path!r} has no option {name!r}", nearest(name, kind.options))
        given = tuple(name for name in kind.options if name in given)  # a closed choice keeps its own order
    return field.model_copy(update={"kind": Choice(options=given)})


def _ordered(fields: Iterable[FieldSpec], values: Values) -> Values:
    ordered: Values = {}
    for field in fields:
        value = values.get(field.name)
        if isinstance(field.kind, Items) and isinstance(value, list):
            value = [_ordered(field.kind.fields, row) for row in value]
        ordered[field.name] = value
    return ordered


def _described(kind: Kind, boxes: BoxFormat) -> str:
    match kind:
        case Choice(options=options):
            return " | ".join(options)
        case Flag():
            return "true | false"
        case Integer(minimum=minimum, maximum=maximum):
            return f"{minimum}..{maximum}"
        case Text(max_length=length):
            return f"text, at most {length} characters"
        case BoxKind():
            return boxes.description
        case Items(fields=fields, max_items=count):
            inner = ", ".join(f"{part.name}: {_described(part.kind, boxes)}" for part in fields)
            return f"at most {count} of {{{inner}}}"


def _gloss(field: FieldSpec) -> str:
    return f" ({field.description})" if field.description else ""


def _schema(kind: Kind, boxes: BoxFormat) -> dict[str, Any]:
    match kind:
        case Choice(options=options):
            return {"enum": list(options)}
        case Flag():
            return {"type": "boolean"}
        case Integer(minimum=minimum, maximum=maximum):
            return {"type": "integer", "minimum": minimum, "maximum": maximum}
        case Text(max_length=length):
            return {"type": "string", "maxLength": length}
        case BoxKind():
            return boxes.answer_schema
        case Items(fields=fields, max_items=count):
            return {"type": "array", "items": _object_schema(fields, boxes), "maxItems": count}


def _object_schema(fields: Iterable[FieldSpec], boxes: BoxFormat) -> dict[str, Any]:
    properties = {field.name: _schema(field.kind, boxes) for field in fields}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _checked_box(box: list[int]) -> list[int]:
    left, top, right, bottom = box
    if not (0 <= left < right <= BOX_SCALE and 0 <= top < bottom <= BOX_SCALE):
        raise ValueError(f"a box needs left < right and top < bottom within 0..{BOX_SCALE}")
    return box


def _annotation(kind: Kind, name: str) -> Any:
    match kind:
        case Choice(options=options):
            return Literal[options]
        case Flag():
            return bool
        case Integer(minimum=minimum, maximum=maximum):
            return Annotated[int, Field(ge=minimum, le=maximum)]
        case Text(max_length=length):
            return Annotated[str, Field(max_length=length)]
        case BoxKind():
            return Annotated[list[int], Field(min_length=4, max_length=4), AfterValidator(_checked_box)]
        case Items(fields=fields, max_items=count):
            return Annotated[list[_build_model(fields, name)], Field(max_length=count)]  # type: ignore[misc]


@lru_cache(maxsize=256)
def _model(fields: tuple[FieldSpec, ...]) -> type[BaseModel]:
    """The model, cached by fields rather than on the form: a narrowed copy must not use the whole form's model."""
    return _build_model(fields, "Answer")


def _build_model(fields: Iterable[FieldSpec], name: str) -> type[BaseModel]:
    types: dict[str, Any] = {field.name: (_annotation(field.kind, field.name), ...) for field in fields}
    return create_model(name, __config__=ConfigDict(extra="forbid", strict=True), **types)
