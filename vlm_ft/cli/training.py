"""The commands that train, and `vlm-ft preflight`."""

from __future__ import annotations

import os
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm_ft.cli.options import (
    Out,
    RecipeName,
    Reviewed,
    ReviewsFolder,
    Set,
    TaskFile,
    console,
    recipe_of,
    refuse_if,
    silence_libraries,
)

if TYPE_CHECKING:
    from vlm_ft.recipe import Recipe

app = typer.Typer()


@app.command()
def train(
    recipe: RecipeName,
    out: Out = None,
    settings: Set = None,
    task: TaskFile = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue from the newest checkpoint")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show rows, memory and time without training")] = False,
    check: Annotated[bool, typer.Option(help="stop if vlm-ft data check finds errors")] = True,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="train with Ray, on the cluster that RAY_ADDRESS names or on this machine")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="with --cluster: number of workers, on GPUs if there are any [default: all GPUs]"),
    ] = None,
) -> None:
    """Train the adapter that a recipe describes.

    Checks the data first, and calibrates the adapter at the end.
    """
    from vlm_ft.training.cluster import on_workers
    from vlm_ft.training.show import dry_run as show

    refuse_if(
        (workers is not None and not cluster, "--workers", "needs --cluster"),
        (dry_run and cluster, "--cluster", "cannot be combined with --dry-run"),
    )
    loaded = recipe_of(recipe, settings, task)
    if dry_run:
        show(loaded, console())
        return
    folder = out or Path("runs") / loaded.name
    work = partial(_train_and_calibrate, loaded, folder, resume=resume, check=check)
    if cluster:
        on_workers(work, workers)
    else:
        work()
    if os.environ.get("RANK", "0") != "0":  # only the first process of `accelerate launch` says what is next
        return
    place = shlex.quote(str(folder))
    use = "score FOLDER --adapter ADAPTER --out TABLE --reward" if loaded.method == "reward" else "demo --adapter"
    console().print(f"next:\n  vlm-ft evaluate {place}\n  vlm-ft {use} {place}", markup=False)


def _train_and_calibrate(recipe: Recipe, folder: Path, *, resume: bool, check: bool) -> None:
    """What `train` does in each process, which a cluster starts without the command line."""
    from vlm_ft.evaluation.calibrate import calibrate_trained
    from vlm_ft.training.run import train as run

    silence_libraries()
    terminal = console()
    run(recipe, folder, resume=resume, check=check, console=terminal)
    calibrate_trained(folder, console=terminal)


@app.command()
def preflight(
    data_: Annotated[
        Path, typer.Argument(metavar="DATA", help="a folder of photos or texts with their labels, or a file")
    ],
    out: Annotated[Path, typer.Option("--out", help="the folder to write")] = Path("preflight"),
    name: Annotated[str | None, typer.Option(help="the adapter's name [default: the data's name]")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="a recipe that reads such data [default: propose one, as vlm-ft init does]")
    ] = None,
    task: Annotated[str | None, typer.Option(help="the task of the proposal [default: the one that fits best]")] = None,
    untrusted: Annotated[
        bool,
        typer.Option(
            "--untrusted", help="data from strangers: decode each photo first in another process, within a time limit"
        ),
    ] = False,
) -> None:
    """Look at a data set before training on it.

    Writes a recipe, what was read, the checks with their pictures, examples, and the dry run with its cost. The same as
    vlm-ft init, vlm-ft data check, vlm-ft data preview and vlm-ft train --dry-run.

    Exit code 3: the checks found errors, which would stop training.
    """
    from vlm_ft.data.proposal import name_of
    from vlm_ft.inference import photo_decoder
    from vlm_ft.training.preflight import preflight as run

    check_photos = photo_decoder.shared().check if untrusted else None
    called = name or name_of(data_)
    found = run(data_, out, called, recipe=recipe, task=task, console=console(), check_photos=check_photos)
    print(f"{out}: {found.errors} errors, {found.warnings} warnings")
    raise typer.Exit(3 if found.errors else 0)


@app.command("train-next")
def train_next(
    reviews: ReviewsFolder,
    adapter: Reviewed,
    out: Annotated[Path, typer.Option("--out", help="the run folder; the recipe is written beside it")],
    settings: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue from the newest checkpoint")] = False,
) -> None:
    """Train an adapter's next version on reviewed answers.

    It also learns from the adapter's own data. The same as vlm-ft data from-reviews and vlm-ft train.
    """
    from datasets_vision.placing import beside
    from vlm_ft.review.next_recipe import write_next_recipe
    from vlm_ft.runs import Run

    recipe = beside(out, ".yaml")
    if not resume:
        Run(out).require_empty()  # a run's recipe and reviews stay as they are, so that it can be resumed
        print(f"{recipe}: {write_next_recipe(reviews, adapter, recipe)}")
    train(str(recipe), out, settings, resume=resume)
