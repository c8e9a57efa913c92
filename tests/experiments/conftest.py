"""Trainings of an experiment that is stopped once, and the groups that they test on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlm_ft.experiments import trial
from vlm_ft.recipe import Recipe
from vlm_ft.training.run import train


class StoppedError(Exception):
    """Stands in for Ctrl-C."""


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs trained so far; the first attempt at a second one is stopped."""
    names, stops = list[str](), [StoppedError()]

    def counted(recipe: Recipe, run: Path, **options: Any) -> Path:
        if names and stops:
            raise stops.pop()
        names.append(run.name)
        return train(recipe, run, **options)

    monkeypatch.setattr(trial, "train", counted)
    return names


def groups_tested(run: Path) -> set[str]:
    lines = map(json.loads, (run / "splits.jsonl").read_text().splitlines())
    return {line["group"] for line in lines if line["role"] == "test"}
