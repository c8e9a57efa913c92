"""Two passes over a recipe's data: the first determines the form that they fill, the second fills the index."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from datasets_vision.example import BOX_SCALE, Example, Picture, Turn, photo_of
from datasets_vision.source import SetAside
from vlm_ft.answers.form import Form
from vlm_ft.answers.task import Values
from vlm_ft.data.cases import Dataset, Labelled, form_of, items_of, narrowed
from vlm_ft.data.checks import near
from vlm_ft.data.checks.index import Index
from vlm_ft.data.checks.pictures import FactCache, Facts, facts_of
from vlm_ft.data.splits import group_of
from vlm_ft.errors import FormError
from vlm_ft.recipe import Recipe, Splits
from vlm_ft.tasks import task_of

MEASURED = 2000
"""Tokens are counted for about this many rows, and for every row that may be too long."""
SMALL_SIDE = 6.0
"""A box counts as tiny if the base sees it with less area than a square of this side, in pixels."""


class Ruler(Protocol):
    """Measures rows for a base: `limit` is the most tokens of a row, `most_pixels` the most pixels of an image."""

    limit: int
    most_pixels: int | None

    def prompt(self, form: Form, turns: Sequence[Turn], sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """All tokens, and the image tokens, of a prompt with images of these sizes in pixels."""

    def answer(self, form: Form, turns: Sequence[Turn], sizes: Sequence[tuple[int, int]], target: str) -> int:
        """The tokens of an answer."""


Progress = Callable[[str, int], None]


def gather(
    recipe: Recipe,
    ruler: Ruler | None = None,
    splits_file: Path | None = None,
    progress: Progress | None = None,
    known: Sequence[Labelled | SetAside] | None = None,
) -> Index:
    """The index of a recipe's data; `progress` gets the name of the pass and the number of examples so far.

    `known`: the items of the data, if already read. Raises `DataError` or `FormError` if the data fill no form, since
    nothing can be checked then.
    """
    task = task_of(recipe.task, recipe.task_file)

    def items(phase: str) -> Iterator[Labelled | SetAside]:
        for number, item in enumerate(items_of(recipe) if known is None else known, 1):
            if progress and number % 1000 == 0:
                progress(phase, number)
            yield item

    count = 0

    def counted() -> Iterator[Labelled | SetAside]:
        nonlocal count
        for item in items("reading"):
            count += isinstance(item, Labelled)
            yield item

    form, _ = form_of(recipe, task, counted())
    every, tile = max(1, count // MEASURED), recipe.tiling.side if recipe.tiling else None
    writer = IndexWriter(Index(recipe.splits), form, ruler, FactCache(), every=every, tile=tile)
    for item in items("checking"):
        if isinstance(item, SetAside):
            writer.set_aside(item)
        else:
            writer.add_labelled(item.whole.example, task.values(item.whole.example.label))
    writer.index.assign_roles(splits_file)
    near.find(writer.index)
    return writer.index


def gather_loaded(dataset: Dataset) -> Index:
    """The index of loaded data; pictures are not decoded, but facts cached by an earlier check are reused."""
    writer = IndexWriter(Index(Splits()), dataset.form, None, FactCache(), decode=False)
    for entry in dataset.set_aside:
        writer.set_aside(entry)
    for cases in dataset.cases.values():
        for case in cases:
            writer.add(case.example, case.values)
    writer.index.use_roles((group_of(case.example), role) for role, cases in dataset.cases.items() for case in cases)
    near.find(writer.index)
    return writer.index


class IndexWriter:
    """Adds examples to an index, one at a time."""

    def __init__(
        self,
        index: Index,
        form: Form,
        ruler: Ruler | None,
        cache: FactCache,
        *,
        every: int = 1,
        decode: bool = True,
        tile: int | None = None,
    ) -> None:
        self.index = index
        self._form = form
        self._ruler = ruler
        index.limit = ruler.limit if ruler else None
        self._cache = cache
        self._every = every
        self._decode = decode
        self._tile = tile
        self._empty: int | None = None
        self._added = 0

    def set_aside(self, entry: SetAside) -> None:
        """Record something that a loader could not use."""
        self.index.insert("set_aside", entry.place, entry.problem, entry.remedy, entry.about)

    def add_labelled(self, example: Example, values: Values) -> None:
        """Check an example's label against the form, and add the example."""
        try:
            values = narrowed(values, self._form)
        except FormError as error:
            self.index.insert("misfits", example.source, str(error))
            return
        if values:
            self.add(example, values)

    def add(self, example: Example, values: Values) -> None:
        """Add an example, its pictures and the length of its row; `values` fit the form."""
        pictures = [(picture, facts_of(picture, decode=self._decode, cache=self._cache)) for picture in example.images]
        number = self.index.add(example, values, self._form, pictures)
        if self._ruler is not None:
            self._measure(self._ruler, number, example, values, pictures)
            self._small_boxes(self._ruler, number, example, pictures)

    def _measure(
        self, ruler: Ruler, number: int, example: Example, values: Values, pictures: Sequence[tuple[Picture, Facts]]
    ) -> None:
        """Measure one row in `_every`, and every row that could be too long, since no token is shorter than a byte."""
        form = self._form.narrow(values)
        target = form.target(values)
        if self._empty is None:
            self._empty, _ = ruler.prompt(self._form, (), ())
        most = self._empty + len(target.encode()) + sum(len(turn.text.encode()) + 16 for turn in example.turns)
        self._added += 1
        if most > ruler.limit or len(pictures) > 1 or self._added % self._every == 0:
            sizes = [self._seen_size(facts) for _, facts in pictures if facts.width]
            prompt, image_tokens = ruler.prompt(form, example.turns, sizes)
            tokens = prompt + ruler.answer(form, example.turns, sizes, target)
            self.index.insert("lengths", number, tokens, image_tokens)

    def _small_boxes(
        self, ruler: Ruler, number: int, example: Example, pictures: Sequence[tuple[Picture, Facts]]
    ) -> None:
        """Record the boxes that are too small for the base to see."""
        for obj in example.label.objects or ():
            if obj.box is None or not pictures:
                continue
            picture, facts = pictures[photo_of(obj, len(pictures))]
            left, top, right, bottom = obj.box
            scale = seen_scale(self._seen_size(facts), ruler.most_pixels) / BOX_SCALE
            width, height = (right - left) * facts.width * scale, (bottom - top) * facts.height * scale
            if 0 < width * height < SMALL_SIDE**2:
                self.index.insert("boxes", number, str(picture), obj.name, width, height, json.dumps(obj.box))

    def _seen_size(self, facts: Facts) -> tuple[int, int]:
        """A picture's width and height in pixels, or those of a tile of it."""
        most = self._tile or max(facts.width, facts.height)
        return min(facts.width, most), min(facts.height, most)


def seen_scale(size: tuple[int, int], most_pixels: int | None) -> float:
    """The factor, at most 1, by which the base scales the sides of a picture of this width and height."""
    area = size[0] * size[1]
    return min(1.0, math.sqrt(most_pixels / area)) if most_pixels and area else 1.0
