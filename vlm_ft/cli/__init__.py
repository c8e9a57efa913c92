"""The command line. Commands import heavy libraries only when they run, so that --help is fast."""

from __future__ import annotations

import errno
import os
import sys
from importlib import metadata
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from vlm_ft.allocator import keep_freed_memory
from vlm_ft.cli import base, data, experiments, init, serving, training
from vlm_ft.cli.options import (
    AdapterPlace,
    BasePlace,
    BatchSize,
    FinishedRun,
    FirstSteps,
    Goals,
    PrecisionOption,
    Results,
    Set,
    WithApp,
    command_line,
    console,
    goals_of,
    numbers_of,
    refuse_if,
    server_of,
    silence_libraries,
)
from vlm_ft.errors import UserError

USER_ERROR = 2

app = typer.Typer(
    name="vlm-ft",
    help="Fine-tune vision-language models into assessors with typed, checkable answers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
start, use = typer.Typer(), typer.Typer()


def main() -> None:
    """Run a command; a user error is printed as one line, with exit code 2."""
    keep_freed_memory()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # file names may not fit the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except UserError as error:
        _refuse(str(error))
    except OSError as error:  # not caught elsewhere: a full disk, missing permissions
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        place = error.filename or "disk"
        _refuse(f"{place}: {error.strerror}; check the path, its permissions and the free space")
    except MemoryError as error:
        _refuse(f"out of memory{f' ({error})' if str(error) else ''}; use smaller images, or fewer at a time")
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _refuse(message: str) -> NoReturn:
    from datasets_vision.errors import one_line

    print(f"error: {one_line(message)}", file=sys.stderr)
    raise SystemExit(USER_ERROR) from None


def _show_version(asked: bool) -> None:
    if asked:
        print(f"vlm-ft {metadata.version('vlm-ft')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show the version and exit")
    ] = False,
) -> None:
    """Fine-tune vision-language models into assessors with typed, checkable answers."""
    silence_libraries()


@start.command()
def recipes() -> None:
    """List the shipped recipes.

    Columns: name, task, photos or texts, fields asked for, data sets.
    """
    from vlm_ft.recipe import RECIPES, load_recipe, shipped

    for name in shipped():
        recipe = load_recipe(RECIPES / f"{name}.yaml")
        sets = ", ".join(entry.origin.name for entry in recipe.data if entry.origin)
        shows = "texts" if all(entry.shows_text for entry in recipe.data) else "photos"
        print(f"{name:30} {recipe.task:22} {shows:7} {', '.join(recipe.fields or ()):40} {sets}")


@use.command()
def evaluate(
    run: FinishedRun,
    rivals: Annotated[bool, typer.Option(help="also train the rivals, such as a linear probe or TF-IDF")] = True,
    batch_size: BatchSize = 16,
    base: Annotated[bool, typer.Option(help="also evaluate the bare base")] = True,
    foreign: Annotated[
        list[Path] | None,
        typer.Option("--foreign", help="a folder of photos that the adapter should flag as unfamiliar; repeatable"),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="--foreign is a CSV, TSV or JSON Lines file of texts with this template: '{message}'"),
    ] = None,
    results: Results = None,
    goal: Goals = None,
) -> None:
    """Compare an adapter with its rivals on `test`.

    Writes a report as JSON, Markdown and HTML. The bare base is one of the rivals. For a reward model, reports only how
    often it prefers the better reply of a pair; for an adapter trained with DPO, reports this, too.
    """
    from vlm_ft.adapters import read_card
    from vlm_ft.evaluation.pairs import evaluate_pairs
    from vlm_ft.evaluation.results import record, results_of, sureness_results
    from vlm_ft.evaluation.run import evaluate_run
    from vlm_ft.runs import Run

    goals = goals_of(goal)
    refuse_if(
        (goals and results is None, "--goal", "needs --results"),
        (text is not None and not foreign, "--text", "needs --foreign"),
    )
    if Run(run).state == "finished" and read_card(Run(run).adapter).method == "reward":
        refuse_if((foreign or goals, "--foreign or --goal", "does not apply to a reward model"))
        figure = evaluate_pairs(run, command=command_line(), console=console())
        if results:
            record([figure], results)
        return
    evaluation = evaluate_run(
        run, rivals=rivals, base=base, foreign=foreign or (), text=text, batch_size=batch_size, console=console()
    )
    card = read_card(Run(run).adapter)
    figures = results_of(evaluation, card, command_line(), goals)
    figures += sureness_results(figures[0], evaluation.sureness)
    if card.method == "dpo":
        figures.append(evaluate_pairs(run, command=command_line(), console=console()))
    if results:
        record(figures, results)


@use.command()
def calibrate(
    run: FinishedRun,
    risk: Annotated[float, typer.Option(min=0.001, max=0.5, help="the acceptable share of wrong answers")] = 0.05,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="the confidence in that bound")] = 0.90,
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="FIELD=PROBABILITY at which a flag counts as true, or a list continues; repeatable"),
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(help="fit on the answers in this folder of vlm-ft crossval instead (same recipe)"),
    ] = None,
    batch_size: BatchSize = 16,
) -> None:
    """Fit an adapter's probabilities and its threshold.

    Below the threshold, it asks a person. Fits on the `calibrate` examples, as vlm-ft train does at the end; run it
    again for another risk. With fewer than 100 examples to spare, set none aside and use --folds.
    """
    from vlm_ft.evaluation.calibrate import calibrate_run

    calibrate_run(
        run,
        risk=risk,
        level=level,
        thresholds=numbers_of("--threshold", "FIELD=PROBABILITY", threshold),
        folds=folds,
        batch_size=batch_size,
        console=console(),
    )


@use.command()
def score(
    folder: Annotated[Path, typer.Argument(help="a folder of images, searched recursively; with --text, also a table")],
    adapter: Annotated[Path, typer.Option("--adapter", help="an adapter or run folder")],
    out: Annotated[Path, typer.Option("--out", help="the file to write: .parquet, .csv or .jsonl")],
    batch_size: BatchSize = 16,
    base: BasePlace = None,
    case_by: Annotated[
        Literal["folder"] | None, typer.Option(help="folder: all photos in one folder are one case, with one row")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="score the rows of a CSV, TSV or JSON Lines file with this template: '{message}'")
    ] = None,
    review: Annotated[
        Path | None, typer.Option(help="also write an HTML page of the answers that a person should check")
    ] = None,
    first: Annotated[
        Path | None,
        typer.Option(help="also list the photos to review first: uncertain, unlike each other and the training data"),
    ] = None,
    progress: Annotated[
        Path | None, typer.Option(help="also keep the progress in this JSON file, for other programs")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="openai:URL: an OpenAI-compatible server runs the model; its key is in OPENAI_API_KEY"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="the model's name on that server [default: the adapter's]")] = None,
    reward: Annotated[Path | None, typer.Option(help="a reward model that scores every answer")] = None,
    precision: PrecisionOption = "fp32",
    cluster: Annotated[
        bool, typer.Option("--cluster", help="score with Ray, on the cluster that RAY_ADDRESS names or on this machine")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="with --cluster: number of workers [default: one per GPU, else per CPU]"),
    ] = None,
    untrusted: Annotated[
        bool,
        typer.Option("--untrusted", help="photos from strangers: decode each in another process, within a time limit"),
    ] = False,
) -> None:
    """Score a folder of images, or a table of texts.

    Exit code 0: all scored, 3: some set aside, 2: an error to correct.
    """
    from vlm_ft.scoring.run import score as run

    refuse_if((model is not None and engine is None, "--model", "needs --engine"))
    report = run(
        folder,
        adapter,
        out,
        batch_size=batch_size,
        base=base,
        console=console(),
        by_case=case_by == "folder",
        text=text,
        review=review,
        first=first,
        progress=progress,
        server=server_of(engine, model, adapter),
        reward=reward,
        precision=precision,
        cluster=cluster,
        workers=workers,
        untrusted=untrusted,
    )
    raise typer.Exit(report.exit_code)


@use.command()
def export(
    adapter: AdapterPlace,
    out: Annotated[Path, typer.Argument(help="a new folder")],
    kind: Annotated[
        Literal["auto", "lora", "merged"],
        typer.Option("--as", help="lora: as it is, for vLLM or PEFT; merged: a plain model folder; auto: what fits"),
    ] = "auto",
    base: BasePlace = None,
) -> None:
    """Write an adapter for use without vlm-ft.

    As LoRA, or merged into its base. Prints the vLLM command that serves it.
    """
    from vlm_ft.training.export import export as run

    run(adapter, out, kind, base=base, console=console())


@use.command()
def push(
    adapter: AdapterPlace,
    repository: Annotated[str, typer.Argument(help="its name on the Hub, as in me/my_castings")],
    public: Annotated[bool, typer.Option("--public", help="make it public [default: private]")] = False,
) -> None:
    """Push an adapter to the Hugging Face Hub.

    Its model card goes with it. Uses the token of `hf auth login`, or HF_TOKEN.
    """
    from vlm_ft.training.push import push as run

    run(adapter, repository, public=public, console=console())


@start.command()
def quickstart(
    out: Annotated[
        Path, typer.Option("--out", help="a folder for everything; an earlier quickstart in it is replaced")
    ] = Path("quickstart"),
    app_: WithApp = True,
    figures: FirstSteps = None,
) -> None:
    """Run the whole workflow on a small set of drawings.

    Trains, evaluates, scores a folder and serves the app.
    """
    from vlm_ft.quickstart import run

    run(out, with_app=app_, console=console(), figures=figures, command=command_line())


@start.command()
def tour(
    tasks: Annotated[list[str] | None, typer.Argument(help="names of tasks [default: all eleven]")] = None,
    out: Annotated[Path, typer.Option("--out", help="a folder for everything")] = Path("tour"),
    settings: Set = None,
    app_: WithApp = True,
    figures: FirstSteps = None,
) -> None:
    """Train a short adapter for each task, and open the app.

    Learns from generated drawings and texts. Takes under 25 minutes on two cores. A second call trains only what is
    missing.
    """
    from vlm_ft.tour import run

    command = command_line()
    run(out, tasks or [], settings or [], with_app=app_, console=console(), figures=figures, command=command)


# in the order of --help
app.add_typer(start)
app.add_typer(init.app)
app.add_typer(training.app)
app.add_typer(use)
app.add_typer(data.app, name="data")
app.add_typer(base.app, name="base")
app.add_typer(serving.app)
app.add_typer(experiments.app)
