"""Score many photos: upload them, or name a folder on the server, and read the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from vlm_ft.adapters import read_card
from vlm_ft.errors import DataError, UserError
from vlm_ft.inference.request import Predictor
from vlm_ft.scoring.first import FIRST
from vlm_ft.work.workplace import Table, Workplace

from .answer_view import notice_view
from .assess_tab import ASSESS
from .handlers import PRIVATE, QUIET, adapter_choice, permitted, uploads
from .jobs_view import JobsView, queued
from .photo_view import LEGIBLE
from .photos import reads_photos, small
from .scores import CONFIDENCE, kinds_of, readable, scores_in
from .wording import ASK, column_width

EVERYTHING, ANSWERED, UNCERTAIN = "All", "Answered", ASK
KINDS: list[tuple[str, Table]] = [("CSV", "csv"), ("Parquet", "parquet"), ("JSON Lines", "jsonl")]
MAX_ROWS = 2000
MAX_PICTURES = 12
ABOUT = '<p class="rest">Uncertain, and unlike each other and the training data. Choose one to review it.</p>'
DELETED = '<p class="rest">The photos have been deleted.</p>'
LEAST_CERTAIN = f'<p class="rest">The {MAX_ROWS} least certain are shown; the file has all.</p>'
COUNTED = '<p class="rest" role="status">{} of {} rows</p>'


def batch_tab(predictor: Predictor, work: Workplace, question: tuple[gr.Tabs, gr.Dropdown, gr.File]) -> None:
    """The tab's content.

    `question`: the tabs, and the adapter and photos on the one where an answer is reviewed.
    """
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            adapter = adapter_choice(predictor, reads_photos)
            files = gr.File(label="Photos, or a zip file of them", file_count="multiple", height=160)
            folder = gr.Textbox(label="Or a folder on the server", visible=work.root is not None)
            table = gr.Radio(KINDS, value="csv", label="The table as")
            button = gr.Button("Score", variant="primary")
            view = JobsView(work, ["score"])
        with gr.Column(scale=3, min_width=300):
            with gr.Row():
                decision = gr.Radio([EVERYTHING, ANSWERED, UNCERTAIN], value=EVERYTHING, label="Show", min_width=340)
                surest = gr.Slider(0, 1, 1, step=0.01, label="Confidence of at most", min_width=220)
            counted = gr.HTML()
            rows = gr.Dataframe(label="Answers", interactive=False, show_search="filter", max_height=420, visible=False)
            unsure = gr.Gallery(label="Review first", columns=4, height="auto", allow_preview=False, visible=False)
            remarks = gr.HTML()
            download = gr.File(label="The whole table", interactive=False, visible=False)

    actions = _Actions(predictor, work, question[2])
    unsure.select(actions.review, view.chosen, list(question), **PRIVATE)
    button.click(actions.score, [adapter, files, folder, table], [files, folder, view.chosen], **PRIVATE)
    choice = [view.chosen, decision, surest]
    filters: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
    gr.on([decision.change, surest.change], partial(_filtered, work), choice, [counted, rows], **filters)
    results = [counted, rows, unsure, remarks, download]
    view.state.change(partial(_results, work, download), choice, results, **PRIVATE)


@dataclass(frozen=True)
class _Actions:
    """What clicks do; a photo to review goes to `photos`."""

    predictor: Predictor
    work: Workplace
    photos: gr.File

    def score(
        self, name: str, sent: Sequence[str] | None, place: str, table: Table, request: gr.Request
    ) -> tuple[Any, ...]:
        with permitted(self.work, request, "assess") as user, uploads(sent or ()) as files:
            job = self.work.score(self.predictor.cards[name], files, place.strip(), table, user)
        return None, "", queued(job, "The photos are being scored; you may close this page.")

    def review(self, job: str, chosen: gr.SelectData, request: gr.Request) -> tuple[Any, ...]:
        with permitted(self.work, request, "assess"):
            _, folder, _, adapter, *_ = self.work.jobs.get(job).arguments
            listed = _to_review(self.work.jobs.result(job, "score"))
        path = listed[listed.index(chosen.value["caption"])]  # a browser may send any path
        photo = self.photos.move_resource_to_block_cache(str(Path(folder) / path))
        return gr.Tabs(selected=ASSESS), Path(adapter).parent.name, [photo]


def _results(work: Workplace, download: gr.File, job: str | None, show: str, surest: float) -> tuple[Any, ...]:
    """The updates that show what `_filtered` shows, the photos to review first, remarks on both, and the file."""
    hidden = gr.update(visible=False)
    try:
        file, folder, found = _scored(work, job)
    except UserError:
        return "", hidden, hidden, "", hidden
    notices = "".join(map(notice_view, found["notice"].unique()))
    there = folder.is_dir()
    pictures, problems = _pictures(folder, _to_review(file) if there else [])
    about = (ABOUT if pictures else "") if there else DELETED
    return (
        *_shown(found, show, surest),
        gr.update(value=pictures, visible=bool(pictures)),
        notices + about + _unshown(problems),
        gr.update(value=download.move_resource_to_block_cache(str(file)), visible=True),
    )


def _filtered(work: Workplace, job: str | None, show: str, surest: float) -> tuple[Any, ...]:
    """How many rows of a job's table are chosen, and these."""
    try:
        return _shown(_scored(work, job)[-1], show, surest)
    except UserError:
        return "", gr.update(visible=False)


def _scored(work: Workplace, job: str | None) -> tuple[Path, Path, pd.DataFrame]:
    """The table of a job, the folder of its photos, and its rows. Raises `UserError` while there is none."""
    file = work.jobs.result(job or "", "score")
    _, folder, _, adapter, *_ = work.jobs.get(job or "").arguments
    found = file.stat()
    return file, Path(folder), _read(file, (found.st_mtime_ns, found.st_size), Path(adapter))


@lru_cache(maxsize=2)  # those that people look at; a table can be large
def _read(file: Path, stamp: tuple[int, int], adapter: Path) -> pd.DataFrame:
    """The rows of a table, read once for all filters; `stamp` differs if it was written again."""
    return scores_in(file, read_card(adapter))


def _chosen(rows: pd.DataFrame, show: str, surest: float) -> pd.DataFrame:
    """The rows of a kind of decision with at most this confidence; those without a confidence are not sure either."""
    kept = rows[~(rows[CONFIDENCE] > surest)]
    return kept if show == EVERYTHING else kept[(kept["decision"] == "answer") == (show == ANSWERED)]


def _shown(found: pd.DataFrame, show: str, surest: float) -> tuple[Any, ...]:
    """How many rows are chosen, and the update that shows them; of many, the least certain."""
    kept = _chosen(found, show, surest)
    by_confidence = kept.sort_values(CONFIDENCE, kind="stable", na_position="first")
    cells = readable(by_confidence.head(MAX_ROWS).sort_index())
    widths = [column_width([*str(name).split(), *cells[name].map(str)]) for name in cells]
    counted = COUNTED.format(len(kept), len(found)) + (LEAST_CERTAIN if len(kept) > MAX_ROWS else "")
    return counted, gr.update(value=cells, datatype=kinds_of(cells), column_widths=widths, visible=True)


def _to_review(table: Path) -> list[str]:
    """The paths of the photos to review first, as many as are shown."""
    file = table.with_name(FIRST)
    return file.read_text(encoding="utf-8").split("\n")[:-1][:MAX_PICTURES] if file.is_file() else []


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
