"""A contact sheet of a recipe's examples, with their labels and augmented variants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from random import Random

from datasets_vision.augment import steps_of
from datasets_vision.images import open_image
from datasets_vision.placing import whole_file
from datasets_vision.preview import SheetExample, contact_sheet
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import value_in_words
from vlm_ft.data.cases import Case, Dataset, load, stratum_of
from vlm_ft.errors import DataError
from vlm_ft.recipe import Recipe

MAX_CAPTION = 110  # characters in a line of a caption


def preview(
    recipe: Recipe, out: Path, count: int = 8, draws: int = 3, seed: int = 0, dataset: Dataset | None = None
) -> int:
    """Write a contact sheet of `count` training examples to an image file; returns how many it shows.

    `dataset`: the recipe's data, if already read. The examples are taken in turn from each class. All labelled boxes
    are drawn, even if the recipe does not ask for them. Raises `DataError` if no training example has an image, or if
    `out` does not have an image suffix.
    """
    from PIL import Image

    Image.init()
    if out.suffix.lower() not in Image.EXTENSION:
        raise DataError(out, "not the name of an image file", "write to a .png")
    steps_of(recipe.augment)
    dataset = dataset or load(recipe)
    pictured = [case for case in dataset.cases["train"] if case.example.images]
    if not pictured:
        raise DataError(f"recipe {recipe.name}", "none of its training examples has an image", "use data with images")
    shown = [_shown(case) for case in _in_turn(pictured, dataset.form, count, seed)]
    with whole_file(out) as part:
        try:
            contact_sheet(shown, recipe.augment, draws, seed).save(part, Image.EXTENSION[out.suffix.lower()])
        except (KeyError, ValueError) as error:
            raise DataError(out, f"this kind of image cannot be written ({error})", "write to a .png") from error
    return len(shown)


def _in_turn(cases: Sequence[Case], form: Form, count: int, seed: int) -> list[Case]:
    """Cases drawn from each stratum in turn."""
    strata: dict[str, list[Case]] = defaultdict(list)
    for case in Random(seed).sample(cases, len(cases)):
        strata[stratum_of(case.values, form)].append(case)
    turns = zip_longest(*(strata[name] for name in sorted(strata)))
    return [case for turn in turns for case in turn if case is not None][:count]


def _shown(case: Case) -> SheetExample:
    images = tuple(open_image(picture) for picture in case.example.images)
    values = "; ".join(f"{name}: {value_in_words(value)}" for name, value in case.values.items())
    lines = [case.example.id, values, " ".join(case.example.text.split())]
    caption = tuple(line if len(line) <= MAX_CAPTION else f"{line[: MAX_CAPTION - 3]}..." for line in lines if line)
    return SheetExample(images, case.example.label.objects, caption)
