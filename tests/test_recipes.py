"""Every shipped recipe reads its data, and trains a tiny base on some of them for two steps."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from datasets_vision.documents.build import write_messages
from datasets_vision.synthetic import DOMAINS, Pictures, write_set
from vlm_ft.adapters import read_card
from vlm_ft.bases.hub import HUB_BASES
from vlm_ft.data.cases import Dataset, load
from vlm_ft.recipe import RECIPES, Recipe, load_recipe, shipped
from vlm_ft.training.rehearse import GIB
from vlm_ft.training.run import train

DATA = Path(os.environ.get("VLM_FT_DATA", "../shared/data"))
pytestmark = pytest.mark.usefixtures("terse")
FEW = 24  # examples of a made set
MAX_CASES = 4  # of a role that are trained on
SHORT = [
    "training.minutes=null",
    "training.max_steps=2",
    "training.batch_size=1",
    "training.evaluations=1",
    "training.patience=null",
    "training.workers=0",
    "training.report_to=[]",
    "adapter.rank=2",
    "adapter={}",
    "from_adapter=null",  # trained by another recipe
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of recipes that are made, not downloaded: drawn sets, and a chat set from a manual."""
    root = tmp_path_factory.mktemp("made")
    write_messages(Path(__file__).parents[1] / "README.md", root / "chat.jsonl")
    for name, domain in DOMAINS.items():
        write_set(name, root / name, FEW, seed=1, size=64 if isinstance(domain, Pictures) else None)
    return root


def settings(name: str, made: Path) -> list[str]:
    """Two steps, few pixels, few answers, and the made set if the recipe's own is made."""
    few = list(SHORT)
    if "pixels:" in text_of(name):
        few += ["pixels={minimum: 4096, maximum: 4096}"]
    if "policy:" in text_of(name):
        few += ["policy.answers=4"]  # of two, both may earn the same reward, which teaches nothing
    return [*few, f"data.0.path={made / 'product_defects'}"] if name.startswith("quickstart") else few


@pytest.fixture
def whole_sets(monkeypatch: pytest.MonkeyPatch) -> list[Dataset]:
    """The data sets that are read; only a part of each is trained on."""
    found: list[Dataset] = []

    def load_few(recipe: Recipe, splits_file: Path | None = None) -> Dataset:
        found.append(load(recipe))
        few = {role: cases[:: 1 + len(cases) // MAX_CASES] for role, cases in found[-1].cases.items()}
        return replace(found[-1], cases=few)

    monkeypatch.setattr("vlm_ft.training.prepare.load", load_few)
    return found


@pytest.mark.parametrize("name", shipped())
def test_a_recipe_reads_its_data_and_trains_for_two_steps(
    name: str,
    made: Path,
    whole_sets: list[Dataset],
    tmp_path: Path,
    tiny_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLM_FT_DATA", str(DATA))
    monkeypatch.setenv("VLM_FT_SYNTHETIC", str(made))
    monkeypatch.setenv("VLM_FT_MANUALS", str(made / "chat.jsonl"))
    judge = []
    if "reward_model:" in text_of(name):
        trained = load_recipe(RECIPES / "industry_language_reward.yaml", settings("industry_language_reward", made))
        trained = trained.model_copy(update={"base": str(tiny_folder("qwen3"))})
        if not trained.data[0].path.exists():
            pytest.skip(f"{trained.data[0].path} is not there")
        train(trained, tmp_path / "judge", check=False, console=Console(quiet=True))
        judge = [f"policy.reward_model={tmp_path / 'judge'}"]
    recipe = load_recipe(RECIPES / f"{name}.yaml", [*settings(name, made), *judge])
    for source in recipe.data:
        if not source.path.exists():
            pytest.skip(f"{source.path} is not there")
    folder = tiny_folder("qwen3" if all(source.shows_text for source in recipe.data) else "qwen3_vl")
    assert isinstance(recipe, Recipe)
    recipe = recipe.model_copy(update={"base": str(folder)})
    card = read_card(train(recipe, tmp_path / "run", check=False, console=Console(quiet=True)))
    assert card.form.task == recipe.task
    assert card.training["steps"] == 2
    if "${VLM_FT_DATA" in text_of(name):
        assert set(card.form.names) <= set(recipe.fields or ())
        assert whole_sets[-1].counts["train"] > 20  # the smallest real sets have some thirty photos
        assert whole_sets[-1].counts["test"] > 0


@pytest.mark.parametrize("name", shipped())
def test_its_data_can_be_obtained(name: str) -> None:
    for entry in load_recipe(RECIPES / f"{name}.yaml").data:
        assert entry.origin
        assert entry.origin.source.startswith(("https://github.com/", "`vlm-ft "))
    head = text_of(name).partition("name:")[0]
    assert ("# Set VLM_FT_DATA to the folder that contains " in head) == ("${VLM_FT_DATA" in text_of(name))


def test_large_photos_are_limited_to_a_megapixel() -> None:
    recipes = [load_recipe(RECIPES / f"{name}.yaml") for name in shipped() if "${VLM_FT_DATA" in text_of(name)]
    limits = {recipe.name: recipe.pixels for recipe in recipes if not all(entry.shows_text for entry in recipe.data)}
    assert len(limits) > 10
    for name, limit in limits.items():
        assert limit, name
        assert limit.maximum <= 1024 * 1024, name


@pytest.mark.parametrize("name", shipped())
def test_a_base_for_real_work_is_one_line_away(name: str) -> None:
    stated = re.search(
        r"^base: compact +# on a GPU: (\S+) \((\d+) GiB in bf16, (\d+) with quantize: nf4\)$", text_of(name), re.M
    )
    assert stated, "the line `base:` names no base of the Hub with its memory, as vlm-ft train --dry-run estimates it"
    assert stated[1] in HUB_BASES
    weights = 2e9 * HUB_BASES[stated[1]].parameters / GIB
    assert int(stated[3]) < weights + 20
    assert weights < int(stated[2]) < weights + 40


def text_of(name: str) -> str:
    """The recipe as written, with its comments."""
    return (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
