"""Every contestant of the training benchmark takes its turn on the same rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from vlm_ft.errors import ModelError
from vlm_ft.experiments import training_benchmark
from vlm_ft.experiments.training_benchmark import FOURFOLD, Workload, benchmark_training, take
from vlm_ft.recipe import Methods, Recipe

TWO = ("training.batch_size=2",)


@pytest.fixture
def workload(recipe_of: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Workload]:
    """Two drawings a step, for any of the methods."""
    file = tmp_path / "trial.yaml"
    file.write_text(yaml.safe_dump(recipe_of("fast_vlm").model_dump(mode="json", exclude_unset=True)), encoding="utf-8")

    def of(method: Methods, *settings: str, learning_rate: float = training_benchmark.STANDSTILL) -> Workload:
        return Workload("drawings", method, str(file), (*TWO, *settings), FOURFOLD, method == "dpo", learning_rate)

    return of


@pytest.mark.parametrize(
    ("method", "settings", "learning_rate"),
    [
        ("sft", (), training_benchmark.STANDSTILL),
        ("dpo", (), 2e-2),
        ("grpo", ("policy.answers=2",), training_benchmark.STANDSTILL),
    ],
)
def test_a_method_is_timed_against_trl(
    method: Methods,
    settings: tuple[str, ...],
    learning_rate: float,
    workload: Callable[..., Workload],
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    quiet: Console,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this process, since a new one takes long to start."""
    timed = {"drawings": workload(method, *settings, learning_rate=learning_rate)}
    monkeypatch.setattr(training_benchmark, "WORKLOADS", timed)
    monkeypatch.setattr(training_benchmark, "_turn", take)
    base, out = str(tiny_folder("fast_vlm")), tmp_path / "training.json"
    benchmark_training(base, out, "the command", quiet, only="drawings", rounds=1, steps=2)
    found = {figure["figure"].split(": drawings, ")[1]: figure["value"] for figure in json.loads(out.read_text())}
    unit = "a pair" if method == "dpo" else "a step"
    assert found[f"{unit}, times as fast as TRL's defaults"] > 0
    assert found[f"seconds {unit}"] > 0
    assert (0 < found.get("share of the bf16 peak of matrix products", 0) < 1) == (method == "sft")
    if method != "grpo":
        assert found["spread of the losses"] < 0.02  # TRL computes in bf16, and this test's recipe in fp32
    if method == "dpo":
        fallen = math.log(2) - found["mean loss of the first steps, vlm_ft"]
        assert fallen > 0.02
        assert found["spread of the losses"] < fallen / 4
        fast = "a pair, times as fast as TRL's defaults"
        assert found[f"{fast}, its reference known"] > found[fast]


@pytest.mark.parametrize("only", ["pairs", "intents-score", "none"])
def test_what_a_base_cannot_learn_is_not_timed_on_it(only: str, tmp_path: Path, quiet: Console) -> None:
    with pytest.raises(ModelError, match=f"random-152k: {only} is not timed on it; choose intents or intents-others$"):
        benchmark_training("random-152k", tmp_path / "training.json", "the command", quiet, only=only)
