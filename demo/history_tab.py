"""The decision log, to search and to export: who asked what and when, and which version answered."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
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
MORE_EXPORTED = ("photos", "text", "form", "calibration", "decoder", "precision")


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
                csv.writer(out).writerows(exported_rows(history(words, EXPORTED)))
            return gr.update(value=file.move_resource_to_block_cache(str(place)), visible=True)

    gr.on([wanted.submit, tab.select], found, wanted, shown, **PRIVATE)
    export.click(exported, wanted, file, **PRIVATE)


def exported_rows(entries: Iterable[Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """The names of the columns, then the entries with all hashes, as cells that no spreadsheet runs."""
    columns = (*COLUMNS, *MORE_EXPORTED)
    yield columns
    for entry in entries:
        yield [csv_cell(cell) for cell in _cells(entry, columns)]


def _table(history: History, words: str) -> str:
    entries = ({**entry, "card": str(entry.get("card") or "")[:8]} for entry in history(words, SHOWN))
    cells = (_cells(entry, COLUMNS) for entry in entries)
    rows = [[f'<span class="time">{minute(time)}</span>', *map(escape, rest)] for time, *rest in cells]
    titles = [column.capitalize() for column in COLUMNS]
    return framed(table(titles, rows) if rows else '<p class="none">Nothing found.</p>')


def _cells(entry: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """Texts as they are, anything else as JSON; "" for what an entry does not have."""
    values = ("" if entry.get(column) is None else entry[column] for column in columns)
    return [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
