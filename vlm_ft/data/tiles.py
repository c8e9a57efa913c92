"""Large photos as tiles, with the labels of each tile and of the whole photo."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datasets_vision.example import Example, Label
from datasets_vision.images import image_size
from datasets_vision.tiles import tile_examples
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxedList, Items
from vlm_ft.answers.task import Task, Values
from vlm_ft.errors import DataError
from vlm_ft.recipe import Tiling

MAX_ITEMS = 500
"""The most items of a tiled photo's answer, or of its label, that are measured."""


def boxes_only(example: Example) -> Example:
    """The example with only the objects of its label; what the label says about the whole photo is dropped.

    Raises `DataError` if it cannot be tiled: it does not have exactly one photo, or its label has no list of objects.
    """
    if len(example.images) != 1 or example.label.objects is None:
        lacks = f"{len(example.images)} photos" if len(example.images) != 1 else "no boxes"
        raise DataError(example.source, f"tiling needs one photo with boxes; this example has {lacks}")
    return replace(example, label=Label(objects=example.label.objects))


def with_more_items(form: Form) -> Form:
    """The form with room for all items of a tiled photo; it is used to measure answers, never to ask for them."""
    fields = tuple(
        field.model_copy(update={"kind": field.kind.model_copy(update={"max_items": MAX_ITEMS})})
        if isinstance(field.kind, Items) and field.kind.boxed
        else field
        for field in form.fields
    )
    return form.model_copy(update={"fields": fields})


def tiles_of(example: Example, tiling: Tiling, seed: int) -> list[Example]:
    """The tiles of a photo that training sees: all with an object, and a few without, drawn with `seed`."""
    size = image_size(example.images[0])
    tiles = list(tile_examples(example, size, tiling.side, tiling.overlap, tiling.visible))
    full = [tile for tile in tiles if tile.label.objects]
    bare = [tile for tile in tiles if not tile.label.objects]
    most = max(1, round(tiling.empty * len(full))) if tiling.empty else 0
    drawn = {tile.id for tile in sorted(bare, key=lambda tile: _sort_key(seed, tile.id))[:most]}
    return [tile for tile in tiles if tile.label.objects or tile.id in drawn]


def whole_values(task: Task, example: Example) -> Values:
    """What the label states about the whole photo, with the full list of boxed items.

    The task reads only as many items as fit into one answer; a photo of many tiles may have more.
    """
    values = task.values(example.label)
    boxed = next(BoxedList.all_in(task.fields), None)
    objects = example.label.objects or ()
    if boxed is None or boxed.name not in values or len(objects) <= len(values[boxed.name]):
        return values
    step = boxed.kind.max_items
    rows: list[Any] = []
    for start in range(0, min(len(objects), MAX_ITEMS), step):
        rows += task.values(Label(objects=objects[start : start + step]))[boxed.name]
    return {**values, boxed.name: rows}


def require_boxes(task: Task, fields: Sequence[str]) -> None:
    """Raise `DataError` if none of the fields has boxes, since the answers about tiles could not be merged."""
    boxed = {entry.name for entry in BoxedList.all_in(task.fields)}
    if not boxed & set(fields):
        remedy = f"ask for {' or '.join(sorted(boxed))}, or leave tiling out" if boxed else "leave tiling out"
        raise DataError("tiling", "no requested field is a list with boxes", remedy)


def _sort_key(seed: int, name: str) -> str:
    return hashlib.sha256(f"tile {seed}\n{name}".encode()).hexdigest()
