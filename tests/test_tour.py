"""The tour trains an adapter for every task once; each has something to try, and says that its data are generated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from datasets_vision.synthetic import DOMAINS
from tests.demo.conftest import assess
from vlm_ft import tour
from vlm_ft.errors import DataError, RecipeError
from vlm_ft.experiments import trial
from vlm_ft.inference.engine import Engine
from vlm_ft.recipe import Recipe
from vlm_ft.serving import Options
from vlm_ft.tasks import TASKS
from vlm_ft.training.run import train

pytestmark = pytest.mark.usefixtures("terse")
PHOTOS, TEXTS = "product_defects", "legal_documents"


class StoppedError(Exception):
    """Stands in for Ctrl-C."""


class Tour:
    """The tour of two tasks, for two steps of a tiny base: what it trained, and what it gave to the app."""

    def __init__(self, out: Path, base: Path, console: Console) -> None:
        self.out, self.console = out, console
        self.settings = [f"base={base}", "training.max_steps=2", "training.workers=0", "training.report_to=[]"]
        self.trained: list[str] = []
        self.most = 1  # adapters that are trained before it is stopped
        self.adapters: Sequence[Path] = ()
        self.examples: dict[str, list[Path | str]] = {}

    def run(self, *more: str) -> None:
        tour.run(self.out, [PHOTOS, TEXTS], [*self.settings, *more], with_app=True, console=self.console)

    def train(self, recipe: Recipe, folder: Path, **options: Any) -> Path:
        if len(self.trained) == self.most:
            raise StoppedError
        self.trained.append(recipe.name)
        return train(recipe, folder, **options)

    def serve(self, options: Options, console: Console) -> None:
        assert isinstance(options.examples, dict)
        self.adapters, self.examples = options.adapters, options.examples


@pytest.fixture(scope="module")
def stopped(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path], quiet: Console
) -> Iterator[Tour]:
    """A tour that was stopped after its first adapter."""
    begun = Tour(tmp_path_factory.mktemp("tour"), tiny_folder("qwen3_vl"), quiet)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tour, "LABELLED", 40)
        patch.setattr(tour, "serve", begun.serve)
        patch.setattr(trial, "train", begun.train)
        with pytest.raises(StoppedError):
            begun.run()
        yield begun


@pytest.fixture(scope="module")
def finished(stopped: Tour) -> Tour:
    """The same, continued."""
    stopped.most = 2
    stopped.run()
    return stopped


def test_it_has_a_recipe_for_every_task_with_a_generator() -> None:
    assert tour.TOUR.keys() == TASKS.keys() & DOMAINS.keys()
    assert len(tour.TOUR) == 11


@pytest.mark.parametrize("task", tour.TOUR)
def test_every_task_has_something_to_try(task: str, tmp_path: Path) -> None:
    recipe = tour.recipe_of(task, tmp_path, [])
    assert recipe.task == recipe.name == task
    examples = tour.examples_of(recipe, tmp_path)
    assert len(set(examples)) == tour.NEW
    assert all(item.is_file() if isinstance(item, Path) else item.strip() for item in examples)


def test_a_stopped_tour_is_refused_with_other_settings(stopped: Tour) -> None:
    assert stopped.adapters == ()
    with pytest.raises(RecipeError, match=r"training\.max_steps was 2, and is 3 now"):
        stopped.run("training.max_steps=3")


def test_it_trains_only_what_is_missing(finished: Tour) -> None:
    assert finished.trained == [PHOTOS, TEXTS]
    finished.run()
    assert finished.trained == [PHOTOS, TEXTS]


def test_minutes_are_only_those_of_a_whole_tour(finished: Tour, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds runs of an earlier tour"):
        tour.run(finished.out, [PHOTOS], [], with_app=False, console=finished.console, figures=tmp_path / "a.json")


def test_every_answer_says_that_the_data_were_generated(finished: Tour) -> None:
    engine = Engine.open(finished.adapters)
    assert list(engine.cards) == list(finished.examples) == [PHOTOS, TEXTS]
    for name, examples in finished.examples.items():
        photos = [str(item) for item in examples[:1] if isinstance(item, Path)]
        text = "" if photos else str(examples[0])
        _, html, answered = assess(engine, name, photos, text)
        assert answered is not None
        assert "Trained on generated drawings or texts, not on real data." in html
