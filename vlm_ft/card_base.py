"""Load the base that an adapter's card names, and the adapter onto it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from vlm_ft.adapters import TENSORS, Card
from vlm_ft.bases.load import Base, load_base
from vlm_ft.conversation import Conversation
from vlm_ft.errors import AdapterError, cause


def base_of(card: Card, folder: Path, place: str | None = None) -> Base:
    """The base of the adapter in `folder`, loaded as it was for training, from `place` if it has moved.

    A whole model is its own base. Use `require_base` to check that the base is the one that the card names.
    """
    if card.weights and place is None:
        return load_base(str(folder), dtype=card.dtype)
    own = place is None or place == card.base.name
    return load_base(
        place or card.base.name,
        revision=card.base.revision if own else None,
        dtype=card.dtype,
        quantize=card.quantize,
    )


def require_base(card: Card, folder: Path, base: Base) -> None:
    """Raise `AdapterError` unless the adapter in `folder` was trained on this base, with the same chat template.

    Old cards do not state the template.
    """
    if card.expects != base.ref.fingerprint and card.weights:
        problem = f"is a whole model with fingerprint {card.weights}, which cannot be served on {base.ref.name}"
        raise AdapterError(f"adapter {folder}", problem, "open it without other adapters, or restore its weights")
    if card.expects != base.ref.fingerprint:
        problem = f"its base is {card.base.name}, not {base.ref.name} (fingerprint {card.base.fingerprint})"
        raise AdapterError(f"adapter {folder}", problem, "load that base, or train again")
    if card.template not in (None, Conversation(base.reader).template_hash()):
        problem = f"the tokenizer or the chat template of {base.reader.place} has changed since it was trained"
        raise AdapterError(f"adapter {folder}", problem, "restore them, or train again")


def with_adapter(model: Any, folder: Path, *, trainable: bool = False) -> PeftModel:
    """The model with the adapter from a folder.

    Raises `AdapterError` if its files cannot be read, or if a tensor does not belong in the model, is missing, or is
    not finite.
    """
    with loading(folder):
        adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
        check_loaded(adapted, "default", folder)
    return adapted


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Turn errors about an adapter's files into `AdapterError`.

    PEFT's warning about missing keys is silenced, since `check_loaded` reports them as an error.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found missing adapter keys")
            yield
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        remedy = "restore its files, or train it again"
        raise AdapterError(f"adapter {folder}", f"cannot be loaded ({cause(error)})", remedy) from error


def check_loaded(model: PeftModel, slot: str, folder: Path) -> None:
    """Raise `AdapterError` unless every tensor of the file was loaded and is finite; PEFT itself only warns."""
    stored = load_file(folder / TENSORS)
    held = get_peft_model_state_dict(model, adapter_name=slot)
    if lost := sorted(set(stored) ^ set(held)):
        problem = f"{len(lost)} tensors do not match the base; the first is {lost[0]}"
        raise AdapterError(f"adapter {folder}", problem, "train it again")
    if broken := [name for name, tensor in stored.items() if not tensor.isfinite().all()]:
        problem = f"{len(broken)} tensors contain non-finite numbers; the first is {broken[0]}"
        raise AdapterError(f"adapter {folder}", problem, "train it again, with a smaller learning rate")
