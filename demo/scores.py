"""The table of a scoring job, of any kind, as the Batch tab shows it: numbers as numbers, and a row's confidence."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vlm_ft.adapters import Card
from vlm_ft.scoring.export import columns, csv_cell

from .wording import words

CONFIDENCE = "confidence"
FIRST = ("path", "decision", CONFIDENCE)
LEFT_OUT = ("width", "height", "adapter", "card", "notice", "sha256")
MAX_CELL = 60  # characters of a cell


def scores_in(file: Path, card: Card) -> pd.DataFrame:
    """The rows of a table: numbers, and texts as in CSV.

    `confidence` is the probability that all closed fields are right, missing if the adapter gives none.
    """
    rows = _as_text(file)
    numbers = [
        column.name
        for column in columns(card)
        if column.name in rows and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))
    ]
    rows[numbers] = rows[numbers].apply(pd.to_numeric)
    probabilities = rows[[name for name in numbers if name.removesuffix("_probability") in card.form.names]]
    confidence = probabilities.prod(axis="columns", skipna=False) if len(probabilities.columns) else float("nan")
    return rows.assign(**{CONFIDENCE: confidence})


def readable(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that have something to say, with short cells and headings that can be wrapped.

    With a single closed field, its decision is that of the row.
    """
    said = [
        name
        for name in rows
        if (rows[name].notna() & rows[name].ne("")).any()
        and not any(name != whole and rows[name].equals(rows[whole]) for whole in ("decision", "reason"))
    ]
    kept = [*(name for name in FIRST if name in said), *(name for name in said if name not in (*FIRST, *LEFT_OUT))]
    return rows[kept].map(_short).rename(columns=words)


def kinds_of(rows: pd.DataFrame) -> list[str]:
    """The kinds of the columns, by which Gradio sorts and aligns them."""
    return ["number" if pd.api.types.is_numeric_dtype(rows[name]) else "str" for name in rows]


def _as_text(file: Path) -> pd.DataFrame:
    """The cells of a table as they are, or would be, in CSV."""
    if file.suffix == ".csv":
        return pd.read_csv(file, dtype=str, keep_default_na=False)
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        records, names = table.to_pylist(), table.column_names
    else:
        with file.open(encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        names = list(dict.fromkeys(name for record in records for name in record))
    return pd.DataFrame(
        [[csv_cell(record.get(name)) for name in names] for record in records], columns=names, dtype=str
    )


def _short(cell: object) -> object:
    """A fraction, such as a probability, with three digits; other numbers as they are, and texts cut off."""
    if isinstance(cell, float):
        return float(f"{cell:.3g}") if abs(cell) < 100 else cell
    return cell[:MAX_CELL] if isinstance(cell, str) else cell
