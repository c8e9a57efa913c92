"""An estimate adds up the card's prices, spans what the answer leaves open, and lists what it cannot price."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.datasets_vision.made import DATA
from vlm_ft.answers.derivations.estimate import Estimate, Rate, RateCard, read_rate_card, write_rate_card
from vlm_ft.answers.derivations.repair_costs import rate_card_of
from vlm_ft.errors import DataError
from vlm_ft.recipe import find_rate_card
from vlm_ft.tasks import TASKS

HEADER = "part,kind,severity,labour_hours,labour_rate,parts_low,parts_high,currency"
COSTS = DATA / "car_damage" / "repair_cost_rules"


def rate(part: str, kind: str, severity: str, hours: float, low: float, high: float) -> Rate:
    return Rate(
        part=part, kind=kind, severity=severity, labour_hours=hours, labour_rate=50, parts_low=low, parts_high=high
    )


CARD = RateCard(
    name="own",
    version="7",
    currency="EUR",
    rates=(
        rate("*", "*", "minor", 1, 0, 10),
        rate("door", "*", "minor", 2, 0, 20),
        rate("door", "*", "severe", 8, 300, 900),
        rate("door", "scratch", "*", 3, 0, 30),
        rate("hood", "dent", "severe", 6, 200, 400),
    ),
)


def estimate(*findings: dict[str, Any], damaged: bool = True) -> Estimate:
    result = CARD.derive({"findings": list(findings), "damaged": damaged})
    assert result is not None
    return result


@pytest.mark.parametrize(
    ("finding", "low", "high"),
    [
        ({"part": "mirror", "kind": "dent", "severity": "minor"}, 50, 60),  # only the most general row applies
        ({"part": "door", "kind": "dent", "severity": "minor"}, 100, 120),  # the part counts before the severity
        ({"part": "door", "kind": "scratch", "severity": "minor"}, 150, 180),  # the kind counts before the severity
        ({"part": "DOOR", "kind": "Scratch", "severity": "severe"}, 150, 180),
        ({"part": "door", "kind": "dent"}, 100, 1300),  # minor to severe
        ({"kind": "dent", "severity": "severe"}, 500, 1300),  # the hood's or the door's
    ],
)
def test_the_most_specific_row_sets_the_price(finding: dict[str, str], low: float, high: float) -> None:
    result = estimate(finding)
    assert (result.low, result.high, result.complete) == (low, high, True)
    assert result.middle == (low + high) / 2
    assert ("not stated" in result.lines[0].note) is (len(finding) < 3)


@pytest.mark.parametrize(
    ("finding", "message"),
    [
        ({"part": "door", "kind": "dent", "severity": "moderate"}, "no row for severity 'moderate'"),
        ({"part": "hood", "kind": "dent", "severity": "moderate"}, "no row for severity 'moderate'"),
        ({"part": "mirror", "kind": "dent", "severity": "severe"}, "no row for part 'mirror'"),
        ({"part": "hood", "kind": "scratch", "severity": "severe"}, "no row for this combination"),
    ],
)
def test_a_finding_without_a_price_is_reported(finding: dict[str, str], message: str) -> None:
    result = estimate(finding, {"part": "door", "kind": "scratch", "severity": "minor"})
    assert not result.complete
    assert (result.low, result.high) == (150, 180)
    assert len(result.lines) == len(result.not_priced) == 1
    assert message in result.not_priced[0].reason


def test_an_estimate_is_the_sum_of_its_lines() -> None:
    findings = [
        {"part": "door", "kind": "dent", "severity": "severe"},
        {"part": "door", "kind": "scratch", "severity": "minor"},
        {"part": "hood", "kind": "dent", "severity": "severe"},
    ]
    result = estimate(*findings)
    assert result.low == sum(line.labour_low + line.parts_low for line in result.lines) == 400 + 300 + 150 + 300 + 200
    assert result.high == sum(line.labour_high + line.parts_high for line in result.lines) == 400 + 900 + 150 + 700
    turned = estimate(*reversed(findings))
    assert (turned.low, turned.high) == (result.low, result.high)


def stacked(count: int, **key: str) -> list[dict[str, Any]]:
    return [{**key, "box": [100 + place, 200, 500 + place, 600]} for place in range(count)]


def test_eight_stacked_boxes_are_priced_once() -> None:
    card = read_rate_card(find_rate_card("example_eur"))
    findings = stacked(8, part="door", kind="dent", severity="moderate")
    one, eight = (card.derive({"findings": found}) for found in (findings[:1], findings))
    assert one is not None
    assert eight is not None
    assert (eight.low, eight.high) == (one.low, one.high)
    assert [line.note for line in eight.lines] == ["8 overlapping findings priced once"]


def test_overlapping_findings_are_priced_as_the_most_expensive() -> None:
    door = stacked(1, part="door", kind="dent", severity="minor") + stacked(
        1, part="door", kind="dent", severity="severe"
    )
    for findings in (door, door[::-1]):
        result = estimate(*findings)
        assert [line.severity for line in result.lines] == ["severe"]
    unknown = stacked(3, part="mirror", kind="dent", severity="severe")
    assert len(estimate(*unknown).not_priced) == 1
    assert len(estimate(*door, *unknown).lines) == 1


@pytest.mark.parametrize("other", [{"part": "hood"}, {"kind": "crack"}, {"box": [500, 200, 900, 600]}, {"photo": 2}])
def test_findings_that_differ_are_priced_separately(other: dict[str, Any]) -> None:
    first = {"part": "door", "kind": "dent", "severity": "minor", "box": [100, 200, 500, 600], "photo": 1}
    assert len(estimate(first, {**first, **other}).lines) == 2


def test_nothing_found_costs_nothing() -> None:
    assert CARD.derive({"damaged": True}) is None
    assert (estimate(damaged=False).high, estimate(damaged=False).complete) == (0, True)
    assert not estimate(damaged=True).complete
    assert "no damage is listed" in estimate(damaged=True).not_priced[0].reason


def test_the_shipped_card_is_an_example_that_prices_the_sample() -> None:
    card = read_rate_card(find_rate_card("example_eur"))
    assert "example" in card.notice.lower()
    result = card.derive(TASKS["car_damage"].sample.model_dump(mode="json"))
    assert result is not None
    assert result.complete
    assert 0 < result.low < result.high
    assert result.notice == card.notice


def test_a_card_survives_the_round_trip(tmp_path: Path) -> None:
    write_rate_card(CARD, tmp_path / "own.csv")
    assert read_rate_card(tmp_path / "own.csv") == CARD
    with pytest.raises(DataError, match="cannot be written"):
        write_rate_card(CARD, tmp_path / "own.csv" / "own.csv")


def test_a_card_with_a_byte_order_mark_and_windows_line_ends_is_read(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    text = f'# version: 2\r\n{HEADER}\r\n\r\n"door","*","minor",1,50,0,10.5,EUR\r\n'
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_rate_card(file).rates[0].parts_high == 10.5


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["door,dent,minor,1,50,0,10,EUR", "Door,DENT,minor,1,50,0,10,EUR"], "own.csv:4: repeats line 3"),
        (["door,dent,minor,1,50,20,10,EUR"], "own.csv:3: row: parts_low 20 exceeds parts_high 10; swap them"),
        (["door,dent,minor,-1,50,0,10,EUR"], "own.csv:3: labour_hours '-1'"),
        (["door,dent,minor,nan,50,0,10,EUR"], "own.csv:3: labour_hours 'nan'"),
        (["door,dent,minor,one,50,0,10,EUR"], "own.csv:3: labour_hours 'one'"),
        (["door,dent,,1,50,0,10,EUR"], "own.csv:3: severity: empty; fill it"),
        (["door,dent,minor,1,50,0,10,euro"], "own.csv:3: currency 'euro'"),
        (
            ["door,dent,minor,1,50,0,10,EUR", "hood,dent,minor,1,50,0,10,USD"],
            "own.csv:4: currency 'USD' differs from 'EUR' above",
        ),
        (["door,dent,minor,1,50"], "own.csv:3: 5 cells, but the header has 8"),
        (['door,"dent,minor,1,50,0,10,EUR'], "own.csv:3: not a row"),
        (["x" * 20_000], "own.csv:3: 1 cells, but the header has 8"),
        ([], "own.csv: no rows below the header"),
    ],
)
def test_a_bad_row_is_reported_in_one_line(rows: list[str], message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text("\n".join(["# version: 1", HEADER, *rows]) + "\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_rate_card(file)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "has no version"),
        (HEADER.encode(), "has no version"),
        (b"# version: 1\n", "no header"),
        (b"# wersion: 1\n", "not '# key: value' with one of the keys version, notice"),
        (b"# version: 1\npart,kind\n", "no column 'severity'"),
        (b"# version: 1\npart,kind,severty\n", "unknown column 'severty'; did you mean 'severity'?"),
        (b"# version: 1\npart,part\n", "two columns named 'part'"),
        (b"# version: 1\n\xff\n", "not UTF-8"),
    ],
)
def test_a_file_that_is_not_a_rate_card_is_reported_in_one_line(text: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_bytes(text)
    with pytest.raises(DataError) as error:
        read_rate_card(file)
    assert str(error.value).startswith(str(file))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


COSTS_HEADER = "Car_Type,Part,Damage_Type,Severity,New_Part_Cost,Used_Part_Cost,Labor_Hours,Labor_Rate_Per_Hour"


def test_a_cost_table_becomes_a_card(tmp_path: Path) -> None:
    table = tmp_path / "costs.csv"
    rows = 'Van,"Front\n bumper",Dent,Minor,400,200,2.5,80\nCab,Door,Dent,Minor,9,8,7,6\n'
    table.write_text(f"{COSTS_HEADER}\n{rows}")
    card = rate_card_of(table, "van")
    assert card.currency == "USD"
    assert [entry.model_dump() for entry in card.rates] == [
        {
            "part": "front_bumper",
            "kind": "dent",
            "severity": "minor",
            "labour_hours": 2.5,
            "labour_rate": 80,
            "parts_low": 200,
            "parts_high": 400,
        }
    ]
    with pytest.raises(DataError, match="no rows of car type 'vann'; did you mean 'Van'"):
        rate_card_of(table, "vann")
    with pytest.raises(DataError, match="currency 'Euro': is not a code"):
        rate_card_of(table, "Van", "Euro")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("Van,Door,Dent,Minor,4,2,1,80\nVan,door,Dent,Minor,4,2,1,80", "costs.csv:3: repeats the price of line 2"),
        ("Van,Door,Dent,Minor,4,2,x,80", "costs.csv:2: Labor_Hours 'x'"),
        ("Van,Door,Dent,Minor,2,4,1,80", "costs.csv:2: row"),
        ("Van,Door", "costs.csv:2: expected 8 cells, found 2"),
        ("Van,,Dent,Minor,4,2,1,80", "costs.csv:2: Part is empty"),
        ("Van,Door,Dent,Minor,4,2,9,1e308", "costs.csv:2: Labor_Rate"),
    ],
)
def test_a_bad_cost_table_is_reported_in_one_line(rows: str, message: str, tmp_path: Path) -> None:
    table = tmp_path / "costs.csv"
    table.write_text(f"{COSTS_HEADER}\n{rows}\n")
    with pytest.raises(DataError, match=message) as error:
        rate_card_of(table, "Van")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not COSTS.is_dir(), reason=f"no {COSTS}; set VLM_FT_DATA")
@pytest.mark.parametrize("car", ["Sedan", "SUV", "Super"])
def test_the_real_cost_table_gives_a_card_with_a_rate_for_each_row(car: str, tmp_path: Path) -> None:
    card = rate_card_of(next(COSTS.glob("*.csv")), car)
    assert len(card.rates) == 13 * 4 * 3
    write_rate_card(card, tmp_path / f"{card.name}.csv")
    assert read_rate_card(tmp_path / f"{card.name}.csv") == card


@pytest.mark.parametrize(
    ("severity", "part", "agreement"),
    [
        ("severe", "hood", 1),  # 500 to 700: in the label's band
        ("severe", "door", 1 - 300 / 600),  # 700 to 1300: its middle is 300 above the band, half of the label's middle
        ("minor", "hood", 1 - 445 / 600),  # 50 to 60
        ("moderate", "hood", 0),  # not priced
    ],
)
def test_an_estimate_agrees_within_the_band_of_the_label(severity: str, part: str, agreement: float) -> None:
    label = estimate({"part": "hood", "kind": "dent", "severity": "severe"})
    assert label.agreement(estimate({"part": part, "kind": "dent", "severity": severity})) == pytest.approx(agreement)
    assert label.agreement(None) == 0
    nothing = estimate(damaged=False)
    assert (nothing.agreement(nothing), nothing.agreement(label)) == (1, 0)
