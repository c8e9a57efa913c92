"""The public names can be imported from `vlm_ft`, and the example of each one runs."""

from __future__ import annotations

import ast
import doctest
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import vlm_ft
from vlm_ft.recipe import Recipe

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
ALIASES = ("Box", "OneOf")
SETTINGS = {"splits": {"train": 0.5, "tune": 0.0, "calibrate": 0.25, "test": 0.25}}


@pytest.fixture
def workplace(
    recipe_of: Callable[..., Recipe],
    untrained_run_of: Callable[..., Path],
    drawings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The current folder of the examples: a recipe, photos and a finished run."""
    content = recipe_of("qwen3_vl", **SETTINGS).model_dump(mode="json")
    (tmp_path / "my_recipe.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    shutil.copytree(untrained_run_of("qwen3_vl", **SETTINGS), tmp_path / "runs/mine")
    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(sorted((drawings / "JPEGImages").iterdir())[:4]):
        shutil.copy(photo, tmp_path / "photos" / f"{number}{photo.suffix}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", vlm_ft.__all__)
def test_its_example_runs(name: str, workplace: Path) -> None:
    entry = getattr(vlm_ft, "Item" if name in ALIASES else name)  # aliases have no text of their own
    names = dict(vars(sys.modules[entry.__module__]))
    example = doctest.DocTestParser().get_doctest(entry.__doc__, names, name, None, 0)
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert example.examples
    assert name in example.docstring
    assert not report, "".join(report)


def test_the_readme_s_example_runs(workplace: Path) -> None:
    text = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "import Engine" in block)
    names: dict[str, Any] = {}
    exec(compile(text, "README.md", "exec"), names)
    assert set(names["prediction"].values) == {"passed", "kind"}


def test_type_checkers_see_the_same_objects() -> None:
    tree = ast.parse(Path(vlm_ft.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0]
    typed = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in imports
        for alias in node.names
        if str(node.module).startswith("vlm_ft.")
    }
    assert typed == vlm_ft._HOMES
    assert sorted(typed) == sorted(vlm_ft.__all__)


def test_the_import_is_light_and_an_unknown_name_is_an_error() -> None:
    code = (
        "import sys, vlm_ft\n"
        "assert not {'torch', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "assert 'Recipe' in dir(vlm_ft)\n"
        "try: vlm_ft.Recipy\n"
        "except AttributeError: pass\n"
        "else: raise SystemExit('no error')"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
