"""A priority is the most urgent one that the table gives for any finding; findings that it lacks are reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vlm_ft.answers.derivations.priority import URGENCIES, PriorityTable, read_priorities
from vlm_ft.errors import DataError
from vlm_ft.tasks.aviation_maintenance import PRIORITIES, TASK

TABLE = """# version: 3
finding,severity,zone,area_from,priority,reason
crack,*,*,,before_next_flight,it grows
crack,severe,*,,immediate,it is long
crack,minor,*,,next_check,it is short
crack,*,engine,,immediate,it is in the engine
crack,*,*,0.5,immediate,it is large
dent,,,,monitor,it is shallow
"""


@pytest.fixture
def table(tmp_path: Path) -> PriorityTable:
    file = tmp_path / "own.csv"
    file.write_text(TABLE, encoding="utf-8")
    return read_priorities(file)


@pytest.mark.parametrize(
    ("values", "priority"),
    [
        ({"findings": [{"kind": "crack"}]}, "before_next_flight"),
        ({"findings": [{"kind": "Crack", "severity": "severe"}]}, "immediate"),
        ({"findings": [{"kind": "crack", "severity": "minor"}]}, "next_check"),
        ({"findings": [{"kind": "crack", "severity": "minor"}], "location": "Engine"}, "immediate"),
        ({"findings": [{"kind": "crack", "box": [0, 0, 1000, 499]}]}, "before_next_flight"),
        ({"findings": [{"kind": "crack", "box": [0, 0, 1000, 500]}]}, "immediate"),
        ({"findings": [{"kind": "dent"}, {"kind": "crack"}]}, "before_next_flight"),
        ({"findings": []}, "nothing_found"),
        ({"findings": [], "kind": "none"}, "nothing_found"),
        ({"kind": "none"}, "nothing_found"),
        ({"kind": "dent"}, "monitor"),
        ({"findings": [{"kind": "rust"}]}, "unknown"),
        ({"findings": [{"kind": "rust"}, {"kind": "crack"}]}, "unknown"),  # rust may be more urgent
        ({"findings": [{"kind": "rust"}, {"kind": "crack", "severity": "severe"}]}, "immediate"),
    ],
)
def test_the_most_specific_and_most_urgent_row_wins(
    values: dict[str, Any], priority: str, table: PriorityTable
) -> None:
    result = table.derive(values)
    assert result is not None
    assert result.priority == priority
    assert (result.table, result.version) == ("own", "3")
    assert len(result.reasons) == (0 if priority == "nothing_found" else len(values.get("findings", ["main"])))
    for reason in result.reasons:
        assert reason.reason
        assert (reason.priority == "unknown") is (reason.finding == "rust")


def test_an_answer_without_findings_has_no_priority(table: PriorityTable) -> None:
    assert table.derive({"event": "incident"}) is None
    assert not table.derivable({"event", "cause"})
    assert table.derivable({"kind"})


def test_the_shipped_table_is_versioned_and_covers_the_sample() -> None:
    assert PRIORITIES.version
    assert PRIORITIES.notice
    assert {row.priority for row in PRIORITIES.rows} == set(URGENCIES)
    result = PRIORITIES.derive(TASK.sample.model_dump(mode="json"))
    assert result is not None
    assert result.priority == "immediate"
    for row in PRIORITIES.rows:
        derived = PRIORITIES.derive({"findings": [{"kind": row.finding}]})
        assert derived is not None
        assert derived.priority in URGENCIES


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("crack,*,*,,soon,why", "own.csv:3: priority 'soon'"),
        ("crack,*,*,2,immediate,why", "own.csv:3: area_from '2'"),
        ("crack,*,*,,immediate,", "own.csv:3: reason: empty; fill it"),
        ("crack,*,*,,monitor,a\nCRACK,,,0,monitor,b", "own.csv:4: repeats line 3"),
    ],
)
def test_a_bad_row_is_reported_in_one_line(row: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text("\n".join([*TABLE.splitlines()[:2], row]), encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_priorities(file)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
