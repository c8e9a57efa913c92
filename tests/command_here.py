"""Runs jobs' commands in the process of the tests, which has imported the models' libraries already.

`tests/service/test_jobs.py` tests the processes in which a service runs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from vlm_ft.cli import app
from vlm_ft.service.jobs import LOG, Job, Jobs


class CommandHere:
    """Stands in for the process of a job."""

    def __init__(self, place: Path, arguments: Sequence[str]) -> None:
        self._place, self._arguments = place, list(arguments)

    def wait(self) -> int:
        """Run the command in the job's folder; its exit code."""
        with (
            (self._place / LOG).open("a", encoding="utf-8") as log,
            chdir(self._place),
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            return int(app(self._arguments, standalone_mode=False) or 0)


def start_here(jobs: Jobs, job: Job) -> CommandHere:
    """Takes the place of `Jobs._start`."""
    return CommandHere(jobs.place(job.id), job.arguments)
