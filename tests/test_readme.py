"""The README's examples are valid, and it quotes the benchmarks as measured; tests/test_pages.py has its commands."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from vlm_ft.experiments.sheet import Figure
from vlm_ft.recipe import RECIPES, Recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.S)


def test_the_recipe_is_valid() -> None:
    text = next(body for language, body in BLOCKS if language == "yaml")
    assert Recipe.model_validate(yaml.safe_load(text)).task == "product_defects"


def test_the_task_file_defines_a_task() -> None:
    text = next(body for language, body in BLOCKS if language == "python" and "TASK =" in body)
    names: dict[str, object] = {"__name__": "readme"}
    exec(compile(text, "README.md", "exec"), names)
    assert str(names["TASK"]) == "weld"


def test_the_benchmark_is_quoted_as_measured() -> None:
    for name in ("decoder", "training", "soak", "service"):
        file = RECIPES / "benchmarks" / f"{name}.json"
        for figure in TypeAdapter(list[Figure]).validate_json(file.read_bytes()) if file.exists() else ():
            assert figure.row in README
