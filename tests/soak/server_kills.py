"""A server that is killed again and again while it works on jobs."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.service.servers import served
from tests.service.work_client import noise
from tests.soak.made import SEED, drawn
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.registry import Registry
from vlm_ft.runs import Run
from vlm_ft.work.jobs import FILE, Job

PATIENCE = 1800  # seconds for the jobs that are left at the end


def kills(work: Path, registry: Registry, sheet: Sheet, count: int, images: int) -> None:
    """Submit a job and kill the server, `count` times; then let a last server finish what was accepted."""
    drawn(work / "root" / "photos", images)
    options = ["--registry", str(registry.folder), "--work", str(work / "work"), "--root", str(work / "root")]
    adapter, moments = registry.names()[0], random.Random(SEED)
    done = correct = 0
    with served(*options, "--no-app") as (address, _):
        accepted = [_submitted(address, adapter, "score")]
        seconds = _finished(address)
    while done < count:
        with served(*options, "--no-app") as (address, process):
            accepted.append(_submitted(address, adapter, "train" if len(accepted) % 2 else "score"))
            time.sleep(moments.uniform(0, seconds))
            workers = psutil.Process(process.pid).children(recursive=True)
            was_running = "running" in _states(address)
        gone = not psutil.wait_procs(workers, timeout=30)[1]
        done += was_running
        correct += was_running and gone and _consistent(work / "work" / "jobs", accepted)
    with served(*options, "--no-app") as (address, _):
        _finished(address)
    stored = {job.id: job for job in _stored(work / "work" / "jobs")}
    complete = sum(_whole(work / "work" / "jobs" / job, stored[job], images) for job in accepted)
    sheet.add(f"correct states after {done} kills of the server while a job ran", correct, done, "higher", "states")
    sheet.add("jobs with their whole result after these kills", complete, len(accepted), "higher", "jobs")


def _submitted(address: str, adapter: str, kind: str) -> str:
    """The id of a new job."""
    if kind == "score":
        reply = httpx.post(f"{address}/v1/batches", data={"adapter": adapter, "folder": "photos", "table": "jsonl"})
    else:
        files: Any = {"photos": ("a.png", noise(SEED))}
        found = httpx.post(f"{address}/v1/assess", data={"adapter": adapter}, files=files, timeout=60).json()
        answer = json.dumps({name: field["value"] for name, field in found["fields"].items()})
        review = {"adapter": adapter, "verdict": "accepted", "answer": answer}
        httpx.post(f"{address}/v1/reviews", data=review, files=files, timeout=60).raise_for_status()
        reply = httpx.post(f"{address}/v1/jobs/train", json={"adapter": adapter})
    return str(reply.raise_for_status().json()["id"])


def _finished(address: str) -> float:
    """Wait until every job has ended, and return the seconds that it took."""
    started = time.monotonic()
    while {"queued", "running"} & _states(address):
        assert time.monotonic() < started + PATIENCE
        time.sleep(0.2)
    return time.monotonic() - started


def _states(address: str) -> set[str]:
    return {job["state"] for job in httpx.get(f"{address}/v1/jobs").json()}


def _consistent(folder: Path, accepted: list[str]) -> bool:
    """Whether every accepted job is there, done or waiting, with results for those that are done."""
    jobs = _stored(folder)
    results = all((folder / job.id / job.out).exists() for job in jobs if job.state == "done")
    return [job.id for job in jobs] == accepted and {job.state for job in jobs} <= {"queued", "done"} and results


def _stored(folder: Path) -> list[Job]:
    """The jobs in the file of a server that does not run, oldest first."""
    with closing(sqlite3.connect(folder / FILE)) as database:
        rows = database.execute("SELECT job FROM jobs ORDER BY id").fetchall()
    return [Job.model_validate_json(content) for (content,) in rows]


def _whole(place: Path, job: Job, images: int) -> bool:
    """Whether a job is done, and has answered every image once, without an error, or trained an adapter."""
    if job.state != "done":
        return False
    if job.kind == "train":
        return Run(place / job.out).state == "finished"
    rows = [json.loads(line) for line in (place / job.out).read_text(encoding="utf-8").splitlines()]
    return len(rows) == len({row["path"] for row in rows}) == images and all(row["error"] is None for row in rows)
