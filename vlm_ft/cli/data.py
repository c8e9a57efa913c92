"""`vlm-ft data`: look at data before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vlm_ft.cli.options import RecipeName, Set, TaskFile, console, recipe_of

Domain = Literal["product_defects", "object_identification"]
World = Literal["starter", "quickstart"]

app = typer.Typer(help="Look at data before training on it.", no_args_is_help=True)


@app.command("read")
def data_read(recipe: RecipeName, settings: Set = None, task: TaskFile = None) -> None:
    """Read a recipe's data: the form that they fill, the roles, and all that was set aside."""
    from vlm_ft.data.cases import load

    terminal = console()
    dataset = load(recipe_of(recipe, settings, task))
    terminal.print(dataset.form.prompt, markup=False)
    terminal.print("\n" + ", ".join(f"{role} {count}" for role, count in dataset.counts.items()))
    for note in dataset.notes:
        terminal.print(f"note: {note}", markup=False)
    for entry in dataset.set_aside:
        terminal.print(f"set aside {entry.place}: {entry.reason}", markup=False)


@app.command("synth")
def data_synth(
    domain: Annotated[Domain, typer.Argument()],
    out: Annotated[Path, typer.Argument(help="an empty or new folder")],
    count: Annotated[int, typer.Option(min=1)] = 600,
    seed: int = 0,
    size: Annotated[int, typer.Option(min=32, help="pixels of a side")] = 192,
    world: Annotated[
        World, typer.Option(help="quickstart: what the base never saw; starter: what it did")
    ] = "quickstart",
) -> None:
    """Draw a procedural set with exact boxes and masks, as Pascal VOC."""
    from datasets_vision.synthetic.writing import write_set

    write_set(domain, out, count, seed=seed, world=world, size=size)
    print(f"{out}: {count} images")
