"""Propose a recipe for a data set, from what its labels state; `vlm-ft init` writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from datasets_vision.example import Example
from datasets_vision.formats import detect
from datasets_vision.formats.contract import FOLDER
from datasets_vision.formats.roles import role_of_folder
from datasets_vision.placing import whole_file
from datasets_vision.source import Item, SetAside, Source, kept, read, stream
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, Flag, Integer, Text
from vlm_ft.answers.observation import observed
from vlm_ft.answers.task import CHOSEN, DECISIONS, NOTHING, Task, Values
from vlm_ft.data.augmentation import check_augmentation
from vlm_ft.data.cases import Case, Dataset, Labelled, dataset_of, with_first
from vlm_ft.data.columns import Column, choose, columns_of, misfits
from vlm_ft.data.splits import group_of
from vlm_ft.errors import DataError, FormError
from vlm_ft.pages import rendered
from vlm_ft.recipe import DataEntry, Recipe, Role, Splits, load_recipe
from vlm_ft.tasks import TASKS

IN_COLUMNS = frozenset({"tables", "records", "parquet", "huggingface"})
"""The formats whose files do not say which column is the text and which is the label."""

PLAIN = "light"
"""The augmentation preset that keeps every label true."""

_NOTHING_WORDS = frozenset(
    {"no", "none", "not", "non", "normal", "good", "ok", "healthy", "intact", "clean", "negative", "free"}
)
_TEST, _TUNE = frozenset({"test", "testing"}), frozenset({"tune", "val", "valid", "validation", "dev", "eval"})
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Survey:
    """A data set as its files state it, before any task reads it.

    `files` is their content, from which the items under any settings follow.
    """

    path: Path
    format: str
    files: Sequence[Item]
    examples: tuple[Example, ...]
    set_aside: tuple[SetAside, ...]

    @classmethod
    def of(cls, path: Path) -> Survey:
        """Detect the format, and read the set. Raises `DataError` if none of it can be used."""
        name = detect(path)
        # The text shows no column yet, since a column that it shows is not read as a label.
        whole_rows = {"text": FOLDER} if name in IN_COLUMNS else {}
        source = Source(path=path, format=name, **whole_rows)
        files = kept(source)
        found = read(source, files)
        return cls(path, name, files, found.examples, found.set_aside)

    def items(self, source: Source) -> Iterator[Example | SetAside]:
        """The items of the set under another source's settings. Only rows that may hold photos are read again."""
        again = source.image is not None and self.format in ("parquet", "huggingface")
        return stream(source, None if again else self.files)

    @cached_property
    def has_photos(self) -> bool:
        return any(example.images for example in self.examples)

    @cached_property
    def in_columns(self) -> bool:
        """Whether only the names and words of the columns tell the text from the labels."""
        return self.format in IN_COLUMNS and not any(example.label.image_class for example in self.examples)

    @cached_property
    def roles(self) -> dict[str, Role]:
        """The role of each list that the set comes with; a single list besides the training one is used as `test`.

        {} if its lists share a group, since a group has only one role.
        """
        words = {example.role: example.role.lower() for example in self.examples if example.role}
        tested = any(word in _TEST for word in words.values())
        found: dict[str, Role] = {name: "test" for name, word in words.items() if word in _TEST}
        found |= {name: "tune" if tested else "test" for name, word in words.items() if word in _TUNE}
        pairs = {(group_of(example), found.get(example.role or "")) for example in self.examples}
        return found if len(pairs) == len({group for group, _ in pairs}) else {}

    @cached_property
    def _cells(self) -> Sequence[Column]:
        """The columns of a table, cached because every task looks at them."""
        return columns_of([example.label.columns for example in self.examples])

    def settings(self, task: Task) -> dict[str, Any]:
        """The settings of the set's entry in `data` for a task, besides its path and format."""
        found = (
            self._columns(task)
            if self.in_columns
            else {"rename": self._nothing_found(task), "shorten": self._too_long(task)}
        )
        return {key: value for key, value in {**found, "group_by": self._shared_text(found)}.items() if value}

    def _columns(self, task: Task) -> dict[str, Any]:
        chosen = choose(task, self._cells)
        if self.has_photos:  # already read with the rows, so no column is needed to find them
            chosen = replace(chosen, image=None)
        if not chosen.columns or not (chosen.text or chosen.image or self.has_photos):
            return {}
        closed = {
            chosen.columns[s.name] for s in task.fields if s.name in chosen.columns and not isinstance(s.kind, Text)
        }
        if self._folder_decides(chosen.text, closed):
            return {**vars(chosen), "text": f"{FOLDER}\n\n{chosen.text}"}
        return vars(chosen)

    def _folder_decides(self, text: str, labels: Set[str]) -> bool:
        """Whether one text has different labels in different folders, such as a folder for each question about it."""
        template = Source(path=self.path, text=text)
        found: dict[str, set[tuple[str, ...]]] = {}
        for example in self.examples:
            cells, folder = example.label.columns, example.text
            if labels & cells.keys() and role_of_folder(folder) is None:
                words = (str(cells.get(column)) for column in labels)
                found.setdefault(template.render(cells), set()).add((folder, *words))
        return any(
            len({folder for folder, *_ in stated}) == len(stated) and len({tuple(words) for _, *words in stated}) > 1
            for stated in found.values()
        )

    def _nothing_found(self, task: Task) -> dict[str, str]:
        """A `rename` of the classes that mean that nothing was found, if the task has a field that depends on it."""
        if not set(DECISIONS) & set(task.follows.values()):
            return {}
        names = {example.label.image_class for example in self.examples} - {None, NOTHING}
        return {
            name: NOTHING
            for name in sorted(filter(None, names))
            if _NOTHING_WORDS & set(re.findall("[a-z]+", name.lower()))
        }

    def _too_long(self, task: Task) -> dict[str, int]:
        """The columns with texts that are too long for their fields, each with its field's limit."""
        limits = {spec.name: spec.kind.max_length for spec in task.fields if isinstance(spec.kind, Text)}
        if reply := limits.get("reply"):
            limits |= dict.fromkeys((CHOSEN, "rejected", "completion"), reply)
        cells = ((name, str(cell)) for example in self.examples for name, cell in example.label.columns.items())
        return {name: limits[name] for name, cell in cells if name in limits and len(cell) > limits[name]}

    def _shared_text(self, settings: Mapping[str, Any]) -> str | None:
        """The column of the text, if examples share a text, so that they also share a role."""
        shown = Source(path=self.path, text=settings.get("text", "{text}")).shown() - {FOLDER}
        if self.has_photos or settings.get("image") or not shown:
            return None
        column = max(shown, key=lambda name: sum(len(str(e.label.columns.get(name, ""))) for e in self.examples))
        lists: dict[str, set[str | None]] = {}
        count = 0
        for example in self.examples:
            text = str(example.label.columns.get(column) or (example.text if column == "text" else ""))
            if text:
                lists.setdefault(text, set()).add(self.roles.get(example.role or ""))
                count += 1
        apart = any(len(roles) > 1 for roles in lists.values())
        return column if count > len(lists) and not apart else None

    def stated(self, task: Task) -> tuple[str, ...]:
        """The fields of a task that the labels state in words that fit."""
        if self.has_photos and task.augment is None and task.name in TASKS:
            return ()
        if self.in_columns:
            return tuple(self.settings(task).get("columns", {}))
        try:
            return observed(task, (task.values(example.label) for example in self.examples)).names
        except FormError:
            return ()

    def misfits(self, task: Task) -> list[str]:
        """Columns of a table that are named like a field of the task, but use other words."""
        return list(misfits(task, self._cells)) if self.in_columns else []

    def unfit(self, tasks: str, remedy: str) -> DataError:
        """The error for labels that state no field of the tasks, with the first item that was set aside."""
        aside = with_first(next(iter(self.set_aside), None), len(self.set_aside))
        columns = [column.name[:40] for column in self._cells[:8]] if self.in_columns else []
        stated = f"its columns ({', '.join(columns)})" if columns else "its labels"
        return DataError(self.path, f"{stated} state no field of {tasks}", f"{remedy}{aside}")

    @cached_property
    def fitting(self) -> dict[str, tuple[str, ...]]:
        """The shipped tasks whose fields the labels state, with these fields; tasks with the most come first."""
        found = {name: self.stated(task) for name, task in TASKS.items()}
        return {name: found[name] for name in sorted(found, key=lambda name: -len(found[name])) if found[name]}


@dataclass(frozen=True)
class Proposal:
    """A recipe and the data that it reads. `notes` say which fields it does not ask for (or not always), and why."""

    survey: Survey
    recipe: Recipe
    items: Sequence[Labelled | SetAside]
    dataset: Dataset
    notes: tuple[str, ...]

    @property
    def yaml(self) -> str:
        """The recipe with a comment on every setting."""
        return rendered(
            "vlm_ft.data",
            "recipe.yaml.j2",
            survey=self.survey,
            photos=self.recipe.augment != "none",
            recipe=self.recipe,
            flow=_flow,
            entry=self.recipe.data[0],
            notes=self.notes,
            splits=self.recipe.splits.model_dump(exclude_unset=True),
        )

    def write(self, out: Path) -> None:
        """Write the recipe; it must load before it replaces an earlier file."""
        with whole_file(out) as part:
            part.write_text(self.yaml, encoding="utf-8")
            load_recipe(part)


def propose(survey: Survey, task: Task, task_file: Path | None = None) -> Proposal:
    """A recipe for the fields of a task that the labels state. Raises `DataError` if there are none."""
    if not survey.stated(task):
        names = ", ".join(spec.name for spec in task.fields)
        fitting = f"tasks that fit: {', '.join(survey.fitting)}" if survey.fitting else f"label one of {names}"
        raise survey.unfit(f"the task {task.name}", next(iter(survey.misfits(task)), fitting))
    settings = survey.settings(task)
    recipe = Recipe(
        name=name_of(survey.path),
        task=task.name,
        task_file=task_file,
        data=(DataEntry(path=survey.path, format=survey.format, **settings),),
        splits=_splits(survey.roles),
    )
    items = [
        item if isinstance(item, SetAside) else Labelled.untiled("", Case.of(task, item))
        for item in survey.items(recipe.data[0])
    ]
    dataset = dataset_of(recipe, items)
    cases = [case for cases in dataset.cases.values() for case in cases]
    constant = _constant(dataset.form, cases)
    fields = tuple(name for name in dataset.form.names if name not in constant)
    if not fields:
        said = ", ".join(f"{name} is {value!r}" for name, value in constant.items())
        raise DataError(survey.path, f"all labels are the same ({said})", "label examples of at least two kinds")
    augment = _augmentation(task, dataset.form, dataset.cases["train"])
    recipe = recipe.model_copy(update={"fields": fields, "augment": augment})
    same = [f"{name} is {_flow(value)} in every label, so it is not asked for" for name, value in constant.items()]
    notes = (*same, *survey.misfits(task), *dataset.notes)
    return Proposal(survey, recipe, items, replace(dataset, form=dataset.form.narrow(fields)), notes)


def _splits(roles: dict[str, Role]) -> Splits:
    if not roles:
        return Splits(train=0.65, tune=0.10, calibrate=0.10, test=0.15)
    return Splits(train=0.80, tune=0.10, calibrate=0.10, source=roles)


def _constant(form: Form, cases: Sequence[Case]) -> Values:
    """The closed fields that have the same value in every case."""
    found = {}
    for field in form.fields:
        stated = [case.values[field.name] for case in cases if field.name in case.values]
        if isinstance(field.kind, Choice | Flag | Integer) and all(value == stated[0] for value in stated):
            found[field.name] = stated[0]
    return found


def _augmentation(task: Task, form: Form, cases: Sequence[Case]) -> str:
    """The task's preset if the labels stay true under it, otherwise `PLAIN`; "none" without photos."""
    if not any(case.example.images for case in cases):
        return "none"
    preset = task.augment or PLAIN
    try:
        check_augmentation(preset, form, [(case.example, case.values) for case in cases])
    except DataError:
        return PLAIN
    return preset


def name_of(path: Path) -> str:
    """The name of a recipe for the data at a path."""
    return _NOT_A_NAME.sub("_", path.resolve().stem).strip("._-") or "recipe"


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    quotes = '"' if isinstance(value, str) and "\n" in value else None
    text = yaml.safe_dump(
        value, default_flow_style=True, default_style=quotes, allow_unicode=True, sort_keys=False, width=10**9
    )
    return text.removesuffix("...\n").strip()
