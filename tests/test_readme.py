"""The README's commands exist, and its examples are valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from vlm_ft.cli import app
from vlm_ft.recipe import Recipe

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^vlm-ft [^\n#]+", README, re.M)) | set(re.findall(r"`(vlm-ft [a-z][^`]*)`", README)))
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
    text = next(body for language, body in BLOCKS if language == "python")
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(text, "README.md", "exec"), names)
    assert str(names["TASK"]) == "weld"


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_every_link_leads_somewhere(target: str) -> None:
    assert (Path(__file__).parent.parent / target).exists()
