"""Whether a method that continues from an adapter gains more than the same number of further steps of SFT."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from rich.console import Console
from rich.table import Table

from vlm_ft.answers.intervals import INTERVAL, Interval
from vlm_ft.answers.metrics import LOWER_IS_BETTER
from vlm_ft.errors import RecipeError
from vlm_ft.evaluation.results import MAIN, Result, record, results_of
from vlm_ft.experiments.trial import trial
from vlm_ft.recipe import Recipe, load_recipe
from vlm_ft.runs import Run

RESULTS = "results.json"
RIVAL = "continued SFT"
GAIN = "_gain"
"""Ends the name of a metric's paired difference; it is positive if the method is better."""
OWN = ("method", "from_adapter", "training.seed")
"""Settings that the comparison sets itself, or keeps the same for both."""


def compare_sft(
    recipe: Path,
    out: Path,
    *,
    seeds: int,
    settings: Sequence[str],
    console: Console,
    command: str = "vlm-ft compare-sft",
) -> list[Result]:
    """Train the recipe and its continued SFT once per seed, from the same adapter, and test both on `test`.

    Continued SFT has the same data, batches and learning rate, and takes as many steps as the method took with that
    seed. Each main metric gives two figures: the method's mean over the seeds, with continued SFT as its rival, and the
    mean of the paired differences. Both have Student's 95 % interval over the seeds, which covers chance in training,
    not in the choice of test examples. The results are also written to ``results.json`` in `out`, where finished runs
    are reused. Raises `RecipeError` for a recipe that does not continue from an adapter.
    """
    _refuse(load_recipe(recipe, settings), settings)
    found: dict[tuple[str, str], list[tuple[Result, Result]]] = defaultdict(list)
    for seed in range(seeds):
        seeded = [*settings, f"training.seed={seed}"]
        own = trial(Run(out / f"method-seed{seed}"), load_recipe(recipe, seeded), console)
        further = load_recipe(recipe, [*seeded, *_as_sft(own.card.training["steps"])])
        sft = trial(Run(out / f"sft-seed{seed}"), further, console)
        figures = [
            [result for result in results_of(tested.evaluation, tested.card, command) if result.metric in MAIN]
            for tested in (own, sft)
        ]
        for pair in zip(*figures, strict=True):
            found[pair[0].field, pair[0].metric].append(pair)
    results = [result for pairs in found.values() for result in _compared(pairs)]
    record(results, out / RESULTS)
    console.print(_table(results))
    return results


def _refuse(recipe: Recipe, settings: Sequence[str]) -> None:
    if recipe.method in ("sft", "reward"):
        raise RecipeError(f"method: {recipe.method}", f"cannot be compared with {RIVAL}", "give dpo, kto, grpo or rloo")
    if recipe.from_adapter is None:
        raise RecipeError("from_adapter", "is not set, so there is no SFT to continue", "name an SFT adapter or run")
    for setting in settings:
        if setting.partition("=")[0].strip() in OWN:
            raise RecipeError(setting, "is the same for both, or set for each seed", "leave it out")


def _as_sft(steps: int) -> list[str]:
    """The settings that turn a recipe into SFT for this many steps."""
    return ["method=sft", "preference={}", "policy={}", f"training.max_steps={steps}", "training.patience=null"]


def _compared(pairs: Sequence[tuple[Result, Result]]) -> tuple[Result, Result]:
    """The method's figure, and its gain over continued SFT, from the pair of each seed."""
    like = pairs[0][0]
    sign = -1 if like.metric in LOWER_IS_BETTER else 1
    values, rivals = [own.value for own, _ in pairs], [sft.value for _, sft in pairs]
    gains = [sign * (own - sft) for own, sft in zip(values, rivals, strict=True)]
    minutes = round(fmean(own.minutes for own, _ in pairs), 2)
    figure = like.model_copy(update={**_over_seeds(values), "minutes": minutes, "rivals": {RIVAL: fmean(rivals)}})
    gain = figure.model_copy(update={**_over_seeds(gains), "metric": f"{like.metric}{GAIN}", "rivals": {}})
    return figure, gain


def _over_seeds(values: Sequence[float]) -> dict[str, float]:
    """The mean, with Student's interval."""
    low, high = _student(values)
    return {"value": fmean(values), "low": low, "high": high}


def _student(values: Sequence[float]) -> Interval:
    from scipy.stats import t

    margin = t.ppf(INTERVAL[1], len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(fmean(values) - margin), float(fmean(values) + margin)


def _table(results: Sequence[Result]) -> Table:
    table = Table("field", "metric", "mean", "low", "high", RIVAL, "minutes")
    for result in results:
        rival = f"{result.rivals[RIVAL]:.3f}" if result.rivals else "-"
        figures = [f"{figure:.3f}" for figure in (result.value, result.low, result.high)]
        table.add_row(result.field, result.metric, *figures, rival, f"{result.minutes:.1f}")
    return table
