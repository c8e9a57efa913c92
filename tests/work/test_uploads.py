"""Uploads lose their metadata as they are received, and are deleted in time, unless something needs them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from tests.datasets_vision.test_metadata import SECRET, photo
from tests.service.work_client import zipped
from vlm_ft.registry import Registry
from vlm_ft.review.store import Reviews
from vlm_ft.work.archives import unpack_data
from vlm_ft.work.jobs import Job, Jobs, Kind, State
from vlm_ft.work.uploads import delete_old_uploads
from vlm_ft.work.workplace import DATA, PHOTOS, PREFLIGHT, REVIEW, Workplace, _store

KEPT = timedelta(days=7)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    monkeypatch.setattr(Jobs, "_next", lambda _: None)  # jobs stay as they are
    jobs = Jobs(tmp_path / "jobs")
    yield Workplace(Registry(tmp_path / "adapters"), Reviews(tmp_path / "reviews"), jobs, uploads_kept=KEPT)
    jobs.close()


def job_of(work: Workplace, kind: Kind, state: State, days: float, *arguments: str) -> tuple[Job, Path]:
    """A job that ended so many days ago, and its folder with what jobs of its kind have."""
    parts = {"score": (PHOTOS, REVIEW, "scores.csv"), "preflight": (DATA, PREFLIGHT)}
    with work.jobs.preparing() as place:
        for name in parts.get(kind, ()):
            (place / name).mkdir() if "." not in name else (place / name).touch()
        job = work.jobs.submit(place, kind, "a job", arguments, "scores.csv" if kind == "score" else PREFLIGHT, None)
    when = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
    return work.jobs._write(job, state=state, ended=when if state != "queued" else None), place


def left(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def test_photos_of_old_jobs_are_deleted_and_their_tables_stay(work: Workplace) -> None:
    old = [job_of(work, "score", state, 8)[1] for state in ("done", "failed", "stopped")]
    new, queued = job_of(work, "score", "done", 6)[1], job_of(work, "score", "queued", 8)[1]
    delete_old_uploads(work)
    assert [left(place) for place in old] == [{"scores.csv"}] * 3
    assert left(new) == left(queued) == {PHOTOS, REVIEW, "scores.csv"}
    delete_old_uploads(work)


def test_data_that_an_adapter_was_trained_on_stay(work: Workplace) -> None:
    (_, unused), (checked, trained_on) = (job_of(work, "preflight", "done", 8) for _ in range(2))
    job_of(work, "train", "done", 8, "train", str(work.jobs.folder / checked.id / PREFLIGHT / "recipe.yaml"))
    delete_old_uploads(work)
    assert left(unused) == set()
    assert left(trained_on) == {DATA, PREFLIGHT}


@pytest.mark.parametrize("kind", ["jpg", "zip", "data"])
def test_metadata_are_removed_as_photos_are_received(tmp_path: Path, kind: str) -> None:
    content = photo(tmp_path, "jpg").read_bytes()
    assert SECRET.encode() in content
    archive = zipped(("good/a.jpg", content))
    place = tmp_path / "received"
    if kind == "data":
        unpack_data(archive, place)
    else:
        _store([("a.jpg", BytesIO(content)) if kind == "jpg" else ("a.zip", archive)], place)
    (stored,) = place.rglob("*.jpg")
    assert SECRET.encode() not in stored.read_bytes()
