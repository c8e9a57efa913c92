"""Rivals in environments of their own get our rows and the bare language model, and are left out if they fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from transformers import AutoModelForCausalLM

from vlm_ft.bases.load import Base
from vlm_ft.conversation import IGNORED
from vlm_ft.experiments import rival_environments, training_benchmark
from vlm_ft.experiments.rival_environments import RIVALS, language_alone
from vlm_ft.experiments.training_benchmark import Workload, benchmark_training, take
from vlm_ft.recipe import Recipe

SCRIPT = """
import json, pathlib, sys
job = pathlib.Path(sys.argv[1]).read_text()
if json.loads(job)["package"] == "llamafactory":
    raise RuntimeError("needs another torch")
pathlib.Path("job.json").write_text(job)
times = {"ends": [1, 2, 1002, 2002], "losses": [0.5, 1.5, 9, 9], "peak": 5}
pathlib.Path(sys.argv[2]).write_text(json.dumps(times))
"""


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """New processes take long to start."""
    monkeypatch.setattr(training_benchmark, "_turn", take)
    monkeypatch.setattr(rival_environments, "apart", lambda turn, *given: turn(*given))


def test_a_rival_that_fails_is_left_out_with_its_reason(
    recipe_of: Callable[..., Recipe],
    tiny_folder: Callable[[str], Path],
    clauses: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A script takes the place of both: one fails, and one says that two steps took 2,000 s."""
    monkeypatch.chdir(tmp_path)
    (script := tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.setattr(rival_environments, "SCRIPT", script)
    monkeypatch.setattr(rival_environments, "interpreter", lambda _: Path(sys.executable))
    recipe = recipe_of("qwen3", task="legal_documents", data=[{"path": str(clauses)}], fields=None)
    (file := tmp_path / "trial.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True)))
    settings = ("training.batch_size=2",)
    workload = Workload("texts", "sft", str(file), settings, dict.fromkeys(RIVALS), alone=True)
    monkeypatch.setattr(training_benchmark, "WORKLOADS", {"texts": workload})
    base, out = str(tiny_folder("qwen3")), tmp_path / "training.json"
    with (tmp_path / "said").open("w") as said:
        benchmark_training(base, out, "it", Console(file=said, width=500), only="texts", rounds=1, steps=2)
    assert (
        (tmp_path / "said")
        .read_text()
        .splitlines()[0]
        .startswith("left out: LLaMA-Factory: cannot train (RuntimeError: needs another torch)")
    )
    found = {figure["figure"].split(": texts, ")[1]: figure["value"] for figure in json.loads(out.read_text())}
    ours = found["seconds a step"]
    assert found["a step, times as fast as ms-swift"] == pytest.approx(1000 / ours, rel=0.01)
    assert not any("LLaMA-Factory" in name for name in found)
    job: dict[str, Any] = json.loads((tmp_path / "job.json").read_text())
    assert (job["training"]["max_steps"], len(job["rows"])) == (4, 4)
    assert all(len(row["input_ids"]) == len(row["labels"]) > row["labels"].count(IGNORED) for row in job["rows"])


def test_the_language_model_alone_answers_as_within_its_base(
    tiny_base: Callable[[str], Base], tiny_folder: Callable[[str], Path]
) -> None:
    ids = torch.arange(5, 25)[None]
    with language_alone(str(tiny_folder("fast_vlm"))) as folder, torch.inference_mode():
        alone = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
        assert torch.equal(alone, tiny_base("fast_vlm").model(input_ids=ids).logits)
