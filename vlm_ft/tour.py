"""The tour: a short adapter for each task, trained on generated drawings or texts, and the app with all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from datasets_vision.example import path_of
from datasets_vision.source import read
from datasets_vision.synthetic.domains import DOMAINS, Pictures
from datasets_vision.synthetic.writing import write_set
from vlm_ft.errors import DataError
from vlm_ft.experiments.first_steps import add_first_steps
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.experiments.trial import trial
from vlm_ft.recipe import RECIPES, Recipe, load_recipe
from vlm_ft.runs import Run
from vlm_ft.serving import Options, serve
from vlm_ft.tasks import task_of

TOUR = {
    "car_damage": "synthetic_car_damage",
    "product_defects": "quickstart_surfaces",
    "aviation_maintenance": "synthetic_aviation",
    "scan_abnormalities": "synthetic_scans",
    "object_identification": "synthetic_objects",
    "technical_diagnosis": "synthetic_diagnosis",
    "customer_chatbot": "synthetic_dialogues",
    "industry_language": "synthetic_trade_talk",
    "legal_documents": "synthetic_clauses",
    "medical_conditions": "synthetic_studies",
    "scientific_research": "synthetic_claims",
}
"""Task -> the recipe of its adapter. The generator of its set has the task's name."""

LABELLED, NEW = 480, 6  # examples with labels, divided into roles, and others to try in the app
SEED = 2026
SHORT = (
    "training.minutes=0.9",
    "training.evaluations=2",  # and as many checkpoints
    "splits={train: 0.70, tune: 0.05, calibrate: 0.15, test: 0.10}",
)
LONGER = {"industry_language": "training.minutes=2"}
"""Abbreviations take longer to learn, and before the model learns to end a reply, it repeats itself to the limit."""

SMALL = "pixels={minimum: 25600, maximum: 25600}"  # 160 pixels a side
SECONDS_EACH = 130.0  # to train an adapter on two cores, until the first one has been timed
MAX_MINUTES = 25.0  # for all adapters on two cores


def run(
    out: Path,
    tasks: Sequence[str],
    settings: Sequence[str],
    *,
    with_app: bool,
    console: Console,
    figures: Path | None = None,
    command: str = "vlm-ft tour",
) -> None:
    """Train an adapter for each of these tasks, or for all, and open the app with them.

    `settings` override those of every recipe. A finished adapter is not trained again, and an interrupted one
    continues. `figures`: a JSON file to which the minutes and the scores are added, as measured by `command`. Raises
    `RecipeError` for an unknown task, or if `out` holds a tour with other settings, and `DataError` if it holds any
    runs of a tour that is to be measured.
    """
    chosen = {task_of(name).name: recipe_of(name, out, settings) for name in tasks or TOUR}
    runs = {task: Run(out / "runs" / task) for task in chosen}
    if figures is not None and any(run.state != "empty" for run in runs.values()):
        raise DataError(out, "holds runs of an earlier tour, so the minutes of all are unknown", "give a new --out")
    left = [task for task, run in runs.items() if not (run.holds(chosen[task]) and run.evaluated.exists())]
    started = time.monotonic()
    for done, task in enumerate(left):
        seconds = time.monotonic() - started
        minutes = (seconds / done if done else SECONDS_EACH) * (len(left) - done) / 60
        console.rule(f"[bold]{done + 1}/{len(left)}  {task}[/]  (about {minutes:.0f} min left)", align="left")
        _write(out / "sets" / task, task, LABELLED, SEED)
        trial(runs[task], chosen[task], console)
    console.rule(f"[bold]{len(runs)} adapters, {len(left)} of them new[/]", align="left")
    if figures is not None:
        sheet, most = Sheet(command, console), MAX_MINUTES if len(runs) == len(TOUR) else None
        adapters = [run.adapter for run in runs.values()]
        add_first_steps(sheet, f"tour of {len(runs)} tasks", time.monotonic() - started, adapters, most=most)
        sheet.write(figures)
    if with_app:
        examples = {task: examples_of(recipe, out) for task, recipe in chosen.items()}
        serve(Options(adapters=[run.adapter for run in runs.values()], examples=examples), console)
    else:
        console.print("the same command without --no-app opens the app")


def recipe_of(task: str, out: Path, settings: Sequence[str]) -> Recipe:
    """The recipe of a task's adapter, which has the task's name."""
    small = [SMALL] if isinstance(DOMAINS[task], Pictures) else []
    longer = [LONGER[task]] if task in LONGER else []
    own = [f"name={task}", f"data.0.path={out / 'sets' / task}", *SHORT, *small, *longer]
    return load_recipe(RECIPES / f"{TOUR[task]}.yaml", [*own, *settings])


def examples_of(recipe: Recipe, out: Path) -> list[Path | str]:
    """New photos or texts to try with a recipe's adapter; for a conversation, its last message."""
    entry = recipe.data[0].model_copy(update={"path": _write(out / "new" / recipe.task, recipe.task, NEW, SEED + 1)})
    examples = read(entry).examples
    return [path_of(example.images[0]) if example.images else example.text for example in examples]


def _write(folder: Path, task: str, count: int, seed: int) -> Path:
    """A generated set, which an earlier call may have written."""
    return folder if folder.exists() else write_set(task, folder, count, seed)
