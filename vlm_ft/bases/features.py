"""What the untrained part of the vision side makes of an image, computed apart from the model's forward pass.

If the projector is not trained either, its output is kept, and the models take it as `mm_encoder_outputs`. If it is,
its input is kept instead, which then takes the place of the tower's output.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Literal

import torch
from PIL.Image import Image
from torch import Tensor

from vlm_ft.bases.families import Family
from vlm_ft.bases.load import Base
from vlm_ft.bases.parts import Part, Tuning
from vlm_ft.bases.tower import Tower

Features = Mapping[str, Tensor]
"""By name, the tensors of one image or, joined along the first axis, of several."""

Border = Literal["before projector", "after projector"]

ENTERING = "entering"  # the projector's input: (images, positions, channels)
OUTPUTS = ("pooler_output", "deepstack_features")  # the outputs of `get_image_features` that the models use
PIXELS = ("pixel_values", "pixel_attention_mask")  # the inputs that features replace


def border_of(family: Family, words: Mapping[Part, Tuning]) -> Border | None:
    """Where the untrained part of the vision side ends; None if its features cannot be kept.

    They cannot if the tower is trained, or if the projector is and the tower does not run apart from it.
    """
    if not family.sees or words.get("vision", "frozen") != "frozen":
        return None
    if words.get("projector", "frozen") == "frozen":
        return "after projector"
    return "before projector" if family.eyes_apart else None


class FrozenVision:
    """The untrained part of a base's vision side."""

    def __init__(self, base: Base, border: Border) -> None:
        self._base, self._border, self._tower = base, border, Tower(base, base.reader.limits)

    @torch.no_grad()
    def look(self, photo: Image) -> dict[str, Tensor]:
        """The features of one image, on the CPU."""
        model, inputs = self._base.model, self._tower.inputs([photo])
        if self._border == "after projector":
            found = model.get_image_features(**inputs, return_dict=True)
            kept = {name: value for name in OUTPUTS if (value := getattr(found, name, None)) is not None}
            return {name: tensor.cpu() for name, tensor in _flat(kept)}
        entering = list[Tensor]()
        projector = model.get_submodule(self._base.family.projector[0])
        handle = projector.register_forward_pre_hook(lambda module, given: entering.append(given[0].cpu()))
        try:
            model.get_image_features(**inputs)
        finally:
            handle.remove()
        return {ENTERING: entering[0]}


def joined(images: Sequence[Features]) -> dict[str, Tensor]:
    """The features of several images, in their order."""
    return {name: torch.cat([features[name] for features in images]) for name in (images[0] if images else ())}


@contextmanager
def feeding(model: Any, family: Family, features: Features) -> Iterator[dict[str, Any]]:
    """Yields what to pass to the model's forward in place of pixels, so that it continues from these features."""
    if ENTERING not in features:
        yield {"mm_encoder_outputs": {"image": SimpleNamespace(**_nested(features))}}
        return
    assert family.eyes is not None
    entering = features[ENTERING]
    unseen = SimpleNamespace(last_hidden_state=entering, hidden_states=_Every(entering))
    tower, projector = model.get_submodule(family.eyes), model.get_submodule(family.projector[0])
    own = tower.forward
    tower.forward = lambda *images, **options: unseen
    handle = projector.register_forward_pre_hook(lambda module, given: (entering, *given[1:]))
    try:
        yield {"pixel_values": entering}
    finally:
        handle.remove()
        tower.forward = own


class _Every:
    """Hidden states of which each layer's is the same."""

    def __init__(self, states: Tensor) -> None:
        self._states = states

    def __getitem__(self, layer: int) -> Tensor:
        return self._states


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, Tensor]]:
    """The tensors inside dicts, lists and tuples, each with its path: "deepstack_features.0.0"."""
    if isinstance(value, Tensor):
        return [(name, value)]
    entries = value.items() if isinstance(value, Mapping) else enumerate(value)
    return [pair for key, inner in entries for pair in _flat(inner, f"{name}.{key}" if name else str(key))]


def _nested(flat: Features) -> Any:
    """The inverse of `_flat`; what was a tuple becomes a list."""
    if "" in flat:
        return flat[""]
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        key, _, rest = name.partition(".")
        groups.setdefault(key, {})[rest] = tensor
    inner = {key: _nested(group) for key, group in groups.items()}
    return [inner[str(place)] for place in range(len(inner))] if "0" in inner else inner
