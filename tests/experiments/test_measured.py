"""The list of measured recipes is complete, and reproduces the recorded figures."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vlm_ft.errors import RecipeError
from vlm_ft.evaluation.results import Result, read_results, record
from vlm_ft.experiments import measured
from vlm_ft.experiments.measured import listed_recipes, measure_recipes
from vlm_ft.recipe import RECIPES, load_recipe

RESULTS = Path("recipes/results.json")


def test_every_listed_recipe_loads_with_its_settings_and_asks_for_what_has_a_goal() -> None:
    for entry in listed_recipes():
        recipe = load_recipe(RECIPES / f"{entry.recipe}.yaml", list(entry.settings))
        for goal in entry.goals:
            assert recipe.fields is None or goal.partition(".")[0] in recipe.fields


def test_recorded_figures_are_those_of_the_listed_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLM_FT_DATA", raising=False)
    commands = {shlex.join(["vlm-ft", *list(entry.commands(Path("runs"), RESULTS))[-1]]) for entry in listed_recipes()}
    assert {result.command for result in read_results(RECIPES / RESULTS.name)} <= commands


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run; those that train obd_codes_csv fail."""
    commands: list[list[str]] = []

    def run(command: list[str]) -> Any:
        commands.append(command[3:])
        return subprocess.CompletedProcess(command, int("obd_codes_csv" in command))

    monkeypatch.setattr(measured.subprocess, "run", run)
    return commands


def test_recorded_measurements_are_not_repeated_and_a_failure_does_not_stop_others(
    ran: list[list[str]], tmp_path: Path, quiet: Console
) -> None:
    runs, results = tmp_path / "runs", tmp_path / "results.json"
    names = ["car_severity_folders", "obd_codes_csv", "faa_events_csv"]
    assert measure_recipes(names, runs, results, quiet) == ["obd_codes_csv"]
    assert [command[0] for command in ran] == ["crossval", "train", "train", "evaluate"]
    figure = {"field": "event", "metric": "macro_f1", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "minutes": 1.0}
    command = shlex.join(["vlm-ft", *ran[-1]])
    record([Result(set="s", recipe="faa_events_csv", rivals={}, command=command, **figure)], results)
    ran.clear()
    measure_recipes(["faa_events_csv"], runs, results, quiet)
    assert ran == []


def test_an_unknown_recipe_is_refused(tmp_path: Path, quiet: Console) -> None:
    with pytest.raises(RecipeError, match=r"^none: not in recipes/benchmarks/measured.yaml; add it there$"):
        measure_recipes(["none"], tmp_path, tmp_path / "results.json", quiet)
