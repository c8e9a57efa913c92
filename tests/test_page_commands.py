"""What the pages show runs, on tiny data and a tiny base; tests/test_recipes.py reads the public sets themselves."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from datasets_vision.synthetic import write_set
from datasets_vision.synthetic.domains import DOMAINS, Texts
from tests.page_commands import (
    USE_CASES,
    Command,
    commands,
    in_sentences,
    in_text,
    made_by,
    parsed,
    recipes_in,
    runs_in,
)
from vlm_ft.cli import app
from vlm_ft.recipe import RECIPES, load_recipe, shipped

pytestmark = pytest.mark.usefixtures("terse")
README = Path(__file__).parents[1] / "README.md"
FEW = 24
SMALL = ["minutes=null", "max_steps=2", "batch_size=2", "evaluations=1", "patience=null", "workers=0", "report_to=[]"]
ELSEWHERE = {  # do not end, need the Hub or a cluster, or take minutes: the tests that run them or what they call
    "assemble": "bases/test_assemble.py",
    "benchmark": "experiments/test_training_benchmark.py",
    "deidentify": "datasets_vision/test_deidentify.py",
    "demo": "service/test_serve.py",
    "figures": "experiments/test_quotes.py",
    "get": "bases/test_compact.py",
    "preflight": "training/test_preflight.py",
    "push": "training/test_push.py",
    "quickstart": "experiments/test_first_steps.py",
    "serve": "service/test_serve.py",
    "tour": "test_tour.py",
    "train-next": "service/test_work.py",
    "try": "bases/test_published.py",
}
FEWER = {
    "evaluate": ("--no-base",),
    "synth": ("--count", str(FEW), "--size", "64"),
    "crossval": ("--no-base", "--folds", "2"),
    "compare-sft": ("--seeds", "2"),
    "compose": ("--count", "1", "--size", "320", "240"),
    "learning-curve": ("--repeats", "1"),
}
PAIR, SHORT = {"chosen": "summary", "rejected": "text"}, {"chosen": 300, "rejected": 300}
STAND_INS: dict[str, dict[str, Any]] = {  # what generated data cannot give these recipes, and what they learn instead
    "contract_clauses_tsv": {"fields": ["clause_type"]},
    "paper_summaries_kto": {"data": [{"path": "scientific_research", "columns": PAIR, "shorten": SHORT}]},
    "work_order_spans_json": {"fields": ["fault"]},
}
INPUTS = {
    "documents": "manuals",
    "evaluate": "foreign",
    "init": "data",
    "rate-card": "costs",
    "score": "folder",
    "sets": "root",
}
COSTS = (
    "Car_Type,Part,Damage_Type,Severity,Labor_Hours,Labor_Rate_Per_Hour,Used_Part_Cost,New_Part_Cost\n"
    "Sedan,door,dent,minor,1,2,3,4\n"
)


def needs_public_data(lines: list[Command]) -> bool:
    names = [name for line in lines for name in recipes_in(line) if name in shipped()]
    return any("${VLM_FT_DATA" in (RECIPES / f"{name}.yaml").read_text(encoding="utf-8") for name in names)


def lines_of(task: str, *, public: bool) -> list[Command]:
    """The commands of a use case for public data, or those for your own; none that need the quickstart's run."""
    page = RECIPES / "pages" / f"{task}.md"
    blocks = [*commands(page), *([line] for line in in_sentences(page))]
    if task == "industry_language":
        blocks += commands(README, "Methods")
    blocks = [block for block in blocks if "quickstart" not in {line.name for line in block}]
    return [line for block in blocks for line in block if needs_public_data(block) == public]


def lines_of_the_readme() -> list[Command]:
    sections = ("Use your own data", "Corrections train the next adapter")
    shown = [line for section in sections for block in commands(README, section) for line in block]
    return [*shown, *in_sentences(README)]


def lines_on_methods() -> list[Command]:
    return [line for block in commands(RECIPES / "pages" / "methods.md") for line in block]


@pytest.mark.usefixtures("one_shape")
@pytest.mark.parametrize("public", [False, True], ids=["own data", "public data"])
@pytest.mark.parametrize("task", USE_CASES)
def test_the_commands_of_a_use_case_run(
    task: str, public: bool, tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generated data stand in for public ones."""
    monkeypatch.chdir(tmp_path)
    made = run_all(lines_of(task, public=public), task, tiny_folder)
    assert any(place.startswith(("runs/", "folds")) for place in made)


@pytest.mark.usefixtures("one_shape")
def test_the_commands_of_the_readme_run(
    tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = run_all(lines_of_the_readme(), "product_defects", tiny_folder, "fields=[passed, kind]")
    assert made >= {"my_recipe.yaml", "runs/mine", "runs/steel", "folds", "curve", "scores.csv"}


def test_the_commands_that_choose_a_method_run(
    tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_all(lines_on_methods(), "industry_language", tiny_folder) >= {"compared", "folds", "curve"}


def test_every_command_is_run_here_or_elsewhere() -> None:
    pages = [README, RECIPES / "README.md", *(RECIPES / "pages").glob("*.md")]
    shown = {parsed(line).name for page in pages for line in in_text(page)}
    here = {line.name for task in USE_CASES for public in (False, True) for line in lines_of(task, public=public)}
    here |= {line.name for line in [*lines_of_the_readme(), *lines_on_methods()]}
    assert shown - (here - ELSEWHERE.keys()) == ELSEWHERE.keys()
    for file in ELSEWHERE.values():
        assert (Path(__file__).parent / file).is_file(), file


def run_all(lines: Iterable[Command], task: str, tiny_folder: Callable[[str], Path], *settings: str) -> set[str]:
    """Run the commands that belong here, and return what they made.

    Left out are those on a cluster, and those of a run that no earlier command made, such as `vlm-ft calibrate RUN`.
    """
    made = set[str]()
    for line in lines:
        again = line.name == "train" and made.issuperset(made_by(line)) and not line.values["dry_run"]
        if line.name in ELSEWHERE or line.values.get("cluster") or not made.issuperset(runs_in(line)) or again:
            continue
        public = [name for name in recipes_in(line) if name in shipped() and needs_public_data([line])]
        for name in public:
            stand_in(name)
        provide(line, task)
        run(line, domain_of(public[0]) if public else task, tiny_folder, *settings)
        made.update(made_by(line))
    return made


def run(command: Command, domain: str, tiny_folder: Callable[[str], Path], *more: str) -> None:
    texts = isinstance(DOMAINS[domain], Texts)
    pixels = [] if texts else ["pixels={minimum: 4096, maximum: 4096}"]
    settings = [f"base={tiny_folder('qwen3' if texts else 'qwen3_vl')}", *pixels, *more]
    code = app(shortened(command, domain, settings), standalone_mode=False)
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


def domain_of(name: str) -> str:
    """The generated data that stand in for those of a shipped recipe."""
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    logs = recipe.task == "aviation_maintenance" and all(source.shows_text for source in recipe.data)
    return "aviation_logs" if logs else recipe.task


def stand_in(name: str) -> None:
    """A recipe file whose path is the name of a shipped recipe on a public set, with a generated set."""
    recipe, domain = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8")), domain_of(name)
    if not Path(domain).exists():
        write_set(domain, Path(domain), FEW, seed=1, size=None if isinstance(DOMAINS[domain], Texts) else 64)
    recipe = {**recipe, "data": [{"path": domain}], "splits": {}, **STAND_INS.get(name, {})}
    Path(name).write_text(yaml.safe_dump(recipe), encoding="utf-8")


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
        case "sets":
            labelled(place / "set", task)


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
