"""Jobs as a table, with a choice of one to look at, stop or continue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from vlm_ft.runs import Run, stored
from vlm_ft.scoring.progress import PROGRESS, read_progress
from vlm_ft.training.plan import Plan
from vlm_ft.work.jobs import Job, Kind
from vlm_ft.work.workplace import Workplace

from .handlers import PRIVATE, QUIET, permitted, user_of
from .markup import framed, minute, table

SHOWN = 20
EVERY = 2  # seconds between refreshes

Progress = tuple[int, int]
"""How many photos or steps of a running job are done, and of how many."""


class JobsView:
    """The newest jobs of some kinds.

    `chosen` is the dropdown with one of them. `state` changes with it, its state, what it waits for and its progress;
    `states`, with any job's state.
    """

    def __init__(self, work: Workplace, kinds: Sequence[Kind]) -> None:
        self._work, self._kinds = work, kinds
        jobs = self._jobs()
        shown = gr.HTML(_table(jobs, _progress_of(work, jobs)))
        self.chosen = gr.Dropdown(_choices(jobs), label="Job", value=jobs[0].id if jobs else None)
        with gr.Row():
            stop = gr.Button("Stop", size="sm", min_width=80)
            resume = gr.Button("Continue", size="sm", min_width=80)
        with gr.Accordion("Log", open=False):
            log = gr.Textbox(show_label=False, lines=8, max_lines=20, interactive=False, autoscroll=True)
        self.state, self.states = gr.State(), gr.State()
        refreshed = [shown, self.chosen, log, self.state, self.states]
        gr.Timer(EVERY).tick(self._refreshed, self.chosen, refreshed, **QUIET)
        stop.click(self._stopped, self.chosen, shown, **PRIVATE)
        resume.click(self._resumed, self.chosen, shown, **PRIVATE)

    def _jobs(self) -> list[Job]:
        return [job for job in self._work.jobs.all() if job.kind in self._kinds][::-1][:SHOWN]

    def _refreshed(self, chosen: str | None, request: gr.Request) -> tuple[object, ...]:
        jobs = self._jobs()
        states, progress = {job.id: job.state for job in jobs}, _progress_of(self._work, jobs)
        value = chosen if chosen in states else next(iter(states), None)
        state = next(((job.id, job.state, job.waits, progress[value]) for job in jobs if job.id == value), None)
        log = "Reading logs requires the right to train."
        if self._work.may(user_of(request), "train"):
            log = self._work.jobs.log(value) if value else ""
        choice = gr.update(choices=_choices(jobs))
        if value != chosen:  # otherwise, this could undo what the user has chosen in the meantime
            choice["value"] = value
        return _table(jobs, progress), choice, log, state, states

    def _stopped(self, job: str | None, request: gr.Request) -> str:
        return self._changed(self._work.jobs.stop, job, request)

    def _resumed(self, job: str | None, request: gr.Request) -> str:
        return self._changed(self._work.jobs.resume, job, request)

    def _changed(self, change: Callable[[str], Job], job: str | None, request: gr.Request) -> str:
        with permitted(self._work, request, "train"):
            if job:
                change(job)
        jobs = self._jobs()
        return _table(jobs, _progress_of(self._work, jobs))


def queued(job: Job, message: str) -> Any:
    """The update that selects a job that was just queued; `message` is shown to the user."""
    gr.Info(message)
    return gr.update(choices=[(job.title, job.id)], value=job.id)


def _choices(jobs: Sequence[Job]) -> list[tuple[str, str]]:
    return [(f"{job.title} ({job.kind}, {job.state})", job.id) for job in jobs]


def _table(jobs: Sequence[Job], progress: Mapping[str, Progress | None]) -> str:
    rows = [[escape(job.title), _state(job, progress[job.id]), minute(job.created)] for job in jobs]
    return framed(table(["Job", "State", "Submitted"], rows) if rows else '<p class="none">No job yet.</p>')


def _progress_of(work: Workplace, jobs: Sequence[Job]) -> dict[str, Progress | None]:
    """The progress of each job, by its id; None if it is not known."""
    return {job.id: _progress(work, job) for job in jobs}


def _progress(work: Workplace, job: Job) -> Progress | None:
    if job.state != "running":
        return None
    if job.kind == "score":
        scored = read_progress(work.jobs.folder / job.id / PROGRESS)
        return (scored.done, scored.total) if scored is not None else None
    run = Run(work.jobs.folder / job.id / job.out)
    if job.kind != "train" or not run.plan.is_file():
        return None
    last = max((int(entry["step"]) for entry in run.read_losses()), default=0)
    return last, stored(run.plan, Plan).steps


def _state(job: Job, progress: Progress | None) -> str:
    """The state of a job; what it waits for, and how far it is while it runs."""
    if progress is None:
        return escape(f"{job.state}: {job.waits}") if job.waits else job.state
    done, total = progress
    bar = f'<progress value="{done}" max="{total}" aria-label="{done} of {total}"></progress>'
    return f"{job.state}, {done} of {total} {bar}"
