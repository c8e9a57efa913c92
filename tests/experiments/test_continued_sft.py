"""A method is compared with as many steps of SFT from the same adapter, with the same seeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from datasets_vision.synthetic import write_set
from tests.evaluation.test_results import result
from vlm_ft.errors import RecipeError
from vlm_ft.evaluation.results import read_results
from vlm_ft.experiments.continued_sft import RESULTS, _compared, compare_sft
from vlm_ft.experiments.quotes import table
from vlm_ft.recipe import Recipe
from vlm_ft.runs import Run

pytestmark = pytest.mark.usefixtures("terse")
PAIRS = {"task": "industry_language", "fields": ["reply"], "splits": {"tune": 0.0, "test": 0.5}}


def written(recipe: Recipe, file: Path) -> Path:
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_unset=True)), encoding="utf-8")
    return file


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_both_continue_from_the_same_adapter_for_the_same_steps(
    method: str,
    recipe_of: Callable[..., Recipe],
    untrained_run_of: Callable[..., Path],
    quiet: Console,
    tmp_path: Path,
) -> None:
    data = {**PAIRS, "data": [{"path": str(write_set("industry_language", tmp_path / "set", 12, 3))}]}
    start = untrained_run_of("llama", **data)
    settings = {"max_steps": None, "epochs": 0.5, "patience": 1, "seed": 5}
    own = {"policy": {"answers": 2}} if method == "grpo" else {"preference": {"beta": 0.3}}
    recipe = recipe_of("llama", **data, method=method, training=settings, adapter={})
    content = recipe.model_dump(mode="json", exclude_unset=True) | own | {"from_adapter": str(start)}
    content.pop("adapter")
    file = written(Recipe.model_validate(content), tmp_path / "recipe.yaml")
    out = tmp_path / "out"
    found = compare_sft(file, out, seeds=2, settings=[], console=quiet)

    runs = {name: Run(out / name) for name in ("method-seed0", "method-seed1", "sft-seed0", "sft-seed1")}
    assert [run.recipe.method for run in runs.values()] == [method, method, "sft", "sft"]
    assert [run.recipe.training.seed for run in runs.values()] == [0, 1, 0, 1]
    assert {run.recipe.from_adapter for run in runs.values()} == {start}
    assert len({run.splits.read_text() for run in runs.values()}) == 1
    assert len({run.plan.read_text().partition('"rows"')[0] for run in runs.values()}) == 1
    figure, gain = found
    assert (figure.metric, gain.metric) == ("rouge_l", "rouge_l_gain")
    assert gain.value == pytest.approx(figure.value - figure.rivals["continued SFT"])
    assert gain.low <= gain.value <= gain.high
    assert read_results(out / RESULTS) == found
    times = {name: run.evaluated.stat().st_mtime_ns for name, run in runs.items()}
    assert compare_sft(file, out, seeds=2, settings=[], console=quiet) == found
    assert times == {name: run.evaluated.stat().st_mtime_ns for name, run in runs.items()}  # none was repeated


@pytest.mark.parametrize(
    ("own", "settings", "says"),
    [
        ({"method": "sft"}, [], "method: sft: cannot be compared with continued SFT"),
        ({"method": "dpo"}, [], "from_adapter: is not set, so there is no SFT to continue"),
        ({"method": "dpo", "from_adapter": "runs/a"}, ["training.seed=3"], "training.seed=3: is the same for both"),
    ],
)
def test_a_recipe_without_a_stage_of_sft_before_it_is_refused(
    own: dict[str, str],
    settings: list[str],
    says: str,
    recipe_of: Callable[..., Recipe],
    quiet: Console,
    tmp_path: Path,
) -> None:
    file = written(recipe_of("llama", **own), tmp_path / "recipe.yaml")
    with pytest.raises(RecipeError, match=says):
        compare_sft(file, tmp_path / "out", seeds=2, settings=settings, console=quiet)


def test_the_interval_is_student_s_over_the_seeds_and_a_gain_is_named_in_tables() -> None:
    command = "vlm-ft compare-sft a"
    pairs = [
        (result(metric="mae", value=own, command=command), result(metric="mae", value=sft, command=command))
        for own, sft in ((2.0, 3.0), (2.5, 3.5), (3.0, 5.0))
    ]
    figure, gain = _compared(pairs)
    assert (figure.value, figure.rivals) == (2.5, {"continued SFT": pytest.approx(3.8333, abs=1e-4)})
    assert gain.value == pytest.approx(4 / 3)  # lower is better
    assert gain.high - gain.value == pytest.approx(4.303 * 0.5774 / 3**0.5, rel=1e-3)  # t(0.975, 2) = 4.303
    assert "kind, mean absolute error, gain over continued SFT (seeds)" in table([figure, gain])
