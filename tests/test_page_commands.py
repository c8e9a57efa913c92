"""What the pages show runs, on tiny data and a tiny base.

For the public data sets of the use cases, tests/test_recipes.py trains their recipes instead.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from datasets_vision.synthetic import write_set
from datasets_vision.synthetic.domains import DOMAINS, Texts
from tests.page_commands import USE_CASES, Command, commands, made_by, recipes_in, runs_in
from vlm_ft.cli import app
from vlm_ft.recipe import RECIPES, load_recipe, shipped

pytestmark = pytest.mark.usefixtures("terse")
README = Path(__file__).parents[1] / "README.md"
FEW = 24
SMALL = ["minutes=null", "max_steps=2", "batch_size=2", "evaluations=1", "patience=null", "workers=0", "report_to=[]"]
LONG = ("demo", "serve", "quickstart", "push", "preflight")  # do not end, need the Hub, or take `compact`
FEWER = {
    "evaluate": ("--no-base",),
    "synth": ("--count", str(FEW), "--size", "64"),
    "crossval": ("--no-base", "--folds", "2"),
    "compare-sft": ("--seeds", "2"),
    "learning-curve": ("--repeats", "1"),
}
INPUTS = {"init": "data", "score": "folder", "rate-card": "costs", "documents": "manuals", "evaluate": "foreign"}
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
    blocks = [block for block in commands(RECIPES / "pages" / f"{task}.md") if runs_here(block)]
    assert any(command.name == "train" for block in blocks for command in block)
    for command in (command for block in blocks for command in block if command.name not in LONG):
        provide(command, task)
        run(command, task, tiny_folder)


def test_the_commands_of_the_readme_for_your_own_data_run(
    tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task, made = "product_defects", set[str]()
    blocks = [block for block in commands(README, "Use your own data") if runs_here(block)]
    for command in (command for block in blocks for command in block):
        if command.name in LONG or command.values.get("cluster") or not set(runs_in(command)) <= made:
            continue
        provide(command, task)
        run(command, task, tiny_folder, "fields=[passed, kind]")
        made.update(made_by(command))
    assert made >= {"my_recipe.yaml", "runs/mine", "folds", "curve", "scores.csv"}


def test_the_commands_that_choose_a_method_run(
    tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On generated data instead of the public sets."""
    monkeypatch.chdir(tmp_path)
    for command in (command for block in commands(RECIPES / "pages" / "methods.md") for command in block):
        (name,) = recipes_in(command)
        task = load_recipe(RECIPES / f"{name}.yaml").task
        stand_in(name, task)
        run(command, task, tiny_folder)


def run(command: Command, task: str, tiny_folder: Callable[[str], Path], *more: str) -> None:
    texts = isinstance(DOMAINS[task], Texts)
    pixels = [] if texts else ["pixels={minimum: 4096, maximum: 4096}"]
    settings = [f"base={tiny_folder('qwen3' if texts else 'qwen3_vl')}", *pixels, *more]
    code = app(shortened(command, task, settings), standalone_mode=False)
    assert not code, f"{command.line}: exit code {code}"


def shortened(command: Command, task: str, settings: Sequence[str]) -> list[str]:
    """Its words with these settings, a few small examples, two steps and two samples."""
    words = [*command.words, *FEWER.get(command.name, ())]
    if command.name == "init" and command.values["task"] is None:
        words += ["--task", task]  # instead of an answer to its question
    if command.values.get("vary"):
        words.append("--first")
    if "settings" in command.values:
        settings = [*settings, *(f"training.{setting}" for setting in SMALL)]
        settings += ["policy.answers=2"] if "method=grpo" in words else []
        words += [word for setting in settings for word in ("--set", setting)]
    return words


def stand_in(name: str, task: str) -> None:
    """A recipe file whose path is the name of a shipped recipe on a public set, with a generated set."""
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    if not Path(task).exists():
        write_set(task, Path(task), FEW, seed=1, size=None if isinstance(DOMAINS[task], Texts) else 64)
    Path(name).write_text(yaml.safe_dump({**recipe, "data": [{"path": task}], "splits": {}}), encoding="utf-8")


def provide(command: Command, task: str) -> None:
    """Make the input that a command names, if no earlier one has."""
    named = command.values.get(INPUTS.get(command.name, ""))
    place = Path(named[0] if isinstance(named, list | tuple) and named else named or ".")
    if place.exists():
        return
    match command.name:
        case "rate-card":
            place.write_text(COSTS, encoding="utf-8")
        case "documents":
            place.mkdir()
            shutil.copy(RECIPES / "README.md", place / "manual.md")
        case "score" if command.values["text"]:
            columns = re.findall(r"{(\w+)}", command.values["text"])
            write_table(place, [{column: f"{column} {row}" for column in columns} for row in range(3)])
        case "score" | "evaluate":
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
