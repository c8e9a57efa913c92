"""The kinds of fields in an answer, as data: everything derived from a form branches on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

from datasets_vision.example import BOX_SCALE
from vlm_ft.errors import FormError


class Strict(BaseModel):
    """Base of immutable models in which unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(Strict):
    """One of a closed set of names."""

    kind: Literal["choice"] = "choice"
    options: tuple[str, ...]


class Flag(Strict):
    """True or false."""

    kind: Literal["flag"] = "flag"


class Integer(Strict):
    """A whole number within bounds, both included."""

    kind: Literal["integer"] = "integer"
    minimum: int
    maximum: int


class Text(Strict):
    """Free text of a bounded length, in characters."""

    kind: Literal["text"] = "text"
    max_length: int


class BoxKind(Strict):
    """A box in the image: left, top, right, bottom, each from 0 to 1000 along the side."""

    kind: Literal["box"] = "box"


class Items(Strict):
    """A bounded list of records, such as findings or objects."""

    kind: Literal["items"] = "items"
    fields: tuple[FieldSpec, ...]
    max_items: int

    @property
    def box(self) -> str | None:
        """The name of the part that holds an item's box."""
        return next((field.name for field in self.fields if isinstance(field.kind, BoxKind)), None)

    @property
    def name(self) -> str | None:
        """The name of the part that names an item: its first choice."""
        return next((field.name for field in self.fields if isinstance(field.kind, Choice)), None)

    @property
    def boxed(self) -> bool:
        return self.box is not None


Kind = Annotated[Choice | Flag | Integer | Text | BoxKind | Items, Field(discriminator="kind")]


class FieldSpec(Strict):
    """A field of an answer: its name, a short description and its kind."""

    name: str
    description: str = ""
    kind: Kind


Items.model_rebuild()


class BoxedList(NamedTuple):
    """A list field whose items have boxes: its name, its kind, and the name of the part that holds the box."""

    name: str
    kind: Items
    box: str

    @classmethod
    def all_in(cls, fields: Iterable[FieldSpec]) -> Iterator[BoxedList]:
        """The lists with boxes among these fields, in order."""
        for field in fields:
            if isinstance(field.kind, Items) and field.kind.box is not None:
                yield cls(field.name, field.kind, field.kind.box)


class OpenChoice:
    """Marks ``Annotated[str, OpenChoice()]``: a choice whose options the data or the recipe supply."""


OneOf = Annotated[str, OpenChoice()]
BOX = "box"
Box = Annotated[tuple[int, int, int, int], BOX]


class Answer(BaseModel):
    """Base of every answer type; `fields_of` reads its annotations.

    >>> from typing import Literal
    >>> from vlm_ft import Answer
    >>> class Weld(Answer):
    ...     passed: bool
    ...     depth: Literal["surface", "deep"]
    >>> Weld(passed=False, depth="deep").model_dump()
    {'passed': False, 'depth': 'deep'}
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class Item(Answer):
    """Base of the records inside an answer's lists.

    >>> from pydantic import Field
    >>> from vlm_ft import Answer, Box, Item, OneOf
    >>> class Finding(Item):
    ...     kind: OneOf  # the options come from the data, or from `labels` in the recipe
    ...     box: Box | None = None  # left, top, right, bottom, from 0 to 1000
    >>> class Weld(Answer):
    ...     findings: list[Finding] = Field(max_length=8)
    >>> Weld(findings=[{"kind": "pore", "box": (10, 20, 30, 40)}]).findings[0].kind
    'pore'
    """


def spanned_box(corners: list[int]) -> list[int]:
    """The box that two opposite corners in 0..1000 span, in either order; at least one unit wide and high."""
    (left, right), (top, bottom) = sorted(corners[::2]), sorted(corners[1::2])
    left, top = min(left, BOX_SCALE - 1), min(top, BOX_SCALE - 1)
    return [left, top, max(right, left + 1), max(bottom, top + 1)]


@cache
def fields_of(answer: type[BaseModel]) -> tuple[FieldSpec, ...]:
    """The fields of an answer type, in order; an open choice has no options yet.

    Raises `FormError` for an annotation that is not a supported field type.
    """
    return tuple(
        FieldSpec(
            name=name,
            description=info.description or "",
            kind=_kind_of(info.annotation, info.metadata, f"{answer.__name__}.{name}"),
        )
        for name, info in answer.model_fields.items()
    )


def _kind_of(annotation: Any, metadata: list[Any], place: str) -> Kind:
    if annotation is bool:
        return Flag()
    if get_origin(annotation) is Literal and all(isinstance(option, str) for option in get_args(annotation)):
        return Choice(options=get_args(annotation))
    if annotation is str and any(isinstance(item, OpenChoice) for item in metadata):
        return Choice(options=())
    if annotation is str:
        return Text(max_length=_bound(metadata, "max_length", place))
    if annotation is int:
        return Integer(minimum=_bound(metadata, "ge", place), maximum=_bound(metadata, "le", place))
    if BOX in metadata:
        return BoxKind()
    item = next(iter(get_args(annotation)), None) if get_origin(annotation) is list else None
    if isinstance(item, type) and issubclass(item, Item):
        return Items(fields=fields_of(item), max_items=_bound(metadata, "max_length", place))
    raise FormError(
        place,
        f"{annotation!r} is not a supported field type",
        "use bool, Literal of strings, OneOf, a bounded int, a bounded str, Box, or a bounded list of Item",
    )


def _bound(metadata: list[Any], name: str, place: str) -> int:
    for item in metadata:  # pydantic keeps annotated_types.MaxLen(max_length), Ge(ge) and Le(le)
        if hasattr(item, name):
            return int(getattr(item, name))
    raise FormError(place, "has no bound", f"give Field({name}=...), so that an answer always ends")
