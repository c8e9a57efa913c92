"""The service is timed from the command to its answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from vlm_ft.adapters import adapter_folder, read_card
from vlm_ft.errors import AdapterError
from vlm_ft.experiments import service_benchmark
from vlm_ft.experiments.service_benchmark import benchmark_service


def test_every_figure_is_measured_for_the_base_of_the_adapter(
    run_of: Callable[..., Path], tmp_path: Path, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_benchmark, "DRAWINGS", 6)
    monkeypatch.setattr(service_benchmark, "PHOTOS", 6)
    monkeypatch.setattr(service_benchmark, "SIZE", (320, 240))
    monkeypatch.setattr(service_benchmark, "ROUNDS", 2)
    run = run_of("fast_vlm")
    benchmark_service("compact", run, tmp_path / "service.json", "the command", quiet)
    first, one, rate, growth = json.loads((tmp_path / "service.json").read_text())
    assert first["value"] > one["value"] > 0
    assert rate["value"] > 1 / (8 * one["value"])
    assert growth["unit"] == "%"
    name = read_card(adapter_folder(run)).base.name
    assert all(figure["figure"].startswith(f"{name}: ") for figure in (first, one, rate, growth))
    assert first["goal"] is None  # the goals are those of compact
    assert {figure["command"] for figure in (first, one, rate, growth)} == {"the command"}


def test_a_service_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(AdapterError, match=r"did not start: .*has no card\.json"),
        service_benchmark._served(tmp_path),
    ):
        pass
