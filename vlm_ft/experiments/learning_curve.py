"""Learning curves: train on nested subsets, test on the same examples, and extrapolate."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, variance

from rich.console import Console
from rich.table import Table

from vlm_ft.answers.kinds import Strict
from vlm_ft.answers.metrics import LOWER_IS_BETTER, WHOLE, Metric
from vlm_ft.data.cases import load
from vlm_ft.errors import DataError
from vlm_ft.evaluation.evaluate import ADAPTER
from vlm_ft.evaluation.results import MAIN, Result
from vlm_ft.evaluation.rivals import MAJORITY
from vlm_ft.experiments.power_law import Forecast, Needed, Point, PowerLaw, doubts
from vlm_ft.experiments.trial import Trial, require_independent, trial
from vlm_ft.pages import markdown_table
from vlm_ft.recipe import load_recipe
from vlm_ft.runs import Run

SIZES = (25, 50, 100, 200)
RESULTS = "learning_curve"
AHEAD = (2, 4)
"""Multiples of the number of all examples, to which the curve is extrapolated."""


class FieldCurve(Strict):
    """One figure of one field over the sizes; `doubts` lists the reasons not to trust its forecast."""

    field: str
    metric: str
    lower_is_better: bool
    points: tuple[Point, ...]
    forecast: tuple[Forecast, ...]
    needed: Needed | None = None
    doubts: tuple[str, ...]

    @property
    def name(self) -> str:
        """Field and metric."""
        return f"{self.field}.{self.metric}"


class LearningCurve(Strict):
    """All figures; `counts` is the number of examples of each role, `main` names the figures that are drawn."""

    recipe: str
    data: tuple[str, ...]
    counts: dict[str, int]
    repeats: int
    curves: tuple[FieldCurve, ...]
    main: tuple[str, ...]

    def results(self, command: str) -> list[Result]:
        """The measured points of the main figures, to be recorded as what `command` found."""
        return [
            Result(
                set=", ".join(self.data),
                recipe=self.recipe,
                field=entry.field,
                metric=entry.metric,
                value=point.value,
                low=point.low,
                high=point.high,
                n=point.tested,
                minutes=point.minutes,
                rivals={} if point.majority is None else {MAJORITY: point.majority},
                command=command,
                examples=point.examples,
            )
            for entry in self.curves
            if entry.name in self.main
            for point in entry.points
        ]


def learning_curve(
    recipe: Path,
    out: Path,
    *,
    console: Console,
    sizes: Sequence[int] = SIZES,
    repeats: int = 1,
    target: float | None = None,
    settings: Sequence[str] = (),
) -> LearningCurve:
    """Train on nested subsets of these sizes and on all examples, test each on the same `test`, draw and extrapolate.

    Writes ``learning_curve.json``, ``.md`` and ``.png`` to `out`, and a folder per run; finished runs there are reused.
    `repeats`: runs per size, each with its own subset and seed. `target`: a figure for which the number of examples is
    predicted. Raises `RecipeError` if `out` holds runs of another recipe.
    """
    base = load_recipe(recipe, settings)
    require_independent(base)
    dataset = load(base, Run(out).splits)
    if not dataset.cases["test"]:
        raise DataError(f"recipe {base.name}", "no test examples", "give the test role a share")
    most = dataset.counts["train"]
    counts = [size for size in sorted(set(sizes)) if size < most]
    if left := sorted(set(sizes) - set(counts)):
        listed = ", ".join(map(str, left))
        console.print(f"sizes left out: {listed}; a run on all {most} training examples is included", markup=False)
    trained: list[list[Trial]] = []
    for size in [*counts, None]:
        runs = [_point(recipe, out, settings, size, repeat, console) for repeat in range(repeats)]
        trained.append(runs)
    curves = tuple(_curves(trained, target))
    curve = LearningCurve(
        recipe=base.name,
        data=trained[-1][0].card.provenance.data,
        counts=dataset.counts,
        repeats=repeats,
        curves=curves,
        main=tuple(entry.name for entry in curves if entry.metric in MAIN),
    )
    (out / f"{RESULTS}.json").write_text(curve.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (out / f"{RESULTS}.md").write_text(markdown(curve), encoding="utf-8")
    draw(curve, out / f"{RESULTS}.png")
    console.print(_table(curve))
    for entry in curve.curves:
        if entry.name in curve.main:
            console.print(f"{entry.name}: {_verdict(entry)}", markup=False)
    console.print(f"{out / RESULTS}.png: the curve", markup=False)
    return curve


def _point(recipe: Path, out: Path, settings: Sequence[str], size: int | None, repeat: int, console: Console) -> Trial:
    """Train and test at one size, or reuse a finished run."""
    run = Run(out / (f"{'all' if size is None else size}" + (f"-{repeat}" if repeat else "")))
    overlay = [*settings, *([] if size is None else [f"splits.train_examples={size}"])]
    if repeat:
        overlay += [f"splits.subset_seed={repeat}", f"training.seed={repeat}"]
    if not run.splits.exists():
        run.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Run(out).splits, run.splits)  # the same roles at every size
    console.rule(f"{'all' if size is None else size} examples")
    return trial(run, load_recipe(recipe, overlay), console)


def _curves(trained: Sequence[Sequence[Trial]], target: float | None) -> list[FieldCurve]:
    keys = [key for key in _metrics(trained[-1][0], ADAPTER) if key[0] != WHOLE]
    curves = []
    for field, name in keys:
        points = tuple(_measured(runs, field, name) for runs in trained)
        lower = name in LOWER_IS_BETTER
        law = PowerLaw.of(points, lower) if len(points) > 1 else None
        needed = law.needed(target) if law is not None and target is not None and not lower else None
        curves.append(
            FieldCurve(
                field=field,
                metric=name,
                lower_is_better=lower,
                points=points,
                forecast=tuple(law.at(points[-1].examples * times) for times in AHEAD) if law is not None else (),
                needed=needed,
                doubts=doubts(points, lower),
            )
        )
    return curves


def _measured(runs: Sequence[Trial], field: str, name: str) -> Point:
    """The mean over the repeats; its interval includes the test set's uncertainty and the repeats' spread."""
    found = [_metrics(run, ADAPTER)[field, name] for run in runs]
    floors = [_metrics(run, MAJORITY).get((field, name)) for run in runs]
    floor = [metric.value for metric in floors if metric is not None]
    value = fmean(metric.value for metric in found)
    spread = 1.96 * (variance(metric.value for metric in found) / len(found)) ** 0.5 if len(found) > 1 else 0.0
    below = fmean(metric.value - metric.low for metric in found)
    above = fmean(metric.high - metric.value for metric in found)
    return Point(
        examples=round(fmean(run.evaluation.counts["train"] for run in runs)),
        value=value,
        low=max(0.0, value - float((below**2 + spread**2) ** 0.5)),
        high=value + float((above**2 + spread**2) ** 0.5),
        tested=found[0].count,
        majority=fmean(floor) if floor else None,
        minutes=round(fmean(run.card.training["seconds"] for run in runs) / 60, 2),
    )


def _metrics(trial: Trial, system: str) -> dict[tuple[str, str], Metric]:
    return {(metric.field, metric.name): metric for metric in trial.evaluation.systems[system]}


def draw(curve: LearningCurve, path: Path) -> None:
    """Write a PNG of the main figures over the number of examples (log), with intervals, the fit and its band."""
    import numpy as np
    from matplotlib.figure import Figure

    shown = [entry for entry in curve.curves if entry.name in curve.main]
    figure = Figure(figsize=(5 * len(shown), 4), layout="constrained")
    for place, entry in enumerate(shown, 1):
        axes = figure.add_subplot(1, len(shown), place)
        sizes = [point.examples for point in entry.points]
        values = [point.value for point in entry.points]
        bars = [[p.value - p.low for p in entry.points], [p.high - p.value for p in entry.points]]
        axes.errorbar(sizes, values, yerr=bars, fmt="o", capsize=3, label="measured on test, 95 %")
        if entry.forecast:
            law = PowerLaw.of(entry.points, entry.lower_is_better)
            ahead = [law.at(int(n)) for n in np.geomspace(sizes[0], entry.forecast[-1].examples, 60)]
            examples = [point.examples for point in ahead]
            axes.plot(
                examples, [p.value for p in ahead], label="power law" + (" (not reliable)" if entry.doubts else "")
            )
            axes.fill_between(examples, [p.low for p in ahead], [p.high for p in ahead], alpha=0.15)
            axes.axvline(sizes[-1], color="grey", linewidth=0.8, linestyle=":")
        if entry.points[-1].majority is not None:
            axes.axhline(entry.points[-1].majority, color="black", linewidth=0.8, linestyle="--", label="majority")
        axes.set(xscale="log", xlabel="training examples", ylabel=entry.metric, title=entry.field)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def markdown(curve: LearningCurve) -> str:
    """The figures as a Markdown page."""
    roles = ", ".join(f"{role} {count}" for role, count in curve.counts.items())
    lines = [f"# Learning curve: {curve.recipe}", "", f"Examples: {roles}. The same `tune` and `test` at every size; "]
    lines[-1] += f"subsets are nested and consist of whole groups; {curve.repeats} run(s) per size. Intervals are 95 %."
    lines += ["", f"![curve]({RESULTS}.png)", ""]
    for entry in curve.curves:
        lines += [f"## {entry.name}" + (" (lower is better)" if entry.lower_is_better else ""), ""]
        numbers = ("training examples", "figure")
        rows = [
            [str(point.examples), f"{point.value:.3f}", f"{point.low:.3f} to {point.high:.3f}", source]
            for source, points in (("measured", entry.points), ("predicted", entry.forecast))
            for point in points
        ]
        lines += [markdown_table([*numbers, "interval", ""], rows, numbers), "", _verdict(entry), ""]
    return "\n".join(lines)


def _table(curve: LearningCurve) -> Table:
    table = Table("field", "metric", "examples", "figure", "95 %", "")
    for entry in curve.curves:
        for source, points in (("", entry.points), ("predicted", entry.forecast)):
            for p in points:
                table.add_row(
                    entry.field, entry.metric, str(p.examples), f"{p.value:.3f}", f"{p.low:.2f} to {p.high:.2f}", source
                )
    return table


def _verdict(entry: FieldCurve) -> str:
    """A summary: what more examples would give, how many a target needs, and whether the forecast can be trusted."""
    parts = []
    if entry.forecast:
        ahead = entry.forecast[0]
        interval = f"{ahead.low:.3f} to {ahead.high:.3f}"
        parts.append(f"With {ahead.examples} examples the curve predicts {ahead.value:.3f} ({interval}).")
    if entry.needed is not None:
        parts.append(_needed(entry.needed))
    if entry.doubts:
        parts.append(f"The forecast cannot be trusted: {'; '.join(entry.doubts)}.")
    return " ".join(parts)


def _needed(needed: Needed) -> str:
    if needed.examples is None:
        return f"{needed.target:g} is more than the curve will reach."
    low, high = needed.low or "?", needed.high or "any number"
    return f"{needed.target:g} takes about {needed.examples} examples (80 %: {low} to {high})."
