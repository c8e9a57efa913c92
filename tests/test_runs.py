"""A run folder belongs to one recipe and one data set, and is free again if a run could not start."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from vlm_ft.errors import DataError, RecipeError
from vlm_ft.recipe import Recipe
from vlm_ft.runs import Run, stored
from vlm_ft.training.plan import Plan

DATA = {"a.jpg": "1", "b.jpg": "2", "c.jpg": "3"}


def recipe(**settings: object) -> Recipe:
    return Recipe.model_validate({"name": "trial", "task": "car_damage", "data": [{"path": "photos"}], **settings})


@pytest.fixture
def begun(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    with run.claimed(recipe(training={"epochs": 3})):
        run.check_data(DATA)
    return run


def checkpoint(run: Run, step: int) -> Path:
    """A checkpoint with the files that the trainer writes, its state last."""
    folder = run.checkpoints / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"weight": np.zeros(2)}, folder / "adapter_model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        ZipFile(folder / name, "w").close()
    (folder / "trainer_state.json").write_text("{}")
    return folder


def test_the_states_follow_one_another(tmp_path: Path, begun: Run) -> None:
    assert Run(tmp_path / "none").state == "empty"
    assert begun.state == "begun"
    checkpoint(begun, 2)
    assert begun.state == "checkpointed"
    begun.adapter.mkdir()
    (begun.adapter / "card.json").touch()
    assert begun.state == "finished"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError("CUDA out of memory")])
def test_a_run_that_cannot_start_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(BaseException) as raised, run.claimed(recipe()):  # noqa: PT011, PT012
        for file in (run.splits, run.plan, run.data):
            file.touch()
        raise error
    assert raised.value is error or raised.type is error
    assert not run.folder.exists()


def test_one_process_at_a_time_trains_in_a_folder(begun: Run) -> None:
    refused = pytest.raises(RecipeError, match="run: another process is training in it; wait until it has finished")
    with begun.alone(), refused, Run(begun.folder).alone():
        pass
    with Run(begun.folder).alone():
        pass


@pytest.mark.parametrize(("free", "error"), [(0, DataError), (1 << 40, RuntimeError)])
def test_a_full_disk_is_distinguished_from_other_failures(
    free: int, error: type[Exception], begun: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(error, match=r"unexpected pos 57152"), begun.alone():
        raise RuntimeError("unexpected pos 57152 vs 57044")
    assert begun.state == "begun"


def test_a_failed_start_keeps_what_was_there_before(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    run.splits.write_text("roles")
    with pytest.raises(MemoryError), run.claimed(recipe()):
        raise MemoryError
    assert [file.name for file in run.folder.iterdir()] == ["splits.jsonl"]


def test_an_incomplete_checkpoint_is_passed_over(begun: Run) -> None:
    """The trainer may be killed before or while it writes its state; a disk may lose other files, or their ends."""
    older, newer = checkpoint(begun, 2), checkpoint(begun, 10)
    assert (begun.checkpoint, begun.passed_over) == (newer, [])
    for file in list(newer.iterdir()):
        whole = file.read_bytes()
        file.unlink()
        assert begun.checkpoint == older
        assert begun.passed_over[0].startswith("checkpoint-10 has no ")
        file.write_bytes(b"PK\x03\x04 and no end")
        assert begun.checkpoint == older
        assert begun.passed_over[0].startswith("checkpoint-10 is damaged")
        file.write_bytes(whole)
    assert begun.checkpoint == newer
    for file in ("optimizer.pt", "scheduler.pt"):
        (newer / file).unlink()
    assert begun.passed_over == ["checkpoint-10 has no state of the optimizer"]
    (newer / "global_step10").mkdir()  # as DeepSpeed keeps both
    assert begun.checkpoint == newer


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"steps": 31, "ro', "Invalid JSON: EOF while parsing a string at line 1 column 17; restore it, or train in"),
        ('{"steps": "many", "rows": 8, "every": 4, "step": 0.8, "look": 1}', "steps: 'many': Input should be a valid"),
        ('{"steps": 31, "rows": 8, "every": 0, "step": 0.8, "look": 1}', "every: 0: Input should be greater than or"),
        ('{"steps": 31}', "rows: Field required"),
    ],
)
def test_a_damaged_plan_is_reported_in_one_line(content: str, says: str, begun: Run) -> None:
    begun.plan.write_text(content)
    with pytest.raises(DataError) as raised:
        stored(begun.plan, Plan)
    assert str(raised.value).startswith(f"{begun.plan}: {says}")


def test_a_failed_resumption_removes_nothing(begun: Run) -> None:
    with pytest.raises(MemoryError), begun.claimed(begun.recipe, resume=True):
        raise MemoryError
    assert begun.state == "begun"
    assert begun.data.exists()


def test_a_folder_with_a_run_can_only_be_resumed(begun: Run, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="already holds a run"), begun.claimed(begun.recipe):
        pass
    with pytest.raises(RecipeError, match="holds no run"), Run(tmp_path / "none").claimed(recipe(), resume=True):
        pass


def test_another_recipe_is_refused_with_the_key_that_differs(begun: Run) -> None:
    assert begun.holds(recipe(training={"epochs": 3.0}))
    with pytest.raises(RecipeError, match=r"training\.epochs was 3\.0, and is 10\.0 now"):
        begun.holds(recipe())
    with pytest.raises(RecipeError, match=r"data\.0\.path was 'photos', and is 'others' now"):
        begun.holds(recipe(training={"epochs": 3}, data=[{"path": "others"}]))


def test_only_explicit_settings_are_kept_so_that_a_new_default_does_not_block_resuming(begun: Run) -> None:
    content = yaml.safe_load(begun.recipe_file.read_text())
    assert content == {"name": "trial", "task": "car_damage", "data": [{"path": "photos"}], "training": {"epochs": 3}}


@pytest.mark.parametrize(
    ("now", "problem"),
    [
        ({**DATA, "b.jpg": "9"}, r"1 changed \(b\.jpg\)"),
        ({"a.jpg": "1"}, r"2 removed \(b\.jpg, c\.jpg\)"),
        (DATA | {f"{n}.jpg": "" for n in range(5)}, r"5 added \(0\.jpg, 1\.jpg, 2\.jpg \.\.\.\)"),
    ],
)
def test_changed_data_are_refused_by_name(begun: Run, now: dict[str, str], problem: str) -> None:
    begun.check_data(DATA)
    with pytest.raises(DataError, match=problem):
        begun.check_data(now)
