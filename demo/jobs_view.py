"""Jobs as a table, with a choice of one to look at, stop or continue."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import gradio as gr

from demo.markup import framed, minute, table
from demo.workplace import Job, Work, require
from vlm_ft.errors import UserError

SHOWN = 20
EVERY = 2  # seconds between refreshes


class JobsView:
    """The newest jobs of some kinds.

    `chosen` is the dropdown with one of them, `state` changes with it and its state, `timer` ticks on an open page.
    """

    def __init__(self, work: Work, kinds: Sequence[str]) -> None:
        self._work, self._kinds = work, kinds
        self.shown = gr.HTML(self._table())
        self.chosen = gr.Dropdown(self._choices(), label="Job", value=next(iter(self._choices()), ("", ""))[1] or None)
        with gr.Row():
            stop = gr.Button("Stop", size="sm", min_width=80)
            resume = gr.Button("Continue", size="sm", min_width=80)
        with gr.Accordion("Log", open=False):
            self.log = gr.Textbox(show_label=False, lines=8, max_lines=20, interactive=False, autoscroll=True)
        self.state = gr.State()  # of the chosen job
        self.timer = gr.Timer(EVERY)
        private = {"api_visibility": "private", "show_progress": "hidden"}

        def refreshed(chosen: str | None, request: gr.Request) -> tuple[object, object, str, str]:
            return self._refreshed(chosen, getattr(request, "username", None))

        def stopped(job: str | None, request: gr.Request) -> str:
            require(work, request, "train")
            return self._changed(job, stop=True)

        def resumed(job: str | None, request: gr.Request) -> str:
            require(work, request, "train")
            return self._changed(job, stop=False)

        self.timer.tick(refreshed, self.chosen, [self.shown, self.chosen, self.log, self.state], **private)
        stop.click(stopped, self.chosen, self.shown, api_visibility="private")
        resume.click(resumed, self.chosen, self.shown, api_visibility="private")

    def _jobs(self) -> list[Job]:
        return [job for job in self._work.jobs.all() if job.kind in self._kinds][::-1][:SHOWN]

    def _choices(self) -> list[tuple[str, str]]:
        return [(f"{job.title} ({job.kind}, {job.state})", job.id) for job in self._jobs()]

    def _table(self) -> str:
        rows = [[escape(part) for part in (job.title, job.state, minute(job.created))] for job in self._jobs()]
        return framed(table(["Job", "State", "Submitted"], rows) if rows else '<p class="none">No job yet.</p>')

    def _refreshed(self, chosen: str | None, user: str | None) -> tuple[object, object, str, str]:
        known = [job for _, job in self._choices()]
        value = chosen if chosen in known else next(iter(known), None)
        state = f"{value} {self._work.jobs.get(value).state}" if value else ""
        log = "Logs need the right to train."
        if self._work.may(user, "train"):
            log = self._work.jobs.log(value) if value else ""
        return self._table(), gr.update(choices=self._choices(), value=value), log, state

    def _changed(self, job: str | None, *, stop: bool) -> str:
        try:
            if job:
                (self._work.jobs.stop if stop else self._work.jobs.resume)(job)
        except UserError as error:
            raise gr.Error(error.public(), print_exception=False) from error
        return self._table()
