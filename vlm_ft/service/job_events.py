"""A job as server-sent events: its state whenever that changes, and each line that it prints."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from threading import Event

import anyio
from anyio.to_thread import run_sync

from vlm_ft.work.jobs import ENDED, Jobs

INTERNAL = {"arguments", "out"}
"""What a job's description says only to the service: paths on the server."""

PERIOD = 0.5  # seconds between checks of a job
SILENCE = 15.0  # seconds after which a comment is sent, for proxies that end silent connections


async def job_events(jobs: Jobs, job: str, after: int, stopping: Event) -> AsyncIterator[str]:
    """The events of a job until it has ended, or the service stops.

    `state` has the job as `/v1/jobs/ID` describes it; `line` has a line of its log. A line's id is its end in the log,
    in bytes; lines up to `after` are left out.
    """
    shown, silent = "", 0.0
    while not stopping.is_set():
        found = await run_sync(jobs.get, job)
        lines = await run_sync(jobs.lines, job, after)
        for end, line in lines:
            yield f"id: {end}\nevent: line\ndata: {json.dumps({'line': line})}\n\n"
            after = end
        ended, state = found.state in ENDED, found.model_dump_json(exclude=INTERNAL)
        if state != shown and not (ended and lines):  # the last event is the state
            yield f"event: state\ndata: {state}\n\n"
            shown, silent = state, 0.0
        if lines:
            silent = 0.0
            continue
        if ended:
            return
        await anyio.sleep(PERIOD)
        silent += PERIOD
        if silent >= SILENCE:
            yield ": nothing new\n\n"
            silent = 0.0
