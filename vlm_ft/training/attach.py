"""Prepare a base for training: low-rank adapters, fully trained parts, everything else frozen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.utils.constants import DUMMY_TARGET_MODULES
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import set_seed

from vlm_ft.adapters import CONFIG, TENSORS, adapter_folder, read_card
from vlm_ft.bases.families import Family
from vlm_ft.bases.load import Base
from vlm_ft.bases.parts import (
    PARTS,
    Part,
    Tuning,
    leaf_modules,
    low_rank_modules,
    owner_of,
    part_of,
    plain_name,
    resolve_tunings,
)
from vlm_ft.bases.value_head import NAME as VALUE_HEAD
from vlm_ft.bases.value_head import has_value_head
from vlm_ft.card_base import require_base, with_adapter
from vlm_ft.errors import AdapterError, ModelError
from vlm_ft.recipe import AdapterSettings, Training

FITTED_RATE, RANDOM_RATE = 0.5, 2.0
"""The learning rate of a new projector as a multiple of the recipe's, unless the recipe sets it.

A high rate moves a projector that was fitted to the answers (`vlm_ft.training.projector`) away from them, and a low
one hardly improves it. At 0.2 and 0.5 times 1e-3, macro-F1 was 0.92 and 0.97 after 31 steps on the drawings of the
quickstart; at 0.2 and 2 times, it was 0.81 and 0.75 after 78 steps on the first fold of TrashNet.
"""

FULL_RATE = 0.1
"""The learning rate of a pretrained part trained in full beside a low-rank one, as a multiple of the recipe's.

Low-rank adapters learn best at about ten times the rate of full training (Schulman et al. 2025, *LoRA Without Regret*).
"""


@dataclass(frozen=True)
class Attached:
    """A model ready to train: a PEFT model, or the base's own model in full fine-tuning.

    `notes` are printed for the user. `start`: the adapter from which training continues, if any.
    """

    model: Any
    family: Family
    tunings: Mapping[Part, Tuning]
    notes: tuple[str, ...]
    start: Path | None = None

    @property
    def whole(self) -> bool:
        """Whether the whole model is trained, so that a model folder is saved instead of an adapter."""
        return trains_whole_model(self.tunings)

    def has_new_projector(self, base: Base) -> bool:
        """Whether a projector with random weights is trained in full."""
        return base.projector_untrained and self.tunings["projector"] == "full" and self.start is None


def trains_whole_model(tunings: Mapping[Part, Tuning]) -> bool:
    """Whether the language model is trained in full and no part is low-rank, so that an adapter would save no space."""
    return tunings["language"] == "full" and not {"lora", "dora"} & set(tunings.values())


def attach(
    base: Base, settings: AdapterSettings, seed: int, *, checkpointing: bool = False, start: Path | None = None
) -> Attached:
    """Make the parts that the settings name trainable, freeze the rest, and keep batch norms in evaluation mode.

    With `checkpointing`, activations are recomputed in the backward pass. `start`: an adapter or a run folder from
    whose adapter training continues, at its own rank. Raises `ModelError` for settings that the base does not support,
    or if weights would be trained that they do not name, and `AdapterError` for an adapter that does not fit the base
    or the settings.
    """
    tunings, notes = resolve_tunings(
        settings.asked,
        base.model,
        base.family,
        projector_untrained=base.projector_untrained,
        quantized=base.quantized,
    )
    if {"lora", "dora"} <= set(tunings.values()):
        raise ModelError(
            "adapter", "lora and dora cannot be combined in one adapter", "choose one of them for all parts"
        )
    set_seed(seed)
    if checkpointing:
        base.model.activation_checkpointing_enable({"use_reentrant": False})
    _freeze_batch_norms(base.model)
    if start is not None:
        attached = _continued(base, tunings, start, tuple(notes))
    elif not trains_whole_model(tunings):
        attached = Attached(_with_new_adapter(base, tunings, settings), base.family, tunings, tuple(notes))
    else:
        return _whole(base, tunings, tuple(notes))
    _require_asked(attached)
    return attached


def _whole(base: Base, tunings: Mapping[Part, Tuning], notes: tuple[str, ...]) -> Attached:
    """The base's own model, of which the parts that are trained in full require gradients."""
    if has_value_head(base.model):
        raise ModelError("adapter", "a reward model needs a low-rank part", "give one part lora or dora")
    for name, parameter in base.model.named_parameters():
        parameter.requires_grad_(tunings[owner_of(name, base.family)] == "full")
    return Attached(base.model, base.family, tunings, notes)


def _require_asked(attached: Attached) -> None:
    """Raise `ModelError` if the adapter has weights outside the parts to train, such as LoRA on a frozen tower."""
    for name, parameter in attached.model.named_parameters():
        plain = plain_name(name)
        part = part_of(plain, attached.family)
        frozen = part is None or attached.tunings[part] == "frozen"
        if parameter.requires_grad and frozen and not plain.startswith(VALUE_HEAD):
            raise ModelError("adapter", f"{plain} would be trained, which no setting asks for", "report this")


def _with_new_adapter(base: Base, tunings: Mapping[Part, Tuning], settings: AdapterSettings) -> Any:
    """The base as a PEFT model; the adapter holds copies of the modules that are trained in full."""
    low_rank, full = list[str](), list[str]()
    for part, tuning in tunings.items():
        if tuning == "full":
            full += leaf_modules(base.model, base.family, part)
        elif tuning != "frozen":
            low_rank += low_rank_modules(base.model, base.family, part)
    if has_value_head(base.model):
        full.append(VALUE_HEAD)
    if low_rank and settings.rank > (width := base.model.config.get_text_config().hidden_size):
        problem = f"{settings.rank} exceeds the base's width of {width}, so the adapter would be larger than its layers"
        raise ModelError("adapter.rank", problem, "give a smaller one, or train the part in full")
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora="dora" in tunings.values(),
        target_modules=low_rank or DUMMY_TARGET_MODULES,
        modules_to_save=full or None,
    )
    return get_peft_model(base.model, config)


def _continued(base: Base, tunings: Mapping[Part, Tuning], start: Path, notes: tuple[str, ...]) -> Attached:
    """The base with an earlier adapter, from which training continues."""
    folder = adapter_folder(start)
    card = read_card(folder)
    if card.weights:
        raise AdapterError(f"adapter {folder}", "is a whole model", "make it the recipe's base instead")
    require_base(card, folder, base)
    if card.method == "reward":
        raise AdapterError(f"adapter {folder}", "is a reward model, which writes no answers", "start from another one")
    if dict(card.tuned) != dict(tunings):
        raise AdapterError(
            f"adapter {folder}", f"was trained with {card.tuning}", "set `adapter` to match in the recipe"
        )
    if has_value_head(base.model):
        with TemporaryDirectory() as work:
            model = with_adapter(base.model, _with_value_head(folder, Path(work), base.model), trainable=True)
    else:
        model = with_adapter(base.model, folder, trainable=True)
    return Attached(model, base.family, tunings, notes, start=folder)


def _with_value_head(folder: Path, copy: Path, model: Any) -> Path:
    """A copy of an adapter's files, with the model's value head added."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["modules_to_save"] = [*(config["modules_to_save"] or ()), VALUE_HEAD]
    (copy / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    head = {f"base_model.model.{VALUE_HEAD}.{name}": tensor for name, tensor in model.value_head.state_dict().items()}
    save_file({**load_file(folder / TENSORS), **head}, copy / TENSORS)
    return copy


def part_rates(
    attached: Attached, base: Base, settings: AdapterSettings, training: Training, *, fitted: bool
) -> dict[str, float]:
    """The learning rate of each part. `fitted`: whether a new projector is fitted to the answers before step 0."""
    rates: dict[str, float] = dict.fromkeys(PARTS, training.learning_rate)
    if {"lora", "dora"} & set(attached.tunings.values()):
        pretrained = [part for part in PARTS if part != "projector" or not base.projector_untrained]
        rates |= {part: FULL_RATE * training.learning_rate for part in pretrained if attached.tunings[part] == "full"}
    if attached.has_new_projector(base):
        rates["projector"] = (FITTED_RATE if fitted else RANDOM_RATE) * training.learning_rate
    return rates | {str(part): rate for part, rate in settings.rates.items()}


def parameter_groups(attached: Attached, rates: Mapping[str, float], weight_decay: float) -> list[dict[str, Any]]:
    """Optimiser parameter groups: one learning rate per part, and no weight decay on vectors (biases and norms)."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in attached.model.named_parameters():
        if parameter.requires_grad:
            part = owner_of(plain_name(name), attached.family)
            groups.setdefault((rates[part], weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def _freeze_batch_norms(model: nn.Module) -> None:
    """Undo `Trainer`'s `model.train()` for batch norms, whose running statistics no adapter stores."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(_set_evaluation_mode)


def _set_evaluation_mode(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    module.training = False
