"""Measure the shipped recipes: every command that records figures in `recipes/results.json`, one after the other."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from pydantic import Field, TypeAdapter
from rich.console import Console

from vlm_ft.answers.kinds import Strict
from vlm_ft.errors import RecipeError
from vlm_ft.evaluation.results import Result, read_entries
from vlm_ft.recipe import RECIPES
from vlm_ft.runs import Run

LIST = "benchmarks/measured.yaml"


class Measured(Strict):
    """How one recipe is measured: by cross-validation, as a learning curve or, by default, on its own test examples.

    `seeds`: trainings of each kind in a comparison with continued SFT. `sizes`: the numbers of training examples of a
    learning curve. `run`: the name of the run's folder, by default the
    recipe's. `foreign`: folders of photos below VLM_FT_DATA that the adapter should flag.
    """

    recipe: str
    run: str = ""
    folds: int | None = Field(default=None, ge=2)
    seeds: int | None = Field(default=None, ge=2)
    sizes: tuple[int, ...] = ()
    settings: tuple[str, ...] = ()
    goals: dict[str, float] = Field(default_factory=dict)
    foreign: tuple[str, ...] = ()

    def commands(self, runs: Path, results: Path) -> Iterator[list[str]]:
        """The commands that are left to run, as arguments of `vlm-ft`; the last one records the figures."""
        run, data = Run(runs / (self.run or self.recipe)), Path(os.environ.get("VLM_FT_DATA", "../shared/data"))
        settings = [word for setting in self.settings for word in ("--set", setting)]
        if self.sizes:
            options = [*(word for size in self.sizes for word in ("--size", str(size))), "--results", str(results)]
            yield ["learning-curve", self.recipe, "--out", str(run.folder), *options, *settings]
            return
        if self.seeds is not None:
            options = ["--seeds", str(self.seeds), "--results", str(results)]
            yield ["compare-sft", self.recipe, "--out", str(run.folder), *options, *settings]
            return
        recorded = ["--no-base", "--results", str(results)]
        recorded += [word for field, goal in self.goals.items() for word in ("--goal", f"{field}={goal:g}")]
        if self.folds is not None:
            yield ["crossval", self.recipe, "--out", str(run.folder), "--folds", str(self.folds), *recorded, *settings]
            return
        if run.state != "finished":
            resumed = ["--resume"] if run.state != "empty" else []
            yield ["train", self.recipe, "--out", str(run.folder), *settings, *resumed]
        foreign = [word for folder in self.foreign for word in ("--foreign", str(data / folder))]
        yield ["evaluate", str(run.folder), *foreign, *recorded]


def listed_recipes() -> list[Measured]:
    """The recipes in the order in which they are measured: some start from the adapters of earlier ones."""
    return TypeAdapter(list[Measured]).validate_python(yaml.safe_load((RECIPES / LIST).read_text(encoding="utf-8")))


def measure_recipes(names: Sequence[str], runs: Path, results: Path, console: Console) -> list[str]:
    """Measure these recipes, or all, and return the names of those that failed.

    A recipe is skipped if its last command has already recorded its figures. Raises `RecipeError` for a recipe that is
    not in the list.
    """
    listed = listed_recipes()
    if unknown := set(names) - {entry.recipe for entry in listed}:
        raise RecipeError(", ".join(sorted(unknown)), f"not in recipes/{LIST}", "add it there")
    done = {result.command for result in read_entries(results, Result)}
    failed = []
    for entry in listed:
        commands = list(entry.commands(runs, results))
        if (names and entry.recipe not in names) or shlex.join(["vlm-ft", *commands[-1]]) in done:
            continue
        for arguments in commands:
            console.print(f"$ {shlex.join(['vlm-ft', *arguments])}", markup=False, highlight=False)
            if subprocess.run([sys.executable, "-m", "vlm_ft", *arguments]).returncode:
                failed.append(entry.recipe)
                break
    return failed
