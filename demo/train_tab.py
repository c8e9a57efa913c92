"""Train an adapter on new data: read and check them, see what training would cost, and start it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from vlm_ft.data.preflight import CHECK_PAGE, EXAMPLES, ROWS, Preflight
from vlm_ft.errors import UserError
from vlm_ft.recipe import shipped
from vlm_ft.runs import RECIPE, Run
from vlm_ft.tasks import TASKS
from vlm_ft.work.jobs import Job
from vlm_ft.work.workplace import Workplace

from .adapters_tab import minutes_of
from .handlers import PRIVATE, QUIET, permitted, uploads, user_of
from .jobs_view import JobsView, queued
from .markup import framed, section

PROPOSED, BEST = "", ""
EMPTY = framed('<p class="rest">What was read, the checks and the cost of training appear here.</p>')

TRAINING = framed('<p class="rest">Training. The curve is updated as losses are logged; see also the log.</p>')
TRAINED = framed('<p class="rest">Trained. To serve it, choose and compare it on the Adapters tab.</p>')


def train_tab(work: Workplace) -> None:
    """The tab's content."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            name = gr.Textbox(label="Name of the new adapter", placeholder="such as castings", max_length=80)
            archive = gr.File(label="A zip file of labelled data", height=160)
            folder = gr.Textbox(label="Or a folder on the server", visible=work.root is not None)
            recipe = gr.Dropdown([("Proposed for the data", PROPOSED), *shipped()], value=PROPOSED, label="Recipe")
            task = gr.Dropdown(
                [("The one that fits best", BEST), *((each.title, each.name) for each in TASKS.values())],
                value=BEST,
                label="Task",
            )
            check = gr.Button("Read and check the data", variant="primary")
            view = JobsView(work, ["preflight", "train"])
        with gr.Column(scale=3, min_width=300):
            found = gr.HTML(EMPTY)
            with gr.Column(visible=False) as start:
                minutes = gr.Textbox(label="Minutes of training", placeholder="as in the recipe")
                train = gr.Button("Train", variant="primary")
            curve = gr.LinePlot(x="step", y="loss", color="examples", title="Loss by step", height=260, visible=False)
            picture = gr.Image(interactive=False, buttons=["fullscreen"], elem_classes="sheet", visible=False)
            settings = gr.Code(label="Recipe", language=None, interactive=False, visible=False)
    actions = _Actions(work, picture)
    recipe.input(lambda chosen: gr.update(visible=chosen == PROPOSED), recipe, task, **QUIET)
    check.click(actions.check, [name, archive, folder, recipe, task], view.chosen, **PRIVATE)
    train.click(actions.train, [view.chosen, minutes], view.chosen, **PRIVATE)
    view.state.change(actions.show, view.chosen, [found, curve, picture, settings, start], **QUIET)


@dataclass(frozen=True)
class _Actions:
    """What the buttons do; a picture is shown in `picture`."""

    work: Workplace
    picture: gr.Image

    def check(self, name: str, archive: str | None, place: str, recipe: str, task: str, request: gr.Request) -> Any:
        sent = [archive] if archive else []
        with permitted(self.work, request, "train") as user, uploads(sent) as files:
            job = self.work.preflight(name.strip(), files, place.strip(), recipe, task, user)
        return queued(job, "The data are being read and checked.")

    def train(self, job: str | None, limit: str, request: gr.Request) -> Any:
        with permitted(self.work, request, "train") as user:
            return queued(self.work.train_new(job or "", minutes_of(limit), user), "Training is queued.")

    def show(self, job: str | None, request: gr.Request) -> tuple[Any, ...]:
        allowed = self.work.may(user_of(request), "train")
        return _shown(self.work, self.picture, job or "") if allowed else _nothing()


def _nothing(message: str = EMPTY) -> tuple[Any, ...]:
    return message, *[gr.update(visible=False)] * 4


def _shown(work: Workplace, picture: gr.Image, job: str) -> tuple[Any, ...]:
    """The updates that show a job: its summary, losses, examples, the recipe, and how to train."""
    try:
        found = work.jobs.get(job)
        if found.kind == "train":
            return _training_shown(work, found)
        if found.state == "queued":
            return _nothing(_queued(found))
        if found.state in ("failed", "stopped"):
            return _nothing(_failed(work.jobs.log(job)))
        folder = work.jobs.result(job)
    except UserError:
        return _nothing()
    summary = Preflight.of(folder)
    return (
        _summary(folder, summary),
        gr.update(visible=False),
        _picture(picture, folder / EXAMPLES, "Training examples"),
        gr.update(value=(folder / RECIPE).read_text(encoding="utf-8"), visible=True),
        gr.update(visible=not summary.errors),
    )


def _training_shown(work: Workplace, job: Job) -> tuple[Any, ...]:
    """The updates that show a training job: its losses so far, whatever its state."""
    losses = curves(Run(work.jobs.folder / job.id / job.out).read_losses())
    messages = {"running": TRAINING, "done": TRAINED}
    message = _queued(job) if job.state == "queued" else messages.get(job.state) or _failed(work.jobs.log(job.id))
    _, _, *hidden = _nothing()
    return message, gr.update(value=losses, visible=not losses.empty), *hidden


def curves(losses: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """Points of the curves: of the training examples, and of those that decide when to stop."""
    points = [
        (entry["step"], entry[key], examples)
        for key, examples in (("loss", "train"), ("eval_loss", "tune"))
        for entry in losses
        if math.isfinite(entry.get(key, math.nan))
    ]
    return pd.DataFrame(points, columns=["step", "loss", "examples"])


def _picture(shown: gr.Image, file: Path, label: str) -> Any:
    """The update that shows a picture, or hides it if there is none, as for texts."""
    if not file.is_file():
        return gr.update(visible=False)
    return gr.update(value=shown.move_resource_to_block_cache(str(file)), label=label, visible=True)


def _queued(job: Job) -> str:
    """Why a job has not started."""
    reason = job.waits or "it starts when the jobs before it have finished"
    return framed(f'<p class="rest">Queued: {escape(reason)}.</p>')


def _failed(log: str) -> str:
    """The last line of a job's log, which says why it failed."""
    last = next((line for line in log.splitlines()[::-1] if line.strip()), "It was stopped.")
    return framed(f'<p class="banner wrong" role="alert">{escape(last)}</p>')


def _summary(folder: Path, found: Preflight) -> str:
    """What was read, the checks with their pictures in an iframe, and the dry run."""
    page = (folder / CHECK_PAGE).read_text(encoding="utf-8")
    counted = f"{found.errors} errors, {found.warnings} warnings"
    checks = f'<iframe sandbox title="Checks of the data" class="checks" srcdoc="{escape(page)}"></iframe>'
    read = f"<p>{escape(found.title)}</p>{_preformatted('Form, notes, and what was set aside', found.read)}"
    parts = section("What was read", "", read) + section("Checks", counted, checks)
    if not found.cost:
        return framed(parts)
    rows = (folder / ROWS).read_text(encoding="utf-8").splitlines()
    cost = f"<p>{escape(found.cost)}</p>{_preformatted('Rows, parts and memory', rows)}"
    return framed(parts + section("Cost of training", "", cost))


def _preformatted(title: str, lines: Sequence[str]) -> str:
    text = escape("\n".join(lines))
    return f'<details><summary>{escape(title)}</summary><pre tabindex="0">{text}</pre></details>'
