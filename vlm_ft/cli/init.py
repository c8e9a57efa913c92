"""`vlm-ft init`: write a recipe for a data set."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm_ft.cli.options import console
from vlm_ft.errors import RecipeError

if TYPE_CHECKING:
    from vlm_ft.answers.task import Task
    from vlm_ft.data.proposal import Survey

app = typer.Typer()
UNFIT = "name columns or labels after the fields of a task (README.md, Tasks), or write your own task"


@app.command()
def init(
    data: Annotated[Path, typer.Argument(help="a folder of photos or texts with their labels, or a file")],
    task: Annotated[
        str | None, typer.Option(help="a task, such as car_damage, or a Python file that defines TASK [default: ask]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="the recipe to write [default: <name of the data>.yaml]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an existing file")] = False,
) -> None:
    """Write a commented recipe for your own data.

    Detects the format and the fields that the labels state, asks for the task, and says what to run next.
    """
    from vlm_ft.data.proposal import Survey, name_of, propose

    out = out or Path(f"{name_of(data)}.yaml")
    if out.exists() and not force:
        raise RecipeError(out, "already exists", "give another --out, or --force to replace it")
    terminal = console()
    with terminal.status("reading"):
        survey = Survey.of(data)
    terminal.print(f"{data}: {len(survey.examples)} examples in the format {survey.format}", markup=False)
    chosen, file = _task(task, survey)
    with terminal.status("reading"):
        proposal = propose(survey, chosen, task_file=file)
    proposal.write(out)
    counts = ", ".join(f"{role} {count}" for role, count in proposal.dataset.counts.items())
    terminal.print(f"asks for {', '.join(proposal.recipe.fields or ())}; {counts}", markup=False)
    for note in proposal.notes:
        terminal.print(f"note: {note}", markup=False)
    if aside := proposal.dataset.set_aside:
        terminal.print(f"set aside {len(aside)}, such as {aside[0]}", markup=False)
    print(out)
    place = shlex.quote(str(out))
    terminal.print(f"next:\n  vlm-ft train {place} --dry-run\n  vlm-ft train {place}", markup=False)


def _task(asked: str | None, survey: Survey) -> tuple[Task, Path | None]:
    """The task by name, by file, or as the user chooses it; and its file, if it has one."""
    from vlm_ft.tasks import task_in, task_of

    if asked and asked.endswith(".py"):
        return task_in(Path(asked)), Path(asked)
    if asked:
        return task_of(asked), None
    if not survey.fitting:
        raise survey.unfit("any task", UNFIT)
    if not _interactive():
        raise RecipeError("--task", "not given", f"give one that fits: {', '.join(survey.fitting)}")
    for name, fields in survey.fitting.items():
        console().print(f"  {name:22} {', '.join(fields)}", markup=False)
    return task_of(typer.prompt("task", err=True)), None


def _interactive() -> bool:
    return sys.stdin.isatty()
