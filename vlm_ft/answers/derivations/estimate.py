"""The cost of a repair, from the damage that an answer lists and a rate card."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from datasets_vision.placing import whole_file
from vlm_ft.answers.boxes import iou
from vlm_ft.answers.derivations.names import ANY, normalise
from vlm_ft.answers.derivations.result import Figure, Result, View, joined
from vlm_ft.answers.derivations.versioned import read_versioned
from vlm_ft.answers.kinds import Strict
from vlm_ft.errors import DataError

FINDINGS = "findings"
"""The answer's list of findings, each with a kind and perhaps a part and a severity."""

KEY = ("part", "kind", "severity")
Key = tuple[str, str, str]
MAX_PRICE = 1e12
"""The highest price allowed for an hour or a part, so that sums stay finite."""

CURRENCY = r"^[A-Z]{3}$"
CLOSE = 0.2  # of the labelled estimate, for `within_20_percent`
SAME_IOU = 0.5  # findings with at least this overlap describe the same damage


class Rate(Strict):
    """The price of one repair: hours of labour at an hourly rate, and parts from low (used, repaired) to high (new).

    `ANY` in a key applies to every part, kind or severity that no more specific row names.
    """

    part: str
    kind: str
    severity: str
    labour_hours: float = Field(ge=0, le=1000, allow_inf_nan=False)
    labour_rate: float = Field(ge=0, le=MAX_PRICE, allow_inf_nan=False)
    parts_low: float = Field(ge=0, le=MAX_PRICE, allow_inf_nan=False)
    parts_high: float = Field(ge=0, le=MAX_PRICE, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Rate:
        if self.parts_low > self.parts_high:
            raise ValueError(f"parts_low {self.parts_low:g} exceeds parts_high {self.parts_high:g}; swap them")
        return self

    @property
    def labour(self) -> float:
        return self.labour_hours * self.labour_rate

    @property
    def key(self) -> Key:
        """The names that the row applies to, normalised for comparison."""
        return normalise(self.part), normalise(self.kind), normalise(self.severity)


class PricedRow(Rate):
    """A row of a rate card's file; all rows have the same currency (ISO 4217)."""

    currency: str = Field(pattern=CURRENCY)


class Line(Strict):
    """One line of an estimate, in its currency; a part, kind or severity of None is not stated by the answer.

    If several rows with different hours or rates apply, these are None, and the costs span all of the rows.
    """

    part: str | None
    kind: str | None
    severity: str | None
    labour_hours: float | None
    labour_rate: float | None
    labour_low: float
    labour_high: float
    parts_low: float
    parts_high: float
    note: str = ""

    def row(self) -> tuple[str, ...]:
        named = (joined(name) or "not stated" for name in (self.part, self.kind, self.severity))
        hours = f"{self.labour_hours:g} h × {self.labour_rate:g} = " if self.labour_hours and self.labour_rate else ""
        labour = hours + _span(self.labour_low, self.labour_high)
        return (*named, labour, _span(self.parts_low, self.parts_high), self.note)


class NotPriced(Strict):
    """A finding without a price, and why."""

    part: str | None
    kind: str | None
    severity: str | None
    reason: str

    def __str__(self) -> str:
        named = joined(self.severity, self.kind, self.part)
        return f"{named}: {self.reason}" if named else self.reason


class Estimate(Result):
    """The cost of the findings of one answer: the sum of its lines, from low to high.

    `complete`: every finding is priced; otherwise, low and high cover only those that are.
    """

    columns: ClassVar = {
        "estimate_low": float,
        "estimate_high": float,
        "estimate_currency": str,
        "estimate_complete": bool,
        "estimate_lines": list[Line],
        "estimate_not_priced": list[str],
    }

    card: str
    version: str
    notice: str
    currency: str
    low: float
    high: float
    complete: bool
    lines: tuple[Line, ...]
    not_priced: tuple[NotPriced, ...]

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    @property
    def definite(self) -> bool:
        return self.complete

    @property
    def text(self) -> str:
        missing = f", {len(self.not_priced)} not priced" if self.not_priced else ""
        return f"{self.currency} {self.low:,.0f} to {self.high:,.0f}{missing}"

    def cells(self) -> Sequence[Any]:
        lines = [line.model_dump() for line in self.lines]
        return self.low, self.high, self.currency, self.complete, lines, [str(entry) for entry in self.not_priced]

    def view(self) -> View:
        total = _span(self.low, self.high) if self.lines or self.complete else "not priced"
        head = ("Part", "Damage", "Severity", "Labour", "Parts", "Note")
        width = len(head) if any(line.note for line in self.lines) else len(head) - 1
        return View(
            title="Repair estimate",
            source=f"rate card {self.card}, version {self.version}",
            headline=f"{self.currency} {total}",
            remark="without what is not priced" if self.lines and not self.complete else "",
            head=head[:width],
            rows=tuple(line.row()[:width] for line in self.lines),
            rest="Not priced",
            entries=tuple(map(str, self.not_priced)),
        )

    def agreement(self, given: Estimate | None) -> float:
        """1 less the relative distance of the other's midpoint from this range; 0 if not all is priced."""
        if given is None or not given.complete:
            return 0.0
        outside = max(self.low - given.middle, given.middle - self.high, 0.0)
        return max(0.0, 1 - outside / self.middle) if self.middle else float(outside == 0)

    @classmethod
    def figures(cls, pairs: Sequence[tuple[Estimate, Estimate | None]]) -> Iterator[Figure]:
        """Errors between the midpoints of the labelled and the predicted estimates.

        `mae` and `median_error` are in the card's currency, over the cases whose prediction is fully priced;
        `within_20_percent` and `not_priced` (not fully priced) are shares of all cases.
        """
        field = f"estimate in {pairs[0][0].currency}"
        errors = [abs(true.middle - given.middle) if given and given.complete else None for true, given in pairs]
        close = [
            float(error is not None and error <= CLOSE * true.middle)
            for error, (true, _) in zip(errors, pairs, strict=True)
        ]
        yield Figure(field, "mae", errors, "mean")
        yield Figure(field, "median_error", errors, "median")
        yield Figure(field, "within_20_percent", close, "share")
        yield Figure(field, "not_priced", [float(error is None) for error in errors], "share")


class RateCard(Strict):
    """Prices by part, kind and severity. Of several rows that apply, the most specific is used.

    A row that names the part is the most specific, then one that names the kind, then the severity.
    """

    result: ClassVar = Estimate

    kind: Literal["estimate"] = "estimate"
    name: str
    version: str
    notice: str = ""
    currency: str = Field(pattern=CURRENCY)
    rates: tuple[Rate, ...] = Field(min_length=1)

    def derivable(self, paths: Collection[str]) -> bool:
        """Whether answers with these field paths can be priced."""
        return f"{FINDINGS}.kind" in paths

    def derive(self, values: Mapping[str, Any]) -> Estimate | None:
        """The estimate of an answer; None if it states no findings.

        A finding that does not state its part or severity gets the span of all rows that may apply. Findings of one
        part and kind whose boxes overlap (IoU of at least `SAME_IOU`) describe the same damage, which costs as much as
        the most expensive of them. Several repairs of one part share the cost of the part, but not of labour.
        """
        findings = values.get(FINDINGS)
        if findings is None:
            return None
        lines, not_priced = list[Line](), list[NotPriced]()
        for damage in _by_damage(findings):
            priced = [self._priced({name: finding.get(name) for name in KEY}) for finding in damage]
            found = [entry for entry in priced if isinstance(entry, Line)]
            if found:
                most_expensive = max(found, key=lambda line: line.labour_high + line.parts_high)
                note = f"{len(damage)} overlapping findings priced once" if len(damage) > 1 else ""
                lines.append(most_expensive.model_copy(update={"note": _joined(most_expensive.note, note)}))
            not_priced += dict.fromkeys(entry for entry in priced if isinstance(entry, NotPriced))
        if not findings and values.get("damaged") is True:
            not_priced.append(NotPriced(**dict.fromkeys(KEY), reason="damaged, but no damage is listed"))
        lines = _parts_once(lines)
        return Estimate(
            card=self.name,
            version=self.version,
            notice=self.notice,
            currency=self.currency,
            low=round(sum(line.labour_low + line.parts_low for line in lines), 2),
            high=round(sum(line.labour_high + line.parts_high for line in lines), 2),
            complete=not not_priced,
            lines=tuple(lines),
            not_priced=tuple(not_priced),
        )

    @cached_property
    def _by_key(self) -> dict[Key, Rate]:
        return {rate.key: rate for rate in self.rates}

    @cached_property
    def _names(self) -> tuple[tuple[str, ...], ...]:
        """The names in each column of the card's keys, apart from ANY; (ANY,) for a column without names."""
        columns = zip(*self._by_key, strict=True)
        return tuple(tuple(dict.fromkeys(name for name in column if name != ANY)) or (ANY,) for column in columns)

    def _priced(self, key: Mapping[str, str | None]) -> Line | NotPriced:
        rates = self._matching(key)
        return _line(key, rates) if rates else NotPriced(**key, reason=self._reason(key))

    def _matching(self, finding: Mapping[str, str | None]) -> list[Rate]:
        """The row for a finding or, if it leaves names out, the rows for every name that each could be."""
        stated = [finding[name] for name in KEY]
        may_be = [
            (normalise(name),) if name is not None else known for name, known in zip(stated, self._names, strict=True)
        ]
        found = [self._most_specific(key) for key in product(*may_be)]
        return list({rate.key: rate for rate in found if rate is not None}.values())

    def _most_specific(self, key: tuple[str, ...]) -> Rate | None:
        for part, kind, severity in product(*((name, ANY) for name in key)):
            if (part, kind, severity) in self._by_key:
                return self._by_key[part, kind, severity]
        return None

    def _reason(self, finding: Mapping[str, str | None]) -> str:
        """Why no row applies: the first name that no row covers, or else the first that only wildcards cover."""
        for wildcards in ({ANY}, set[str]()):
            for place, name in enumerate(KEY):
                stated, in_card = finding[name], {key[place] for key in self._by_key}
                if stated is not None and not {normalise(stated), *wildcards} & in_card:
                    return f"the rate card {self.name} has no row for {name} {stated!r}"
        return f"the rate card {self.name} has no row for this combination"


def read_rate_card(path: Path) -> RateCard:
    """Read a rate card from a CSV file: ``# version:``, optionally ``# notice:``, and the columns of `PricedRow`.

    Raises `DataError` naming file and line.
    """
    heading, rows = read_versioned(path, PricedRow, lambda row: row.key)
    currency = rows[0][1].currency
    for line, row in rows:
        if row.currency != currency:
            raise DataError(
                f"{path}:{line}",
                f"currency {row.currency!r} differs from {currency!r} above",
                "write a card for each currency",
            )
    rates = tuple(Rate(**row.model_dump(exclude={"currency"})) for _, row in rows)
    return RateCard(name=path.stem, currency=currency, rates=rates, **heading.model_dump())


def write_rate_card(card: RateCard, path: Path) -> None:
    """Write the card in the format of `read_rate_card`. Raises `DataError` if it can't be written."""
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# version: {card.version}\n")
        file.write(f"# notice: {' '.join(card.notice.split())}\n" if card.notice else "")
        table = csv.DictWriter(file, PricedRow.model_fields, lineterminator="\n")
        table.writeheader()
        for rate in card.rates:
            numbers = {name: _cell(value) for name, value in rate.model_dump().items()}
            table.writerow({**numbers, "currency": card.currency})


def _cell(value: Any) -> Any:
    """The cell for a value: 3.0 is written as 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _by_damage(findings: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Group the findings that describe the same damage; every finding overlaps the first of its group."""
    groups = list[list[Mapping[str, Any]]]()
    for finding in findings:
        same = (found for found in groups if _overlap(found[0], finding))
        if (group := next(same, None)) is not None:
            group.append(finding)
        else:
            groups.append([finding])
    return groups


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if any(one.get(name) != other.get(name) for name in ("part", "kind", "photo")):
        return False
    return bool(iou([one.get("box")], [other.get("box")])[0, 0] >= SAME_IOU)


def _line(key: Mapping[str, str | None], rates: Sequence[Rate]) -> Line:
    unstated = [name for name in KEY if key[name] is None]
    spans = len(rates) > 1 and bool(unstated)
    hours, hourly = {rate.labour_hours for rate in rates}, {rate.labour_rate for rate in rates}
    return Line(
        **key,
        labour_hours=hours.pop() if len(hours) == 1 else None,
        labour_rate=hourly.pop() if len(hourly) == 1 else None,
        labour_low=round(min(rate.labour for rate in rates), 2),
        labour_high=round(max(rate.labour for rate in rates), 2),
        parts_low=min(rate.parts_low for rate in rates),
        parts_high=max(rate.parts_high for rate in rates),
        note=f"{' and '.join(unstated)} not stated: the span of all rows that may apply" if spans else "",
    )


def _parts_once(lines: list[Line]) -> list[Line]:
    """The lines with each stated part paid for once, in its most expensive line."""
    paid = list(lines)
    for part in {normalise(line.part) for line in lines if line.part is not None}:
        places = [place for place, line in enumerate(lines) if line.part is not None and normalise(line.part) == part]
        payer = max(places, key=lambda place: (lines[place].parts_high, -place))
        for place in places:
            update = {"parts_low": 0.0, "parts_high": 0.0, "note": _joined(lines[place].note, "part paid once")}
            if place == payer:
                update = {"parts_low": max(lines[place].parts_low for place in places)}
            paid[place] = lines[place].model_copy(update=update)
    return paid


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _span(low: float, high: float) -> str:
    """An interval of money, rounded to whole units."""
    return f"{low:,.0f}" if round(low) == round(high) else f"{low:,.0f} to {high:,.0f}"
