"""The pages name commands, options, recipes and runs that exist, and quote results and recipes as they are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.page_commands import USE_CASES, Command, commands, in_text, made_by, parsed, recipes_in, runs_in
from vlm_ft.evaluation.results import read_results
from vlm_ft.experiments.quotes import pages_of, renewed
from vlm_ft.recipe import RECIPES, load_recipe, shipped
from vlm_ft.tasks import TASKS

ROOT = Path(__file__).parent.parent
INDEX, FOLDER = RECIPES / "README.md", RECIPES / "pages"
METHODS, CASES = FOLDER / "methods.md", [FOLDER / f"{name}.md" for name in USE_CASES]
PAGES = [ROOT / "README.md", INDEX, METHODS, *CASES]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
LINES = sorted({(page.stem, line) for page in [*PAGES, CONTRIBUTING] for line in in_text(page)})


def test_there_is_one_page_for_each_use_case_and_one_of_methods() -> None:
    assert set(FOLDER.glob("*.md")) == set(PAGES[2:])


@pytest.mark.parametrize(("page", "line"), LINES)
def test_every_command_and_option_exists(page: str, line: str) -> None:
    parsed(line)


def test_every_make_target_and_test_that_is_run_exists() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in [*PAGES, CONTRIBUTING])
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert {"quickstart"} <= set(re.findall(r"(?:^|`|=\d )make ([a-z]+)", text, re.M)) <= set(targets)
    modules = [module.replace(".", "/") + ".py" for module in re.findall(r"python -m (tests\.[\w.]+)", text)]
    files = re.findall(r"pytest (tests/\S+\.py)", text)
    assert "tests/soak/families.py" in modules
    assert "tests/data/test_check_scale.py" in files
    for file in (*modules, *files):
        assert (ROOT / file).is_file(), file


@pytest.mark.parametrize("page", [METHODS, *CASES], ids=lambda page: page.stem)
def test_a_page_names_recipes_settings_and_runs_that_exist(page: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(f"name: own\ntask: {page.stem}\ndata: [{{path: photos}}]\n", encoding="utf-8")
    made: set[str] = set()
    for command in (command for block in commands(page) for command in block):
        for name in recipes_in(command):
            assert name in shipped() or name in made, f"{command.line}: no such recipe"
            load_recipe(RECIPES / f"{name}.yaml" if name in shipped() else own, command.values.get("settings") or [])
        for run in runs_in(command):
            assert run in made, f"{command.line}: no earlier command makes {run}"
        made.update(made_by(command))
    assert made


@pytest.mark.parametrize("page", CASES, ids=lambda page: page.stem)
def test_a_page_starts_runs_in_the_order_of_their_recipes(page: Path) -> None:
    """A recipe that begins with another's adapter, or learns from another's scores, is trained after that one."""
    made: set[str] = set()
    for command in (command for block in commands(page) for command in block):
        for name in recipes_in(command):
            if command.name == "train" and name in shipped():
                recipe = load_recipe(RECIPES / f"{name}.yaml")
                needed = {str(place) for place in (recipe.from_adapter, recipe.policy.reward_model) if place}
                assert needed <= {*made, "quickstart/run"}, command.line
        made.update(made_by(command))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8"))
    assert links
    for target, anchor in links:
        file = page.parent / target if target else page
        assert file.exists(), target
        titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M) if anchor else []
        assert not anchor or anchor in {title.lower().replace(" ", "-") for title in titles}, anchor


@pytest.mark.parametrize("name", shipped())
def test_a_recipe_is_described_on_the_page_of_its_task(name: str) -> None:
    task = load_recipe(RECIPES / f"{name}.yaml").task
    pages = {page.stem for page in CASES if f"[{name}](../{name}.yaml)" in page.read_text(encoding="utf-8")}
    assert pages == {task}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_quotes_figures_and_recipes(page: Path) -> None:
    assert page in pages_of(page.parent if page.parent == FOLDER else page)
    text = page.read_text(encoding="utf-8")
    assert renewed(text, read_results(RECIPES / "results.json")) == text, f"run vlm-ft figures --write {page}"


@pytest.mark.parametrize("name", USE_CASES)
def test_the_index_shows_an_answer_that_one_of_its_recipes_may_give(name: str) -> None:
    row = re.search(rf"^\| \[.+\]\(pages/{name}\.md\) \|.*\| `(.+)` \|$", INDEX.read_text(encoding="utf-8"), re.M)
    assert row
    answer, task = json.loads(row[1]), TASKS[name]
    shown = task.sample.model_dump(mode="json") | answer
    assert task.answer.model_validate(shown, strict=False)
    recipes = [load_recipe(RECIPES / f"{recipe}.yaml") for recipe in shipped()]
    assert any(recipe.task == name and recipe.fields == tuple(answer) for recipe in recipes)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    for line in (
        "vlm-ft trian x",
        "vlm-ft train x --epochs 3",
        "vlm-ft score x",
        "vlm-ft data",
        "vlm-ft benchmark gpu",
    ):
        with pytest.raises(AssertionError):
            parsed(line)


def test_what_a_command_names_is_found() -> None:
    command = parsed("vlm-ft score new/ --adapter runs/a --reward runs/b --out a.csv")
    assert isinstance(command, Command)
    assert runs_in(command) == ["runs/a", "runs/b"]
    assert recipes_in(parsed("vlm-ft results a b")) == ["a", "b"]
    assert list(made_by(parsed("vlm-ft train one"))) == ["runs/one"]
