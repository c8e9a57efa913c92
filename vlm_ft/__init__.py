"""Fine-tune vision-language models into assessors with typed, checkable answers.

The names in `__all__` are the public interface; README.md ("From Python") shows how to use them. Each is imported on
first use, so that `import vlm_ft` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlm_ft.answers.kinds import Answer, Box, Item, OneOf
    from vlm_ft.answers.prediction import Prediction
    from vlm_ft.answers.task import Headline, Task
    from vlm_ft.data.cases import load as load_data
    from vlm_ft.errors import UserError
    from vlm_ft.evaluation.calibrate import calibrate_run as calibrate
    from vlm_ft.evaluation.run import evaluate_run as evaluate
    from vlm_ft.inference.engine import Engine
    from vlm_ft.inference.request import Request
    from vlm_ft.recipe import Recipe, load_recipe
    from vlm_ft.scoring.run import score
    from vlm_ft.training.run import train

__all__ = [
    "Answer",
    "Box",
    "Engine",
    "Headline",
    "Item",
    "OneOf",
    "Prediction",
    "Recipe",
    "Request",
    "Task",
    "UserError",
    "calibrate",
    "evaluate",
    "load_data",
    "load_recipe",
    "score",
    "train",
]

_HOMES = {
    "Answer": "vlm_ft.answers.kinds:Answer",
    "Box": "vlm_ft.answers.kinds:Box",
    "Engine": "vlm_ft.inference.engine:Engine",
    "Headline": "vlm_ft.answers.task:Headline",
    "Item": "vlm_ft.answers.kinds:Item",
    "OneOf": "vlm_ft.answers.kinds:OneOf",
    "Prediction": "vlm_ft.answers.prediction:Prediction",
    "Recipe": "vlm_ft.recipe:Recipe",
    "Request": "vlm_ft.inference.request:Request",
    "Task": "vlm_ft.answers.task:Task",
    "UserError": "vlm_ft.errors:UserError",
    "calibrate": "vlm_ft.evaluation.calibrate:calibrate_run",
    "evaluate": "vlm_ft.evaluation.run:evaluate_run",
    "load_data": "vlm_ft.data.cases:load",
    "load_recipe": "vlm_ft.recipe:load_recipe",
    "score": "vlm_ft.scoring.run:score",
    "train": "vlm_ft.training.run:train",
}


def __getattr__(name: str) -> Any:
    """A public name, imported on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
