"""The three parts of a model, and how each is trained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vlm_ft.bases.families import Family
from vlm_ft.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

Part = Literal["language", "projector", "vision"]
Tuning = Literal["frozen", "lora", "dora", "full"]
PARTS: tuple[Part, ...] = ("language", "projector", "vision")


@dataclass(frozen=True)
class PartSize:
    """The number of parameters of one part of a model."""

    part: str
    total: int
    trainable: int


def resolve_tunings(
    asked: Mapping[Part, Tuning], model: nn.Module, family: Family, *, projector_untrained: bool, quantized: bool
) -> tuple[dict[Part, Tuning], list[str]]:
    """The tuning of every part, and notes on defaults that are not possible for this model.

    Defaults: LoRA on the language model (DoRA if that is asked for on another part); the projector in full if it has
    random weights, otherwise like the language model; a frozen tower. Raises `ModelError` if every part is frozen, or
    for a requested tuning that is not possible: the model has no such part, the part has no layer that supports LoRA,
    or a quantized part is to be trained in full.
    """
    low_rank: Tuning = "dora" if "dora" in asked.values() else "lora"
    defaults: dict[Part, Tuning] = {
        "language": low_rank,
        "projector": "full" if projector_untrained else low_rank,
        "vision": "frozen",
    }
    tunings: dict[Part, Tuning] = {}
    notes = []
    for part in PARTS:
        tuning = asked.get(part) or defaults[part]
        problem = _problem(part, tuning, model, family, quantized)
        if problem and part in asked and family.sees:
            raise ModelError(
                f"adapter.{part}", f"{tuning!r} is not possible: {problem}", "choose frozen, or leave it out"
            )
        if problem and family.sees:
            notes.append(f"adapter.{part}: frozen, because {problem}")
        tunings[part] = "frozen" if problem else tuning
    if all(tuning == "frozen" for tuning in tunings.values()):
        raise ModelError("adapter", "every part is frozen, so nothing would be trained", "give one part lora or full")
    return tunings, notes


def _problem(part: Part, tuning: Tuning, model: nn.Module, family: Family, quantized: bool) -> str | None:
    if tuning == "frozen":
        return None
    if not any(True for _ in _modules(model, family, part)):
        return f"a {family.name} model has no {part}"
    if tuning == "full" and quantized and part != "projector":
        return "a quantized part can only be trained with lora or dora"
    if tuning in ("lora", "dora") and not low_rank_modules(model, family, part):
        return f"the {part} of a {family.name} model has no layer that supports LoRA"
    return None


def low_rank_modules(model: nn.Module, family: Family, part: Part) -> list[str]:
    """The names of the part's layers that support LoRA: linear ones and ungrouped convolutions, in the model's order.

    PEFT refuses grouped (depthwise) convolutions unless the rank is a multiple of their groups. The head, the
    embeddings, and the tower's layers past the one whose features the model uses are left out.
    """
    from torch import nn

    names = [
        name
        for name, module in _modules(model, family, part)
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    ]
    return names if part != "vision" else _used(names, model.config)


def leaf_modules(model: nn.Module, family: Family, part: Part) -> list[str]:
    """The names of the part's outermost modules that hold parameters themselves.

    A part trained in full is saved as these modules: PEFT can mix single layers of several adapters in a batch, but not
    a whole projector.
    """
    names: list[str] = []
    for name, module in _modules(model, family, part):
        inside = any(name.startswith(f"{outer}.") for outer in names)
        if not inside and any(True for _ in module.parameters(recurse=False)):
            names.append(name)
    return names if part != "vision" else _used(names, model.config)


def part_of(name: str, family: Family) -> Part | None:
    """The part that a module or parameter of the plain model belongs to; None for others, such as the head."""
    if any(name == root or name.startswith(f"{root}.") for root in family.projector):
        return "projector"
    patterns: dict[Part, str | None] = {"vision": family.tower, "language": family.language}
    for part, pattern in patterns.items():
        if pattern and re.fullmatch(rf"({pattern})(\..+)?", name):
            return part
    return None


def owner_of(name: str, family: Family) -> Part:
    """The part that a parameter of the plain model is trained with when the whole model is trained.

    A parameter outside the three parts is trained with the tower if it is inside the tower's module, otherwise with the
    language model.
    """
    inside = family.vision is not None and name.startswith(f"{family.vision}.")
    return part_of(name, family) or ("vision" if inside else "language")


def _modules(model: nn.Module, family: Family, part: Part) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in model.named_modules() if part_of(name, family) == part)


def _used(tower: list[str], config: Any) -> list[str]:
    """`tower` without the layers past ``vision_feature_layer`` (LLaVA 1.5 uses the second to last)."""
    used = getattr(config, "vision_feature_layer", None)
    if used in (None, -1):
        return tower
    layers = {name: int(found.group(1)) for name in tower if (found := re.search(r"\.(\d+)\.", name))}
    depth = max(layers.values()) + 1
    states = used if isinstance(used, list | tuple) else [used]
    last = max(state if state >= 0 else depth + 1 + state for state in states)  # hidden state 0 is the embedding
    return [name for name in tower if layers.get(name, 0) < last]


def part_sizes(model: nn.Module, family: Family) -> list[PartSize]:
    """The number of parameters by part, all and trainable; the last row is the sum."""
    import torch

    totals: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        if ".original_module." in name:
            continue  # PEFT keeps the frozen original of a module that is trained in full
        plain = plain_name(name)
        quantized = getattr(parameter, "quant_state", None)
        count = int(torch.Size(quantized.shape).numel()) if quantized is not None else parameter.numel()
        entry = totals.setdefault(part_of(plain, family) or "other", [0, 0])
        entry[0] += count
        entry[1] += count if parameter.requires_grad else 0
    rows = [PartSize(part, *counts) for part, counts in sorted(totals.items())]
    return [*rows, PartSize("all", sum(row.total for row in rows), sum(row.trainable for row in rows))]


def plain_name(name: str) -> str:
    """The name that a module or parameter of a PEFT model had before PEFT wrapped it."""
    plain = name.removeprefix("base_model.model.")
    return re.sub(r"\.(original_module|modules_to_save\.\w+|base_layer)\b", "", plain)
