"""A look at new data: the recipe, the checks and the cost, before anything is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml
from PIL import Image
from rich.console import Console

from datasets_vision.source import stream
from vlm_ft.data import cases
from vlm_ft.data.preflight import EXAMPLES, ROWS, Preflight
from vlm_ft.errors import DataError, RecipeError
from vlm_ft.recipe import Recipe, load_recipe
from vlm_ft.runs import RECIPE
from vlm_ft.training import preflight as module
from vlm_ft.training.preflight import preflight


@pytest.fixture
def recipe(recipe_of: Callable[..., Recipe], tmp_path: Path) -> Path:
    """A recipe for other data, some of whose classes have other names."""
    content = recipe_of("fast_vlm").model_dump(mode="json", exclude_unset=True)
    content["data"] = [{"path": "elsewhere", "rename": {"scratch": "line"}}]
    file = tmp_path / "shipped.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the base: nothing is measured, and the dry run costs nothing."""
    monkeypatch.setattr(module, "open_reader", lambda *_, **__: None)
    monkeypatch.setattr(module, "Ruler", lambda *_: None)
    monkeypatch.setattr(module, "dry_run", lambda *_: ("1 step", 0))


@pytest.mark.usefixtures("one_shape")
def test_a_recipe_is_applied_to_other_data(
    recipe: Path, drawings: Path, tmp_path: Path, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = Mock(side_effect=stream)
    monkeypatch.setattr(cases, "stream", readings)
    found = preflight(drawings, tmp_path / "out", "castings", recipe=str(recipe), console=quiet)
    assert Preflight.of(tmp_path / "out") == found
    assert found.errors == 0
    assert "steps of 4 rows" in found.cost
    assert found.peak_bytes > 100_000_000  # of this process, which has imported the libraries
    assert any(line.startswith("train ") for line in found.read)
    written = load_recipe(tmp_path / "out" / RECIPE)
    assert (written.name, written.data[0].path) == ("castings", drawings)
    assert readings.call_count == 1
    assert written.data[0].rename == {"scratch": "line"}
    assert "row 1" in (tmp_path / "out" / ROWS).read_text()
    assert "Data check: castings" in (tmp_path / "out" / "check.html").read_text()
    with Image.open(tmp_path / "out" / EXAMPLES) as sheet:
        assert sheet.width > 64


@pytest.mark.usefixtures("unread")
def test_a_recipe_is_proposed(drawings: Path, tmp_path: Path, quiet: Console) -> None:
    preflight(drawings, tmp_path / "out", "castings", console=quiet)
    assert load_recipe(tmp_path / "out" / RECIPE).name == "castings"
    with pytest.raises(DataError, match="tasks that fit"):
        preflight(drawings, tmp_path / "other", "castings", task="legal_documents", console=quiet)
    with pytest.raises(RecipeError, match="continues from another adapter"):
        preflight(drawings, tmp_path / "other", "castings", recipe="objects_voc_grpo", console=quiet)


@pytest.mark.usefixtures("unread")
def test_labels_cannot_refer_to_photos_elsewhere(drawings: Path, tmp_path: Path, quiet: Console) -> None:
    data = tmp_path / "data"
    data.mkdir()
    photos = sorted((drawings / "JPEGImages").iterdir())
    rows = [f"{photo},{kind}" for photo, kind in zip(photos, ["dent", "scratch"] * 10, strict=True)]
    (data / "labels.csv").write_text("\n".join(["image,kind", *rows]) + "\n")
    with pytest.raises(DataError, match="lies outside the data set"):
        preflight(data, tmp_path / "out", "castings", console=quiet)


@pytest.mark.usefixtures("unread")
def test_errors_stop_before_the_dry_run(drawings: Path, tmp_path: Path, quiet: Console, monkeypatch: Any) -> None:
    data = tmp_path / "R&D"
    for kind in ("dent", "good"):
        (data / kind).mkdir(parents=True)
        for photo in sorted((drawings / "JPEGImages").iterdir())[:10]:
            shutil.copy(photo, data / kind / photo.name)  # the same photos under both labels
    monkeypatch.setattr(module, "dry_run", lambda *_: pytest.fail("rehearsed"))
    found = preflight(data, tmp_path / "out", "castings", console=quiet)
    assert found.errors
    assert found.cost == ""
    page = (tmp_path / "out" / "check.html").read_text()
    assert "dent/" in page
    assert str(tmp_path) not in page


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("shipped", [True, False])
def test_names_cannot_read_the_environment(
    drawings: Path, recipe: Path, tmp_path: Path, quiet: Console, monkeypatch: pytest.MonkeyPatch, shipped: bool
) -> None:
    monkeypatch.setenv("VLM_FT_PLANTED", "planted")
    data = tmp_path / "${VLM_FT_PLANTED}"
    shutil.copytree(drawings, data)
    with pytest.raises(DataError, match="a variable in recipes") as caught:
        preflight(data, tmp_path / "out", "castings", recipe=str(recipe) if shipped else None, console=quiet)
    assert "planted" not in str(caught.value)
