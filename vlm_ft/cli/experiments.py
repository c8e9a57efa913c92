"""The commands that compare the results of several training runs or timings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from vlm_ft.cli.options import (
    AdapterPlace,
    BasePlace,
    BatchSize,
    Goals,
    RecipeName,
    Results,
    Set,
    TaskFile,
    command_line,
    console,
    file_of,
    goals_of,
    refuse_if,
)

app = typer.Typer()


@app.command()
def crossval(
    recipe: RecipeName,
    out: Annotated[Path, typer.Option("--out", help="a folder for all runs")],
    folds: Annotated[int, typer.Option(min=2, help="number of folds")] = 3,
    vary: Annotated[list[str] | None, typer.Option(help="a variant to compare: key=value; repeatable")] = None,
    first: Annotated[bool, typer.Option("--first", help="train only the first fold, for a quick comparison")] = False,
    settings: Set = None,
    base: Annotated[bool, typer.Option(help="also evaluate the bare base")] = True,
    results: Results = None,
    goal: Goals = None,
) -> None:
    """Cross-validate a recipe and its variants.

    Folds are grouped, and finished runs are reused.
    """
    from vlm_ft.evaluation.results import record
    from vlm_ft.experiments.crossval import crossval as run

    found = run(
        file_of(recipe, settings),
        out,
        folds=folds,
        first=first,
        variants=vary or [],
        settings=settings or [],
        console=console(),
        command=command_line(),
        goals=goals_of(goal),
        base=base,
    )
    if results:
        record(found, results)


@app.command("compare-sft")
def compare_sft(
    recipe: RecipeName,
    out: Annotated[Path, typer.Option("--out", help="a folder for all runs")],
    seeds: Annotated[int, typer.Option(min=2, help="runs of each kind, each with its own seed")] = 3,
    settings: Set = None,
    results: Results = None,
) -> None:
    """Compare a recipe with as many further steps of SFT.

    For a recipe that continues from an adapter. Trains both once per seed, and reports the difference with an interval.
    Finished runs are reused.
    """
    from vlm_ft.evaluation.results import record
    from vlm_ft.experiments.continued_sft import compare_sft as run

    file, command = file_of(recipe, settings), command_line()
    found = run(file, out, seeds=seeds, settings=settings or [], console=console(), command=command)
    if results:
        record(found, results)


@app.command()
def results(
    recipes: Annotated[list[str] | None, typer.Argument(help="names of recipes [default: all measured ones]")] = None,
    runs: Annotated[Path, typer.Option("--runs", help="a folder for all runs")] = Path("runs"),
    out: Annotated[Path, typer.Option("--out", help="the JSON file of results")] = Path("recipes/results.json"),
) -> None:
    """Measure the shipped recipes next to their rivals.

    Takes hours on two cores. Runs each command that recipes/benchmarks/measured.yaml implies, unless its figures are
    already recorded; a second call continues where the first stopped. The data sets must be under VLM_FT_DATA.
    """
    from vlm_ft.experiments.measured import measure_recipes

    if failed := measure_recipes(recipes or [], runs, out, console()):
        print(f"not measured: {', '.join(failed)}; the messages above say why", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def figures(
    results: Annotated[Path, typer.Argument(help="a file written with --results")] = Path("recipes/results.json"),
    write: Annotated[
        Path | None,
        typer.Option(help="write the tables of this page, or of all pages below this folder, between their markers"),
    ] = None,
) -> None:
    """Print recorded results as a Markdown table."""
    from datasets_vision.placing import whole_file
    from vlm_ft.evaluation.results import read_results
    from vlm_ft.experiments.quotes import pages_of, renewed, table

    found = read_results(results)
    if write is None:
        print(table(found))
        return
    for page in pages_of(write):
        text = renewed(page.read_text(encoding="utf-8"), found)
        with whole_file(page) as part:
            part.write_text(text, encoding="utf-8")
        print(page)


@app.command("learning-curve")
def learning_curve(
    recipe: RecipeName,
    out: Annotated[Path, typer.Option("--out", help="a folder for all runs")],
    sizes: Annotated[
        list[int] | None,
        typer.Option("--size", min=1, help="training examples; repeatable [default: 25, 50, 100, 200]"),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="runs per size, each on its own subset")] = 1,
    target: Annotated[
        float | None, typer.Option(min=0, max=1, help="predict how many examples it takes to reach this score")
    ] = None,
    settings: Set = None,
    results: Results = None,
) -> None:
    """Predict the effect of more examples.

    Trains on growing subsets, and draws and extrapolates the curve.
    """
    from vlm_ft.evaluation.results import record
    from vlm_ft.experiments.learning_curve import SIZES
    from vlm_ft.experiments.learning_curve import learning_curve as run

    place, asked = file_of(recipe, settings), sizes or SIZES
    curve = run(place, out, console=console(), sizes=asked, repeats=repeats, target=target, settings=settings or [])
    if results:
        record(curve.results(command_line()), results)


@app.command()
def benchmark(
    what: Annotated[
        Literal["decoder", "train", "service"], typer.Argument(help="answers, training steps, or the HTTP service")
    ] = "decoder",
    base: Annotated[
        str, typer.Option("--base", help="a base by name or folder; random-152k: a random one with a large vocabulary")
    ] = "compact",
    adapter: Annotated[
        Path | None,
        typer.Option(
            "--adapter",
            help="decoder: time a batch over eight copies of this photo adapter instead; service: serve this one "
            "[default: one that is trained for a single step]",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            help="train: time only the steps of intents, intents-others (against LLaMA-Factory and ms-swift), photos, "
            "pairs (DPO) or answers (GRPO), or the time to a score: intents-score or waste-score [default: all that "
            "the base has]",
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="train: turns per contestant [default: 2; to a score: 1]")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=1,
            help="train: timed steps per turn, after as many for warm-up [default: 3]; to a score: the most "
            "[default: 120]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="a JSON file; figures of the same name are replaced [default: decoder.json, training.json or "
            "service.json in recipes/benchmarks]",
        ),
    ] = None,
) -> None:
    """Time answers, training steps or the HTTP service.

    Answers are compared with those of transformers' `generate` under the same grammar, training with TRL's and, on the
    base's language model alone, with that of LLaMA-Factory and ms-swift. On the first call, pip installs each of these
    two in its own environment; one that cannot be installed is left out. Both benchmarks need the data sets of
    the recipes steel_surface_voc and customer_intents_csv; answers also need the drawings of synthetic_car_damage, and
    training the data set of waste_sorting_folders.
    """
    from vlm_ft.experiments.decoder_benchmark import benchmark as time_decoder
    from vlm_ft.experiments.service_benchmark import benchmark_service
    from vlm_ft.experiments.training_benchmark import benchmark_training

    folder = Path("recipes/benchmarks")
    training = what == "train"
    refuse_if(
        (training and adapter, "--adapter", "does not apply to training"),
        (only and not training, "--only", "applies to training only"),
        (rounds and not training, "--rounds", "applies to training only"),
        (steps and not training, "--steps", "applies to training only"),
    )
    if training:
        place = out or folder / "training.json"
        benchmark_training(base, place, command_line(), console(), only=only, rounds=rounds, steps=steps)
    elif what == "service":
        benchmark_service(base, adapter, out or folder / "service.json", command_line(), console())
    else:
        time_decoder(base, adapter, out or folder / "decoder.json", command_line(), console())


@app.command("compare-tiling")
def compare_tiling(
    adapter: AdapterPlace,
    photos: Annotated[
        Path, typer.Argument(help="large photos with boxes, in any supported format (see vlm-ft data compose)")
    ],
    out: Annotated[Path, typer.Option("--out", help="a folder for tiling.json and tiling.md")],
    side: Annotated[int, typer.Option(min=16, help="side of a tile in pixels")] = 512,
    overlap: Annotated[int, typer.Option(min=0, help="overlap of neighbouring tiles in pixels")] = 64,
    task: TaskFile = None,
    base: BasePlace = None,
    batch_size: BatchSize = 16,
) -> None:
    """Compare answers about whole photos with those about tiles.

    Reports scores on large photos, and recall by the area of objects.
    """
    from datasets_vision.source import Source
    from vlm_ft.experiments.tiled import compare_tiling as run
    from vlm_ft.recipe import Tiling

    tiling, source = Tiling(side=side, overlap=overlap), Source(path=photos)
    run(adapter, source, tiling, out, console=console(), task_file=task, base=base, batch_size=batch_size)
