"""`Case`: an example with the answer its label states. `load` reads a recipe's data whole."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets_vision.example import Example
from datasets_vision.provenance import is_synthetic
from datasets_vision.source import SetAside, read
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, Flag, Items
from vlm_ft.answers.task import Task, Values
from vlm_ft.data.augmentation import check_augmentation
from vlm_ft.data.splits import assign, group_of, unmet
from vlm_ft.data.subsets import nested
from vlm_ft.data.tiles import Tiles, boxed_only, lengthened, require_boxes, tiles_by_photo, whole_values
from vlm_ft.errors import DataError, FormError
from vlm_ft.recipe import ROLES, Recipe, Role, Splits, with_rates
from vlm_ft.tasks import task_of

TILED: tuple[Role, ...] = ("train", "tune")
WHOLE: tuple[Role, ...] = ("calibrate", "test")
"""Where photos are tiled, the roles that are looked at by the tile, and those that stay whole."""


@dataclass(frozen=True, slots=True)
class Case:
    """An example, and the values that its label states (an absent field is unobserved)."""

    example: Example
    values: Values

    @property
    def group(self) -> str:
        """What must share its role."""
        return group_of(self.example)


@dataclass(frozen=True)
class Dataset:
    """A recipe's data: the form that they fill, the cases of each role, and what was set aside."""

    form: Form
    cases: dict[Role, tuple[Case, ...]]
    set_aside: tuple[SetAside, ...]
    synthetic: bool
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Cases a role."""
        return {role: len(self.cases[role]) for role in ROLES}

    @property
    def fingerprint(self) -> str:
        """A hash over ids and answers of the training cases."""
        digest = hashlib.sha256()
        for case in self.cases["train"]:
            digest.update(json.dumps([case.example.id, case.values], ensure_ascii=False).encode())
        return digest.hexdigest()[:16]


def load(recipe: Recipe, splits_file: Path | None = None) -> Dataset:
    """Read, map, narrow and share out a recipe's data.

    Raises `DataError` where a source cannot be read, a label does not fit the form, `train` stays empty, or the
    recipe's augmentation would make a label untrue.
    """
    task = task_of(recipe.task, recipe.task_file)
    readings = [read(source) for source in recipe.data]
    examples = _distinct([example for reading in readings for example in reading.examples], len(readings))
    examples, untiled = boxed_only(examples) if recipe.tiling else (examples, [])
    cases = [Case(example, task.values(example.label)) for example in examples]
    tiles = tiles_by_photo(task, examples, recipe.tiling, recipe.splits.seed) if recipe.tiling else {}
    seen = [case.values for case in cases] + [values for tiled in tiles.values() for _, values in tiled]
    form = with_rates(Form.observed(task, seen, recipe.labels, recipe.fields), recipe)
    cases, notes = _narrowed(cases, form)
    roles = assign(
        [case.example for case in cases], [stratum_of(case.values, form) for case in cases], recipe.splits, splits_file
    )
    by_role: dict[Role, tuple[Case, ...]] = {
        role: tuple(case for case, given in zip(cases, roles, strict=True) if given == role) for role in ROLES
    }
    by_role["train"] = _limited(by_role["train"], form, recipe.splits)
    if not by_role["train"]:
        raise DataError(f"recipe {recipe.name}", "no example is left for training", "check splits and data")
    if recipe.splits.folds is not None and not by_role["test"]:
        raise DataError(
            f"recipe {recipe.name}",
            f"fold {recipe.splits.fold} of {recipe.splits.folds} holds no example",
            "give fewer",
        )
    if recipe.tiling:
        require_boxes(task, form.names)
        by_role = _tiled(by_role, task, form, tiles)
    check_augmentation(recipe.augment, form, [(case.example, case.values) for case in by_role["train"]])
    return Dataset(
        form=form,
        cases=by_role,
        set_aside=(*(entry for reading in readings for entry in reading.set_aside), *untiled),
        synthetic=any(is_synthetic(source.path) for source in recipe.data),
        notes=(*notes, *unmet(recipe.splits, examples), *_idle(recipe, examples)),
    )


def _idle(recipe: Recipe, examples: Sequence[Example]) -> Iterator[str]:
    """Settings of a recipe for photos, where there are none."""
    if any(example.images for example in examples):
        return
    for name in ("augment", "pixels", "image_tokens"):
        if getattr(recipe, name) != Recipe.model_fields[name].default:
            yield f"{name}: no example has a photo, so it changes nothing; leave it out"


def _limited(train: tuple[Case, ...], form: Form, splits: Splits) -> tuple[Case, ...]:
    """The training cases, or the nested subset that the recipe asks for."""
    if splits.train_examples is None or not train:
        return train
    strata = [stratum_of(case.values, form) for case in train]
    kept = nested([case.group for case in train], strata, splits.train_examples, splits.subset_seed)
    return tuple(case for case, keep in zip(train, kept, strict=True) if keep)


def _tiled(cases: dict[Role, tuple[Case, ...]], task: Task, form: Form, tiles: Tiles) -> dict[Role, tuple[Case, ...]]:
    """`train` and `tune` by the tile, the other roles as whole photos with every item that is labelled."""
    learned: dict[Role, tuple[Case, ...]] = {
        role: tuple(
            Case(tile, kept)
            for case in cases[role]
            for tile, values in tiles[case.example.id]
            if (kept := narrowed(values, form))
        )
        for role in TILED
    }
    long = lengthened(form)
    asked: dict[Role, tuple[Case, ...]] = {
        role: tuple(Case(case.example, narrowed(whole_values(task, case.example), long)) for case in cases[role])
        for role in WHOLE
    }
    return {**cases, **learned, **asked}


def _distinct(examples: list[Example], sources: int) -> list[Example]:
    """Ids are unique within a source; across several they must be, too."""
    if sources == 1:
        return examples
    seen: dict[str, str] = {}
    for example in examples:
        if example.id in seen:
            raise DataError(
                example.source, f"id {example.id!r} is also in {seen[example.id]}", "rename one of the files"
            )
        seen[example.id] = example.source
    return examples


def _narrowed(cases: Sequence[Case], form: Form) -> tuple[list[Case], tuple[str, ...]]:
    """Only what the form asks; every answer checked; lists longer than the form holds are told."""
    kept, empty, full = [], 0, Counter[str]()
    for case in cases:
        try:
            values = narrowed(case.values, form)
        except FormError as error:
            raise DataError(case.example.source, f"label does not fit the form: {error}") from error
        if not values:
            empty += 1
            continue
        for name, value in values.items():
            kind = form.field(name).kind
            full[name] += isinstance(kind, Items) and len(value) == kind.max_items
        kept.append(Case(case.example, values))
    notes = [f"{empty} examples state none of the asked fields and are left out"] if empty else []
    notes += [
        f"{count} examples fill {name!r} to its limit; of longer lists the largest items are kept"
        for name, count in full.items()
        if count
    ]
    return kept, tuple(notes)


def narrowed(values: Values, form: Form) -> Values:
    """Only what the form asks of what is stated, checked; {} where that is nothing. Raises `FormError`."""
    values = {name: values[name] for name in form.names if name in values}
    for name, value in values.items():
        kind = form.field(name).kind
        if isinstance(kind, Items) and isinstance(value, list):
            wanted = [part.name for part in kind.fields]
            values[name] = [{key: row[key] for key in wanted if key in row} for row in value]
    asked = form.narrow(values)
    return asked.parse(asked.target(values)) if values else {}


def stratum_of(values: Values, form: Form) -> str:
    """What is shared out evenly: the first closed field, else the names in the first list, else nothing."""
    for field in form.fields:
        if isinstance(field.kind, Choice) and field.name in values:
            return str(values[field.name])
    for field in form.fields:
        if isinstance(field.kind, Flag) and field.name in values:
            return str(values[field.name])
    for field in form.fields:
        if isinstance(field.kind, Items) and values.get(field.name):
            first = values[field.name][0]
            choices = [part.name for part in field.kind.fields if isinstance(part.kind, Choice)]
            return str([first.get(name) for name in choices])
    return ""
