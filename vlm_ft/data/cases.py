"""`Case`: an example with the answer that its label states. `load` reads all data of a recipe."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Self

from datasets_vision.example import Example, Label
from datasets_vision.source import SetAside, Source, stream
from datasets_vision.walk import is_synthetic
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, Flag, Items
from vlm_ft.answers.observation import Observation
from vlm_ft.answers.task import CHOSEN, Task, Values, judged_replies
from vlm_ft.data.augmentation import check_augmentation
from vlm_ft.data.contents import contents
from vlm_ft.data.splits import assign, group_of, unused_lists
from vlm_ft.data.subsets import nested
from vlm_ft.data.tiles import boxes_only, require_boxes, tiles_of, whole_values, with_more_items
from vlm_ft.errors import DataError, FormError, one_line
from vlm_ft.recipe import ROLES, Recipe, Role, Splits, Tiling, with_rates
from vlm_ft.tasks import task_of

LEARNED: tuple[Role, ...] = ("train", "tune")
"""The roles in which a tiled photo is shown as tiles; the other roles show it whole."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that people liked or disliked, with all fields that the label states.

    `liked` is None for an answer to another prompt.
    """

    values: Values
    liked: bool | None


@dataclass(frozen=True, slots=True)
class Case:
    """An example, and the values that its label states (an absent field is unobserved).

    `replies` are answers to the same prompt that people judged: a chosen and a rejected one, or any number of them.
    """

    example: Example
    values: Values
    replies: tuple[Reply, ...] = ()

    @classmethod
    def of(cls, task: Task, example: Example) -> Case:
        """The case of an example, with the values that the task reads from its label."""
        label = example.label
        replies = tuple(Reply(_stated(task, label, reply), liked) for reply, liked in judged_replies(label))
        if len(replies) == 2 and replies[0].values == replies[1].values:
            replies = ()  # no preference
        return cls(example, task.values(label), replies)

    @property
    def group(self) -> str:
        return group_of(self.example)


def _stated(task: Task, label: Label, reply: str | Values) -> Values:
    """The values that the label would state if this reply were the preferred one."""
    if isinstance(reply, str):
        return task.values(replace(label, columns={**label.columns, CHOSEN: reply}))
    return task.values(Label(columns=reply))


@dataclass(frozen=True)
class Dataset:
    """A recipe's data: the form that the labels fill, the cases by role, and what was set aside."""

    form: Form
    cases: dict[Role, tuple[Case, ...]]
    set_aside: tuple[SetAside, ...]
    synthetic: bool
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        return {role: len(self.cases[role]) for role in ROLES}

    @cached_property
    def contents(self) -> dict[str, str]:
        """Example id -> a hash of its content, for all roles, computed from the files on first access.

        A run stores these hashes and compares them when it resumes.
        """
        return contents(
            (case.example, [case.values, *map(asdict, case.replies)]) for cases in self.cases.values() for case in cases
        )

    @property
    def fingerprint(self) -> str:
        """A hash over the ids and contents of the training cases."""
        learned = [(case.example.id, self.contents[case.example.id]) for case in self.cases["train"]]
        return hashlib.sha256(json.dumps(learned).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Labelled:
    """An example of a source: tests use `whole`, training uses `learned`, which are its tiles if photos are tiled."""

    source: str
    whole: Case
    learned: tuple[Case, ...]

    @classmethod
    def untiled(cls, source: str, case: Case) -> Self:
        return cls(source, case, (case,))

    @property
    def cases(self) -> tuple[Case, ...]:
        return (self.whole, *(case for case in self.learned if case is not self.whole))


def labelled(task: Task, data: Sequence[Source], tiling: Tiling | None, seed: int) -> Iterator[Labelled | SetAside]:
    """Every example of every source with the values that its label states, one at a time.

    With `tiling`, only examples of one photo with boxes are usable, and only their boxes are kept: other labels of the
    whole photo may not be true of a tile. Only the headers of photos are read.
    """
    for number, source in enumerate(data):
        name = f"data.{number} ({source.path.name})" if len(data) > 1 else ""
        for item in stream(source):
            yield item if isinstance(item, SetAside) else _labelled(task, name, item, tiling, seed)


def _labelled(task: Task, name: str, example: Example, tiling: Tiling | None, seed: int) -> Labelled | SetAside:
    if tiling is None:
        return Labelled.untiled(name, Case.of(task, example))
    try:
        example = boxes_only(example)
        cut = tiles_of(example, tiling, seed)
    except DataError as error:
        return SetAside.of(example.source, error)
    tiles = tuple(Case(tile, task.values(tile.label)) for tile in cut)
    return Labelled(name, Case(example, whole_values(task, example)), tiles)


def form_of(recipe: Recipe, task: Task, items: Iterable[Labelled | SetAside]) -> tuple[Form, tuple[str, ...]]:
    """The form that a recipe's data fill, and notes on fields that too few labels state.

    Training and the data checks share this function. Raises `FormError` if the data fill no form, and `DataError` if
    photos are tiled but no field of the form has boxes.
    """
    observation, unused = Observation(task), 0
    first: SetAside | None = None
    for item in items:
        if isinstance(item, SetAside):
            first, unused = first or item, unused + 1
            continue
        for case in item.cases:
            observation.add(case.values, item.source)
    try:
        observed = observation.form(recipe.labels, recipe.fields)
    except FormError as error:
        raise FormError(error.place, error.problem, f"{error.remedy}{with_first(first, unused)}".strip()) from error
    form = with_rates(observed, recipe).with_thresholds(recipe.thresholds)
    if recipe.tiling:
        require_boxes(task, form.names)
    return form, tuple(observation.notes(form, recipe.fields))


def load(recipe: Recipe, splits_file: Path | None = None) -> Dataset:
    """Read a recipe's data, map the labels, reduce them to the form, and assign the roles.

    Raises `DataError` if a source cannot be read, a label does not fit the form, `train` is empty, or the recipe's
    augmentation would make a label untrue.

    >>> from vlm_ft import load_data, load_recipe
    >>> data = load_data(load_recipe(Path("my_recipe.yaml")))
    >>> data.form.names
    ('passed', 'kind')
    >>> data.counts["train"] > data.counts["test"]
    True
    """
    return dataset_of(recipe, list(items_of(recipe)), splits_file)


def items_of(recipe: Recipe) -> Iterator[Labelled | SetAside]:
    """Every example of a recipe's data, and what was set aside, one at a time."""
    return labelled(task_of(recipe.task, recipe.task_file), recipe.data, recipe.tiling, recipe.splits.seed)


def dataset_of(recipe: Recipe, items: Sequence[Labelled | SetAside], splits_file: Path | None = None) -> Dataset:
    """Like `load`, but from `items`, the recipe's data as `items_of` reads them."""
    task = task_of(recipe.task, recipe.task_file)
    entries = _distinct([item for item in items if isinstance(item, Labelled)])
    examples = [entry.whole.example for entry in entries]
    form, unstated = form_of(recipe, task, items)
    entries, notes = _narrowed(entries, form, with_more_items(form) if recipe.tiling else form)
    cases = _by_role(entries, form, recipe.splits, splits_file)
    set_aside = tuple(item for item in items if isinstance(item, SetAside))
    _require_cases(recipe.name, recipe.splits, cases, set_aside)
    check_augmentation(recipe.augment, form, [(case.example, case.values) for case in cases["train"]])
    return Dataset(
        form=form,
        cases=cases,
        set_aside=set_aside,
        synthetic=any(is_synthetic(source.path) for source in recipe.data),
        notes=(*unstated, *notes, *unused_lists(recipe.splits, examples), *_idle_settings(recipe, examples)),
    )


def summary_lines(dataset: Dataset) -> Iterator[str]:
    """Lines about what was read: the form, the examples per role, notes, and everything that was set aside."""
    yield from map(one_line, dataset.form.prompt.splitlines())
    yield ""
    yield ", ".join(f"{role} {count}" for role, count in dataset.counts.items())
    yield from (f"note: {note}" for note in dataset.notes)
    yield from (f"set aside {entry.place}: {entry.reason}" for entry in dataset.set_aside)


def _by_role(
    entries: Sequence[Labelled], form: Form, splits: Splits, splits_file: Path | None
) -> dict[Role, tuple[Case, ...]]:
    """The cases of each role: `train` (or a nested subset of it) and `tune` as tiles, the other roles whole."""
    strata = [stratum_of(entry.whole.values, form) for entry in entries]
    roles = assign([entry.whole.example for entry in entries], strata, splits, splits_file)
    train = [index for index, role in enumerate(roles) if role == "train"]
    if splits.train_examples is not None and train:
        groups = [entries[index].whole.group for index in train]
        kept = nested(groups, [strata[index] for index in train], splits.train_examples, splits.subset_seed)
        train = list(compress(train, kept))
    by_role: dict[Role, list[Labelled]] = {
        role: [entry for entry, given in zip(entries, roles, strict=True) if given == role] for role in ROLES
    }
    by_role["train"] = [entries[index] for index in train]
    return {
        role: tuple(case for entry in given for case in (entry.learned if role in LEARNED else (entry.whole,)))
        for role, given in by_role.items()
    }


def _require_cases(
    name: str, splits: Splits, cases: dict[Role, tuple[Case, ...]], set_aside: Sequence[SetAside]
) -> None:
    if not cases["train"]:
        counts = ", ".join(f"{role} {len(cases[role])}" for role in ROLES)
        problem = f"no example remains for training ({counts})"
        aside = with_first(next(iter(set_aside), None), len(set_aside))
        raise DataError(f"recipe {name}", problem, f"add examples, or change splits{aside}")
    if splits.folds is not None and not cases["test"]:
        raise DataError(f"recipe {name}", f"fold {splits.fold} of {splits.folds} is empty", "use fewer folds")


def with_first(first: SetAside | None, count: int) -> str:
    """The number of items that were set aside, and the first one, for the end of a message; "" if there are none."""
    return "" if first is None else f" ({count} set aside, such as {first})"


def _idle_settings(recipe: Recipe, examples: Sequence[Example]) -> Iterator[str]:
    """A note on each photo setting of a recipe whose examples have no photos."""
    if any(example.images for example in examples):
        return
    for name in ("augment", "pixels", "image_tokens"):
        if getattr(recipe, name) != Recipe.model_fields[name].default:
            yield f"{name}: no example has a photo, so the setting has no effect; leave it out"


def _distinct(entries: list[Labelled]) -> list[Labelled]:
    """Return the entries. Raises `DataError` if two sources share an id; within one source, ids are unique."""
    seen: dict[str, str] = {}
    for example in (entry.whole.example for entry in entries):
        if example.id in seen:
            problem = f"id {example.id!r} is also in {seen[example.id]}"
            raise DataError(example.source, problem, "rename one of the files")
        seen[example.id] = example.source
    return entries


def _narrowed(entries: Iterable[Labelled], form: Form, of_whole: Form) -> tuple[list[Labelled], list[str]]:
    """The examples reduced to the form's fields and checked, and notes on what is left out.

    `of_whole`: the form that whole photos fill.
    """
    kept, empty, full, lacking = list[Labelled](), 0, Counter[str](), Counter[str]()
    for entry in entries:
        whole = _fitted(entry.whole, of_whole)
        if whole is None:
            empty += 1
            continue
        learned = (whole if case is entry.whole else _fitted(case, form) for case in entry.learned)
        kept.append(Labelled(entry.source, whole, tuple(filter(None, learned))))
        for case in kept[-1].learned:
            lacking.update(name for name in form.names if name not in case.values)
            full.update(
                field.name
                for field in form.fields
                if isinstance(field.kind, Items) and len(case.values.get(field.name, ())) == field.kind.max_items
            )
    notes = [f"{empty} examples state none of the requested fields and are left out"] if empty else []
    total = sum(len(entry.learned) for entry in kept)
    notes += [
        f"{name}: {count} of {total} examples lack it, so their prompts do not ask for it"
        for name, count in lacking.items()
    ]
    notes += [
        f"{count} examples fill {name!r} to its limit; only the largest items of longer lists are kept"
        for name, count in full.items()
    ]
    return kept, notes


def _fitted(case: Case, form: Form) -> Case | None:
    """The case with only the values of the form's fields; None if it states none of them and has no judged replies."""
    try:
        values = narrowed(case.values, form)
    except FormError as error:
        raise DataError(case.example.source, f"label does not fit the form: {error}") from error
    return replace(case, values=values) if values or case.replies else None


def narrowed(values: Values, form: Form) -> Values:
    """The values of the form's fields, checked; {} if there are none. Raises `FormError` if one does not fit."""
    values = {name: values[name] for name in form.names if name in values}
    for name, value in values.items():
        kind = form.field(name).kind
        if isinstance(kind, Items) and isinstance(value, list):
            keys = [part.name for part in kind.fields]
            values[name] = [
                {key: row[key] for key in keys if key in row} if isinstance(row, dict) else row for row in value
            ]
    asked = form.narrow(values)
    return asked.parse(asked.target(values)) if values else {}


def stratum_of(values: Values, form: Form) -> str:
    """The stratum of an answer: its first choice, else its first flag, else the choices in a list's first item."""
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


def class_words(values: Values, form: Form) -> Iterator[tuple[str, str]]:
    """(field path, name) of every choice and flag that an answer states."""
    for field in form.fields:
        if field.name not in values:
            continue
        if isinstance(field.kind, Choice | Flag):
            yield field.name, str(values[field.name])
        elif isinstance(field.kind, Items):
            for part in field.kind.fields:
                if isinstance(part.kind, Choice):
                    yield from ((f"{field.name}.{part.name}", str(row[part.name])) for row in values[field.name])
