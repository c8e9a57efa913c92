"""Merge the answers about a photo's tiles into one answer about the photo.

The boxes of a list are moved from tile to photo coordinates. Items that several tiles show are merged, and so are the
parts of an item that a tile's edge cuts. Other fields are computed from the merged list if the form has a rule for
them (`Form.follows`: a part passes if nothing was found). The rest are taken from the tile with the largest item or,
if nothing was found, by majority.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datasets_vision.example import normalised_box
from datasets_vision.images import opened, size_of
from datasets_vision.tiles import Crop, grid, in_pixels
from vlm_ft.adapters import Card
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxedList
from vlm_ft.answers.prediction import FieldValue, Item, Prediction
from vlm_ft.answers.task import Follows, Values, following
from vlm_ft.errors import DataError
from vlm_ft.inference.familiarity import median_place
from vlm_ft.inference.request import Request
from vlm_ft.recipe import Tiling

SAME_IOU = 0.5
SAME_COVER = 0.7
"""Share of the smaller of two boxes that the other covers, if one tile shows only part of what the other shows."""

ALIGNED = 0.5
"""Overlap over union, along a tile's edge, of two boxes that the edge separates."""

_AT_EDGE = 0.015  # of a tile's side: a box that ends this close to the edge is cut off by it

Pixels = tuple[float, float, float, float]
Predict = Callable[[Sequence[Request]], list[Prediction]]


@dataclass(frozen=True, slots=True)
class _Found:
    """An item of one tile: its box in pixels of the photo, and which of the tile's edges cut it (left, top ...).

    `sure`: its probabilities, if the tile's answer has them.
    """

    item: Values
    box: Pixels
    tile: int
    cut: tuple[bool, bool, bool, bool]
    sure: Item | None = None

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


def tiling_of(request: Request, card: Card | None) -> Tiling | None:
    """How a large photo is split; `card`: of the adapter whose settings the request follows."""
    if request.tiling == "card":
        return card.tiling if card is not None else None
    return None if request.tiling == "none" else request.tiling


def predict_tiled(
    predict: Predict,
    requests: Sequence[Request],
    tilings: Sequence[Tiling | None],
    forms: Sequence[Form],
    chunk: int = 256,
) -> list[Prediction]:
    """One prediction per request, merged from tiles if it has a tiling and one photo larger than a tile.

    Of a photo that fits into one tile, only the header is read here. At most `chunk` tiles of a photo are predicted at
    a time. A photo that cannot be opened gives a failed prediction, as without tiling.
    """
    results: dict[int, Prediction] = {}
    whole: list[int] = []
    for index, (request, tiling) in enumerate(zip(requests, tilings, strict=True)):
        if tiling is None or len(request.images) != 1 or next(BoxedList.all_in(forms[index].fields), None) is None:
            whole.append(index)
            continue
        try:
            size = size_of(request.images[0])
            crops = grid(*size, tiling.side, tiling.overlap)
            photo = opened(request.images[0]) if len(crops) > 1 else None
        except DataError as error:
            results[index] = Prediction.failed(str(error))
            continue
        if photo is None:
            whole.append(index)
            continue
        answers: list[Prediction] = []
        for start in range(0, len(crops), chunk):
            part = crops[start : start + chunk]
            answers += predict([replace(request, images=(photo.crop(crop),), on_text=None) for crop in part])
        results[index] = gathered(forms[index], crops, answers, size)
    answered = predict([requests[index] for index in whole]) if whole else []
    results |= dict(zip(whole, answered, strict=True))
    return [results[index] for index in range(len(requests))]


def gathered(form: Form, crops: Sequence[Crop], answers: Sequence[Prediction], size: tuple[int, int]) -> Prediction:
    """The photo's prediction from those of its tiles, in the order of `crops`; a failed one if all tiles failed.

    If only some tiles failed, it is merged from the others, with the decision "ask a person". It is as strange as the
    median of its tiles.
    """
    good = [(place, answer) for place, answer in enumerate(answers) if answer.error is None]
    if not good:
        return Prediction.failed(f"all {len(answers)} tiles failed: {answers[0].error}")
    boxed = next(BoxedList.all_in(form.fields))
    found = sorted(joined(boxed, _found(boxed, crops, dict(good), size)), key=lambda entry: -entry.area)
    items = [_normalised(boxed, entry, size) for entry in found]
    sure = tuple(entry.sure for entry in found if entry.sure is not None)
    photo = {boxed.name: items, **following(form.fields, form.follows, {boxed.name: items})}
    main_answer = dict(good).get(found[0].tile) if found else None
    any_item = _any_item(boxed, [answer for _, answer in good])
    fields = {}
    for name in form.names:
        if name == boxed.name:
            fields[name] = FieldValue(items, items=sure if len(sure) == len(items) else None)
        elif name in photo:
            fields[name] = FieldValue(photo[name], _decided(form.follows.get(name), any_item))
        elif main_answer is not None and name in main_answer.fields:
            fields[name] = main_answer.fields[name]
        else:
            fields[name] = _most([answer.fields[name] for _, answer in good if name in answer.fields])
    typical = good[median_place([answer.strange or 0.0 for _, answer in good])][1]
    merged = Prediction(fields, typical.decision, typical.reason, typical.strange)
    failed = len(answers) - len(good)
    return merged.doubted(f"{failed} of {len(answers)} tiles failed") if failed else merged


def _any_item(boxed: BoxedList, answers: Sequence[Prediction]) -> float | None:
    """The probability that any tile has an item, as if tiles were independent; None if some do not say.

    Tiles that overlap see the same things, so it errs towards certainty.
    """
    nothing = 1.0
    for answer in answers:
        counts = answer.fields[boxed.name].distribution if boxed.name in answer.fields else None
        if counts is None:
            return None
        nothing *= counts.get("0", 0.0)
    return 1 - nothing


def _decided(rule: Follows | None, any_item: float | None) -> dict[str, float] | None:
    """The distribution of a flag that says whether there is any item, or none."""
    if any_item is None or rule not in ("any", "none"):
        return None
    true = any_item if rule == "any" else 1 - any_item
    return {"true": true, "false": 1 - true}


def joined(boxed: BoxedList, found: Sequence[_Found]) -> list[_Found]:
    """Merge items of different tiles that have the same name and are the same object.

    Plain non-maximum merging would also merge neighbours that one tile shows separately, and never join an object that
    an edge cuts.
    """
    from scipy.sparse.csgraph import connected_components

    if not found:
        return []
    boxes = np.array([entry.box for entry in found])
    tiles = np.array([entry.tile for entry in found])
    names = np.array([str(entry.item.get(boxed.kind.name or "")) for entry in found])
    apart = (tiles[:, None] != tiles) & (names[:, None] == names)
    links = apart & (_same(boxes) | _cut_apart(boxes, np.array([entry.cut for entry in found])))
    count, groups = connected_components(links, directed=False)
    return [_merged([found[place] for place in np.flatnonzero(groups == group).tolist()]) for group in range(count)]


def _found(
    boxed: BoxedList, crops: Sequence[Crop], answers: Mapping[int, Prediction], size: tuple[int, int]
) -> list[_Found]:
    entries = []
    for tile, answer in answers.items():
        crop = crops[tile]
        value = answer.fields.get(boxed.name)
        if value is None:
            continue
        for item, sure in zip(value.value, value.items or [None] * len(value.value), strict=True):
            if not (box := item.get(boxed.box)):
                continue
            left, top, right, bottom = in_pixels(tuple(box), (crop[2] - crop[0], crop[3] - crop[1]))
            placed = (left + crop[0], top + crop[1], right + crop[0], bottom + crop[1])
            entries.append(_Found(item, placed, tile, _cut_off(placed, crop, size), _without_box(boxed, sure)))
    return entries


def _cut_off(box: Pixels, crop: Crop, size: tuple[int, int]) -> tuple[bool, bool, bool, bool]:
    """Which of the tile's edges cut the box; the border of the photo does not count."""
    near = _AT_EDGE * max(crop[2] - crop[0], crop[3] - crop[1])
    return (
        crop[0] > 0 and box[0] - crop[0] <= near,
        crop[1] > 0 and box[1] - crop[1] <= near,
        crop[2] < size[0] and crop[2] - box[2] <= near,
        crop[3] < size[1] and crop[3] - box[3] <= near,
    )


def _same(boxes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Pairs of boxes of the same object, (n, n): by intersection over union, or over the smaller of the two."""
    from supervision import OverlapMetric, box_iou_batch

    covered = box_iou_batch(boxes, boxes, OverlapMetric.IOS)
    return np.asarray((box_iou_batch(boxes, boxes) >= SAME_IOU) | (covered >= SAME_COVER))


def _cut_apart(boxes: np.ndarray[Any, Any], cuts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Overlapping pairs that an edge cuts apart, (n, n): one is cut at its tile's far edge, one at its near edge."""
    sides = np.minimum(boxes[:, None, 2:], boxes[:, 2:]) - np.maximum(boxes[:, None, :2], boxes[:, :2])  # (n, n, 2)
    spans = np.maximum(boxes[:, None, 2:], boxes[:, 2:]) - np.minimum(boxes[:, None, :2], boxes[:, :2])
    aligned = sides >= ALIGNED * spans
    meet = (sides > 0).all(axis=-1)
    across = cuts[:, None, 2] & cuts[None, :, 0] & aligned[..., 1]
    down = cuts[:, None, 3] & cuts[None, :, 1] & aligned[..., 0]
    one_way = meet & (across | down)
    return np.asarray(one_way | one_way.T)


def _merged(members: Sequence[_Found]) -> _Found:
    """Merge the members: their box is the mean of the uncut boxes if it covers enough of all, otherwise their span."""
    span = np.array([member.box for member in members])
    outer: Pixels = (span[:, 0].min(), span[:, 1].min(), span[:, 2].max(), span[:, 3].max())
    whole = [member for member in members if not any(member.cut)]
    box = outer
    if whole:
        mean = np.array([member.box for member in whole]).mean(axis=0)
        if np.prod(mean[2:] - mean[:2]) >= SAME_IOU * (outer[2] - outer[0]) * (outer[3] - outer[1]):
            box = (float(mean[0]), float(mean[1]), float(mean[2]), float(mean[3]))
    best = max(whole or members, key=lambda member: member.area)
    surest = max((m.sure for m in members if m.sure is not None), key=lambda sure: sure.exists, default=None)
    return replace(best, box=box, sure=surest)


def _without_box(boxed: BoxedList, sure: Item | None) -> Item | None:
    """The item without what is true only of its place in the tile."""
    if sure is None:
        return None
    return Item(sure.exists, {name: part for name, part in sure.parts.items() if name != boxed.box})


def _normalised(boxed: BoxedList, entry: _Found, size: tuple[int, int]) -> Values:
    photo = {"photo": 1} if "photo" in entry.item else {}  # there is only one photo, whatever a tile answers
    return {**entry.item, boxed.box: list(normalised_box(*entry.box, *size)), **photo}


def _most(values: Sequence[FieldValue]) -> FieldValue:
    counts = Counter(json.dumps(value.value) for value in values)
    return FieldValue(json.loads(counts.most_common(1)[0][0]))
