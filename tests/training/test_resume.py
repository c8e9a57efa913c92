"""A run is reproducible: one that was interrupted continues as if it had not been, or says why it cannot."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.training.killed import tensors, train_until
from tests.training.processes import losses
from vlm_ft.adapters import ADAPTER
from vlm_ft.bases import load
from vlm_ft.errors import DataError, RecipeError
from vlm_ft.recipe import Recipe
from vlm_ft.runs import Run
from vlm_ft.training import run as runs
from vlm_ft.training.progress import KeepTime
from vlm_ft.training.run import train

Recipes = Callable[..., Recipe]
Runs = Callable[..., Path]
WHOLE = {"language": "lora", "projector": "lora", "vision": "lora"}


def test_an_interrupted_run_restores_the_cursor_of_the_terminal(
    recipe_of: Recipes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(KeepTime):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(runs, "KeepTime", Interrupted)
    monkeypatch.setenv("TERM", "xterm")
    screen = StringIO()
    with pytest.raises(KeyboardInterrupt, match=r"the same command with --resume continues .*run"):
        train(recipe_of("fast_vlm"), tmp_path / "run", console=Console(file=screen, force_terminal=True))
    hidden, shown = (screen.getvalue().rfind(f"\x1b[?25{letter}") for letter in "lh")
    assert 0 <= hidden < shown


@pytest.mark.parametrize(("base", "step", "workers"), [("qwen3_vl", 3, 0), ("llava_siglip_qwen2", 5, 1)])
def test_a_resumed_run_equals_an_uninterrupted_one(
    base: str,
    step: int,
    workers: int,
    run_of: Runs,
    recipe_of: Recipes,
    quiet: Console,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Checkpoints are at steps 2 and 4, within epochs of three steps, with random augmentation and dropout."""
    settings: dict[str, Any] = {
        "augment": "flips",
        "adapter": {**WHOLE, "dropout": 0.1},
        "training": {"max_steps": 6, "evaluations": 3, "workers": workers},
    }
    unbroken, recipe, out = run_of(base, **settings), recipe_of(base, **settings), tmp_path / "run"
    train_until(step, recipe, out, quiet, monkeypatch)
    assert not (out / ADAPTER).exists()
    with pytest.raises(RecipeError, match="continue it with --resume"):
        train(recipe, out, console=quiet)
    train(recipe, out, resume=True, console=quiet)
    assert tensors(out) == tensors(unbroken)


def test_a_resumed_run_logs_the_losses_of_an_uninterrupted_one(
    recipe_of: Recipes, clauses: Path, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps would be logged as one mean, which a checkpoint after five would divide."""
    training = {"max_steps": 40, "evaluations": 8}
    recipe = recipe_of("qwen3", task="legal_documents", data=[{"path": str(clauses)}], fields=None, training=training)
    train(recipe, tmp_path / "unbroken", console=quiet)
    train_until(7, recipe, tmp_path / "run", quiet, monkeypatch)
    train(recipe, tmp_path / "run", resume=True, console=quiet)
    assert losses(tmp_path / "run") == losses(tmp_path / "unbroken")
    watched = Run(tmp_path / "run").read_losses()
    assert watched == Run(tmp_path / "unbroken").read_losses()
    assert [entry["loss"] for entry in watched if "loss" in entry] == losses(tmp_path / "run")


def test_a_resumed_policy_is_held_to_the_start_of_its_run(
    recipe_of: Recipes, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start includes a new projector, fitted to the training set."""
    monkeypatch.setattr(load, "_projector_untrained", lambda place: True)
    training = {"max_steps": 4, "evaluations": 2}
    settings: dict[str, Any] = {"training": training, "splits": {"tune": 0.0}}  # keeps the last checkpoint
    recipe = recipe_of("fast_vlm", method="rloo", policy={"answers": 2, "beta": 0.5}, **settings)
    train(recipe, tmp_path / "unbroken", console=quiet)
    train_until(3, recipe, tmp_path / "run", quiet, monkeypatch)
    train(recipe, tmp_path / "run", resume=True, console=quiet)
    assert tensors(tmp_path / "run") == tensors(tmp_path / "unbroken")


def test_a_run_is_reproducible(run_of: Runs, recipe_of: Recipes, quiet: Console, tmp_path: Path) -> None:
    train(recipe_of("qwen3_vl"), tmp_path / "again", console=quiet)
    assert tensors(tmp_path / "again") == tensors(run_of("qwen3_vl"))


def test_resuming_a_finished_run_changes_nothing(
    run_of: Runs, recipe_of: Recipes, quiet: Console, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(run_of("qwen3_vl"), tmp_path / "run"))
    train(recipe_of("qwen3_vl"), run, resume=True, console=quiet)
    assert tensors(run) == tensors(run_of("qwen3_vl"))


def test_a_run_killed_after_its_last_step_takes_no_further_one(
    run_of: Runs, recipe_of: Recipes, quiet: Console, tmp_path: Path
) -> None:
    whole = Run(run_of("fast_vlm"))
    run = Run(Path(shutil.copytree(whole.folder, tmp_path / "killed")))
    shutil.rmtree(run.adapter)
    assert run.state == "checkpointed"
    train(recipe_of("fast_vlm"), run.folder, resume=True, console=quiet)
    assert run.read_losses() == whole.read_losses()
    assert tensors(run.adapter) == tensors(whole.adapter)


def test_a_resumed_run_says_which_checkpoint_it_passes_over(run_of: Runs, recipe_of: Recipes, tmp_path: Path) -> None:
    """The trainer itself would go on with a new optimizer."""
    run = Path(shutil.copytree(run_of("qwen3_vl"), tmp_path / "run"))
    (run / "checkpoints" / "checkpoint-2" / "optimizer.pt").unlink()
    said = StringIO()
    train(recipe_of("qwen3_vl"), run, resume=True, console=Console(file=said, width=200))
    assert "note: checkpoint-2 has no state of the optimizer; starting over at step 0\n" in said.getvalue()
    assert tensors(run) == tensors(run_of("qwen3_vl"))


def test_a_run_does_not_resume_on_changed_data(
    recipe_of: Recipes, drawings: Path, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "set"
    shutil.copytree(drawings, copied)
    recipe, out = recipe_of("llava_siglip_qwen2", data=[{"path": str(copied)}]), tmp_path / "run"
    train_until(1, recipe, out, quiet, monkeypatch)
    photo = min((copied / "JPEGImages").glob("*.png"))
    shutil.copy(max((copied / "JPEGImages").glob("*.png")), photo)
    with pytest.raises(DataError, match=rf"data have changed since the run began: 1 changed .*{photo.stem}"):
        train(recipe, out, resume=True, console=quiet)
