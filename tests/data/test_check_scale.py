"""A check's memory does not grow with the set.

The full measurement, ten thousand against a million rows, takes about 15 minutes:

    VLM_FT_ROWS=10000,1000000 python -m pytest tests/data/test_check_scale.py -s
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROWS = [int(count) for count in os.environ.get("VLM_FT_ROWS", "1500,9000").split(",")]
GROWTH = 0.15  # of the peak resident size
CHECK = """
import sys
from pathlib import Path
from vlm_ft.data.checks import check
from vlm_ft.recipe import Recipe

report = check(Recipe.model_validate_json(Path(sys.argv[1]).read_text()))
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(sum(report.roles.values()), report.warnings, peak.split()[1])
"""


def csv(file: Path, count: int) -> None:
    with file.open("w", encoding="utf-8") as out:
        out.write("text,clause_type,patient_id\n")
        for row in range(count):
            out.write(f"{sentence(row)},{('audit', 'notice', 'privacy')[row % 3]},p{row // 4}\n")


def jsonl(file: Path, count: int) -> None:
    with file.open("w", encoding="utf-8") as out:
        for row in range(count):
            kind = ("audit", "notice", "privacy")[row % 3]
            out.write(json.dumps({"text": sentence(row), "clause_type": kind, "patient_id": f"p{row // 4}"}) + "\n")


def sentence(row: int) -> str:
    """A sentence of some 20 words; every hundredth repeats an earlier one."""
    number = row // 2 if row % 100 == 0 else row
    return f"Passage {number} of the agreement says what both parties owe each other " + "and so on " * (5 + number % 7)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak size from /proc")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("write", [csv, jsonl])
def test_peak_memory_is_that_of_a_small_set(write: Callable[[Path, int], None], tmp_path: Path) -> None:
    peaks = []
    for count in ROWS:
        file = tmp_path / f"{count}.{write.__name__}"
        write(file, count)
        recipe = {"name": "trial", "task": "legal_documents", "data": [{"path": str(file)}], "fields": ["clause_type"]}
        (tmp_path / "recipe.json").write_text(json.dumps(recipe))
        command = [sys.executable, "-c", CHECK, str(tmp_path / "recipe.json")]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(printed[0]) == count
        peaks.append(int(printed[2]))
        print(f"{write.__name__}, {count} rows: {int(printed[2]) / 1024:.0f} MiB at the peak, {printed[1]} warnings")
        file.unlink()
    assert peaks[-1] <= peaks[0] * (1 + GROWTH)
