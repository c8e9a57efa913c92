"""The decision log as it is shown and exported."""

from __future__ import annotations

from typing import Any

from vlm_ft.demo.history_tab import COLUMNS, MORE_EXPORTED, _table, exported_rows

from tests.demo.conftest import HOSTILE
from tests.demo.test_views import Markup

ENTRY: dict[str, Any] = {
    "time": "2026-01-02T03:04:05.678+00:00",
    "by": "=1+1",
    "case": None,
    "adapter": "plates",
    "version": 2,
    "card": "c" * 64,
    "photos": [{"file": "f" * 64}],
    "text": None,
    "answer": {"kind": HOSTILE, "passed": False},
    "decision": "answer",
}


def test_an_export_has_the_hashes_in_full() -> None:
    names, cells = exported_rows([ENTRY])
    assert tuple(names) == (*COLUMNS, *MORE_EXPORTED)
    found = dict(zip(names, cells, strict=True))
    assert (found["version"], found["card"], found["photos"]) == ("2", "c" * 64, f'[{{"file": "{"f" * 64}"}}]')
    assert (found["by"], found["case"], found["text"], found["precision"]) == ("'=1+1", "", "", "")


def test_the_table_shows_the_start_of_a_hash() -> None:
    html = _table(lambda words, most: [ENTRY], "")
    assert "cccccccc" in html
    assert "c" * 9 not in html
    assert HOSTILE.split("{")[0] not in html
    assert "2026-01-02 03:04" in Markup(html).text
