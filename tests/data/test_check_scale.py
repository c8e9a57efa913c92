"""A check's memory does not grow with the set.

The full measurement, ten thousand against a million rows, takes about 15 minutes:

    VLM_FT_ROWS=10000,1000000 python -m pytest tests/data/test_check_scale.py -s
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = [int(count) for count in os.environ.get("VLM_FT_ROWS", "1000,6000").split(",")]
GROWTH = 0.15  # of the peak resident size
CHECK = """
import os, sys
from pathlib import Path
from vlm_ft.data.checks import check
from vlm_ft.recipe import Recipe

for recipe in sys.argv[1:]:
    if os.fork() == 0:  # a process of its own, whose peak starts at the size of the imported libraries
        report = check(Recipe.model_validate_json(Path(recipe).read_text()))
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        print(sum(report.roles.values()), report.warnings, peak.split()[1])
        break
    assert os.wait()[1] == 0
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
def test_peak_memory_is_that_of_a_small_set(tmp_path: Path) -> None:
    sets = [(write, count) for write in (csv, jsonl) for count in ROWS]
    recipes = [tmp_path / f"{count}-{write.__name__}.json" for write, count in sets]
    for (write, count), recipe in zip(sets, recipes, strict=True):
        file = tmp_path / f"{count}.{write.__name__}"
        write(file, count)
        content = {"name": "trial", "task": "legal_documents", "data": [{"path": str(file)}], "fields": ["clause_type"]}
        recipe.write_text(json.dumps(content))
    checked = subprocess.run([sys.executable, "-c", CHECK, *recipes], capture_output=True, text=True, check=True)
    peaks: dict[str, list[int]] = {"csv": [], "jsonl": []}
    for (write, count), line in zip(sets, checked.stdout.splitlines(), strict=True):
        rows, warnings, peak = map(int, line.split())
        assert rows == count
        peaks[write.__name__].append(peak)
        print(f"{write.__name__}, {count} rows: {peak / 1024:.0f} MiB at the peak, {warnings} warnings")
    for small, *_, large in peaks.values():
        assert large <= small * (1 + GROWTH)
