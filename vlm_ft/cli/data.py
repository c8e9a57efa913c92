"""`vlm-ft data`: read, check and prepare data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datasets_vision.confidentiality import Dates
from vlm_ft.cli.options import RecipeName, Reviewed, ReviewsFolder, Set, TaskFile, console, recipe_of
from vlm_ft.errors import DataError

if TYPE_CHECKING:
    from datasets_vision.source import Source


Seed = Annotated[int, typer.Option(help="random seed")]

app = typer.Typer(help="Read, check and prepare data.", no_args_is_help=True)


@app.command("read")
def data_read(recipe: RecipeName, settings: Set = None, task: TaskFile = None) -> None:
    """Read a recipe's data.

    Shows what is asked for, the examples per role, and everything set aside with its reason.
    """
    from vlm_ft.data.cases import load, summary_lines

    terminal = console()
    for line in summary_lines(load(recipe_of(recipe, settings, task))):
        terminal.print(line, markup=False)


@app.command("check")
def data_check(
    recipe: RecipeName,
    settings: Set = None,
    task: TaskFile = None,
    out: Annotated[Path | None, typer.Option("--out", help="a folder for check.json and check.html")] = None,
    base: Annotated[bool, typer.Option(help="also measure rows and boxes with the recipe's base")] = True,
    splits: Annotated[Path | None, typer.Option(help="the splits.jsonl of a run, to use its roles")] = None,
) -> None:
    """Check for broken files, leaks and contradictions.

    Exit code 1: it found errors, which would stop training.
    """
    from vlm_ft.data.checks import check
    from vlm_ft.data.checks.report import print_report, write

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
    page = write(report, out) if out is not None else None
    print_report(report, terminal)
    if page is not None:
        print(page)
    raise typer.Exit(1 if report.errors else 0)


@app.command("preview")
def data_preview(
    recipe: RecipeName,
    out: Annotated[Path, typer.Option("--out", help="the image file to write")],
    settings: Set = None,
    task: TaskFile = None,
    count: Annotated[int, typer.Option(min=1, help="number of examples")] = 8,
    draws: Annotated[int, typer.Option(min=0, help="augmented versions of each")] = 3,
    seed: Seed = 0,
) -> None:
    """Write a contact sheet of training examples.

    Shows the boxes, and augmented versions next to each example.
    """
    from vlm_ft.data.preview import preview

    shown = preview(recipe_of(recipe, settings, task), out, count, draws, seed)
    print(f"{out}: {shown} examples")


@app.command("sets")
def data_sets(
    root: Annotated[Path, typer.Argument(help="a folder of data sets, with an optional manifest.json")],
    reasons: Annotated[int, typer.Option(min=0, help="number of reasons to show for each set")] = 3,
) -> None:
    """List every data set in a folder.

    A Markdown table: format, items, what was set aside and why. Exit code 1: a set differs from its manifest.
    """
    from datasets_vision.inventory import HEADER, read_sets

    print(HEADER)
    agree = []
    for record in read_sets(root):
        agree.append(record.agrees)
        print(record.row(reasons), flush=True)
    console().print(f"{sum(agree)} of {len(agree)} sets match their manifest")
    raise typer.Exit(int(not all(agree)))


@app.command("export")
def data_export(
    recipe: RecipeName,
    out: Annotated[Path, typer.Argument(help="the file of tasks to write (.json)")],
    settings: Set = None,
    task: TaskFile = None,
    root: Annotated[
        Path | None, typer.Option(help="root of Label Studio's local storage [default: the data's folder]")
    ] = None,
    predicted: Annotated[
        bool, typer.Option("--predicted", help="write labels as predictions, for annotators to check")
    ] = False,
) -> None:
    """Write Label Studio tasks and their interface."""
    from datasets_vision.export_label_studio import export
    from datasets_vision.source import read

    sources = recipe_of(recipe, settings, task).data
    owner = next(
        (source.path for source in sources if source.path.exists() and out.exists() and _holds(source, out)), None
    )
    if owner is not None:
        raise DataError(out, f"is one of the files of {owner}, and would be overwritten", "choose another file")
    readings = [read(source) for source in sources]
    examples = [example for reading in readings for example in reading.examples]
    only_folder = sources[0].path if len(sources) == 1 and sources[0].path.is_dir() else None
    written = export(examples, out, root or only_folder, predicted=predicted)
    for entry in (*(entry for reading in readings for entry in reading.set_aside), *written.set_aside):
        console().print(f"set aside {entry.place}: {entry.reason}", markup=False)
    print(f"{written.tasks}: {written.count} tasks; interface {written.interface}")


def _holds(source: Source, file: Path) -> bool:
    """Whether an existing file belongs to the source; an earlier export, with its interface, may be replaced."""
    if source.path.is_file():
        return source.path.samefile(file)
    return source.path.resolve() in file.resolve().parents and not file.with_suffix(".xml").is_file()


@app.command("synth")
def data_synth(
    domain: Annotated[str, typer.Argument(help="a task, such as car_damage")],
    out: Annotated[Path, typer.Argument(help="a new or empty folder")],
    count: Annotated[int, typer.Option(min=1, help="number of examples")] = 600,
    seed: Seed = 0,
    size: Annotated[int | None, typer.Option(min=32, help="side of a drawing in pixels [default: 192]")] = None,
) -> None:
    """Make a synthetic set.

    Drawings have exact boxes and masks, as Pascal VOC; texts are JSON Lines.
    """
    from datasets_vision.synthetic.writing import write_set

    write_set(domain, out, count, seed=seed, size=size)
    print(f"{out}: {count} examples")


@app.command("documents")
def data_documents(
    manuals: Annotated[Path, typer.Argument(help="a manual (PDF, Markdown, HTML), or a folder of them")],
    out: Annotated[Path, typer.Argument(help="the JSON Lines file to write")],
    server: Annotated[str | None, typer.Option(help="an OpenAI-compatible server that writes the questions")] = None,
    model: Annotated[str, typer.Option(help="the model's name on the server")] = "",
    key_env: Annotated[
        str | None, typer.Option(help="the environment variable with the server's key [default: OPENAI_API_KEY]")
    ] = None,
    passage: Annotated[int, typer.Option(min=200, help="maximum characters of a passage")] = 1200,
    answer: Annotated[int, typer.Option(min=50, help="maximum characters of an answer")] = 600,
) -> None:
    """Turn manuals into questions and answers.

    Each row names its source passage. Chatbot recipes read these rows.
    """
    from vlm_ft.data.manuals import chatbot_rows

    terminal = console()
    for line in chatbot_rows(manuals, out, server, model, key_env, passage, answer):
        terminal.print(line, markup=False)


@app.command("deidentify")
def data_deidentify(
    source: Annotated[Path, typer.Argument(help="a DICOM file, or a folder of them")],
    out: Annotated[Path, typer.Argument(help="a folder for the copies")],
    dates: Annotated[
        Dates, typer.Option(help="shift: by a secret number of days per patient, which only the key reveals")
    ] = ("remove"),
    key: Annotated[
        Path | None, typer.Option(help="the key file of the pseudonyms, to be stored elsewhere [default: OUT.key]")
    ] = None,
) -> None:
    """Copy DICOM files without names, dates and UIDs.

    Text in the pixels is reported, not removed.

    Exit code 0: every file was copied, 1: some were not, 3: all were, but some images must be checked.
    """
    from datasets_vision.deidentify import LOG, NOTICE, deidentify

    terminal = console()
    outcome = deidentify(source, out, key_file=key, dates=dates, report=lambda line: terminal.print(line, markup=False))
    for path in outcome.skipped:
        terminal.print(f"not DICOM, not copied: {path}", markup=False)
    print(
        f"{out}: {len(outcome.copied)} copied, {outcome.already_copied} already there, {len(outcome.failed)} failed, "
        f"{len(outcome.skipped)} not DICOM, {outcome.doubtful} to be checked; see {out / LOG}"
    )
    terminal.print(NOTICE, markup=False)
    raise typer.Exit(outcome.exit_code)


@app.command("rate-card")
def data_rate_card(
    costs: Annotated[Path, typer.Argument(help="a table of repair costs by car type, part, damage and severity (CSV)")],
    out: Annotated[Path, typer.Argument(help="the rate card to write (CSV)")],
    car: Annotated[str, typer.Option(help="the car type to take prices from, as named in the table")],
    currency: Annotated[str, typer.Option(help="an ISO 4217 code")] = "USD",
) -> None:
    """Make a rate card from a table of costs.

    It holds the prices of one car type, for `rate_card` in a recipe.
    """
    from vlm_ft.answers.derivations.estimate import write_rate_card
    from vlm_ft.answers.derivations.repair_costs import rate_card_of

    if out.exists() and costs.exists() and out.samefile(costs):
        raise DataError(out, "is the table of costs itself", "choose another file for the rate card")
    card = rate_card_of(costs, car, currency)
    write_rate_card(card, out)
    print(f"{out}: {len(card.rates)} prices in {card.currency}")


@app.command("compose")
def data_compose(
    recipe: RecipeName,
    out: Annotated[Path, typer.Argument(help="a new or empty folder")],
    count: Annotated[int, typer.Option(min=1, help="number of scenes")] = 10,
    size: Annotated[tuple[int, int], typer.Option(help="width and height of a scene in pixels")] = (4000, 3000),
    photos: Annotated[int, typer.Option(min=1, help="maximum number of photos in a scene")] = 12,
    scale: Annotated[tuple[float, float], typer.Option(help="range of scales for the pasted photos")] = (0.4, 1.0),
    seed: Seed = 0,
    settings: Set = None,
    task: TaskFile = None,
) -> None:
    """Compose large scenes from test photos.

    Their boxes are exact; the format is Pascal VOC, which vlm-ft compare-tiling reads.
    """
    from datasets_vision.compose import compose, write_scenes
    from vlm_ft.data.cases import load

    examples = [case.example for case in load(recipe_of(recipe, settings, task)).cases["test"]]
    scenes = compose(examples, count, size=size, photos=photos, scale=scale, seed=seed)
    print(f"{out}: {write_scenes(out, scenes)} scenes")


@app.command("from-reviews")
def data_from_reviews(
    reviews: ReviewsFolder,
    adapter: Reviewed,
    out: Annotated[Path, typer.Option("--out", help="the recipe to write")] = Path("next.yaml"),
) -> None:
    """Write the recipe of an adapter's next version.

    It also learns from what people have accepted and corrected. The examples keep their roles, so that both adapters
    can be compared on the same test set (vlm-ft promote).
    """
    from vlm_ft.review.next_recipe import write_next_recipe

    print(f"{out}: {write_next_recipe(reviews, adapter, out)}")
