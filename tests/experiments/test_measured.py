"""The list of measured recipes is complete, and reproduces the recorded figures."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.evaluation.test_results import result
from tests.page_commands import parsed
from vlm_ft.errors import RecipeError
from vlm_ft.evaluation.results import Result, read_results, record
from vlm_ft.experiments import measured
from vlm_ft.experiments.measured import Measured, goal_of, listed_recipes, measure_recipes, without_comparisons
from vlm_ft.experiments.quotes import table
from vlm_ft.recipe import RECIPES, load_recipe, shipped

RESULTS = Path("recipes/results.json")


def test_every_listed_recipe_loads_with_its_settings_and_asks_for_what_has_a_goal() -> None:
    for entry in listed_recipes():
        recipe = load_recipe(RECIPES / f"{entry.recipe}.yaml", list(entry.settings))
        for goal in entry.goals:
            assert recipe.fields is None or goal.partition(".")[0] in recipe.fields


def test_recorded_figures_are_those_of_the_listed_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLM_FT_DATA", raising=False)
    last = [list(entry.commands(Path("runs"), RESULTS))[-1] for entry in listed_recipes()]
    commands = {without_comparisons(shlex.join(["vlm-ft", *arguments])) for arguments in last}
    assert {without_comparisons(result.command) for result in read_results(RECIPES / RESULTS.name)} <= commands


def test_every_recipe_on_a_public_set_is_listed() -> None:
    public = {name for name in shipped() if "${VLM_FT_DATA" in (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")}
    assert "steel_surface_voc" in public
    assert public <= {entry.recipe for entry in listed_recipes()}


@pytest.mark.parametrize(
    ("entry", "asked"),
    [
        (Measured(recipe="obd_codes_csv"), True),
        (Measured(recipe="obd_codes_csv", folds=3), True),
        (Measured(recipe="obd_codes_csv", base=False), False),
        (Measured(recipe="car_severity_folders", folds=3), False),
        (Measured(recipe="car_severity_folders", base=True), True),
    ],
)
def test_the_bare_base_is_a_rival_on_texts_unless_the_list_says_otherwise(entry: Measured, asked: bool) -> None:
    *_, last = entry.commands(Path("runs"), RESULTS)
    assert ("--no-base" not in last) == asked


def test_a_recipe_is_listed_after_those_that_it_begins_with() -> None:
    earlier: set[str] = set()
    for entry in listed_recipes():
        recipe = load_recipe(RECIPES / f"{entry.recipe}.yaml", list(entry.settings))
        assert {place.name for place in (recipe.from_adapter, recipe.policy.reward_model) if place} <= earlier
        earlier.add(entry.name)


def test_every_way_of_measuring_is_a_command_that_records() -> None:
    for entry in listed_recipes():
        *_, command = (parsed(shlex.join(["vlm-ft", *each])) for each in entry.commands(Path("runs"), RESULTS))
        assert command.name == entry.kind
        assert command.values["results"] == RESULTS


def test_a_new_goal_or_rival_needs_no_new_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    command = "vlm-ft crossval a --out runs/a --goal kind.macro_f1=0.6 --folds 3 --no-base"
    assert without_comparisons(command) == "vlm-ft crossval a --out runs/a --folds 3"
    listed = [Measured(recipe="a", folds=3, goals={"kind.macro_f1": 0.7})]
    monkeypatch.setattr(measured, "listed_recipes", lambda: listed)
    monkeypatch.setattr(measured, "_goals", measured._goals.__wrapped__)
    assert goal_of(result(recipe="a", command=command, goal=0.6)) == 0.7
    assert "| 0.7 |" in table([result(recipe="a", command=command, goal=0.6)])
    assert goal_of(result(recipe="a", command="vlm-ft evaluate runs/a", goal=0.6)) == 0.6


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


def test_a_measurement_is_chosen_by_its_run(ran: list[list[str]], tmp_path: Path, quiet: Console) -> None:
    measure_recipes(["steel_findings"], tmp_path, tmp_path / "results.json", quiet)
    assert [command[:2] for command in ran] == [
        ["train", "steel_surface_voc"],
        ["evaluate", str(tmp_path / "steel_findings")],
    ]


def test_an_unknown_recipe_is_refused(tmp_path: Path, quiet: Console) -> None:
    with pytest.raises(RecipeError, match=r"^none: not in recipes/benchmarks/measured.yaml; add it there$"):
        measure_recipes(["none"], tmp_path, tmp_path / "results.json", quiet)
