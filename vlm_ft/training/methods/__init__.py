"""The training methods, by name."""

from vlm_ft.training.methods.method import Method
from vlm_ft.training.methods.sft import SFT

__all__ = ["METHODS", "Method"]

METHODS: dict[str, Method] = {method.name: method for method in (SFT,)}
