"""Cross-validation: variants of a recipe, trained and tested on the same grouped folds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from vlm_ft.errors import DataError, RecipeError
from vlm_ft.evaluation.evaluate import ADAPTER, MAJORITY
from vlm_ft.evaluation.run import evaluate_run
from vlm_ft.recipe import Recipe, load_recipe
from vlm_ft.runs import Run
from vlm_ft.training.run import train

RESULTS = "crossval.json"
OWN = ("splits.folds", "splits.fold")
"""Settings that a cross-validation makes itself."""


def crossval(
    recipe: Path, out: Path, *, folds: int, variants: Sequence[str], settings: Sequence[str], console: Console
) -> list[dict[str, Any]]:
    """Train each variant (a ``key=value`` setting, "" for the recipe as it is) on each fold; evaluate on the rest.

    What is finished in `out` is kept, so that a stopped cross-validation goes on. Returns a row a variant and
    metric, with the mean over the folds, the folds' own values and the mean minutes of training. Raises `RecipeError`
    for a variant given twice, a setting of the folds, or where `out` holds runs of another recipe.
    """
    _refuse(variants, settings)
    runs: list[tuple[str, Path, Recipe]] = []  # all are read before the first is trained
    for variant in variants or [""]:
        for fold in range(folds):
            name = f"{variant.replace('=', '-').replace(' ', '') or 'recipe'}-fold{fold}"
            overlay = [*settings, *([variant] if variant else []), f"splits.folds={folds}", f"splits.fold={fold}"]
            runs.append((variant, out / name, load_recipe(recipe, overlay)))
    rows = _means([row for variant, run, loaded in runs for row in _fold(variant, run, loaded, console)])
    (out / RESULTS).write_text(json.dumps({"recipe": recipe.name, "folds": folds, "rows": rows}, indent=2) + "\n")
    console.print(_table(rows))
    return rows


def _refuse(variants: Sequence[str], settings: Sequence[str]) -> None:
    for setting in (*settings, *variants):
        if setting.partition("=")[0].strip() in OWN:
            raise RecipeError(setting, "is set by --folds, fold by fold", "leave it out")
    twice = [variant for variant in variants if list(variants).count(variant) > 1]
    if twice:
        raise RecipeError(f"--vary {twice[0]}", "given twice", "leave one out")


def _fold(variant: str, run: Path, loaded: Recipe, console: Console) -> list[dict[str, Any]]:
    kept, resumed = run / "fold.json", Run(run).holds(loaded)
    if kept.exists():
        return _kept(kept)
    folder = train(loaded, run, resume=resumed, console=console)
    evaluation = evaluate_run(run, rival=False, base=False, console=console)
    card = json.loads((folder / "card.json").read_text())
    majority = {(metric.field, metric.name): metric.value for metric in evaluation.systems[MAJORITY]}
    rows = [
        {
            "variant": variant,
            "field": metric.field,
            "metric": metric.name,
            "value": metric.value,
            "majority": majority.get((metric.field, metric.name)),
            "minutes": card["training"]["seconds"] / 60,
        }
        for metric in evaluation.systems[ADAPTER]
    ]
    kept.write_text(json.dumps(rows))
    return rows


def _kept(file: Path) -> list[dict[str, Any]]:
    """The rows of a finished fold."""
    try:
        rows: list[dict[str, Any]] = json.loads(file.read_text())
        _means(rows)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(file, f"cannot be read ({error})", "delete it, and the fold is tested again") from error
    return rows


def _means(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = list(dict.fromkeys((row["variant"], row["field"], row["metric"]) for row in results))
    rows = []
    for key in keys:
        of_key = [row for row in results if (row["variant"], row["field"], row["metric"]) == key]
        told = [row["majority"] for row in of_key if row["majority"] is not None]
        rows.append(
            {
                "variant": key[0],
                "field": key[1],
                "metric": key[2],
                "mean": fmean(row["value"] for row in of_key),
                "folds": [row["value"] for row in of_key],
                "majority": fmean(told) if told else None,
                "minutes": fmean(row["minutes"] for row in of_key),
            }
        )
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("variant", "field", "metric", "mean", "folds", "majority", "minutes")
    for row in rows:
        folds = " ".join(f"{value:.3f}" for value in row["folds"])
        majority = "-" if row["majority"] is None else f"{row['majority']:.3f}"
        minutes = f"{row['minutes']:.1f}"
        table.add_row(row["variant"], row["field"], row["metric"], f"{row['mean']:.3f}", folds, majority, minutes)
    return table
