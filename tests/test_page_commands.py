"""What the pages show for your own data runs, on tiny data and a tiny base; what needs a public data set does not."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets_vision.synthetic import write_set
from datasets_vision.synthetic.domains import DOMAINS, Texts
from tests.page_commands import USE_CASES, Command, commands, recipes_in
from vlm_ft.cli import app
from vlm_ft.recipe import RECIPES, shipped

pytestmark = pytest.mark.usefixtures("terse")
FEW = 24
SMALL = ["minutes=null", "max_steps=2", "batch_size=2", "evaluations=1", "patience=null", "workers=0", "report_to=[]"]
LONG = ("demo", "serve", "quickstart")
INPUTS = {"init": "data", "score": "folder", "rate-card": "costs", "documents": "manuals"}
COSTS = (
    "Car_Type,Part,Damage_Type,Severity,Labor_Hours,Labor_Rate_Per_Hour,Used_Part_Cost,New_Part_Cost\n"
    "Sedan,door,dent,minor,1,2,3,4\n"
)


def runs_here(block: list[Command]) -> bool:
    """Whether it needs neither a public data set nor the quickstart."""
    texts = [(RECIPES / f"{name}.yaml").read_text() for line in block for name in recipes_in(line) if name in shipped()]
    return not any("${VLM_FT_DATA" in text or "quickstart/" in text for text in texts)


@pytest.mark.parametrize("task", USE_CASES)
def test_the_commands_for_your_own_data_run(
    task: str, tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = isinstance(DOMAINS[task], Texts)
    base = tiny_folder("qwen3" if texts else "qwen3_vl")
    blocks = [block for block in commands(RECIPES / "pages" / f"{task}.md") if runs_here(block)]
    assert any(command.name == "train" for block in blocks for command in block)
    for command in (command for block in blocks for command in block if command.name not in LONG):
        provide(command, task)
        code = app(shortened(command, base, texts), standalone_mode=False)
        assert not code, f"{command.line}: exit code {code}"


def shortened(command: Command, base: Path, texts: bool) -> list[str]:
    """Its words with a tiny base, a few small examples, two steps and two samples."""
    words = list(command.words)
    if command.name == "evaluate":
        words.append("--no-base")
    if command.name == "synth":
        words += ["--count", str(FEW), "--size", "64"]
    if "settings" in command.values:
        pixels = [] if texts else ["pixels={minimum: 4096, maximum: 4096}"]
        settings = [f"base={base}", *(f"training.{setting}" for setting in SMALL), *pixels]
        settings += ["policy.answers=2"] if "method=grpo" in words else []
        words += [word for setting in settings for word in ("--set", setting)]
    return words


def provide(command: Command, task: str) -> None:
    """Make the input that a command names, if no earlier one has."""
    named = command.values.get(INPUTS.get(command.name, ""))
    if named is None or Path(named).exists():
        return
    place = Path(named)
    match command.name:
        case "rate-card":
            place.write_text(COSTS, encoding="utf-8")
        case "documents":
            place.mkdir()
            shutil.copy(RECIPES / "README.md", place / "manual.md")
        case "score" if command.values["text"]:
            columns = re.findall(r"{(\w+)}", command.values["text"])
            write_table(place, [{column: f"{column} {row}" for column in columns} for row in range(3)])
        case "score":
            write_set(task, Path("drawn"), 3, seed=2, size=64)
            Path("drawn/JPEGImages").rename(place)
            shutil.rmtree("drawn")
        case "init":
            labelled(place, task)


def labelled(place: Path, task: str) -> None:
    """A drawn set, or a file of written rows: JSON Lines, or CSV."""
    if isinstance(DOMAINS[task], Texts):
        rows = write_set(task, Path("written"), FEW, seed=1) / "rows.jsonl"
        if place.suffix == ".csv":
            write_table(place, [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()])
        else:
            rows.rename(place)
        shutil.rmtree("written")
    else:
        write_set(task, place, FEW, seed=1, size=64)


def write_table(place: Path, rows: list[dict[str, object]]) -> None:
    with place.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
