"""What the commands share: their options, the console, and how a recipe or an adapter is named."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from vlm_ft.recipe import Recipe

RecipeName = Annotated[str, typer.Argument(help="a recipe file, or the name of a shipped one (vlm-ft recipes)")]
Set = Annotated[list[str] | None, typer.Option("--set", help="key=value laid over the recipe; may be repeated")]
TaskFile = Annotated[Path | None, typer.Option("--task", help="a Python file of yours that defines TASK")]
Out = Annotated[Path | None, typer.Option("--out", help="the run's folder [runs/<recipe name>]")]
Adapters = Annotated[list[Path], typer.Option("--adapter", help="an adapter or run folder; may be repeated")]
Results = Annotated[Path | None, typer.Option("--results", help="a JSON file that takes the figures, too")]
Goals = Annotated[list[str] | None, typer.Option("--goal", help="FIELD.METRIC=VALUE to aim at; may be repeated")]


def console() -> Console:
    """Where progress and tables go: stderr, so that stdout stays a program's."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def recipe_of(name: str, settings: list[str] | None, task: Path | None) -> Recipe:
    """A recipe by file or shipped name, with the settings and the task file of the command line."""
    from vlm_ft.recipe import load_recipe

    return load_recipe(file_of(name, settings), [*(settings or []), *([f"task_file={task}"] if task else [])])


def file_of(name: str, settings: list[str] | None) -> Path:
    """A recipe's file by path or shipped name. Raises `RecipeError` where it, or its data, do not exist."""
    from vlm_ft.recipe import find_recipe, load_recipe, require_data

    file = find_recipe(name)
    require_data(load_recipe(file, settings or []), file)
    return file


def folders(places: list[Path]) -> list[Path]:
    """The adapter folder of each place: itself, or a run that holds one."""
    from vlm_ft.adapters import adapter_folder

    return [adapter_folder(place) for place in places]


def goals_of(goals: list[str] | None) -> dict[str, float]:
    """The value to aim at of each ``field.metric``."""
    found = {}
    for goal in goals or []:
        figure, _, value = goal.rpartition("=")
        try:
            found[figure] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{goal!r} is not FIELD.METRIC=VALUE", param_hint="--goal") from None
    return found


def command_line() -> str:
    """The command that is running, as it would be typed."""
    return shlex.join(["vlm-ft", *sys.argv[1:]])
