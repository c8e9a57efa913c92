"""Every real set gets a recipe from `vlm-ft init` that trains a tiny base: ``python -m tests.soak.proposals``."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.data.test_proposal import DATA, TRAINABLE
from vlm_ft.bases.tiny import save_tiny
from vlm_ft.data.proposal import Survey, propose
from vlm_ft.errors import UserError
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.recipe import load_recipe
from vlm_ft.tasks import TASKS
from vlm_ft.training.run import train

GOAL = 25  # of 32 sets
SHORT = ("training.max_steps=1", "training.batch_size=1", "training.evaluations=1", "training.workers=0")


def main() -> None:
    """Train each proposal for one step, and write how many could be trained if all sets were tried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", help="names of sets [default: all]")
    parser.add_argument("--out", type=Path, help="a JSON file for the figure")
    options = parser.parse_args()
    console = Console()
    tried = [entry for entry in TRAINABLE if not options.sets or entry["set"] in options.sets]
    with tempfile.TemporaryDirectory() as folder:
        trained = [entry["set"] for entry in tried if trains(entry, Path(folder), console)]
    sheet = Sheet(shlex.join(["python", "-m", "tests.soak.proposals", *sys.argv[1:]]), console)
    sheet.add("real sets whose proposed recipe trains without an edit", len(trained), GOAL, "higher", "sets")
    if options.out and not options.sets:
        sheet.write(options.out)
    sys.exit(0 if options.sets or len(trained) >= GOAL else 1)


def trains(entry: dict[str, Any], folder: Path, console: Console) -> bool:
    """Whether the proposal for a set trains a tiny base; the reason is printed if it does not."""
    started, own = time.monotonic(), folder / entry["set"]
    own.mkdir()
    try:
        proposal = propose(Survey.of(DATA / entry["path"]), TASKS[entry["domain"]])
        proposal.write(own / "recipe.yaml")
        photos = any(case.example.images for case in proposal.dataset.cases["train"])
        base = folder / ("qwen3_vl" if photos else "qwen3")
        if not base.exists():
            save_tiny(base.name, base)
        recipe = load_recipe(own / "recipe.yaml", [f"base={base}", *SHORT])
        train(recipe, own / "run", console=Console(quiet=True))
    except UserError as error:
        console.print(f"{entry['set']}: {error}", markup=False)
        return False
    console.print(f"{entry['set']}: trained in {time.monotonic() - started:.0f} s", markup=False)
    return True


if __name__ == "__main__":
    main()
