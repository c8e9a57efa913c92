"""Jobs as a table, with a choice of one to look at, stop or continue."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from vlm_ft.work.jobs import Job, Kind
from vlm_ft.work.workplace import Workplace

from .handlers import errors_shown, require, user_of
from .markup import framed, minute, table

SHOWN = 20
EVERY = 2  # seconds between refreshes


class JobsView:
    """The newest jobs of some kinds.

    `chosen` is the dropdown with one of them, `state` changes with it and its state, `states` with any job's state.
    """

    def __init__(self, work: Workplace, kinds: Sequence[Kind]) -> None:
        self._work, self._kinds = work, kinds
        jobs = self._jobs()
        self.shown = gr.HTML(_table(jobs))
        self.chosen = gr.Dropdown(_choices(jobs), label="Job", value=jobs[0].id if jobs else None)
        with gr.Row():
            stop = gr.Button("Stop", size="sm", min_width=80)
            resume = gr.Button("Continue", size="sm", min_width=80)
        with gr.Accordion("Log", open=False):
            self.log = gr.Textbox(show_label=False, lines=8, max_lines=20, interactive=False, autoscroll=True)
        self.state, self.states = gr.State(), gr.State()
        timer = gr.Timer(EVERY)
        private = {"api_visibility": "private", "show_progress": "hidden"}

        def refreshed(chosen: str | None, request: gr.Request) -> tuple[object, ...]:
            return self._refreshed(chosen, user_of(request))

        def stopped(job: str | None, request: gr.Request) -> str:
            require(work, request, "train")
            return self._changed(job, stop=True)

        def resumed(job: str | None, request: gr.Request) -> str:
            require(work, request, "train")
            return self._changed(job, stop=False)

        refreshed_parts = [self.shown, self.chosen, self.log, self.state, self.states]
        timer.tick(refreshed, self.chosen, refreshed_parts, **private)
        stop.click(stopped, self.chosen, self.shown, api_visibility="private")
        resume.click(resumed, self.chosen, self.shown, api_visibility="private")

    def _jobs(self) -> list[Job]:
        return [job for job in self._work.jobs.all() if job.kind in self._kinds][::-1][:SHOWN]

    def _refreshed(self, chosen: str | None, user: str | None) -> tuple[object, ...]:
        jobs = self._jobs()
        states = {job.id: job.state for job in jobs}
        value = chosen if chosen in states else next(iter(states), None)
        state = (value, states[value]) if value else None
        log = "Reading logs requires the right to train."
        if self._work.may(user, "train"):
            log = self._work.jobs.log(value) if value else ""
        return _table(jobs), gr.update(choices=_choices(jobs), value=value), log, state, states

    def _changed(self, job: str | None, *, stop: bool) -> str:
        if job:
            with errors_shown():
                (self._work.jobs.stop if stop else self._work.jobs.resume)(job)
        return _table(self._jobs())


def queued(job: Job, message: str) -> Any:
    """The update that chooses a job which was just queued; the message says so."""
    gr.Info(message)
    return gr.update(choices=[(job.title, job.id)], value=job.id)


def _choices(jobs: Sequence[Job]) -> list[tuple[str, str]]:
    return [(f"{job.title} ({job.kind}, {job.state})", job.id) for job in jobs]


def _table(jobs: Sequence[Job]) -> str:
    rows = [[escape(part) for part in (job.title, job.state, minute(job.created))] for job in jobs]
    return framed(table(["Job", "State", "Submitted"], rows) if rows else '<p class="none">No job yet.</p>')
