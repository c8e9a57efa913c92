"""The decision log, to search and to export: who asked what and when, and which version answered."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

import gradio as gr

from vlm_ft.scoring.export import csv_cell
from vlm_ft.work.workplace import Workplace

from .handlers import PRIVATE, permitted
from .markup import framed, minute, table

History = Callable[[str, int], Sequence[Mapping[str, Any]]]
"""(words, limit) -> the newest entries of the decision log that contain the words."""

SHOWN = 100
EXPORTED = 100_000
COLUMNS = ("time", "by", "case", "adapter", "version", "card", "decision", "answer")


def history_tab(history: History, work: Workplace, tab: gr.Tab) -> None:
    """The content of the tab, for users with the right to administer."""
    with gr.Row(equal_height=False):
        wanted = gr.Textbox(label="Search: an adapter, a name, a date, a photo's hash or a word of the answer", scale=4)
        export = gr.Button("Export as CSV", scale=1)
    shown = gr.HTML()
    file = gr.File(label="Exported", interactive=False, visible=False)

    def found(words: str, request: gr.Request) -> str:
        with permitted(work, request, "admin"):
            return _table(history, words)

    def exported(words: str, request: gr.Request) -> Any:
        with permitted(work, request, "admin"), tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "history.csv"
            with place.open("w", newline="", encoding="utf-8") as out:
                rows = ([csv_cell(cell) for cell in _cells(entry)] for entry in history(words, EXPORTED))
                csv.writer(out).writerows(chain([COLUMNS], rows))
            return gr.update(value=file.move_resource_to_block_cache(str(place)), visible=True)

    gr.on([wanted.submit, tab.select], found, wanted, shown, **PRIVATE)
    export.click(exported, wanted, file, **PRIVATE)


def _table(history: History, words: str) -> str:
    entries = map(_cells, history(words, SHOWN))
    rows = [[f'<span class="time">{minute(time)}</span>', *map(escape, rest)] for time, *rest in entries]
    titles = [column.capitalize() for column in COLUMNS]
    return framed(table(titles, rows) if rows else '<p class="none">Nothing found.</p>')


def _cells(entry: Mapping[str, Any]) -> list[str]:
    shown = {
        **entry,
        "card": str(entry.get("card", ""))[:8],
        "answer": json.dumps(entry.get("answer"), ensure_ascii=False),
    }
    return [str(shown.get(column) or "") for column in COLUMNS]
