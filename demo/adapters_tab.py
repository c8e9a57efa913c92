"""The versions of an adapter: train the next one, let it replace the current one if it is not worse, go back."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from vlm_ft.adapters import Card
from vlm_ft.errors import DataError
from vlm_ft.evaluation.results import MAIN
from vlm_ft.inference.request import Predictor
from vlm_ft.review.gate import MARGIN
from vlm_ft.work.workplace import Workplace

from .card_view import figures
from .errors_panel import errors_panel
from .handlers import PRIVATE, QUIET, adapter_choice, permitted
from .jobs_view import JobsView, queued
from .markup import framed, minute, section, table

VERSIONS = ("Version", "Served", "Trained on", "On its test set (95 % interval)", "Calibration")


def adapters_tab(predictor: Predictor, work: Workplace, tab: gr.Tab) -> None:
    """The content of the tab; versions are read when it is opened, and when a job's state changes."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            adapter = adapter_choice(predictor, lambda card: card.number is not None)
            shown = gr.HTML()
            back = gr.Button("Go back to the previous version", size="sm")
        with gr.Column(scale=2, min_width=300):
            minutes = gr.Textbox(label="Minutes of training", placeholder="as in the recipe")
            train = gr.Button("Train the next version from reviews", variant="primary")
            view = JobsView(work, ["train", "promote"])
            margin = gr.Number(
                MARGIN, label="Margin: how much lower the mean score on a slice may be", minimum=0, maximum=1, step=0.01
            )
            promote = gr.Button("Compare the chosen adapter, and serve it if it is not worse")
    errors_panel(work, adapter)
    actions = _Actions(predictor, work)
    seen = gr.State()  # the number of the version that is shown as current
    gr.on([tab.select, adapter.change, view.states.change], actions.versions, adapter, [shown, seen], **QUIET)
    train.click(actions.train, [adapter, minutes], view.chosen, **PRIVATE)
    promote.click(actions.promote, [view.chosen, margin], view.chosen, **PRIVATE)
    back.click(actions.roll_back, [adapter, seen], [shown, seen], **PRIVATE)


@dataclass(frozen=True)
class _Actions:
    """What the buttons do."""

    predictor: Predictor
    work: Workplace

    def train(self, name: str, limit: str, request: gr.Request) -> Any:
        with permitted(self.work, request, "train") as user:
            return queued(self.work.train(self.predictor.cards[name], minutes_of(limit), user), "Training is queued.")

    def promote(self, job: str | None, margin: float, request: gr.Request) -> Any:
        with permitted(self.work, request, "admin") as user:
            return queued(self.work.promote(job or "", margin, user), "The comparison is queued; see its log.")

    def roll_back(self, name: str, seen: int | None, request: gr.Request) -> tuple[str, int | None]:
        with permitted(self.work, request, "admin") as user:
            now = self.work.roll_back(self.predictor.cards[name], user, seen)
        gr.Info(f"Version {now.number} is served again.")
        return self.versions(name)

    def versions(self, name: str | None) -> tuple[str, int | None]:
        return (_versions(self.work, name), self.work.registry.current(name).number) if name else ("", None)


def minutes_of(given: str) -> float | None:
    """The minutes of training that were typed; None if nothing was, for which a number field would say 0."""
    if not given.strip():
        return None
    try:
        number = float(given)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise DataError("minutes", f"{given[:20]!r} is not a positive number", "leave it empty, or give one such as 10")
    return number


def _versions(work: Workplace, name: str) -> str:
    """The versions, the changes of the current one, and the reviews since."""
    current = work.registry.current(name).number
    rows = []
    for version in work.registry.versions(name)[::-1]:
        card = version.card
        mark = "<strong>current</strong>" if version.number == current else ""
        count = str(card.provenance.counts.get("train", ""))
        rows.append([str(version.number), mark, count, _main_figures(card), _calibration(card)])
    history = [
        [escape(part) for part in (minute(change.time), str(change.version), change.by or "", change.reason)]
        for change in work.registry.history(name)[::-1]
    ]
    task = work.registry.current(name).card.form.task
    counts = Counter(review.verdict for review in work.reviews.of(name, task))
    reviewed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "none"
    return framed(
        section("Versions", "", table(VERSIONS, rows))
        + section("Changes", "", table(["When", "Version", "By", "Reason"], history))
        + section("Reviewed answers", "", f"<p>{reviewed}</p>")
    )


def _main_figures(card: Card) -> str:
    """The main figure of each field, a line each."""
    main = {name: entry for name, entry in card.metrics.items() if name.rpartition(".")[2] in MAIN}
    lines = [f"{name} {figure}" for name, figure in figures(main)]
    return "".join(f"<div>{escape(line)}</div>" for line in lines) or "not evaluated"


def _calibration(card: Card) -> str:
    return "not calibrated" if card.confidence is None else escape(card.confidence.bound.in_words)
