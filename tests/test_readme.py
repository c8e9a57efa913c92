"""The commands of the README and of the recipes' index exist, and their examples and links are valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml
from pydantic import TypeAdapter

from vlm_ft.cli import app
from vlm_ft.evaluation.results import quoted, read_results
from vlm_ft.experiments.sheet import Figure
from vlm_ft.recipe import RECIPES, Recipe, load_recipe, shipped

ROOT = Path(__file__).parent.parent
README, INDEX = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "recipes/README.md"))
BOTH = README + INDEX
COMMANDS = sorted(set(re.findall(r"^vlm-ft [^\n#]+", BOTH, re.M)) | set(re.findall(r"`(vlm-ft [a-z][^`]*)`", BOTH)))
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.S)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command: str) -> None:
    root = typer.main.get_command(app)
    words = shlex.split(command)[1:]
    group, context = root, root.make_context("vlm-ft", list(words), resilient_parsing=True)
    while hasattr(group, "commands"):
        assert words, f"{command!r} ends before a command is named"
        name, *words = words
        assert name in group.commands, f"{name!r} is no command"
        group = group.commands[name]
    placed = [word for word in words if word != "…"]
    if "…" not in words and placed:
        group.make_context(command, placed, parent=context)


def test_the_recipe_is_valid() -> None:
    text = next(body for language, body in BLOCKS if language == "yaml")
    assert Recipe.model_validate(yaml.safe_load(text)).task == "product_defects"


def test_the_task_file_defines_a_task() -> None:
    text = next(body for language, body in BLOCKS if language == "python" and "TASK =" in body)
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(text, "README.md", "exec"), names)
    assert str(names["TASK"]) == "weld"


def test_the_benchmark_is_quoted_as_measured() -> None:
    for name in ("decoder", "training", "soak", "service"):
        file = RECIPES / "benchmarks" / f"{name}.json"
        for figure in TypeAdapter(list[Figure]).validate_json(file.read_bytes()) if file.exists() else ():
            assert figure.row in README


@pytest.mark.parametrize("page", ["README.md", "recipes/README.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("name", shipped())
def test_the_index_describes_every_recipe(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    origins = [entry.origin for entry in recipe.data if entry.origin]
    web = [origin.source.startswith("http") for origin in origins]
    sets = [f"[{one.name}]({one.source})" if link else one.name for one, link in zip(origins, web, strict=True)]
    shows = "texts" if all(entry.shows_text for entry in recipe.data) else "photos"
    cells = [recipe.task, shows, ", ".join(recipe.fields or ()), ", ".join(sets), ", ".join(o.licence for o in origins)]
    assert f"| [{name}]({name}.yaml) | {' | '.join(cells)} |" in INDEX


def test_the_index_quotes_the_results() -> None:
    assert quoted(INDEX, read_results(RECIPES / "results.json")) == INDEX, (
        "run vlm-ft figures --write recipes/README.md"
    )
