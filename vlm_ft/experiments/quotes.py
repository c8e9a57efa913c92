"""The tables of Markdown pages, written from recorded figures and shipped recipes, so that no figure is typed by hand.

Goals are the current ones of `recipes/benchmarks/measured.yaml`, whichever were recorded.

`<!-- results: a, b -->` before `<!-- end of results -->` holds every figure of the recipes a and b, first of answers,
then of confidence, and which are worse than a goal or a rival; without names, the main figures of all.
`<!-- learning curves -->` holds the points of all recorded curves.
`<!-- recipes: a, b -->` holds what these recipes ask for, their data sets, the GPU memory that their comments state,
and the command that gives the minutes; its links suit a page in a folder below `recipes`.
`<!-- benchmark: a -->` holds the figures of `recipes/benchmarks/a.json` that have a goal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from datasets_vision.formats.text_files import read_text
from vlm_ft.answers.metrics import LOWER_IS_BETTER
from vlm_ft.errors import DataError, RecipeError
from vlm_ft.evaluation.evaluate import ADAPTER
from vlm_ft.evaluation.pairs import METRIC as PAIR_ACCURACY
from vlm_ft.evaluation.reliability import OWN
from vlm_ft.evaluation.results import MAIN, RECORDED, Result, read_entries
from vlm_ft.evaluation.rivals import MAJORITY
from vlm_ft.experiments.continued_sft import GAIN, RIVAL
from vlm_ft.experiments.measured import goal_of
from vlm_ft.experiments.sheet import Figure
from vlm_ft.pages import markdown_table
from vlm_ft.recipe import RECIPES, load_recipe, shipped

_MAX_PAGE = 16 << 20  # bytes
_SECTION = re.compile(
    r"(<!-- (results|recipes|learning curves|benchmark)(?:: ([^>]*?))? -->).*?(<!-- end of \2 -->)", re.S
)
_RESULTS = ("recipe", "field, metric", "n", "adapter", "rivals", "goal", "minutes")
_RECIPES = ("recipe", "asks for", "data set", "licence", "memory on a GPU")
_CURVES = ("recipe", "field, metric", "n", "training examples", "adapter", "rivals", "minutes")
_FIGURES = ("figure", "measured", "goal")
_NUMBERS = {"n", "training examples", "minutes", "measured"}
_GPU = re.compile(r"^base: compact +# on a GPU: (\S+) \((\d+) GiB in bf16, (\d+) with quantize: nf4\)$", re.M)
_WORDS = {
    "macro_f1": "macro-F1",
    "f1": "F1",
    "balanced_accuracy": "balanced accuracy",
    "mae": "mean absolute error",
    "rouge_l": "ROUGE-L",
    "iou": "IoU",
    PAIR_ACCURACY: "pairs ranked correctly",
    "ece": "expected calibration error",
    "brier": "Brier score",
    "log_loss": "log loss",
    "answered": "answered without a person",
    "wrong_of_answered": "wrong of those",
    "coverage_at_risk": "coverage at 5 % risk",
}
_REPEATED = {"vlm-ft crossval": " (folds)", "vlm-ft compare-sft": " (seeds)"}
"""What the figures of a command are means over."""
_LOWER = LOWER_IS_BETTER | {"ece", "brier", "log_loss", "wrong_of_answered", f"flagged, {OWN}"}


def pages_of(place: Path) -> list[Path]:
    """The page itself, or all pages below a folder, if they have a marked table. Raises `DataError` if none has."""
    pages = sorted(place.rglob("*.md")) if place.is_dir() else [place]
    if found := [page for page in pages if _SECTION.search(read_text(page, _MAX_PAGE))]:
        return found
    raise DataError(place, "has no table to write", "mark one: <!-- results --> and <!-- end of results -->")


def renewed(page: str, results: Sequence[Result]) -> str:
    """The page with all its tables written again."""
    return _SECTION.sub(lambda found: f"{found[1]}\n{_content(found[2], found[3], results)}\n{found[4]}", page)


def table(results: Iterable[Result]) -> str:
    """The results as a Markdown table."""
    return markdown_table(_RESULTS, map(_row, results), _NUMBERS)


def _content(kind: str, names: str | None, results: Sequence[Result]) -> str:
    if kind == "benchmark":
        return _benchmark(RECIPES / "benchmarks" / f"{names}.json")
    recipes = shipped() if names is None else [name.strip() for name in names.split(",")]
    if unknown := set(recipes) - set(shipped()):
        raise RecipeError(", ".join(sorted(unknown)), "not a shipped recipe", "vlm-ft recipes lists them")
    if kind == "recipes":
        return markdown_table(_RECIPES, map(_described, recipes)) + _minutes(recipes[0])
    if kind == "learning curves":
        points = [_point(result) for result in results if result.examples is not None]
        return markdown_table(_CURVES, points, _NUMBERS) if points else "No learning curve has been measured yet."
    results = [result for result in results if result.examples is None]
    if names is None:
        return table(result for result in results if result.metric in (*MAIN, PAIR_ACCURACY))
    own = sorted((one for one in results if one.recipe in recipes), key=lambda one: recipes.index(one.recipe))
    missing = [f"`{name}`" for name in recipes if name not in {result.recipe for result in own}]
    answers = [result for result in own if result.metric.removesuffix(GAIN) in (*RECORDED, PAIR_ACCURACY)]
    sure = [result for result in own if result not in answers]
    parts = [table(answers)] if answers else []
    parts += [f"Confidence, and what is flagged as unfamiliar:\n\n{table(sure)}"] if sure else []
    parts += [_misses(own)] if own else []
    parts += [f"Not measured: {', '.join(missing)}."] if missing else []
    return "\n\n".join(parts)


def _benchmark(file: Path) -> str:
    figures = [figure for figure in read_entries(file, Figure) if figure.goal is not None]
    if not figures:
        return "Not measured yet."
    rows = [(one.figure, f"{one.value:.3g} {one.unit}", f"{one.goal:g}") for one in figures]
    machines = "; ".join(sorted({one.machine for one in figures}))
    return f"{markdown_table(_FIGURES, rows, _NUMBERS)}\n\nMeasured on {machines}."


def _row(result: Result) -> tuple[str, ...]:
    rivals = ", ".join(_rival(name, value) for name, value in result.rivals.items())
    goal = "" if (value := goal_of(result)) is None else f"{value:.3g}"
    figure = f"**{result.value:.3f}** ({result.low:.3f} to {result.high:.3f})"
    return (result.recipe, _measure(result), str(result.n), figure, rivals, goal, f"{result.minutes:.1f}")


def _point(result: Result) -> tuple[str, ...]:
    recipe, measure, n, figure, rivals, _, minutes = _row(result)
    return (recipe, measure, n, str(result.examples), figure, rivals, minutes)


def _measure(result: Result) -> str:
    repeated = _REPEATED.get(" ".join(result.command.split()[:2]), "")
    metric = result.metric.removesuffix(GAIN)
    gain = f", gain over {RIVAL}" if metric != result.metric else ""
    return f"{result.field}, {_WORDS.get(metric, metric)}{gain}{repeated}"


def _rival(name: str, value: float) -> str:
    return f"{name.removeprefix(f'{ADAPTER}, ')} {value:.3f}"


def _misses(results: Iterable[Result]) -> str:
    """What is worse than its goal or than a rival, or no better than the majority class."""
    lines = []
    for result in results:
        sign = -1 if result.metric in _LOWER else 1
        own = sign * result.value
        better = [
            _rival(name, value)
            for name, value in result.rivals.items()
            if sign * value > own or (name == MAJORITY and value == result.value)
        ]
        value = goal_of(result)
        goal = [f"goal {value:.3g}"] if value is not None and own < sign * value else []
        if goal or better:
            missed = ", ".join([*goal, *better])
            lines.append(f"- {result.recipe}, {_measure(result)}: {result.value:.3f} ({missed})")
    return (
        "\n".join(["Worse than the goal or a rival:", "", *lines])
        if lines
        else "No figure is worse than its goal or a rival."
    )


def _described(name: str) -> tuple[str, ...]:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    origins = [entry.origin for entry in recipe.data if entry.origin]
    sets = [f"[{one.name}]({one.source})" if one.source.startswith("http") else one.name for one in origins]
    gpu = _gpu(name)
    memory = f"{gpu[1].rpartition('/')[2]}: {gpu[2]} GiB, {gpu[3]} in nf4" if gpu else ""
    fields, licences = ", ".join(recipe.fields or ()), ", ".join(origin.licence for origin in origins)
    return (f"[{name}](../{name}.yaml)", fields, ", ".join(sets), licences, memory)


def _minutes(name: str) -> str:
    """How to get the minutes of a recipe on a GPU: its own `minutes` are for two cores."""
    gpu = _gpu(name)
    if gpu is None:
        return ""
    command = f"vlm-ft train {name} --set base={gpu[1]} --set training.minutes=null --set training.epochs=5 --dry-run"
    return f"\n\nThe minutes depend on the GPU. This times a few steps on yours, and states them:\n`{command}`"


def _gpu(name: str) -> re.Match[str] | None:
    """The base for a GPU that a recipe's comment names, and its memory in bf16 and in four bits."""
    return _GPU.search((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
