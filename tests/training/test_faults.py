"""A run that cannot succeed stops at once, with an error of one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from rich.console import Console

from vlm_ft.errors import DataError, ModelError, RecipeError
from vlm_ft.recipe import Recipe
from vlm_ft.runs import Run
from vlm_ft.training import rehearse
from vlm_ft.training.methods.sft import SFT
from vlm_ft.training.prepare import prepare
from vlm_ft.training.rehearse import GIB
from vlm_ft.training.run import train
from vlm_ft.training.show import dry_run

LONG = f"Passage 12 grants {'a very long ' * 20}notice.\tnotice\n"


@pytest.fixture
def texts(recipe_of: Callable[..., Recipe], clauses: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe for passages, one of them long."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "rows.tsv").write_text((clauses / "rows.tsv").read_text(encoding="utf-8") + LONG, encoding="utf-8")
    own = {"task": "legal_documents", "data": [{"path": str(data)}], "fields": None}
    return lambda **settings: recipe_of("qwen3", **own, **settings)


def test_rows_without_a_supervised_token_are_set_aside_by_name(
    recipe_of: Callable[..., Recipe], quiet: Console, tmp_path: Path
) -> None:
    """Some rows state only the kind of clause, which has a single option; if all do, nothing is trained."""
    (data := tmp_path / "data").mkdir()
    rows = [f"Passage {number}.\taudit\t{('', 'low', 'high')[number % 3]}" for number in range(12)]
    (data / "rows.tsv").write_text("\n".join(["text\tclause_type\trisk", *rows]) + "\n", encoding="utf-8")
    own = {"task": "legal_documents", "data": [{"path": str(data)}], "splits": {"tune": 0.0, "test": 0.0, "train": 1.0}}
    prepared = prepare(recipe_of("qwen3", **own, fields=["clause_type", "risk"]))
    aside = prepared.dataset.set_aside
    assert sorted(entry.place.rpartition(":")[2] for entry in aside) == ["11", "2", "5", "8"]
    assert {entry.problem for entry in aside} == {"each field of its answer has a single option"}
    assert len(prepared.train.cases) == len(prepared.train.lengths) == 8
    with pytest.raises(DataError, match=r"rows.tsv.*has a single option.*12 such rows"):
        train(recipe_of("qwen3", **own, fields=["clause_type"]), tmp_path / "run", console=quiet)
    whole = recipe_of("qwen3", **own, fields=["clause_type"], training={"loss_on": "answer"})
    assert not prepare(whole).dataset.set_aside


@pytest.mark.parametrize(
    ("tune", "message"), [(0.25, "the tune loss is nan at step 2"), (0.0, "the loss is nan at step 3")]
)
def test_a_loss_that_is_not_a_number_stops_the_run(
    tune: float, message: str, texts: Callable[..., Recipe], quiet: Console, tmp_path: Path
) -> None:
    """The second step destroys the weights; without `tune`, only the third one shows it."""
    training = {"learning_rate": 1e37, "warmup": 0.25, "max_steps": 4, "evaluations": 4}
    recipe = texts(splits={"tune": tune}, training=training)
    with pytest.raises(RecipeError, match=message):
        train(recipe, tmp_path / "run", console=quiet)
    checkpoint = Run(tmp_path / "run").checkpoint
    assert checkpoint
    assert checkpoint.name == ("checkpoint-1" if tune else "checkpoint-2")


def test_a_gradient_of_zero_stops_the_run(
    texts: Callable[..., Recipe], quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check after training would not notice: weight decay moves the weights."""
    real = SFT.loss
    monkeypatch.setattr(SFT, "loss", lambda *given: 0 * real(*given))
    with pytest.raises(RecipeError, match="the gradient is zero at step 1"):
        train(texts(adapter={"language": "full"}), tmp_path / "run", console=quiet)


def test_image_tokens_that_do_not_match_the_features_stop_the_run(
    recipe_of: Callable[..., Recipe], quiet: Console, tmp_path: Path
) -> None:
    """The processor divides photos into smaller patches than the tower does."""
    recipe = recipe_of("fast_vlm")
    base = Path(shutil.copytree(recipe.base, tmp_path / "base"))
    file = base / "processor_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**settings, "patch_size": settings["patch_size"] // 2}), encoding="utf-8")
    recipe = recipe.model_copy(update={"base": str(base)})
    says = r"base .*base: .*tokens do not match.*; restore the settings of its processor"
    with pytest.raises(ModelError, match=says):
        train(recipe, tmp_path / "run", console=quiet)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ModelError, match=says):
        dry_run(recipe, quiet)


def test_too_little_memory_for_the_longest_row_is_reported_before_the_first_step(
    texts: Callable[..., Recipe], quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = texts(splits={"train": 1.0, "tune": 0.0, "test": 0.0})
    real, most = SFT.loss, prepare(recipe).lengths.longest

    def short_of_memory(self: SFT, model: Any, batch: Any, *given: Any) -> Any:
        if batch["input_ids"].shape[1] == most:
            raise torch.OutOfMemoryError
        return real(self, model, batch, *given)

    monkeypatch.setattr(SFT, "loss", short_of_memory)
    with pytest.raises(RecipeError, match=r"4 rows do not fit into the GPU's memory; lower it"):
        train(recipe, tmp_path / "run", console=quiet)
    assert not (tmp_path / "run").exists()


def test_a_longest_batch_that_a_cpu_cannot_hold_is_reported_before_it_is_tried(
    texts: Callable[..., Recipe], quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of the longest batch is predicted from shorter ones, within a fifth."""
    recipe = texts(splits={"train": 1.0, "tune": 0.0, "test": 0.0})
    prepared = prepare(recipe)
    model, train_rows = prepared.attached.model.train(), prepared.train
    short, long, usual, *_ = map(train_rows, rehearse._batches(train_rows.order(recipe.training)))
    with rehearse.saved_for_backward() as saved:
        rehearse.batch_loss(model, train_rows, long, "fp32")
    for share, fits in ((1.25, True), (0.8, False)):
        left = psutil.virtual_memory()._replace(available=share * sum(saved.values()))
        monkeypatch.setattr(psutil, "virtual_memory", lambda left=left: left)
        expected = nullcontext() if fits else pytest.raises(RecipeError, match=r"the longest batch takes about .* GiB")
        with expected:
            rehearse._check_longest(model, train_rows, recipe.training, short, usual, long)


@pytest.mark.parametrize("language", ["lora", "full"])
def test_too_little_memory_for_the_optimizer_is_reported_before_the_first_step(
    language: str, recipe_of: Callable[..., Recipe], quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AdamW creates two moments per trained weight in the first step, which the rehearsal leaves out."""
    recipe = recipe_of("fast_vlm", dtype="bfloat16", adapter={"language": language}, training={"precision": "bf16"})
    prepared = prepare(recipe)
    moments = 8 * sum(weight.numel() for weight in prepared.attached.model.parameters() if weight.requires_grad)
    peaks = cycle([0, GIB])  # before the rehearsal and after it
    monkeypatch.setattr(rehearse, "peak_memory", lambda: next(peaks))
    monkeypatch.setattr(rehearse, "usable_memory", lambda: GIB + moments)
    cost = rehearse.measure(prepared.attached.model, prepared.train, prepared.tune, recipe.training)
    assert cost.peak_bytes == GIB + moments
    monkeypatch.setattr(rehearse, "usable_memory", lambda: GIB + moments - 1)
    with pytest.raises(RecipeError, match=r"a step takes 1.00 GiB, and AdamW .* available; train fewer weights"):
        train(recipe, tmp_path / "run", console=quiet)
    assert not (tmp_path / "run").exists()


def test_the_peak_of_earlier_work_does_not_stop_a_run(
    recipe_of: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of("fast_vlm")
    prepared = prepare(recipe)
    monkeypatch.setattr(rehearse, "peak_memory", lambda: 2**60)
    cost = rehearse.measure(prepared.attached.model, prepared.train, prepared.tune, recipe.training)
    assert cost.step > 0
    monkeypatch.setattr(rehearse, "peak_memory", iter([0, 2**60]).__next__)
    with pytest.raises(RecipeError, match="a step takes"):
        rehearse.measure(prepared.attached.model, prepared.train, prepared.tune, recipe.training)


def test_a_run_does_not_resume_with_a_damaged_plan(
    run_of: Callable[..., Path], recipe_of: Callable[..., Recipe], quiet: Console, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(run_of("qwen3_vl"), tmp_path / "run"))
    (run / "plan.json").write_bytes((run / "plan.json").read_bytes()[:20])
    with pytest.raises(DataError, match=r"plan\.json: Invalid JSON: .*; restore it, or train in another --out"):
        train(recipe_of("qwen3_vl"), run, resume=True, console=quiet)
