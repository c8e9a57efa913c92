"""Cross-validation: variants of a recipe, trained and tested on the same grouped folds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vlm_ft.errors import RecipeError
from vlm_ft.evaluation.evaluate import Evaluation
from vlm_ft.evaluation.out_of_fold import fold_reliability
from vlm_ft.evaluation.results import Result, record, results_of, sureness_results
from vlm_ft.experiments.trial import require_independent, trial
from vlm_ft.recipe import Recipe, load_recipe
from vlm_ft.runs import Run

RESULTS = "results.json"
OWN = ("splits.folds", "splits.fold")
"""Settings that cross-validation sets itself."""


def crossval(
    recipe: Path,
    out: Path,
    *,
    folds: int,
    first: bool = False,
    variants: Sequence[str],
    settings: Sequence[str],
    console: Console,
    command: str = "vlm-ft crossval",
    goals: Mapping[str, float] | None = None,
    base: bool = False,
) -> list[Result]:
    """Train each variant (a ``key=value`` setting, "" for the recipe as it is) once per fold, and test it on that fold.

    Each figure is the mean over the folds, for the rivals too (with `base`, including the bare base). `low` and `high`
    are those of the lowest and the highest fold, and `n` is the number of test examples in all folds. The reliability
    of the probabilities is measured on the answers of all folds (`evaluation.out_of_fold`), with 95 % intervals. With
    `first`, only the first fold is trained and tested: figures have its 95 % intervals, and reliability is not
    measured. All results are written to ``results.json`` in `out`, where finished runs are reused. Raises `RecipeError`
    for a variant given twice, a setting of the folds, or if `out` holds runs of another recipe.
    """
    _refuse(variants, settings)
    runs: list[tuple[str, Run, Recipe]] = []  # every recipe is read before the first run is trained
    for variant in variants or [""]:
        for fold in range(1 if first else folds):
            name = f"{variant.replace('=', '-').replace(' ', '') or 'recipe'}-fold{fold}"
            overlay = [*settings, *([variant] if variant else []), f"splits.folds={folds}", f"splits.fold={fold}"]
            runs.append((variant, Run(out / name), load_recipe(recipe, overlay)))
            require_independent(runs[-1][2])
    found: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    evaluations: dict[str, list[Evaluation]] = defaultdict(list)
    for variant, run, loaded in runs:
        tested = trial(run, loaded, console, rivals=True, base=base)
        evaluations[variant].append(tested.evaluation)
        for result in results_of(tested.evaluation, tested.card, command, goals):
            found[variant, result.field, result.metric].append(result)
    results: list[Result] = []
    for variant, tested_folds in evaluations.items():
        own = [_pooled(variant, per_fold) for (name, *_), per_fold in found.items() if name == variant]
        results += own
        sureness = None if first else fold_reliability(tested_folds)
        if own and sureness is not None:
            results += sureness_results(own[0], sureness, ("ece", "brier", "log_loss"))
    record(results, out / RESULTS)
    console.print(_table(results))
    return results


def _refuse(variants: Sequence[str], settings: Sequence[str]) -> None:
    for setting in (*settings, *variants):
        if setting.partition("=")[0].strip() in OWN:
            raise RecipeError(setting, "is set by --folds for each fold", "leave it out")
    repeated = [variant for variant in variants if list(variants).count(variant) > 1]
    if repeated:
        raise RecipeError(f"--vary {repeated[0]}", "given twice", "leave one out")


def _pooled(variant: str, folds: Sequence[Result]) -> Result:
    """The mean of the folds; a rival is included if every fold has it."""
    recipe = f"{folds[0].recipe} {variant}".strip()
    if len(folds) == 1:
        return folds[0].model_copy(update={"recipe": recipe})
    values = [fold.value for fold in folds]
    rivals = [name for name in folds[0].rivals if all(name in fold.rivals for fold in folds)]
    return folds[0].model_copy(
        update={
            "recipe": recipe,
            "value": fmean(values),
            "low": min(values),
            "high": max(values),
            "n": sum(fold.n for fold in folds),
            "minutes": round(fmean(fold.minutes for fold in folds), 2),
            "rivals": {name: fmean(fold.rivals[name] for fold in folds) for name in rivals},
        }
    )


def _table(results: Sequence[Result]) -> Table:
    rivals = list(dict.fromkeys(name for result in results for name in result.rivals))
    table = Table("recipe", "field", "metric", "mean", "low", "high", *rivals, "minutes")
    for result in results:
        figures = [result.value, result.low, result.high, *(result.rivals.get(name) for name in rivals)]
        cells = ["-" if figure is None else f"{figure:.3f}" for figure in figures]
        table.add_row(escape(result.recipe), result.field, result.metric, *cells, f"{result.minutes:.1f}")
    return table
