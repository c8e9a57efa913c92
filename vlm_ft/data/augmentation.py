"""Check that labels stay true under augmentation: a photo whose label says "left" must not be mirrored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from datasets_vision.augment import broken_word, safe_presets, steps_of
from datasets_vision.example import Example
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, FieldSpec, Items, Text
from vlm_ft.answers.task import Values
from vlm_ft.errors import DataError

Labelled = tuple[str, Iterable[str]]
"""A place, and the labels there."""


def check_augmentation(preset: str, form: Form, cases: Sequence[tuple[Example, Values]]) -> None:
    """Reject a preset whose flips or rotations would make a label of the form, or a text of these cases, untrue.

    Examples without an image are not augmented, so they are not checked. Raises `DataError` for an unknown preset, and
    for one that breaks a label; the message lists the presets that do not.
    """
    if not steps_of(preset):
        return
    pictured = [(example, values) for example, values in cases if example.images]
    if not pictured:
        return
    for place, labels in [*_options(form.fields), *_texts(form, pictured)]:
        labels = list(labels)
        if (broken := broken_word(preset, labels)) is None:
            continue
        label, word = broken
        shown = label if len(label) <= 60 else f"{label[:57]}..."
        safe = ", ".join(safe_presets(labels))
        raise DataError(
            "augment",
            f"{preset} flips or rotates images, but {place} says {shown!r}, and {word!r} would no longer be true",
            f"use one of {safe}",
        )


def _options(fields: Iterable[FieldSpec], inside: str = "") -> Iterator[Labelled]:
    for field in fields:
        if isinstance(field.kind, Choice):
            yield f"field {inside}{field.name}", field.kind.options
        elif isinstance(field.kind, Items):
            yield from _options(field.kind.fields, f"{field.name}.")


def _texts(form: Form, cases: Sequence[tuple[Example, Values]]) -> Iterator[Labelled]:
    """The free texts about the images: the user's turns and the answers."""
    free = [field.name for field in form.fields if isinstance(field.kind, Text)]
    for example, values in cases:
        yield f"{example.source or example.id}: its text", [turn.text for turn in example.turns]
        yield f"{example.source or example.id}: its answer", [str(values[name]) for name in free if name in values]
