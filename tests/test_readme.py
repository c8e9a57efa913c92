"""The README's examples are valid; tests/test_pages.py has its commands and figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from vlm_ft.answers.task import Task
from vlm_ft.recipe import Recipe
from vlm_ft.tasks import TASKS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.S)


def test_the_recipe_is_valid() -> None:
    text = next(body for language, body in BLOCKS if language == "yaml")
    assert Recipe.model_validate(yaml.safe_load(text)).task == "product_defects"


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_the_table_of_tasks_has_every_field(task: Task) -> None:
    row = re.search(rf"^\| `{task}` \| (.+) \|$", README, re.M)
    assert row
    assert {spec.name for spec in task.fields} == set(re.findall("`([a-z_]+)`", row[1]))


def test_the_task_file_defines_a_task() -> None:
    text = next(body for language, body in BLOCKS if language == "python" and "TASK =" in body)
    names: dict[str, object] = {"__name__": "readme"}
    assert set(re.findall(r"^from (vlm_ft\S*) import", text, re.M)) == {"vlm_ft"}  # the public names are enough
    exec(compile(text, "README.md", "exec"), names)
    assert str(names["TASK"]) == "weld"
