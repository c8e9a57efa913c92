"""Look at a data set before training on it: a recipe, what was read, the checks, and what training would cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from datasets_vision.example import path_of
from datasets_vision.source import SetAside
from vlm_ft.bases.reader import open_reader
from vlm_ft.data.cases import Case, Labelled, dataset_of, items_of, summary_lines
from vlm_ft.data.checks import check
from vlm_ft.data.checks.fault import within
from vlm_ft.data.checks.report import write
from vlm_ft.data.preflight import EXAMPLES, ROWS, Preflight
from vlm_ft.data.preview import preview
from vlm_ft.data.proposal import Survey, propose
from vlm_ft.errors import DataError, RecipeError
from vlm_ft.lengths import Ruler
from vlm_ft.recipe import Recipe, find_recipe, load_recipe
from vlm_ft.runs import RECIPE
from vlm_ft.settings import variables_in, write_settings
from vlm_ft.tasks import task_of
from vlm_ft.training.show import dry_run

SHEET = 4  # examples on the contact sheet
WIDTH = 110  # characters per line of the dry run


def preflight(
    place: Path,
    out: Path,
    name: str,
    *,
    recipe: str | None = None,
    task: str | None = None,
    console: Console,
    check_photos: Callable[[Iterable[Path]], None] | None = None,
) -> Preflight:
    """Look at the data in `place`, and write the findings to the folder `out`.

    These are recipe.yaml, preflight.json, check.html with the checks and their pictures, examples.png and dry_run.txt.
    The recipe is a shipped one, applied to these data, or else a proposal for `task` or for the task that fits best.
    `check_photos` gets the photos before any is decoded. Raises `DataError` for data that cannot be read, that fit no
    task, or that refer to photos outside `place`.
    """
    out.mkdir(parents=True, exist_ok=True)
    items = _written(place, out / RECIPE, name, recipe, task)
    loaded = load_recipe(out / RECIPE)
    dataset = dataset_of(loaded, items)
    cases = [case for of_role in dataset.cases.values() for case in of_role]
    _require_inside(cases, place)
    if check_photos is not None:
        check_photos({path_of(picture): None for case in cases for picture in case.example.images})
    reader = open_reader(loaded.base, revision=loaded.revision, limits=loaded.limits)
    report = check(loaded, Ruler(reader, loaded.training.max_length), known=items)
    write(report.within(place), out)
    if any(case.example.images for case in dataset.cases["train"]):
        preview(loaded, out / EXAMPLES, SHEET, dataset=dataset)
    cost, peak = "", 0
    if not report.errors:
        with (out / ROWS).open("w", encoding="utf-8") as file:
            cost, peak = dry_run(loaded, Console(file=file, width=WIDTH), dataset)
    read = tuple(within(place, line) for line in summary_lines(dataset))
    counts = ", ".join(f"{role} {count}" for role, count in dataset.counts.items())
    title = f"{dataset.form.title}: {counts}"
    found = Preflight(
        title=title, read=read, errors=report.errors, warnings=report.warnings, cost=cost, peak_bytes=peak
    )
    found.write(out)
    for line in (*found.read, f"{found.errors} errors, {found.warnings} warnings", found.cost):
        console.print(line, markup=False)
    return found


def _written(place: Path, file: Path, name: str, recipe: str | None, task: str | None) -> Sequence[Labelled | SetAside]:
    """Write the recipe; returns the items of the data that it reads."""
    if recipe is not None:
        applied = _applied(load_recipe(find_recipe(recipe)), place, name)
        write_settings(file, applied.model_dump(mode="json", exclude_unset=True))
        _require_plain(file, place)
        return list(items_of(load_recipe(file)))
    survey = Survey.of(place)
    fitting = task or next(iter(survey.fitting), None)
    if fitting is None:
        raise survey.unfit("any task", "name columns or labels as the fields of a task, or choose a recipe")
    proposal = propose(survey, task_of(fitting))
    replace(proposal, recipe=proposal.recipe.model_copy(update={"name": name})).write(file)
    _require_plain(file, place)
    return proposal.items


def _require_plain(file: Path, place: Path) -> None:
    """Raise `DataError` if a name in the data would be read as an environment variable, which messages would reveal."""
    if found := variables_in(file):
        raise DataError(place, f"a name in it contains ${{{found[0]}}}, a variable in recipes", "rename it")


def _applied(recipe: Recipe, place: Path, name: str) -> Recipe:
    """A recipe for other data of the same format. Raises `RecipeError` for one that needs more than its data."""
    if recipe.from_adapter is not None or recipe.method != "sft":
        raise RecipeError(f"recipe {recipe.name}", "continues from another adapter", "choose one with the method sft")
    entry = recipe.data[0].model_copy(update={"path": place, "origin": None})
    return recipe.model_copy(update={"name": name, "data": (entry,)})


def _require_inside(cases: Iterable[Case], place: Path) -> None:
    """Raise `DataError` for photos outside the data set, since its labels can name any file."""
    inside = place.resolve()
    for case in cases:
        for picture in case.example.images:
            if not path_of(picture).resolve().is_relative_to(inside):
                raise DataError(case.example.id, "its photo lies outside the data set", "put the photo into the folder")
