"""Scored rows as a table: .parquet, .csv or .jsonl, by its suffix. The columns are derived from the form.

| field of the form | columns |
| --- | --- |
| choice, flag, integer | `<field>`, `<field>_probability`, `<field>_decision`, `<field>_reason` |
| text | `<field>` |
| box | `<field>`: left, top, right, bottom, each 0 to 1000 |
| items | `<field>`: the list of records, and `<field>_count` |

A field's decision and reason are on this field; an adapter that is not calibrated has none. The columns of the
form's derivations (`Result.columns`) come after those of its fields.

Every table also has `path`, `sha256` (of the photo's file), `width`, `height` (pixels), `decision`, `reason`, `error`,
`adapter`, `card` (the fingerprint of its card, which names the version) and `notice`, and `reward` if a reward model
scored the answers.
A field whose name is taken becomes `answer_<field>`, a derived column `derived_<column>`. An image that was set
aside has an `error` and an empty answer.

In .csv, lists are JSON, and an apostrophe precedes a text that a spreadsheet would run as a formula (beginning with
= + - @, a tab or a line break); .parquet and .jsonl keep every text as it is.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq

from vlm_ft.adapters import Card
from vlm_ft.answers.derivations import Derivation
from vlm_ft.answers.kinds import BoxKind, Choice, FieldSpec, Flag, Integer, Items, Kind, Text
from vlm_ft.answers.prediction import FieldValue
from vlm_ft.errors import DataError
from vlm_ft.scoring.ledger import Row, ledger_files, ledger_path

SUFFIXES = (".parquet", ".csv", ".jsonl")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""A spreadsheet would run a text that begins with one of these as a formula."""

ROW_GROUP = 2000  # rows written at a time


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, its Arrow type, and how to read it from a row."""

    name: str
    type: pa.DataType
    read: Callable[[Row], Any]


def check_target(out: Path) -> None:
    """Raise `DataError` if a table cannot be written to `out`, or would overwrite a file that is not a scored table."""
    if out.suffix.lower() not in SUFFIXES:
        raise DataError(out, f"unknown table format {out.suffix!r}", f"end the name with {', '.join(SUFFIXES)}")
    _check_place(out)
    if out.exists() and not ledger_path(out).exists():
        raise DataError(
            out, f"exists, but has no {ledger_path(out).name}", "choose another output file, or move it away"
        )


def check_beside(out: Path, *others: Path | None) -> None:
    """Raise `DataError` if the other files cannot be written, or would replace each other, the table or its ledger."""
    taken = {file.resolve() for file in (out, *ledger_files(out))}
    for place in filter(None, others):
        _check_place(place)
        if place.resolve() in taken:
            raise DataError(place, "would replace another output of this command", "give it another name")
        taken.add(place.resolve())


def _check_place(out: Path) -> None:
    if not out.parent.is_dir():
        raise DataError(out, f"no folder {out.parent}", "create it first")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise DataError(out, "cannot be written", "choose a folder that you may write to")


def columns(card: Card, *, rated: bool = False) -> tuple[Column, ...]:
    """The columns of an adapter's table, in order: the path, the answer, everything else.

    `rated`: the answers were scored by a reward model.
    """
    rest = _accompanying(card, rated)
    fixed = {column.name for column in rest}
    taken = fixed | set(card.form.names)
    answer: list[Column] = []
    for field in card.form.fields:
        for column in _answer_columns(field, card):
            own = column.name == field.name and column.name not in fixed
            answer.append(column if own else _renamed(column, taken, "answer"))
    for entry in card.form.derivations:
        answer += [_renamed(column, taken, "derived") for column in _derived_columns(entry)]
    return (rest[0], *answer, *rest[1:])


def write_table(out: Path, card: Card, rows: Iterable[Row], *, rated: bool = False) -> None:
    """Write all rows or none, to a temporary file that replaces `out` at the end.

    The ledger ensures that only one process writes at a time.
    """
    writer = {".parquet": _write_parquet, ".csv": _write_csv, ".jsonl": _write_jsonl}[out.suffix.lower()]
    part = out.with_name(f".{out.name}.part")
    try:
        writer(part, columns(card, rated=rated), rows)
        part.replace(out)
    except OSError as error:
        raise DataError(
            out, error.strerror or str(error), "free some space and run it again; no row is lost"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _accompanying(card: Card, rated: bool) -> tuple[Column, ...]:
    version = card.fingerprint
    return (
        Column("path", pa.string(), lambda row: row.path),
        Column("decision", pa.string(), lambda row: row.prediction.decision),
        Column("reason", pa.string(), lambda row: row.prediction.reason or None),
        Column("error", pa.string(), lambda row: row.prediction.error),
        Column("sha256", pa.string(), lambda row: row.digest or None),
        Column("width", pa.int32(), lambda row: row.width),
        Column("height", pa.int32(), lambda row: row.height),
        *([Column("reward", pa.float64(), lambda row: row.prediction.reward)] if rated else []),
        Column("adapter", pa.string(), lambda row: card.name),
        Column("card", pa.string(), lambda row: version),
        Column("notice", pa.string(), lambda row: _notice(card, row)),
    )


def _notice(card: Card, row: Row) -> str:
    """The card's notice, and where the row's probabilities come from, if not from the adapter's own decoder."""
    source = row.prediction.probabilities
    return f"{card.notice} Probabilities: {source}.".lstrip() if source else card.notice


def _answer_columns(field: FieldSpec, card: Card) -> list[Column]:
    name = field.name

    def column(suffix: str, type_: pa.DataType, read: Callable[[FieldValue], Any]) -> Column:
        def cell(row: Row) -> Any:
            entry = row.prediction.fields.get(name)
            return None if entry is None else read(entry)

        return Column(name + suffix, type_, cell)

    found = [column("", _arrow(field.kind), lambda entry: entry.value)]
    if isinstance(field.kind, Items):
        found.append(column("_count", pa.int32(), lambda entry: len(entry.value)))
    if isinstance(field.kind, Choice | Flag | Integer):
        found.append(column("_probability", pa.float64(), lambda entry: entry.probability))
    if card.confidence is not None and name in card.confidence.bounds:
        found.append(column("_decision", pa.string(), lambda entry: entry.decision))
        found.append(column("_reason", pa.string(), lambda entry: entry.reason))
    return found


def _renamed(column: Column, taken: set[str], prefix: str) -> Column:
    """The column under a name that is not taken yet."""
    name = column.name
    while name in taken:
        name = f"{prefix}_{name}"
    taken.add(name)
    return replace(column, name=name)


def _derived_columns(derivation: Derivation) -> list[Column]:
    def cell(row: Row, place: int) -> Any:
        values = row.prediction.derived.get(derivation.kind)
        return None if values is None else derivation.result.model_validate(values).cells()[place]

    types = derivation.result.columns.items()
    return [Column(name, _arrow_of(type_), partial(cell, place=place)) for place, (name, type_) in enumerate(types)]


def _arrow_of(annotation: Any) -> pa.DataType:
    """The Arrow type of a derived column's Python type."""
    simple = {str: pa.string(), float: pa.float64(), bool: pa.bool_()}
    if annotation in simple:
        return simple[annotation]
    inner = get_args(annotation)
    if get_origin(annotation) is list:
        return pa.list_(_arrow_of(inner[0]))
    if inner:  # X | None
        return _arrow_of(inner[0])
    return pa.struct([(name, _arrow_of(info.annotation)) for name, info in annotation.model_fields.items()])


def _arrow(kind: Kind) -> pa.DataType:
    match kind:
        case Choice() | Text():
            return pa.string()
        case Flag():
            return pa.bool_()
        case Integer():
            return pa.int64()
        case BoxKind():
            return pa.list_(pa.int32())
        case Items(fields=fields):
            return pa.list_(pa.struct([(field.name, _arrow(field.kind)) for field in fields]))


def _write_parquet(part: Path, table: Sequence[Column], rows: Iterable[Row]) -> None:
    schema = pa.schema([(column.name, column.type) for column in table])
    with pq.ParquetWriter(part, schema) as writer:
        for group in _groups(rows):
            arrays = [pa.array([column.read(row) for row in group], type=column.type) for column in table]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    source = iter(rows)
    while group := list(islice(source, ROW_GROUP)):
        yield group


def _write_csv(part: Path, table: Sequence[Column], rows: Iterable[Row]) -> None:
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([csv_cell(column.name) for column in table])
        writer.writerows([csv_cell(column.read(row)) for column in table] for row in rows)


def csv_cell(value: Any) -> str:
    """A value as a cell that no spreadsheet runs as a formula."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _write_jsonl(part: Path, table: Sequence[Column], rows: Iterable[Row]) -> None:
    with part.open("w", encoding="utf-8") as file:
        for row in rows:
            record = {column.name: column.read(row) for column in table}
            file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
