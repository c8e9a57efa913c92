"""Every image of a folder is scored once, whatever happens in between."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

import vlm_ft
from tests.scoring.conftest import drawn
from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.scoring.answering import ASKING
from vlm_ft.scoring.ledger import Ledger, ledger_path
from vlm_ft.scoring.run import score
from vlm_ft.scoring.score import Progress, adapter_identity, score_folder


def table(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out).to_pylist()


def test_every_image_is_one_row(defects: Any, photos: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    report = score_folder(defects, "trial", photos, tmp_path / "out.parquet", batch_size=4, progress=seen.append)
    rows = table(report.out)
    assert [row["path"] for row in rows][:2] == ["even/000.png", "even/002.png"]
    assert len({row["path"] for row in rows}) == len(rows) == report.scored == 10
    assert {(row["width"], row["height"], row["kind"]) for row in rows} == {(12, 8, "scratch")}
    assert defects.batches == [4, 4, 2]
    assert (seen[-1].done, seen[-1].total) == (10, 10)
    assert report.complete
    assert report.exit_code == 0


def test_unreadable_images_are_set_aside_with_their_reason(defects: Any, photos: Path, tmp_path: Path) -> None:
    (photos / "text.jpg").write_text("no image")
    (photos / "empty.png").touch()
    whole = (photos / "odd" / "001.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    report = score_folder(defects, "trial", photos, tmp_path / "out.parquet")
    assert [path for path, _ in report.set_aside] == ["cut.png", "empty.png", "text.jpg"]
    assert all(reason and "\n" not in reason and str(tmp_path) not in reason for _, reason in report.set_aside)
    assert (report.exit_code, report.scored, report.total) == (3, 10, 13)
    rows = {row["path"]: row for row in table(report.out)}
    assert len(rows) == 13
    assert rows["empty.png"]["error"]
    assert rows["empty.png"]["kind"] is None
    assert rows["empty.png"]["decision"] == "ask a person"


def test_an_answer_that_failed_is_set_aside(defects: Any, photos: Path, tmp_path: Path) -> None:
    defects._answer = lambda request: Prediction.failed("the answer does not fit")
    report = score_folder(defects, "trial", photos, tmp_path / "out.parquet")
    assert report.exit_code == 3
    assert {row["error"] for row in table(report.out)} == {"the answer does not fit"}


def test_a_second_run_asks_only_about_what_changed(defects: Any, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    score_folder(defects, "trial", photos, out)
    Image.new("RGB", (20, 20), "blue").save(photos / "odd" / "003.png")
    Image.new("RGB", (20, 20), "green").save(photos / "new.png")
    (photos / "even" / "000.png").unlink()
    defects.batches.clear()
    report = score_folder(defects, "trial", photos, out)
    assert defects.batches == [2]
    assert (report.total, report.resumed) == (10, 8)
    rows = {row["path"]: row for row in table(out)}
    assert rows["odd/003.png"]["width"] == 20
    assert "even/000.png" not in rows


def test_same_content_under_two_names_is_two_rows(defects: Any, tmp_path: Path) -> None:
    folder = tmp_path / "twins"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(folder / name)
    assert score_folder(defects, "trial", folder, tmp_path / "out.csv").scored == 2


@pytest.mark.parametrize("name", ["line\nbreak.png", "Öl–漆.png", "=cmd.png", os.fsdecode(b"caf\xe9.png")])
def test_any_file_name_is_accepted(defects: Any, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / name)
    (folder / f"bad {name}").write_text("no image")
    for suffix in (".csv", ".parquet", ".jsonl"):
        report = score_folder(defects, "trial", folder, tmp_path / f"out{suffix}")
        assert report.total == 2
        assert "\n" not in report.set_aside[0][1]
        assert str(tmp_path) not in report.set_aside[0][1]  # the row already names the photo


def test_a_loop_of_links_is_not_followed_forever(defects: Any, photos: Path, tmp_path: Path) -> None:
    (photos / "even" / "loop").symlink_to(photos, target_is_directory=True)
    assert score_folder(defects, "trial", photos, tmp_path / "out.csv").total == 10


def test_another_adapter_cannot_resume(defects: Any, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    score_folder(defects, "trial", photos, out)
    card = defects.cards["trial"]
    defects.cards = {"trial": card.model_copy(update={"training": {"steps": 9}})}
    with pytest.raises(AdapterError, match="choose another output file, or delete"):
        score_folder(defects, "trial", photos, out)


def test_another_folder_cannot_take_over_a_table(defects: Any, photos: Path, tmp_path: Path) -> None:
    out, moved = tmp_path / "out.csv", tmp_path / "moved"
    score_folder(defects, "trial", photos, out)
    before = out.read_bytes()
    with pytest.raises(DataError, match=r"holds the answers to .*photos, not .*odd; choose another output file"):
        score_folder(defects, "trial", photos / "odd", out)
    assert out.read_bytes() == before
    photos.rename(moved)
    assert score_folder(defects, "trial", moved, out).resumed == 10


def test_a_file_without_a_ledger_is_not_overwritten(defects: Any, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("mine")
    with pytest.raises(DataError, match=r"exists, but has no out\.csv.ledger"):
        score_folder(defects, "trial", photos, out)
    assert out.read_text() == "mine"


def test_files_without_a_row_are_reported(defects: Any, photos: Path, tmp_path: Path) -> None:
    (photos / "a.heic").touch()
    (photos / "linked").symlink_to(tmp_path, target_is_directory=True)
    out = photos / "out.csv"
    notes = [note.removeprefix(str(photos)) for note in score_folder(defects, "trial", photos, out).notes]
    assert notes[0] == "other files are not scored: .heic 1"
    assert notes[1].startswith("/linked: links to folders are not followed")
    (photos / "odd" / "001.png").unlink()
    assert score_folder(defects, "trial", photos, out).notes[-1].endswith("have been removed are left out: 1")


def test_an_answer_that_cannot_be_read_is_reported(defects: Any, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    score_folder(defects, "trial", photos, out)
    with closing(sqlite3.connect(ledger_path(out))) as database, database:
        database.execute("UPDATE answers SET prediction = '{}'")
    with pytest.raises(DataError, match=r"the answer to even/000\.png cannot be read; delete the ledger"):
        score_folder(defects, "trial", photos, out)


def test_identity_depends_on_tensors_and_not_on_figures(defects: Any, tmp_path: Path) -> None:
    card = defects.cards["trial"]
    assert adapter_identity(card) == adapter_identity(card.model_copy(update={"name": "b", "metrics": {"f1": 1}}))
    (tmp_path / "adapter_config.json").write_text("{}")
    tensors = tmp_path / "adapter_model.safetensors"
    tensors.write_bytes(b"one")
    before = adapter_identity(card, tmp_path)
    tensors.write_bytes(b"two")
    assert before != adapter_identity(card, tmp_path)


@pytest.mark.parametrize(
    ("out", "says"),
    [("out.xlsx", "unknown table format"), ("none/out.csv", "create it first"), ("taken.csv", "cannot be written")],
)
def test_an_impossible_output_is_reported_before_any_work(
    defects: Any, photos: Path, tmp_path: Path, out: str, says: str
) -> None:
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(DataError, match=says):
        score_folder(defects, "trial", photos, tmp_path / out)
    assert defects.batches == []


@pytest.mark.parametrize(
    ("review", "first", "says"),
    [
        ("out.csv", None, "would replace another output of this command; give it another name"),
        (None, "./out.csv.ledger", "would replace another output"),
        ("page.html", "page.html", "would replace another output"),
        ("none/page.html", None, "create it first"),
        ("folder", None, "cannot be written"),
    ],
)
def test_outputs_that_would_replace_each_other_are_refused(
    review: str | None, first: str | None, says: str, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    page, order = (tmp_path / name if name else None for name in (review, first))
    with pytest.raises(DataError, match=says):
        score(photos, tmp_path / "adapter", tmp_path / "out.csv", review=page, first=order)
    with pytest.raises(DataError, match=says):
        score(photos, tmp_path / "adapter", tmp_path / "out.csv", review=page, progress=order)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cluster": True, "reward": Path("judge")}, "--cluster: cannot be combined with --engine or --reward"),
        ({"cluster": True, "precision": "bf16"}, "--precision: cannot be combined with --cluster"),
        ({"workers": 2}, "--workers: needs --cluster"),
        ({"by_case": True, "text": "{clause}"}, "--case-by: applies to photos"),
    ],
)
def test_options_that_exclude_each_other_are_refused_from_python_too(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        vlm_ft.score(Path("photos"), Path("run"), Path("out.csv"), **options)


def test_input_that_cannot_be_scored_is_reported(defects: Any, photos: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="contains no images"):
        score_folder(defects, "trial", empty, tmp_path / "out.csv")
    assert not ledger_path(tmp_path / "out.csv").exists()
    with pytest.raises(DataError, match="no such folder"):
        score_folder(defects, "trial", tmp_path / "none", tmp_path / "out.csv")
    with pytest.raises(AdapterError, match="did you mean 'trial'"):
        score_folder(defects, "trail", photos, tmp_path / "out.csv")
    card = defects.cards["trial"]
    defects.cards = {"trial": card.model_copy(update={"base": card.base.model_copy(update={"kind": "text"})})}
    with pytest.raises(AdapterError, match="reads text only"):
        score_folder(defects, "trial", photos, tmp_path / "out.csv")


def test_a_file_that_is_not_a_ledger_or_is_in_use_is_reported(defects: Any, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    ledger_path(out).write_text("not a database, but long enough to look at" * 50)
    with pytest.raises(DataError, match="not a ledger"):
        score_folder(defects, "trial", photos, out)
    ledger_path(out).unlink()
    with (
        Ledger(ledger_path(out), "trial", adapter_identity(defects.cards["trial"]), photos),
        pytest.raises(DataError, match="another run is writing to it"),
    ):
        score_folder(defects, "trial", photos, out)


def test_ctrl_c_says_how_to_continue(defects: Any, photos: Path, tmp_path: Path) -> None:
    answer = defects._answer

    def interrupted(request: Any) -> Prediction:
        if len(defects.batches) == 3:
            raise KeyboardInterrupt
        return answer(request)

    defects._answer = interrupted
    with pytest.raises(KeyboardInterrupt, match=r"stopped with 4 of 10 .* run the same command again"):
        score_folder(defects, "trial", photos, tmp_path / "out.csv", batch_size=2)
    assert not (tmp_path / "out.csv").exists()
    defects._answer = answer
    assert score_folder(defects, "trial", photos, tmp_path / "out.csv").resumed == 4


def test_a_killed_run_resumes(defects: Any, tmp_path: Path) -> None:
    folder, out, log = drawn(tmp_path / "photos", 200), tmp_path / "out.parquet", tmp_path / "log"
    script = Path(__file__).with_name("slow_run.py")
    root = str(Path(vlm_ft.__file__).parents[1])
    run = subprocess.Popen([sys.executable, script, folder, out, log], env={**os.environ, "PYTHONPATH": root})
    deadline = time.monotonic() + 60  # starting Python may take long on a busy machine
    while not (log.exists() and len(log.read_text().split()) > 60):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert not out.exists()
    asked = len(log.read_text().split())
    report = score_folder(defects, "trial", folder, out, batch_size=8)
    assert asked - ASKING * 8 <= report.resumed <= asked
    assert sum(defects.batches) == 200 - report.resumed
    paths = [row["path"] for row in table(out)]
    assert len(paths) == len(set(paths)) == 200


def test_the_photos_of_a_folder_are_one_case(defects: Any, tmp_path: Path) -> None:
    folder, out = tmp_path / "claims", tmp_path / "scored.parquet"
    for name in ("17/front", "17/rear", "18/front", "loose"):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (len(name), 0, 0)).save(path)
    report = score_folder(defects, "trial", folder, out, by_case=True)
    assert {row["path"] for row in table(out)} == {"17", "18", "loose.png"}
    assert (report.total, report.scored) == (3, 3)
    (folder / "17" / "rear.png").write_bytes(b"broken")
    again = score_folder(defects, "trial", folder, out, by_case=True)
    assert again.resumed == 2
    assert [path for path, _ in again.set_aside] == ["17"]
    assert "rear.png" in again.set_aside[0][1]
