"""Deletes what was uploaded for jobs, once it is old and nothing needs it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from vlm_ft.work.jobs import Job, Kind
from vlm_ft.work.workplace import DATA, PHOTOS, PREFLIGHT, REVIEW, Workplace

UPLOADED: Mapping[Kind, Sequence[str]] = {"score": (PHOTOS, REVIEW), "preflight": (DATA, PREFLIGHT)}
"""What a job's folder has of an upload, with pages that show its photos. Tables, recipes and logs are not among it."""


def delete_old_uploads(work: Workplace) -> None:
    """Delete the uploads of jobs that ended longer than `uploads_kept` ago.

    Data on which an adapter was trained stay, since its next version learns from them. Reviews have copies of their
    photos. A job that was stopped can be resumed only while its upload exists.
    """
    jobs, now = work.jobs.all(), datetime.now(UTC)
    for job in jobs:
        if job.ended is None or now - datetime.fromisoformat(job.ended) < work.uploads_kept or _used(job, jobs):
            continue
        place = work.jobs.folder / job.id
        for name in UPLOADED.get(job.kind, ()):
            shutil.rmtree(place / name) if (place / name).is_dir() else (place / name).unlink(missing_ok=True)


def _used(job: Job, jobs: Sequence[Job]) -> bool:
    """Whether another job works on what this one has written."""
    return any(job.id in argument for other in jobs if other.id != job.id for argument in other.arguments)
