"""The service is timed from the command to its answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from vlm_ft.experiments import service_benchmark
from vlm_ft.experiments.service_benchmark import benchmark_service


def test_every_figure_is_measured(
    tiny_folder: Callable[[str], Path], tmp_path: Path, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_benchmark, "PHOTOS", 6)
    monkeypatch.setattr(service_benchmark, "ROUNDS", 2)
    base = str(tiny_folder("fast_vlm"))
    benchmark_service(base, None, tmp_path / "service.json", "the command", quiet)
    first, one, rate, growth = json.loads((tmp_path / "service.json").read_text())
    assert first["value"] > one["value"] > 0
    assert rate["value"] > 1 / (8 * one["value"])
    assert growth["unit"] == "%"
    assert {figure["command"] for figure in (first, one, rate, growth)} == {"the command"}
