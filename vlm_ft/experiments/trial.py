"""One run of an experiment, trained and evaluated only once, even if it is interrupted."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from vlm_ft.adapters import Card, read_card
from vlm_ft.errors import RecipeError
from vlm_ft.evaluation.calibrate import calibrate_trained
from vlm_ft.evaluation.evaluate import Evaluation, read_evaluation
from vlm_ft.evaluation.run import evaluate_run
from vlm_ft.recipe import Recipe
from vlm_ft.runs import Run
from vlm_ft.training.run import train


@dataclass(frozen=True)
class Trial:
    """A finished run: its evaluation and its adapter's card."""

    evaluation: Evaluation
    card: Card


def require_independent(recipe: Recipe) -> None:
    """Raise `RecipeError` for a recipe that cannot be tested on new splits.

    Its starting adapter or its reward model may have been trained on examples that are tested here, and a reward model
    gives no answers.
    """
    if recipe.method == "reward":
        raise RecipeError("method: reward", "gives no answers to compare", "train it, and use vlm-ft evaluate")
    for key, value in (("from_adapter", recipe.from_adapter), ("policy.reward_model", recipe.policy.reward_model)):
        if value is not None:
            raise RecipeError(key, "may have been trained on what is tested here", f"--set {key}=null")


def trial(run: Run, recipe: Recipe, console: Console, *, rivals: bool = False, base: bool = False) -> Trial:
    """Train and evaluate, reusing what an earlier call finished and resuming what it began.

    Raises `RecipeError` if the folder holds a run of another recipe, and `DataError` for an unreadable evaluation.
    """
    resume = run.holds(recipe)
    if run.evaluated.exists():
        return Trial(read_evaluation(run.evaluated), read_card(run.adapter))
    if run.state != "finished":
        train(recipe, run.folder, resume=resume, console=console)
    calibrate_trained(run.folder, console=console)  # again, if an earlier call was interrupted after its training
    return Trial(evaluate_run(run.folder, rivals=rivals, base=base, console=console), read_card(run.adapter))
