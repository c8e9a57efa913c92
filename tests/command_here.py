"""Runs jobs' commands in the process of the tests, which has already imported the models' libraries.

`tests/work/test_jobs.py` tests the processes in which a service runs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from vlm_ft.cli import USER_ERROR, app
from vlm_ft.errors import UserError
from vlm_ft.work.jobs import LOG, Job, Jobs


class CommandHere:
    """Stands in for the process of a job. It cannot be interrupted, and ends by itself within seconds."""

    def __init__(self, place: Path, arguments: Sequence[str]) -> None:
        pool = ThreadPoolExecutor(1)
        self._code = pool.submit(self._run, place, list(arguments))
        pool.shutdown(wait=False)

    def wait(self, timeout: float | None = None) -> int:
        """The command's exit code, once it has ended."""
        return self._code.result(timeout)

    def poll(self) -> int | None:
        """The exit code; None while the command runs."""
        return self._code.result() if self._code.done() else None

    def send_signal(self, number: int) -> None:
        """Has no effect."""

    def _run(self, place: Path, arguments: list[str]) -> int:
        with (
            (place / LOG).open("a", encoding="utf-8") as log,
            chdir(place),
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            try:
                return int(app(arguments, standalone_mode=False) or 0)
            except UserError as error:
                log.write(f"error: {error}\n")
                return USER_ERROR


def start_here(jobs: Jobs, job: Job) -> CommandHere:
    """Takes the place of `Jobs._start`."""
    return CommandHere(jobs.folder / job.id, job.arguments)
