"""What a first look at new data found; `vlm_ft.training.preflight` writes it, and the app shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from datasets_vision.placing import whole_file
from vlm_ft.answers.kinds import Strict

SUMMARY, CHECK_PAGE, EXAMPLES, ROWS = "preflight.json", "check.html", "examples.png", "dry_run.txt"


class Preflight(Strict):
    """`title`: the task and the number of examples. `read`: lines about the data.

    `cost`: of training, in one line; "" if errors would stop it. `peak_bytes`: the memory that it takes, on the GPU if
    there is one; 0 if unknown.
    """

    title: str
    read: tuple[str, ...]
    errors: int
    warnings: int
    cost: str
    peak_bytes: int = 0

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Read it from a folder."""
        return cls.model_validate_json((folder / SUMMARY).read_bytes())

    def write(self, folder: Path) -> None:
        """Write it to a folder."""
        with whole_file(folder / SUMMARY) as part:
            part.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
