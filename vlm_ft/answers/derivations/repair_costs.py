"""Make a rate card from a table of repair costs by type of car, part, damage and severity."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import ValidationError

from datasets_vision.formats.tables import Row, read_table
from vlm_ft.answers.derivations.estimate import CURRENCY, Key, Rate, RateCard
from vlm_ft.errors import DataError, nearest, problem_of

CAR = "Car_Type"
COLUMNS = {
    "part": "Part",
    "kind": "Damage_Type",
    "severity": "Severity",
    "labour_hours": "Labor_Hours",
    "labour_rate": "Labor_Rate_Per_Hour",
    "parts_low": "Used_Part_Cost",
    "parts_high": "New_Part_Cost",
}
"""Field of `Rate` -> column of the table; the low price is for a used part, the high price for a new one."""


def rate_card_of(table: Path, car: str, currency: str = "USD") -> RateCard:
    """A rate card with the prices of one type of car; names become lower case with underscores.

    Raises `DataError` naming file and line for an invalid row, a second price for the same repair, or an unknown car.
    """
    if not re.fullmatch(CURRENCY, currency):
        raise DataError(
            f"currency {currency!r}", "is not a code of three capital letters", "give an ISO 4217 code, such as EUR"
        )
    header, rows = read_table(table)
    for column in (CAR, *COLUMNS.values()):
        if column not in header:
            raise DataError(table, f"no column {column!r}", nearest(column, header))
    rates, cars, lines = list[Rate](), set[str](), dict[Key, int]()
    for row in rows:
        if not isinstance(row, Row):
            raise DataError(row.place, row.reason)
        cars.add(row.cells[CAR])
        if row.cells[CAR].casefold() != car.casefold():
            continue
        rate = _rate(table, row)
        if (twin := lines.setdefault(rate.key, row.line)) != row.line:
            raise DataError(f"{table}:{row.line}", f"repeats the price of line {twin}", "keep one")
        rates.append(rate)
    if not rates:
        raise DataError(table, f"no rows of car type {car!r}", nearest(car, cars))
    notice = f"From {table.name}, car type {car}; low with a used part, high with a new one."
    return RateCard(name=table.stem, version="1", notice=notice, currency=currency, rates=tuple(rates))


def _rate(table: Path, row: Row) -> Rate:
    cells = {field: row.cells[column].strip() for field, column in COLUMNS.items()}
    named = {field: "_".join(cells[field].lower().split()) for field in ("part", "kind", "severity")}
    empty = next((field for field, name in named.items() if not name), None)
    if empty is not None:
        raise DataError(f"{table}:{row.line}", f"{COLUMNS[empty]} is empty", "fill it in")
    try:
        return Rate.model_validate({**cells, **named})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column = COLUMNS.get(str(first["loc"][0]), "row") if first["loc"] else "row"
        problem = f"{column} {str(first['input'])[:40]!r}: {problem_of(first)}"
        raise DataError(f"{table}:{row.line}", problem, "correct the row") from error
