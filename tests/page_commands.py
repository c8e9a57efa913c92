"""The commands that a page of the documentation shows, parsed as the command line does."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer

from vlm_ft.cli import app
from vlm_ft.recipe import RECIPES, load_recipe, shipped

USE_CASES = sorted({load_recipe(RECIPES / f"{name}.yaml").task for name in shipped()})
"""The tasks with a shipped recipe; each has a page."""


_RUNS = ("run", "adapter", "reward")


@dataclass(frozen=True)
class Command:
    """A line, its words after `vlm-ft`, the command's name, and the values of all its parameters."""

    line: str
    words: tuple[str, ...]
    name: str
    values: dict[str, Any]


def parsed(line: str) -> Command:
    """Fails for a command, an option or a value that does not exist, and for a missing argument."""
    words = shlex.split(line)
    words = words[1 + next(place for place, word in enumerate(words) if word in ("vlm-ft", "vlm_ft")) :]
    group, rest = _program(), list(words)
    context, name = group.make_context("vlm-ft", list(words), resilient_parsing=True), ""
    while hasattr(group, "commands"):
        assert rest, f"{line!r} ends before a command is named"
        name, *rest = rest
        assert name in group.commands, f"{name!r} is not a command"
        group = group.commands[name]
    try:
        values = group.make_context(name, rest, parent=context).params
    except Exception as error:
        raise AssertionError(f"{line!r}: {error}") from error
    return Command(line, tuple(words), name, values)


def in_text(page: Path) -> list[str]:
    """Every command of a page, in its blocks and sentences; a name alone, such as `vlm-ft train`, is not a command."""
    text = page.read_text(encoding="utf-8")
    program = r"(?:vlm-ft|accelerate launch -m vlm_ft)"
    found = re.findall(rf"^{program} [^\n#]+|(?<=`){program} [a-z][^`]*(?=`)", text, re.M)
    return list(dict.fromkeys(" ".join(line.split()) for line in found if not _is_a_name(line)))


def in_sentences(page: Path) -> list[Command]:
    """The commands that the page shows outside its blocks."""
    sentences = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return [parsed(line) for line in in_text(page) if f"`{line}`" in " ".join(sentences.split())]


def commands(page: Path, section: str | None = None) -> list[list[Command]]:
    """The commands of each block without a language, on the whole page or in the section with this title.

    A block holds nothing else but variables that are exported.
    """
    text = page.read_text(encoding="utf-8")
    if section is not None:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = []
    for block in re.findall(r"^```\n(.*?)^```", text, re.S | re.M):
        lines = [line.split("  #")[0].strip() for line in block.splitlines() if not line.startswith("export ")]
        assert all(line.startswith("vlm-ft ") for line in lines), block
        found.append([parsed(line) for line in lines])
    return found


def recipes_in(command: Command) -> list[str]:
    """The recipes that it names, by file or name."""
    asked = command.values.get("recipe") or command.values.get("recipes") or []
    return [asked] if isinstance(asked, str) else list(asked)


def runs_in(command: Command) -> list[str]:
    """The runs that it reads."""
    values = (command.values.get(name) for name in _RUNS)
    flat = (one for value in values for one in (value if isinstance(value, list | tuple) else [value]))
    return [str(one) for one in flat if one is not None]


def made_by(command: Command) -> Iterator[str]:
    """The run, the recipe or the file that it writes."""
    if command.name == "train" and not command.values["dry_run"]:
        yield str(command.values["out"] or f"runs/{Path(recipes_in(command)[0]).stem}")
    elif command.values.get("out"):
        yield str(command.values["out"])


@cache
def _program() -> Any:
    return typer.main.get_command(app)


def _is_a_name(line: str) -> bool:
    group = _program()
    for word in line.split()[1:]:
        group = getattr(group, "commands", {}).get(word)
        if group is None:
            return False
    return True
