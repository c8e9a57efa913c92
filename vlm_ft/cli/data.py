"""`vlm-ft data`: look at data before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datasets_vision.confidentiality import Dates
from vlm_ft.cli.options import RecipeName, Set, TaskFile, console, recipe_of
from vlm_ft.errors import DataError

if TYPE_CHECKING:
    from datasets_vision.source import Source


app = typer.Typer(help="Look at data before training on it.", no_args_is_help=True)


@app.command("read")
def data_read(recipe: RecipeName, settings: Set = None, task: TaskFile = None) -> None:
    """Read a recipe's data: the form that they fill, the roles, and all that was set aside."""
    from datasets_vision.errors import one_line
    from vlm_ft.data.cases import load

    terminal = console()
    dataset = load(recipe_of(recipe, settings, task))
    for line in dataset.form.prompt.splitlines():
        terminal.print(one_line(line), markup=False)
    terminal.print("\n" + ", ".join(f"{role} {count}" for role, count in dataset.counts.items()))
    for note in dataset.notes:
        terminal.print(f"note: {note}", markup=False)
    for entry in dataset.set_aside:
        terminal.print(f"set aside {entry.place}: {entry.reason}", markup=False)


@app.command("synth")
def data_synth(
    domain: Annotated[str, typer.Argument(help="a task's name, as car_damage; a name that is not known lists all")],
    out: Annotated[Path, typer.Argument(help="an empty or new folder")],
    count: Annotated[int, typer.Option(min=1)] = 600,
    seed: int = 0,
    size: Annotated[int | None, typer.Option(min=32, help="pixels of a drawing's side [192]")] = None,
) -> None:
    """Draw a procedural set with exact boxes and masks, as Pascal VOC; or write one of texts, as JSONL."""
    from datasets_vision.synthetic.writing import write_set

    write_set(domain, out, count, seed=seed, size=size)
    print(f"{out}: {count} examples")


@app.command("documents")
def data_documents(
    manuals: Annotated[Path, typer.Argument(help="a manual, or a folder of them: PDF, Markdown, HTML")],
    out: Annotated[Path, typer.Argument(help="the JSONL file to write: messages, source, passage, group")],
    server: Annotated[str | None, typer.Option(help="an OpenAI-compatible server to write the questions")] = None,
    model: Annotated[str, typer.Option(help="the server's name of the model")] = "",
    key_env: Annotated[
        str | None, typer.Option(help="the environment variable that holds its key [OPENAI_API_KEY]")
    ] = None,
    passage: Annotated[int, typer.Option(min=200, help="most characters of a passage")] = 1200,
    answer: Annotated[int, typer.Option(min=50, help="most characters of an answer")] = 600,
) -> None:
    """Manuals to questions and answers for a chatbot, each with the passage that it comes from."""
    from vlm_ft.data.manuals import chatbot_rows

    terminal = console()
    for line in chatbot_rows(manuals, out, server, model, key_env, passage, answer):
        terminal.print(line, markup=False)


@app.command("rate-card")
def data_rate_card(
    costs: Annotated[Path, typer.Argument(help="a table of repair costs by car type, part, damage and severity")],
    out: Annotated[Path, typer.Argument(help="the rate card to write, .csv")],
    car: Annotated[str, typer.Option(help="the type of car whose prices it holds, as the table names it")],
    currency: Annotated[str, typer.Option(help="ISO 4217")] = "USD",
) -> None:
    """Repair costs of one type of car, made into a rate card for `rate_card:` in a recipe."""
    from vlm_ft.answers.derivations.estimate import write_rate_card
    from vlm_ft.answers.derivations.repair_costs import rate_card_of

    if out.exists() and costs.exists() and out.samefile(costs):
        raise DataError(out, "is the table of costs itself", "give another file for the rate card")
    card = rate_card_of(costs, car, currency)
    write_rate_card(card, out)
    print(f"{out}: {len(card.rates)} prices in {card.currency}")


@app.command("check")
def data_check(
    recipe: RecipeName,
    settings: Set = None,
    task: TaskFile = None,
    out: Annotated[Path | None, typer.Option("--out", help="a folder for check.json and check.html")] = None,
    base: Annotated[bool, typer.Option(help="measure rows and boxes by the recipe's base")] = True,
    splits: Annotated[Path | None, typer.Option(help="the splits.jsonl of a run, for its roles")] = None,
) -> None:
    """Look for what spoils training: broken files, leaks, contradictions ... Exit code 1: there are errors."""
    from vlm_ft.data.checks import check
    from vlm_ft.data.checks.report import tell, write

    loaded, terminal, ruler = recipe_of(recipe, settings, task), console(), None
    if base:
        from vlm_ft.bases.reader import open_reader
        from vlm_ft.lengths import Ruler

        reader = open_reader(loaded.base, revision=loaded.revision, limits=loaded.limits)
        ruler = Ruler(reader, loaded.training.max_length)
    with terminal.status("reading") as status:
        report = check(
            loaded,
            ruler,
            splits_file=splits,
            progress=lambda doing, count: status.update(f"{doing}: {count:,}"),
        )
    if out is not None:
        write(report, out)
    tell(report, terminal)
    raise typer.Exit(1 if report.errors else 0)


@app.command("export")
def data_export(
    recipe: RecipeName,
    out: Annotated[Path, typer.Argument(help="the tasks to write, a .json file")],
    settings: Set = None,
    task: TaskFile = None,
    root: Annotated[Path | None, typer.Option(help="root of Label Studio's local storage [the set's folder]")] = None,
    predicted: Annotated[
        bool, typer.Option("--predicted", help="labels as predictions for annotators to check")
    ] = False,
) -> None:
    """Write a recipe's data as Label Studio tasks, with the labelling interface beside them."""
    from datasets_vision.export_label_studio import export
    from datasets_vision.source import read

    sources = recipe_of(recipe, settings, task).data
    own = next(
        (source.path for source in sources if source.path.exists() and out.exists() and _holds(source, out)), None
    )
    if own is not None:
        raise DataError(out, f"is one of the files of {own}, and would be lost", "give another file")
    readings = [read(source) for source in sources]
    examples = [example for reading in readings for example in reading.examples]
    alone = sources[0].path if len(sources) == 1 and sources[0].path.is_dir() else None
    written = export(examples, out, root or alone, predicted=predicted)
    for entry in (*(entry for reading in readings for entry in reading.set_aside), *written.set_aside):
        console().print(f"set aside {entry.place}: {entry.reason}", markup=False)
    print(f"{written.tasks}: {written.count} tasks; interface {written.interface}")


def _holds(source: Source, file: Path) -> bool:
    """Whether a file that exists is the source's, or lies in it and is no export of ours (which may be made anew)."""
    if source.path.is_file():
        return source.path.samefile(file)
    return source.path.resolve() in file.resolve().parents and not file.with_suffix(".xml").is_file()


@app.command("preview")
def data_preview(
    recipe: RecipeName,
    out: Annotated[Path, typer.Option("--out", help="the image file to write")],
    settings: Set = None,
    task: TaskFile = None,
    count: Annotated[int, typer.Option(min=1, help="examples")] = 8,
    draws: Annotated[int, typer.Option(min=0, help="augmented draws of each")] = 3,
    seed: int = 0,
) -> None:
    """Write a contact sheet: training examples with their boxes, beside augmented draws of them."""
    from vlm_ft.data.preview import preview

    shown = preview(recipe_of(recipe, settings, task), out, count, draws, seed)
    print(f"{out}: {shown} examples")


@app.command("deidentify")
def data_deidentify(
    source: Annotated[Path, typer.Argument(help="a DICOM file, or a folder of them")],
    out: Annotated[Path, typer.Argument(help="the folder of the copies")],
    dates: Annotated[Dates, typer.Option(help="shift: by days that only the key tells, the same for a patient")] = (
        "remove"
    ),
    key: Annotated[Path | None, typer.Option(help="the pseudonyms' key, to be kept apart [OUT.key]")] = None,
) -> None:
    """Copy DICOM without names, dates and UIDs; text in the pixels stays and is pointed at.

    Exit code: 0 every file copied, 1 some not, 3 all copied and some pictures need a look.
    """
    from datasets_vision.deidentify import LOG, NOTICE, deidentify

    terminal = console()
    outcome = deidentify(source, out, key_file=key, dates=dates, told=lambda line: terminal.print(line, markup=False))
    for path in outcome.left:
        terminal.print(f"left where it is, no DICOM: {path}", markup=False)
    print(
        f"{out}: {len(outcome.copied)} copied, {outcome.already} were there, {len(outcome.failed)} failed, "
        f"{len(outcome.left)} left, {outcome.doubtful} need a look; see {out / LOG}"
    )
    terminal.print(NOTICE, markup=False)
    raise typer.Exit(outcome.exit_code)


@app.command("sets")
def data_sets(
    root: Annotated[Path, typer.Argument(help="a folder of data sets, with or without a manifest.json")],
    reasons: Annotated[int, typer.Option(min=0, help="kinds of reasons told for each set")] = 3,
) -> None:
    """Read every set below a folder: its format, its items, what was set aside and why, as a Markdown table.

    Exit code: 0 every set reads as its manifest states, 1 one does not.
    """
    from datasets_vision.inventory import HEAD, take

    print(HEAD)
    agree = []
    for record in take(root):
        agree.append(record.agrees)
        print(record.row(reasons), flush=True)
    console().print(f"{sum(agree)} of {len(agree)} sets read as stated")
    raise typer.Exit(int(not all(agree)))


@app.command("compose")
def data_compose(
    recipe: RecipeName,
    out: Annotated[Path, typer.Argument(help="an empty or new folder")],
    count: Annotated[int, typer.Option(min=1)] = 10,
    size: Annotated[tuple[int, int], typer.Option(help="width and height in pixels")] = (4000, 3000),
    photos: Annotated[int, typer.Option(min=1, help="at most so many photos in a scene")] = 12,
    scale: Annotated[tuple[float, float], typer.Option(help="least and most size of a photo laid in")] = (0.4, 1.0),
    seed: int = 0,
    settings: Set = None,
    task: TaskFile = None,
) -> None:
    """Compose large scenes of a recipe's own `test` photos, with exact boxes, as Pascal VOC."""
    from datasets_vision.compose import compose, write_scenes
    from vlm_ft.data.cases import load

    examples = [case.example for case in load(recipe_of(recipe, settings, task)).cases["test"]]
    scenes = compose(examples, count, size=size, photos=photos, scale=scale, seed=seed)
    print(f"{out}: {write_scenes(out, scenes)} scenes")
