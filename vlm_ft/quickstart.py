"""The whole workflow, small enough for a fresh machine with two cores: drawings and the base `compact`."""

from __future__ import annotations

import shlex
import shutil
import time
from pathlib import Path

from rich.console import Console

from datasets_vision.synthetic.writing import write_set
from vlm_ft.adapters import ADAPTER
from vlm_ft.errors import DataError
from vlm_ft.evaluation.calibrate import calibrate_trained
from vlm_ft.evaluation.run import evaluate_run
from vlm_ft.experiments.first_steps import add_first_steps
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.recipe import RECIPES, load_recipe
from vlm_ft.scoring.run import score
from vlm_ft.serving import Options, serve
from vlm_ft.training.run import train

RECIPE = "quickstart_surfaces"
LABELLED = 900  # drawings with labels, divided into roles by the recipe
NEW = 60  # drawings to score
SEED = 2026
MARKER = ".vlm_ft_quickstart"
MAX_MINUTES, MIN_SCORE = 5.0, 0.95  # on two cores; the app not counted


def run(
    out: Path, *, with_app: bool, console: Console, figures: Path | None = None, command: str = "vlm-ft quickstart"
) -> None:
    """Draw a data set, train an adapter, evaluate it, score a folder, and open the app.

    `figures`: a JSON file to which the minutes and the score are added, as measured by `command`. Raises `DataError` if
    `out` holds anything other than an earlier quickstart.
    """
    _clear(out)
    started = time.monotonic()

    def step(text: str) -> None:
        console.rule(f"[bold]{text}[/]  ({time.monotonic() - started:.0f} s)", align="left")

    step(f"1/5  draw {LABELLED} labelled surfaces and {NEW} new ones")
    write_set("product_defects", out / "set", LABELLED, SEED)
    new = write_set("product_defects", out / "new", NEW, SEED + 1) / "JPEGImages"
    step("2/5  train an adapter on the base compact, and calibrate it")
    recipe = load_recipe(RECIPES / f"{RECIPE}.yaml", [f"data.0.path={out / 'set'}"])
    folder = train(recipe, out / "run", console=console)
    calibrate_trained(out / "run", console=console)
    step("3/5  compare with the bare base, the majority class, and logistic regression on the same frozen tower")
    evaluate_run(out / "run", console=console)
    step("4/5  score a folder of new images")
    score(new, folder, out / "scores.csv", console=console)
    step("5/5  done")
    if figures is not None:
        sheet = Sheet(command, console)
        add_first_steps(sheet, "quickstart", time.monotonic() - started, [folder], most=MAX_MINUTES, least=MIN_SCORE)
        sheet.write(figures)
    console.print(f"report   {out / 'run' / 'evaluation' / 'evaluation.html'}", markup=False)
    console.print(f"scores   {out / 'scores.csv'}", markup=False)
    console.print(f"adapter  {out / 'run' / ADAPTER}", markup=False)
    if with_app:
        serve(Options(adapters=[folder], examples=new), console)
    else:
        console.print(f"the app  vlm-ft demo --adapter {shlex.quote(str(folder))}", markup=False)


def _clear(out: Path) -> None:
    """Empty the folder of an earlier quickstart. Raises `DataError` for a folder with other files."""
    if out.exists() and any(out.iterdir()):
        if not (out / MARKER).exists():
            raise DataError(out, "holds other files", "give another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()
