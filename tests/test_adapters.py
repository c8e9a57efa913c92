"""An adapter's card survives a round trip through its folder; any other folder is reported in one line."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cards import card_of
from tests.forms import whole_form
from vlm_ft.adapters import ADAPTER, CALIBRATED, CARD, Card, adapter_folder, read_card
from vlm_ft.answers.confidence import Agreement, Bound, Confidence, Familiar
from vlm_ft.answers.task import Task
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.tasks import TASKS

FILES = (CARD, "adapter_config.json", "adapter_model.safetensors")


def written(folder: Path, card: Card) -> Path:
    folder.mkdir(parents=True)
    for name in FILES[1:]:
        (folder / name).touch()
    card.write(folder)
    return folder


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_a_card_reads_back(task: Task, tmp_path: Path) -> None:
    card = card_of(whole_form(task), metrics={"kind.accuracy": {"value": 0.5}})
    read = read_card(written(tmp_path / "adapter", card))
    assert read == card
    assert read.form.fingerprint == card.form.fingerprint
    assert read.form.notice in read.notice
    assert "drawings" in read.notice


def test_a_trained_card_is_written_as_it_was_read(run_of: Callable[..., Path], tmp_path: Path) -> None:
    folder = run_of("qwen3_vl") / ADAPTER
    card = read_card(folder)
    card.write(tmp_path)
    assert (tmp_path / CARD).read_bytes() == (folder / CARD).read_bytes()
    assert card.most_photos == 1
    assert "most_photos" not in card_of(card.form).model_dump_json()  # earlier cards keep their fingerprints


@pytest.mark.parametrize("part", sorted(CALIBRATED))
def test_a_calibration_makes_another_calibration_of_the_same_version(part: str) -> None:
    card = card_of(whole_form(TASKS["product_defects"]))
    bound = Bound(risk=0.05, level=0.95, threshold=None, count=3, needed=59)
    fitted = {
        "confidence": Confidence(temperatures={"kind": 1.3}, bound=bound),
        "familiar": Familiar(threshold=2.0, false_alarms=0.01, trained=8, held_out=4),
        "bf16": Agreement(count=100, score=1.0, shift=0.0),
    }
    before, after = card.identity, card.model_copy(update={part: fitted[part]}).identity
    assert after.pop("calibration") != before.pop("calibration")
    assert after == before


def test_a_card_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    card = card_of(whole_form(TASKS["product_defects"]))
    folder = written(tmp_path / "adapter", card)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as on a full disk
    try:
        with pytest.raises(DataError, match=r"card\.json: cannot be written \(File too large\)"):
            card.write(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_card(folder) == card
    assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("missing", FILES)
def test_an_incomplete_folder_is_reported(missing: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "adapter", card_of(whole_form(TASKS["product_defects"])))
    (folder / missing).unlink()
    with pytest.raises(AdapterError, match=f"has no {missing}; train it again, or restore the file"):
        read_card(folder)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"{", b"\xff\xfe", b'{"version": "\n"}'])
def test_a_damaged_card_is_reported_in_one_line(text: bytes, tmp_path: Path) -> None:
    folder = written(tmp_path / "adapter", card_of(whole_form(TASKS["product_defects"])))
    (folder / CARD).write_bytes(text)
    with pytest.raises(AdapterError) as error:
        read_card(folder)
    assert str(error.value).startswith(str(folder / CARD))
    assert "\n" not in str(error.value)


def test_a_run_folder_stands_for_its_adapter(tmp_path: Path) -> None:
    folder = written(tmp_path / "run" / ADAPTER, card_of(whole_form(TASKS["product_defects"])))
    assert adapter_folder(tmp_path / "run") == adapter_folder(folder) == folder
    with pytest.raises(AdapterError, match="no such folder; train one with vlm-ft train"):
        adapter_folder(tmp_path / "none")
