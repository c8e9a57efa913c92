"""The wheel holds what a checkout holds, below two names, and the version is the same everywhere."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools import Distribution

ROOT = Path(__file__).parents[1]
BELOW = {"demo": "vlm_ft/demo", "recipes": "vlm_ft/recipes"}
SHIPPED = (
    *("vlm_ft/**/*.py", "vlm_ft/**/*.j2", "vlm_ft/**/*.csv", "datasets_vision/**/*.py", "demo/*.py"),
    *("vlm_ft/py.typed", "datasets_vision/py.typed", "datasets_vision/**/*.yaml"),
    *("recipes/*.yaml", "recipes/*/*.yaml", "recipes/*/*.csv"),
)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """The files that a wheel installs, listed without building it."""
    monkeypatch.chdir(ROOT)
    distribution = Distribution({"script_name": "setup.py"})
    distribution.parse_config_files()
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    return {Path(file).relative_to(command.build_lib) for file in command.get_outputs(include_bytecode=False)}


def test_everything_is_installed_below_two_names(installed: set[Path]) -> None:
    for pattern in SHIPPED:
        assert any(ROOT.glob(pattern)), pattern
        for file in ROOT.glob(pattern):
            top, *rest = file.relative_to(ROOT).parts
            assert Path(BELOW.get(top, top), *rest) in installed
    assert {file.parts[0] for file in installed} == {"vlm_ft", "datasets_vision"}


def test_every_dependency_has_a_tested_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tested = {
        canonicalize_name(name): version
        for name, version in (line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    }
    for entry in chain(project["dependencies"], *project["optional-dependencies"].values()):
        needed = Requirement(entry)
        assert tested[canonicalize_name(needed.name)] in needed.specifier


def test_one_version_is_released() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.findall(r"^## \[(\d.*)\] - (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)[0]
    assert newest == (version, str(citation["date-released"]))
    assert citation["version"] == version
