"""Jobs run one after the other, survive the service, and end when it ends."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.service.servers import SOURCE
from vlm_ft.errors import BusyError, DataError
from vlm_ft.work.jobs import LOG_READ, Job, Jobs
from vlm_ft.work.memory import Need

QUICK = ("--version",)
LONG = ("data", "synth", "product_defects", "set", "--count", "1000000")


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", SOURCE)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    found = Jobs(tmp_path / "jobs", limit=3)
    yield found
    found.close()


def queued(jobs: Jobs, arguments: tuple[str, ...], out: str = "log.txt") -> Job:
    with jobs.preparing() as place:
        return jobs.submit(place, "score", "a title", arguments, out, "ann")


def wait(jobs: Jobs, job: Job, until: Callable[[Job], bool]) -> Job:
    deadline = time.monotonic() + 60
    while not until(found := jobs.get(job.id)):
        assert time.monotonic() < deadline, (found, jobs.log(job.id))
        time.sleep(0.05)
    return found


def ended(job: Job) -> bool:
    return job.state in ("done", "failed", "stopped")


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "vlm_ft.cli.worker" in child.cmdline()]


def test_jobs_run_in_order_and_keep_what_they_print(jobs: Jobs) -> None:
    first, second = queued(jobs, QUICK), queued(jobs, ("data", "read", "no_such_recipe"))
    assert wait(jobs, second, ended).state == "failed"
    done = jobs.get(first.id)
    assert (done.state, done.exit_code, done.by) == ("done", 0, "ann")
    assert done.ended is not None
    assert jobs.get(second.id).started is not None
    assert done.ended <= str(jobs.get(second.id).started)
    assert jobs.result(first.id).read_text().startswith("vlm-ft ")
    assert "no_such_recipe" in jobs.log(second.id)
    with pytest.raises(DataError, match="has no result yet"):
        jobs.result(second.id)


def test_a_running_job_can_be_stopped_and_resumed(jobs: Jobs) -> None:
    job, waiting = queued(jobs, LONG), queued(jobs, QUICK)
    wait(jobs, job, lambda found: found.state == "running" and bool(workers()))
    (process,) = workers()
    assert jobs.stop(job.id).state == "stopped"
    assert not process.is_running()
    assert wait(jobs, waiting, ended).state == "done"
    assert jobs.get(job.id).state == "stopped"
    jobs.resume(job.id)
    wait(jobs, job, lambda found: found.state == "running")
    jobs.stop(job.id)


def test_a_waiting_job_can_be_stopped(jobs: Jobs) -> None:
    long, waiting = queued(jobs, LONG), queued(jobs, QUICK)
    assert jobs.stop(waiting.id).state == "stopped"
    jobs.stop(long.id)
    assert jobs.get(waiting.id).started is None


def test_too_many_waiting_jobs_are_refused(jobs: Jobs) -> None:
    wait(jobs, queued(jobs, LONG), lambda found: found.state == "running")
    for _ in range(3):
        queued(jobs, QUICK)
    with pytest.raises(BusyError, match="3 jobs are waiting already"):
        queued(jobs, QUICK)


def test_a_job_waits_until_its_memory_is_free(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = SimpleNamespace(available=1_000_000_000, total=8_000_000_000)
    monkeypatch.setattr("vlm_ft.work.memory.psutil.virtual_memory", lambda: machine)
    monkeypatch.setattr("vlm_ft.work.jobs.LOOK", 0.1)
    with jobs.preparing() as place:
        large = jobs.submit(place, "train", "", QUICK, "log.txt", None, Need(memory=2_500_000_000))
    small = queued(jobs, QUICK)
    assert wait(jobs, small, ended).state == "done"  # not held up by the large one
    waiting = wait(jobs, large, lambda job: bool(job.waits))
    assert waiting.state == "queued"
    assert waiting.waits == "needs about 2.5 GB of memory; 1.0 of 8.0 GB are free"
    machine.available = 3_000_000_000
    done = wait(jobs, large, ended)
    assert (done.state, done.waits) == ("done", "")


def test_a_job_leaves_the_processors_to_the_service(jobs: Jobs) -> None:
    job = queued(jobs, LONG)
    wait(jobs, job, lambda _: any(worker.nice() > psutil.Process().nice() for worker in workers()))
    jobs.stop(job.id)


def test_a_job_continues_after_the_service_has_ended(tmp_path: Path) -> None:
    first = Jobs(tmp_path)
    job, later = queued(first, LONG), queued(first, QUICK)
    wait(first, job, lambda found: found.state == "running")
    first.close()
    abandoned = tmp_path / "20260101000000000000-00000000"
    (abandoned / "photos").mkdir(parents=True)
    assert workers() == []
    second = Jobs(tmp_path)
    assert not abandoned.exists()
    assert [found.id for found in second.all()] == [job.id, later.id]
    wait(second, job, lambda found: found.state == "running" and bool(workers()))
    second.stop(job.id)
    assert wait(second, later, ended).state == "done"
    second.close()


def test_a_job_ends_with_a_service_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from vlm_ft.work.jobs import Jobs\n"
        f"jobs = Jobs(Path({str(tmp_path)!r})); made = jobs.preparing(); place = made.__enter__()\n"
        f"jobs.submit(place, 'score', '', {LONG!r}, 'log.txt', None)\n"
        "time.sleep(600)"
    )
    service = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    deadline = time.monotonic() + 60
    found: list[psutil.Process] = []
    while not found:
        assert time.monotonic() < deadline
        found = psutil.Process(service.pid).children()
        time.sleep(0.05)
    service.kill()
    service.wait()
    assert psutil.wait_procs(found, timeout=30)[1] == []
    jobs = Jobs(tmp_path)
    (job,) = jobs.all()
    assert job.state in ("queued", "running")
    jobs.stop(job.id)
    jobs.close()


def test_a_job_that_is_stopped_as_it_is_chosen_does_not_run(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, begin = threading.Event(), threading.Event()
    execute = jobs._execute

    def late(job: Job) -> None:
        chosen.set()
        begin.wait(10)
        execute(job)

    monkeypatch.setattr(jobs, "_execute", late)
    with jobs.preparing() as place:
        job = jobs.submit(place, "score", "", LONG, "log.txt", None)
    assert chosen.wait(10)
    jobs.stop(job.id)
    begin.set()
    assert wait(jobs, queued(jobs, QUICK), ended).state == "done"
    assert jobs.get(job.id).state == "stopped"
    assert not jobs.log(job.id)


@pytest.mark.parametrize("job", ["", "..", "20260101000000000000-00000000", "x" * 1000])
def test_unknown_ids_are_refused(jobs: Jobs, job: str) -> None:
    for ask in (jobs.get, jobs.log, jobs.result, jobs.stop, jobs.resume):
        with pytest.raises(DataError, match="no job"):
            ask(job)


def test_two_services_do_not_share_a_folder(jobs: Jobs) -> None:
    with pytest.raises(DataError, match="is in use by another service"):
        Jobs(jobs.folder)


def test_a_long_log_is_read_in_whole_lines(jobs: Jobs) -> None:
    job = queued(jobs, QUICK)
    wait(jobs, job, ended)
    printed = [f"Zeile {number} für {'ü' * (1 + number % 50)}" for number in range(2000)] + ["x" * 2 * LOG_READ]
    (jobs.folder / job.id / "log.txt").write_text("\n".join(printed), encoding="utf-8")
    read, after = list[str](), 0
    while found := jobs.lines(job.id, after):
        read += [line for _, line in found]
        after = found[-1][0]
    assert read == [*printed[:-1], "x" * LOG_READ, "x" * LOG_READ]


def test_a_job_that_is_not_submitted_leaves_nothing(jobs: Jobs) -> None:
    with jobs.preparing() as place:
        (place / "photos").mkdir()
    assert not [entry for entry in jobs.folder.iterdir() if entry.is_dir()]


def test_jobs_of_an_earlier_version_are_taken_over(tmp_path: Path) -> None:
    old = {
        "id": "20260101000000000000-00000001",
        "kind": "score",
        "title": "",
        "arguments": QUICK,
        "out": "log.txt",
        "created": "2026-01-01T00:00:00+00:00",
        "state": "running",
    }
    for job, text in ((old["id"], json.dumps(old)), ("20260101000000000000-00000002", "{")):
        (tmp_path / str(job)).mkdir()
        (tmp_path / str(job) / "job.json").write_text(text)
    jobs = Jobs(tmp_path)
    (job,) = jobs.all()
    assert wait(jobs, job, ended).state == "done"
    jobs.close()


def test_a_damaged_file_of_jobs_is_named(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_text("no database" * 100)
    with pytest.raises(DataError, match=r"jobs.sqlite: cannot be used \(file is not a database\)"):
        Jobs(tmp_path)


def test_a_full_disk_loses_no_job(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job whose end cannot be stored has failed, keeps what it wrote, and can be continued."""
    write = jobs._write

    def full(job: Job, **changes: object) -> Job:
        if "ended" in changes:
            raise sqlite3.OperationalError("database or disk is full")
        return write(job, **changes)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_write", full)
        found = wait(jobs, queued(jobs, QUICK), ended)
        assert found.state == "failed"
        assert "disk is full" in jobs.log(found.id)
    assert wait(jobs, queued(jobs, QUICK), ended).state == "done"
    jobs.resume(found.id)
    assert wait(jobs, found, ended).state == "done"


def test_a_job_that_cannot_start_has_failed(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", full)
        found = wait(jobs, queued(jobs, QUICK), ended)
    assert found.state == "failed"
    assert "No space left" in jobs.log(found.id)
    assert wait(jobs, jobs.resume(found.id), ended).state == "done"
