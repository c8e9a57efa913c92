"""Vision features: the outputs of the frozen part of the vision side, computed outside the model's forward pass.

If the projector is frozen too, its outputs are kept, and the model takes them as `mm_encoder_outputs`. If it is
trained, its inputs are kept instead, and replace the tower's outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor

from vlm_ft.bases.families import Family
from vlm_ft.bases.load import Base
from vlm_ft.bases.modes import inputs_of
from vlm_ft.bases.parts import Part, Tuning
from vlm_ft.bases.tower import image_inputs

Features = Mapping[str, Tensor]
"""Tensors by name, those of several images joined along the first axis."""

Border = Literal["before projector", "after projector"]

ENTERING = "entering"  # the projector's input: (images, positions, channels)
PIXELS = ("pixel_values", "pixel_attention_mask")  # the inputs that features replace


def border_of(family: Family, tunings: Mapping[Part, Tuning]) -> Border | None:
    """Where the frozen part of the vision side ends; None if its features cannot be kept.

    They cannot if the tower is trained, or if the projector is trained and the tower cannot run without it.
    """
    if not family.sees or tunings.get("vision", "frozen") != "frozen":
        return None
    if tunings.get("projector", "frozen") == "frozen":
        return "after projector"
    return "before projector" if family.separate_tower else None


class FrozenVision:
    """The frozen part of a base's vision side."""

    def __init__(self, base: Base, border: Border) -> None:
        self._base, self._border = base, border

    def encode(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The features of a batch's images, on the CPU; the model must be in evaluation mode."""
        model, inputs = self._base.model, image_inputs(self._base, batch)
        if self._border == "after projector":
            found = model.get_image_features(**inputs, return_dict=True)
            return {name: tensor.cpu() for name, tensor in _flat(found)}
        with inputs_of(model.get_submodule(self._base.family.projector[0])) as entering:
            model.get_image_features(**inputs)
        return {ENTERING: entering[0].cpu()}


def joined(batches: Sequence[Features]) -> dict[str, Tensor]:
    """The features of several batches, concatenated."""
    return {name: torch.cat([features[name] for features in batches]) for name in (batches[0] if batches else ())}


@contextmanager
def feeding(model: Any, family: Family, features: Features) -> Iterator[dict[str, Any]]:
    """Yield the inputs that replace pixels in the model's forward pass, so that it continues from these features."""
    if ENTERING not in features:
        yield {"mm_encoder_outputs": {"image": _outputs(features)}}
        return
    assert family.vision is not None
    entering = features[ENTERING]
    unseen = SimpleNamespace(last_hidden_state=entering, hidden_states=_EveryLayer(entering))
    tower, projector = model.get_submodule(family.vision), model.get_submodule(family.projector[0])
    tower.forward = lambda *images, **options: unseen  # shadows the method of its class
    handle = projector.register_forward_pre_hook(lambda module, given: (entering, *given[1:]))
    try:
        yield {"pixel_values": entering}
    finally:
        handle.remove()
        del tower.forward


class _EveryLayer:
    """Stands in for a list of hidden states: every index gives the same tensor."""

    def __init__(self, states: Tensor) -> None:
        self._states = states

    def __getitem__(self, layer: int) -> Tensor:
        return self._states


def _flat(found: Any) -> Iterator[tuple[str, Tensor]]:
    """The outputs by name. Some models list tensors by image, or by layer and image; those of a layer are joined."""
    yield _joined_images("pooler_output", found.pooler_output)
    for layer, images in enumerate(getattr(found, "deepstack_features", None) or ()):
        yield _joined_images(f"deepstack_features.{layer}", images)


def _joined_images(name: str, images: Any) -> tuple[str, Tensor]:
    return (name, images) if isinstance(images, Tensor) else (f"{name}.images", torch.cat(tuple(images)))


def _outputs(features: Features) -> SimpleNamespace:
    """The inverse of `_flat`, with the images of a list joined to one."""
    outputs: dict[str, Any] = {}
    for name, tensor in features.items():  # in the order of the layers
        output, *inner = name.split(".")
        images = (tensor,) if inner[-1:] == ["images"] else tensor
        if output == "deepstack_features":
            outputs.setdefault(output, []).append(images)
        else:
            outputs[output] = images
    return SimpleNamespace(**outputs)
