"""Measure the shipped recipes: every command that records figures in `recipes/results.json`, one after the other."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import yaml
from pydantic import Field, TypeAdapter
from rich.console import Console

from vlm_ft.answers.kinds import Strict
from vlm_ft.errors import RecipeError
from vlm_ft.evaluation.results import Result, read_entries
from vlm_ft.recipe import RECIPES, load_recipe
from vlm_ft.runs import Run

LIST = "benchmarks/measured.yaml"


class Measured(Strict):
    """How one recipe is measured: by cross-validation, as a learning curve or, by default, on its own test examples.

    `goals`: the values to reach, by ``field.metric``; tables show them, and commands do not depend on them.
    `seeds`: runs of each kind in a comparison with continued SFT. `sizes`: the numbers of training examples of a
    learning curve. `run`: the name of the run's folder, by default the recipe's. `foreign`: folders of photos below
    VLM_FT_DATA that the adapter should flag. `base`: whether the bare base is a rival, by default on texts only, since
    `compact` sees nothing before its projector is trained.
    """

    recipe: str
    run: str = ""
    folds: int | None = Field(default=None, ge=2)
    seeds: int | None = Field(default=None, ge=2)
    sizes: tuple[int, ...] = ()
    settings: tuple[str, ...] = ()
    goals: dict[str, float] = Field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    base: bool | None = None

    @property
    def name(self) -> str:
        """The name of its run."""
        return self.run or self.recipe

    @property
    def kind(self) -> str:
        """The command that records its figures."""
        if self.sizes:
            return "learning-curve"
        if self.seeds is not None:
            return "compare-sft"
        return "evaluate" if self.folds is None else "crossval"

    @property
    def asks_base(self) -> bool:
        """Whether the bare base is one of the rivals."""
        if self.base is not None:
            return self.base
        return all(source.shows_text for source in load_recipe(RECIPES / f"{self.recipe}.yaml").data)

    def commands(self, runs: Path, results: Path) -> Iterator[list[str]]:
        """The commands that are left to run, as arguments of `vlm-ft`; the last one records the figures."""
        run, data = Run(runs / self.name), Path(os.environ.get("VLM_FT_DATA", "../shared/data"))
        settings = [word for setting in self.settings for word in ("--set", setting)]
        recorded, out = ["--results", str(results)], ["--out", str(run.folder)]
        base = [] if self.asks_base else ["--no-base"]
        if self.sizes:
            sizes = [word for size in self.sizes for word in ("--size", str(size))]
            yield [self.kind, self.recipe, *out, *sizes, *recorded, *settings]
        elif self.seeds is not None:
            yield [self.kind, self.recipe, *out, "--seeds", str(self.seeds), *recorded, *settings]
        elif self.folds is not None:
            yield [self.kind, self.recipe, *out, "--folds", str(self.folds), *base, *recorded, *settings]
        else:
            if run.state != "finished":
                resumed = ["--resume"] if run.state != "empty" else []
                yield ["train", self.recipe, *out, *settings, *resumed]
            foreign = [word for folder in self.foreign for word in ("--foreign", str(data / folder))]
            yield [self.kind, str(run.folder), *foreign, *base, *recorded]


def listed_recipes() -> list[Measured]:
    """The recipes in the order in which they are measured: some start from the adapters of earlier ones."""
    return TypeAdapter(list[Measured]).validate_python(yaml.safe_load((RECIPES / LIST).read_text(encoding="utf-8")))


def without_comparisons(command: str) -> str:
    """The command without the goals and the choice of rivals, which the adapter's own figures do not depend on."""
    words = [word for word in shlex.split(command) if word != "--no-base"]
    goals = {place for place, word in enumerate(words) if word == "--goal"}
    return shlex.join(word for place, word in enumerate(words) if not {place, place - 1} & goals)


@cache
def _goals() -> dict[tuple[str, str, str], float]:
    """By command, recipe and ``field.metric``."""
    return {(entry.kind, entry.recipe, name): goal for entry in listed_recipes() for name, goal in entry.goals.items()}


def goal_of(result: Result) -> float | None:
    """The current goal of a figure: the one in the list or, by default, the recorded one."""
    kind = result.command.split()[1]
    return _goals().get((kind, result.recipe, f"{result.field}.{result.metric}"), result.goal)


def measure_recipes(names: Sequence[str], runs: Path, results: Path, console: Console) -> list[str]:
    """Measure these recipes, or all, and return the names of those that failed.

    Each name is a recipe's or a run's. A recipe is skipped if its last command has already recorded its figures.
    Raises `RecipeError` for a name that is not in the list.
    """
    listed = listed_recipes()
    if unknown := set(names) - {name for entry in listed for name in (entry.recipe, entry.name)}:
        raise RecipeError(", ".join(sorted(unknown)), f"not in recipes/{LIST}", "add it there")
    done = {without_comparisons(result.command) for result in read_entries(results, Result)}
    failed = []
    for entry in listed:
        commands = list(entry.commands(runs, results))
        recorded = without_comparisons(shlex.join(["vlm-ft", *commands[-1]])) in done
        if recorded or (names and not {entry.recipe, entry.name} & set(names)):
            continue
        for arguments in commands:
            console.print(f"$ {shlex.join(['vlm-ft', *arguments])}", markup=False, highlight=False)
            if subprocess.run([sys.executable, "-m", "vlm_ft", *arguments]).returncode:
                failed.append(entry.name)
                break
    return failed
