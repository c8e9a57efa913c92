"""Options that several commands share, the console, and functions that find recipes and adapters."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from datasets_vision.endpoint import Endpoint
    from vlm_ft.recipe import Recipe

RecipeName = Annotated[str, typer.Argument(help="a recipe file, or the name of a shipped one (vlm-ft recipes)")]
Set = Annotated[list[str] | None, typer.Option("--set", help="override a setting of the recipe: key=value; repeatable")]
TaskFile = Annotated[Path | None, typer.Option("--task", help="your own task: a Python file that defines TASK")]
Out = Annotated[Path | None, typer.Option("--out", help="the run folder [default: runs/<recipe name>]")]
Adapters = Annotated[list[Path], typer.Option("--adapter", help="an adapter or run folder; repeatable")]
AdapterPlace = Annotated[Path, typer.Argument(help="an adapter or run folder")]
FinishedRun = Annotated[Path, typer.Argument(help="a run folder of vlm-ft train")]
RegistryFolder = Annotated[Path, typer.Option("--registry", help="the folder of adapters and their versions")]
BasePlace = Annotated[str | None, typer.Option("--base", help="the base, if it is not where the adapter's card says")]
BatchSize = Annotated[int, typer.Option(min=1, help="prompts per batch")]
WithApp = Annotated[bool, typer.Option("--app/--no-app", help="serve the app at the end")]
FirstSteps = Annotated[Path | None, typer.Option("--figures", help="also record minutes and scores in this JSON file")]
ReviewsFolder = Annotated[Path, typer.Argument(help="a folder of reviews from the app")]
Reviewed = Annotated[Path, typer.Argument(help="the adapter's run folder, or its version in a registry")]
PrecisionOption = Annotated[
    Literal["fp32", "bf16", "auto"],
    typer.Option("--precision", help="of forward passes; auto: bf16 if faster here and the answers agree"),
]
Results = Annotated[Path | None, typer.Option("--results", help="also record the figures in this JSON file")]
Goals = Annotated[list[str] | None, typer.Option("--goal", help="a target to report: FIELD.METRIC=VALUE; repeatable")]


def refuse_if(*rules: tuple[object, str, str]) -> None:
    """Raise typer's error for the first broken rule, each given as (whether it is broken, option, problem)."""
    for broken, option, problem in rules:
        if broken:
            raise typer.BadParameter(problem, param_hint=option)


def console() -> Console:
    """The console for progress and tables: on stderr, so that stdout can be piped."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def recipe_of(name: str, settings: list[str] | None, task: Path | None) -> Recipe:
    """A recipe by file or shipped name, with the settings and the task file from the command line."""
    from vlm_ft.recipe import load_recipe

    return load_recipe(file_of(name, settings), [*(settings or []), *([f"task_file={task}"] if task else [])])


def file_of(name: str, settings: list[str] | None) -> Path:
    """A recipe's file by path or shipped name. Raises `RecipeError` if it or its data do not exist."""
    from vlm_ft.recipe import find_recipe, load_recipe, require_data

    file = find_recipe(name)
    require_data(load_recipe(file, settings or []), file)
    return file


def folders(places: list[Path]) -> list[Path]:
    """The adapter folder of each place, which is an adapter folder or a run folder."""
    from vlm_ft.adapters import adapter_folder

    return [adapter_folder(place) for place in places]


def server_of(engine: str | None, model: str | None, adapter: Path) -> Endpoint | None:
    """The server that runs the model; its name there is `model` or, by default, the adapter's."""
    from datasets_vision.endpoint import Endpoint
    from vlm_ft.adapters import adapter_folder, read_card

    if engine is None:
        return None
    scheme, _, url = engine.partition(":")
    if scheme != "openai":
        raise typer.BadParameter(f"{engine!r} is not openai:URL", param_hint="--engine")
    name = model or read_card(adapter_folder(adapter)).name
    return Endpoint(url, name, os.environ.get("OPENAI_API_KEY", ""))


def numbers_of(option: str, form: str, settings: list[str] | None) -> dict[str, float]:
    """The number that each ``NAME=NUMBER`` of an option sets; `form` describes one, such as FIELD.METRIC=VALUE."""
    found = {}
    for setting in settings or []:
        name, _, value = setting.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{setting!r} is not {form}", param_hint=option) from None
    return found


def goals_of(goals: list[str] | None) -> dict[str, float]:
    """The target value of each ``field.metric``."""
    return numbers_of("--goal", "FIELD.METRIC=VALUE", goals)


def command_line() -> str:
    """The running command, as it would be typed in a shell."""
    return shlex.join(["vlm-ft", *sys.argv[1:]])


def silence_libraries() -> None:
    """Silence library warnings that users can do nothing about."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|trl)\b")
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # it warns about optional CPU kernels
