"""The error browser and the threshold slider on the Adapters tab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from vlm_ft.evaluation.evaluate import Evaluation
from vlm_ft.work.workplace import Workplace

from .error_browser import (
    ALL,
    ANY,
    ESCAPES,
    EVERY,
    FALSE_REJECTS,
    NONE_STORED,
    PER_PAGE,
    WRONG,
    Selection,
    classes_of,
    evaluation_of,
    fields_of,
    is_flag,
    samples,
    samples_view,
    threshold_now,
    threshold_view,
)
from .handlers import QUIET, permitted
from .markup import framed


def errors_panel(work: Workplace, adapter: gr.Dropdown) -> None:
    """The panel, for users with the right to train, since it shows the photos and labels of the test set."""
    with gr.Accordion("Test samples of the current version", open=False) as panel:
        with gr.Row():
            field = gr.Dropdown([ANY], value=ANY, label="Field", filterable=False, min_width=140)
            true = gr.Dropdown([EVERY], value=EVERY, label="Labelled as", filterable=False, min_width=140)
            show = gr.Radio([WRONG, ALL], value=WRONG, label="Show", min_width=280)
        threshold = gr.Slider(0, 1, 0.5, step=0.01, label="Threshold: reject above this probability", visible=False)
        figures, shown = gr.HTML(), gr.HTML()
        page = gr.Dropdown(label="Samples", filterable=False, visible=False)

    handlers = _Samples(work)
    latest: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
    choice, results = [adapter, field, true, show, threshold], [figures, shown, page]
    of_choice = [true, show, threshold, *results]
    panel.expand(handlers.opened, adapter, [field, *of_choice], **latest)
    adapter.change(lambda: gr.update(open=False), None, panel, **latest)
    field.input(handlers.of_field, [adapter, field], of_choice, **latest)
    gr.on([true.input, show.input, threshold.input], handlers.chosen, choice, results, **latest)
    page.input(handlers.turned, [*choice, page], shown, **latest)


@dataclass(frozen=True)
class _Samples:
    """What the panel shows of the test samples of an adapter's current version."""

    work: Workplace

    def opened(self, name: str | None, request: gr.Request) -> tuple[Any, ...]:
        found = self._evaluation(name, request)
        choices = fields_of(found) if found is not None else [(ANY, ANY)]
        return gr.update(choices=choices, value=ANY), *_of_field(found, ANY)

    def of_field(self, name: str | None, field: str, request: gr.Request) -> tuple[Any, ...]:
        return _of_field(self._evaluation(name, request), field)

    def chosen(self, name: str | None, field: str, true: str, show: str, threshold: float, request: gr.Request) -> Any:
        found = self._evaluation(name, request)
        return _chosen(found, Selection(field, true, show, threshold)) if found is not None else gr.skip()

    def turned(
        self, name: str | None, field: str, true: str, show: str, threshold: float, page: int, request: gr.Request
    ) -> str:
        found = self._evaluation(name, request)
        return samples_view(found, samples(found, Selection(field, true, show, threshold)), page) if found else ""

    def _evaluation(self, name: str | None, request: gr.Request) -> Evaluation | None:
        with permitted(self.work, request, "train"):
            return evaluation_of(self.work.registry.current(name)) if name else None


def _of_field(evaluation: Evaluation | None, field: str) -> tuple[Any, ...]:
    """The updates for a field: its classes, the choices to show, its threshold if it is a flag, and the samples."""
    if evaluation is None:
        return (
            gr.update(choices=[EVERY], value=EVERY),
            gr.update(choices=[WRONG, ALL], value=WRONG),
            gr.update(visible=False),
            "",
            framed(f"<p>{NONE_STORED}</p>"),
            gr.update(visible=False),
        )
    flag = is_flag(evaluation, field)
    now = threshold_now(evaluation.form, field) if flag else 0.5
    return (
        gr.update(choices=classes_of(evaluation, field), value=EVERY),
        gr.update(choices=[WRONG, ALL, ESCAPES, FALSE_REJECTS] if flag else [WRONG, ALL], value=WRONG),
        gr.update(visible=flag, value=now),
        *_chosen(evaluation, Selection(field, threshold=now)),
    )


def _chosen(evaluation: Evaluation, choice: Selection) -> tuple[Any, ...]:
    """The updates for a choice: the threshold's figures, the first samples, and the pages."""
    rows = samples(evaluation, choice)
    figures = threshold_view(evaluation, choice.field, choice.threshold) if is_flag(evaluation, choice.field) else ""
    starts = range(0, len(rows), PER_PAGE)
    pages = [(f"{start + 1} to {min(start + PER_PAGE, len(rows))}", number) for number, start in enumerate(starts)]
    return (
        figures,
        samples_view(evaluation, rows, 0),
        gr.update(choices=pages, value=0 if pages else None, visible=len(pages) > 1),
    )
