"""The table of jobs shows how far a running one is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from rich.console import Console
from vlm_ft.demo.jobs_view import _progress_of, _table
from vlm_ft.demo.train_tab import _shown

from tests.demo.test_views import Markup
from vlm_ft.registry import Registry
from vlm_ft.review.store import Reviews
from vlm_ft.runs import Run, store
from vlm_ft.scoring.progress import PROGRESS, shown
from vlm_ft.scoring.score import Progress
from vlm_ft.training.plan import Plan
from vlm_ft.work.jobs import Jobs, Kind
from vlm_ft.work.workplace import PREFLIGHT, RUN, Workplace


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    monkeypatch.setattr(Jobs, "_next", lambda _: None)
    jobs = Jobs(tmp_path / "jobs")
    yield Workplace(Registry(tmp_path / "adapters"), Reviews(tmp_path / "reviews"), jobs)
    jobs.close()


def running(work: Workplace, kind: Kind, out: str) -> Path:
    """The folder of a job that runs."""
    with work.jobs.preparing() as place:
        work.jobs.submit(place, kind, "a job", [], out, None)
    work.jobs._running = place.name
    return place


def states(work: Workplace) -> str:
    jobs = work.jobs.all()
    return Markup(_table(jobs, _progress_of(work, jobs))).text


def test_the_photos_that_are_scored_are_counted(work: Workplace) -> None:
    place = running(work, "score", "scores.csv")
    assert " of " not in states(work)
    with shown(Console(file=io.StringIO()), place / PROGRESS) as show:
        show(Progress(120, 1000, 0, 3.1))
    assert "running, 120 of 1000" in states(work)
    work.jobs._running = None
    assert " of " not in states(work)


def test_the_steps_of_a_training_are_counted(work: Workplace) -> None:
    run = Run(running(work, "train", RUN) / RUN)
    assert " of " not in states(work)
    run.folder.mkdir()
    store(run.plan, Plan(steps=40, rows=8, every=20, step=1.0, look=0.0).model_dump())
    assert "running, 0 of 40" in states(work)
    run.losses.write_text('{"step": 5, "loss": 2.5}\n{"step": 10, "loss": 2.1}\n')
    assert "running, 10 of 40" in states(work)


@pytest.mark.parametrize(("kind", "out"), [("train", RUN), ("preflight", PREFLIGHT)])
def test_a_job_says_what_it_waits_for(work: Workplace, kind: Kind, out: str) -> None:
    with work.jobs.preparing() as place:
        job = work.jobs.submit(place, kind, "a job", [], out, None)
    panel, *_ = _shown(work, Mock(), job.id)
    assert "Queued: it starts when the jobs before it have finished." in panel
    work.jobs._waits[job.id] = "needs about 5.0 GB of memory; 1.0 of 8.0 GB are free"
    assert "queued: needs about 5.0 GB of memory; 1.0 of 8.0 GB are free" in states(work)
    panel, *_ = _shown(work, Mock(), job.id)
    assert "Queued: needs about 5.0 GB of memory; 1.0 of 8.0 GB are free." in panel
