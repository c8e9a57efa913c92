"""The training methods, by name."""

from collections.abc import Callable

from vlm_ft.recipe import Recipe
from vlm_ft.training.methods.method import Method
from vlm_ft.training.methods.policy import GRPO, RLOO
from vlm_ft.training.methods.preference import DPO, KTO
from vlm_ft.training.methods.reward import Reward
from vlm_ft.training.methods.sft import SFT

__all__ = ["METHODS", "Method", "method_of"]

METHODS: dict[str, Callable[[Recipe], Method]] = {
    "sft": lambda recipe: SFT(),
    "dpo": lambda recipe: DPO(recipe.preference),
    "kto": lambda recipe: KTO(recipe.preference),
    "reward": lambda recipe: Reward(),
    "grpo": lambda recipe: GRPO(recipe.policy, recipe.training.seed, frozen_tower=not recipe.adapter.tunes_tower),
    "rloo": lambda recipe: RLOO(recipe.policy, recipe.training.seed, frozen_tower=not recipe.adapter.tunes_tower),
}


def method_of(recipe: Recipe) -> Method:
    """The method that a recipe names."""
    return METHODS[recipe.method](recipe)
