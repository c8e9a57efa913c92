"""What works on which family; each cell is a test on its tiny model: ``python -m tests.soak.families``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from tests.families import EVERY
from vlm_ft.bases.tiny import TINY

STEP = "tests/training/test_methods.py::test_every_family_takes_a_step_with_every_method"
CELLS = {
    **dict.fromkeys(("sft", "dpo", "kto", "reward", "grpo", "rloo"), STEP),
    "merge": "tests/training/test_export.py::test_a_merged_model_answers_like_its_adapter",
    "mixed adapters": "tests/inference/test_mixing.py::test_a_mixed_batch_gives_the_same_answers_as_single_requests",
    "form decoder": "tests/decoding/test_form_decoder.py::test_a_distribution_matches_enumeration_of_the_options",
    "shared prefix": "tests/training/test_loss.py::test_a_shared_prefix_changes_neither_loss_nor_gradient",
    "vision bank": "tests/training/test_bank.py::test_loss_and_gradient_equal_those_from_photos",
}


class Outcomes:
    """A pytest plugin that notes how each test ended, by name."""

    def __init__(self) -> None:
        self.of: dict[str, list[str]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Called by pytest after each phase of a test."""
        if report.when == "call" or report.outcome != "passed":
            self.of[report.nodeid].append(report.outcome)

    def cell(self, family: str, column: str) -> str:
        """ "passed", "failed", or "-" where no test applies."""
        method = column if CELLS[column] == STEP else ""
        found = {
            outcome
            for name, outcomes in self.of.items()
            if name.startswith(f"{CELLS[column]}[")
            and family in (words := name.partition("[")[2].rstrip("]").split("-"))
            and (not method or method in words)
            for outcome in outcomes
        }
        return "failed" if "failed" in found else "passed" if "passed" in found else "-"


def main() -> None:
    """Run the tests, print the matrix, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("families.json"))
    options = parser.parse_args()
    os.environ[EVERY] = "1"
    outcomes = Outcomes()
    status = pytest.main([*dict.fromkeys(CELLS.values()), "-q", "-p", "no:xdist"], plugins=[outcomes])
    matrix = {family: {column: outcomes.cell(family, column) for column in CELLS} for family in TINY}
    table = Table("family", *CELLS)
    for family, cells in matrix.items():
        table.add_row(family, *cells.values())
    Console(width=160).print(table)
    options.out.write_text(json.dumps(matrix, indent=1) + "\n", encoding="utf-8")
    sys.exit(status)


if __name__ == "__main__":
    main()
