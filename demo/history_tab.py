"""Who asked what, when, of which version: the decision log, to search and to export."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from demo.markup import framed, minute, table
from demo.workplace import History
from vlm_ft.scoring.export import csv_cell

SHOWN = 100
EXPORTED = 100_000
COLUMNS = ("time", "by", "adapter", "card", "decision", "answer")


def history_tab(history: History, tab: gr.Tab) -> None:
    """The content of the tab."""
    with gr.Row(equal_height=True):
        wanted = gr.Textbox(label="Search: an adapter, a name, a date, a photo's hash or a word of the answer", scale=4)
        export = gr.Button("Export as CSV", scale=1)
    shown = gr.HTML(_table(history, ""))
    file = gr.File(label="Exported", interactive=False, visible=False)
    private: dict[str, Any] = {"api_visibility": "private"}
    gr.on([wanted.submit, wanted.change, tab.select], lambda words: _table(history, words), wanted, shown, **private)
    export.click(lambda words: gr.update(value=_exported(history, words), visible=True), wanted, file, **private)


def _table(history: History, words: str) -> str:
    rows = [[escape(cell) for cell in (minute(time), *rest)] for time, *rest in map(_cells, history(words, SHOWN))]
    titles = [column.capitalize() for column in COLUMNS]
    return framed(table(titles, rows) if rows else '<p class="none">Nothing found.</p>')


def _cells(entry: Mapping[str, Any]) -> list[str]:
    shown = {
        **entry,
        "card": str(entry.get("card", ""))[:8],
        "answer": json.dumps(entry.get("answer"), ensure_ascii=False),
    }
    return [str(shown.get(column) or "") for column in COLUMNS]


def _exported(history: History, words: str) -> str:
    place = Path(tempfile.mkdtemp()) / "history.csv"
    with place.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        writer.writerows([csv_cell(cell) for cell in _cells(entry)] for entry in history(words, EXPORTED))
    return str(place)
