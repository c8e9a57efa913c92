"""The training methods, by name."""

from collections.abc import Callable

from vlm_ft.errors import RecipeError
from vlm_ft.recipe import AdapterSettings, Policy, Preference, Recipe
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
    "grpo": lambda recipe: GRPO(recipe.policy),
    "rloo": lambda recipe: RLOO(recipe.policy),
}


def method_of(recipe: Recipe) -> Method:
    """The method that a recipe names. Raises `RecipeError` for settings that it would ignore."""
    name, method = recipe.method, METHODS[recipe.method](recipe)
    if recipe.policy != Policy() and not method.samples:
        raise RecipeError("policy", f"has no effect with method {name}", "leave it out")
    if recipe.preference != Preference() and name not in ("dpo", "kto"):
        raise RecipeError("preference", f"has no effect with method {name}", "leave it out")
    if recipe.training.loss_on == "answer" and method.samples:
        raise RecipeError("training.loss_on", f"{name} learns only what the form leaves open", "leave it out")
    if recipe.training.batch_by == "tokens" and not method.per_token:
        raise RecipeError("training.batch_by", f"{name} averages over examples, not over tokens", "leave it out")
    plain = AdapterSettings()
    for key in ("rank", "alpha", "rslora", "dropout"):
        if recipe.from_adapter is not None and getattr(recipe.adapter, key) != getattr(plain, key):
            raise RecipeError(f"adapter.{key}", "from_adapter keeps its own", "leave it out")
    return method
