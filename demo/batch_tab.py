"""Score many photos: upload them, or name a folder on the server, and read the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from vlm_ft.errors import DataError, UserError
from vlm_ft.inference.request import Predictor
from vlm_ft.scoring.first import FIRST
from vlm_ft.work.workplace import Workplace

from .answer_view import notice_view
from .assess_tab import ASSESS
from .handlers import PRIVATE, adapter_choice, permitted, uploads
from .jobs_view import JobsView, queued
from .photo_view import LEGIBLE
from .photos import reads_photos, small
from .wording import column_width, words

EVERYTHING, UNCERTAIN = "All", "Ask a person"
MOST_ROWS = 2000
MOST_PICTURES = 12
ABOUT = '<p class="rest">Uncertain, and unlike each other and the training data. Choose one to review it.</p>'
DOWNLOADED = '<p class="rest">This table is a {} file: download it.</p>'
"""A program may ask the service for another kind of table than the app does."""

DELETED = '<p class="rest">The photos have been deleted.</p>'
MOST_SHOWN = 60  # characters of a cell
LEFT_OUT = ("width", "height", "adapter", "notice", "sha256")


def batch_tab(predictor: Predictor, work: Workplace, question: tuple[gr.Tabs, gr.Dropdown, gr.File]) -> None:
    """The tab's content.

    `question`: the tabs, and the adapter and photos on the one where an answer is reviewed.
    """
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            adapter = adapter_choice(predictor, reads_photos)
            files = gr.File(label="Photos, or a zip file of them", file_count="multiple", height=160)
            folder = gr.Textbox(label="Or a folder on the server", visible=work.root is not None)
            button = gr.Button("Score", variant="primary")
            view = JobsView(work, ["score"])
        with gr.Column(scale=3, min_width=300):
            decision = gr.Radio([EVERYTHING, UNCERTAIN], value=EVERYTHING, label="Show")
            rows = gr.Dataframe(label="Answers", interactive=False, show_search="filter", max_height=420, visible=False)
            unsure = gr.Gallery(label="Review first", columns=4, height="auto", allow_preview=False, visible=False)
            remarks = gr.HTML()
            download = gr.File(label="The whole table", interactive=False, visible=False)

    actions = _Actions(predictor, work, question[2])
    unsure.select(actions.review, view.chosen, list(question), **PRIVATE)
    button.click(actions.score, [adapter, files, folder], [files, folder, view.chosen], **PRIVATE)
    results, shown = partial(_results, work, download), [rows, unsure, remarks, download]
    gr.on([view.state.change, decision.change], results, [view.chosen, decision], shown, **PRIVATE)


@dataclass(frozen=True)
class _Actions:
    """What clicks do; a photo to review goes to `photos`."""

    predictor: Predictor
    work: Workplace
    photos: gr.File

    def score(self, name: str, sent: Sequence[str] | None, place: str, request: gr.Request) -> tuple[Any, ...]:
        with permitted(self.work, request, "assess") as user, uploads(sent or ()) as files:
            job = self.work.score(self.predictor.cards[name], files, place.strip(), "csv", user)
        return None, "", queued(job, "The photos are being scored; this page may be closed.")

    def review(self, job: str, chosen: gr.SelectData, request: gr.Request) -> tuple[Any, ...]:
        with permitted(self.work, request, "assess"):
            _, folder, _, adapter, *_ = self.work.jobs.get(job).arguments
            listed = _to_review(self.work.jobs.result(job, "score"))
        path = listed[listed.index(chosen.value["caption"])]  # a browser may send any path
        photo = self.photos.move_resource_to_block_cache(str(Path(folder) / path))
        return gr.Tabs(selected=ASSESS), Path(adapter).parent.name, [photo]


def _results(work: Workplace, download: gr.File, job: str | None, show: str) -> tuple[Any, ...]:
    """The rows of a job's table, the photos to review first, remarks on both, and the file."""
    hidden = gr.update(visible=False)
    try:
        chosen, file = work.jobs.get(job or ""), work.jobs.result(job or "", "score")
    except UserError:
        return hidden, hidden, "", hidden
    rows, remark = _rows(file, show) if file.suffix == ".csv" else (hidden, DOWNLOADED.format(file.suffix))
    _, folder, *_ = chosen.arguments
    there = Path(folder).is_dir()
    pictures, problems = _pictures(Path(folder), _to_review(file) if there else [])
    about = (ABOUT if pictures else "") if there else DELETED
    return (
        rows,
        gr.update(value=pictures, visible=bool(pictures)),
        remark + about + _unshown(problems),
        gr.update(value=download.move_resource_to_block_cache(str(file)), visible=True),
    )


def _rows(file: Path, show: str) -> tuple[Any, str]:
    """The update that shows the rows of a table, and the notices of their answers."""
    found = pd.read_csv(file, nrows=MOST_ROWS, dtype=str, keep_default_na=False)
    readable = _readable(found[found["decision"] != "answer"] if show == UNCERTAIN else found)
    widths = [column_width([*str(name).split(), *readable[name]]) for name in readable]
    notices = "".join(map(notice_view, found["notice"].unique()))
    return gr.update(value=readable, column_widths=widths, visible=True), notices


def _to_review(table: Path) -> list[str]:
    """The paths of the photos to review first, as far as they can be shown."""
    file = table.with_name(FIRST)
    return file.read_text(encoding="utf-8").split("\n")[:-1][:MOST_PICTURES] if file.is_file() else []


def _readable(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that have something to say, with short cells and headings that can be wrapped."""
    kept = [name for name in rows.columns if name not in LEFT_OUT and rows[name].ne("").any()]
    return rows[kept].map(_short).rename(columns=words)


def _short(cell: str) -> str:
    """A fraction, such as a probability, with three digits; other cells as they are, if they are short."""
    try:
        if "." in cell and abs(float(cell)) < 100:
            return f"{float(cell):.3g}"
    except ValueError:
        pass
    return cell[:MOST_SHOWN]


def _pictures(folder: Path, paths: Sequence[str]) -> tuple[list[tuple[Any, str]], list[str]]:
    """Small copies of photos, and what is wrong with those that cannot be shown."""
    pictures, problems = [], []
    for path in paths:
        try:
            pictures.append((small(folder / path, LEGIBLE), path))
        except DataError as error:
            problems.append(error.public())
    return pictures, problems


def _unshown(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    listed = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return f'<p class="rest">Photos that cannot be shown: {len(problems)}</p><ul class="rest">{listed}</ul>'
