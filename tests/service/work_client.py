"""Clients of a service with a workplace, and what they send and wait for."""

from __future__ import annotations

import io
import json
import time
import zipfile
from typing import Any

import httpx
import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from tests.service.servers import HERE
from vlm_ft.service.app import build_service
from vlm_ft.service.current import Current, open_engine
from vlm_ft.work.jobs import Job
from vlm_ft.work.workplace import Workplace


def client_of(work: Workplace) -> TestClient:
    """A client of a service that serves the current versions of the workplace's adapters."""
    predictor = Current(open_engine([], work.registry, None), work.registry)
    return TestClient(build_service(predictor, work=work), base_url=HERE, raise_server_exceptions=False)


def noise(seed: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> io.BytesIO:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            file.writestr(name, content)
    return archive


def finished(client: TestClient, found: httpx.Response) -> dict[str, Any]:
    """The job of a response, once it has ended."""
    assert found.status_code == 200, found.text
    job, deadline = found.json()["id"], time.monotonic() + 120
    while (state := client.get(f"/v1/jobs/{job}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, client.get(f"/v1/jobs/{job}/log").json()
        time.sleep(0.1)
    return {**state, "log": client.get(f"/v1/jobs/{job}/log").json()["log"]}


def events_of(client: TestClient, job: str, after: int = 0) -> list[tuple[str, dict[str, Any]]]:
    """The kind and the data of each event of a job, until it ends."""
    found = client.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": str(after)})
    assert found.headers["content-type"].startswith("text/event-stream")
    entries = [dict(line.split(": ", 1) for line in event.split("\n")) for event in found.text.split("\n\n") if event]
    return [(entry["event"], json.loads(entry["data"])) for entry in entries if "event" in entry]


def ended(work: Workplace, job: Job) -> Job:
    """The job, once it has ended."""
    deadline = time.monotonic() + 120
    while (found := work.jobs.get(job.id)).state in ("queued", "running"):
        assert time.monotonic() < deadline, work.jobs.log(job.id)
        time.sleep(0.1)
    return found


def assessed(client: TestClient, picture: bytes) -> dict[str, Any]:
    found = client.post("/v1/assess", data={"adapter": "parts"}, files={"photos": ("a.png", picture)})
    assert found.status_code == 200
    fields: dict[str, Any] = found.json()["fields"]
    return fields
