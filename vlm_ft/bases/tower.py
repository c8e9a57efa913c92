"""The frozen vision tower of a base as a feature extractor."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from PIL.Image import Image
from torch import Tensor, nn

from datasets_vision.example import Picture
from datasets_vision.images import opened
from vlm_ft.bases.limits import Limits
from vlm_ft.bases.load import Base
from vlm_ft.bases.modes import inputs_of

BATCH = 16  # images, if every image is one square of the same size


class Tower:
    """Features before the projector, from the published base with its adapters switched off."""

    def __init__(self, base: Base, limits: Limits | None = None) -> None:
        self._base = base
        self._reader = base.reader.limited(limits or Limits())
        # Families that cut images into tiles or keep their shape get one image at a time.
        self._size = BATCH if base.family.one_square else 1

    def means(self, pictures: Sequence[Picture | Image]) -> NDArray[np.float32]:
        """Mean over the positions of each image, (images, channels)."""
        return torch.stack([one.flatten(1).mean(1) for one in self._maps(pictures)]).numpy()

    def pooled(self, pictures: Sequence[Picture | Image]) -> NDArray[np.float32]:
        """Mean and maximum over the positions of each image, (images, 2 * channels)."""
        flat = (features.flatten(1) for features in self._maps(pictures))
        return torch.stack([torch.cat([features.mean(1), features.amax(1)]) for features in flat]).numpy()

    def channels(self, pictures: Sequence[Picture | Image]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, (channels,), over all positions of these images."""
        flat = torch.cat([features.flatten(1) for features in self._maps(pictures)], 1)
        return flat.mean(1), flat.std(1)

    def grids(self, pictures: Sequence[Picture | Image]) -> Tensor | None:
        """The feature maps (images, channels, height, width) in half precision; None if they do not form one grid."""
        maps = [_grid(features) for features in self._maps(pictures)]
        grids = [grid.half() for grid in maps if grid is not None]
        return torch.stack(grids) if len({grid.shape for grid in grids}) == 1 and len(grids) == len(maps) else None

    @torch.inference_mode()
    def entering(self, layer: nn.Module, pictures: Sequence[Picture | Image]) -> Tensor:
        """The current input of a projector's layer, averaged over each image's positions, (images, width)."""
        means = list[Tensor]()
        for batch in self._batches(pictures):
            with inputs_of(layer) as seen:
                self._features(batch)
            entered = torch.cat([each.float().cpu().flatten(0, -2) for each in seen])  # (all positions, width)
            means.append(entered.reshape(len(batch), -1, entered.shape[-1]).mean(1))
        return torch.cat(means)

    @torch.inference_mode()
    def _maps(self, pictures: Sequence[Picture | Image]) -> Iterator[Tensor]:
        """Features of each image: (channels, height, width) of a convolutional tower, otherwise (channels, positions).

        With one image at a time, all rows belong to that image.
        """
        with _adapters_off(self._base.model):
            for batch in self._batches(pictures):
                features = self._features(batch)
                if features.ndim == 4 or self._size > 1:
                    yield from _channels_first(features)
                else:
                    yield features.reshape(-1, features.shape[-1]).T

    def _batches(self, pictures: Sequence[Picture | Image]) -> Iterator[Sequence[Picture | Image]]:
        return (pictures[start : start + self._size] for start in range(0, len(pictures), self._size))

    def _features(self, pictures: Sequence[Picture | Image]) -> Tensor:
        photos = self._reader.scaled_to_limits([opened(picture) for picture in pictures])
        inputs = self._reader.processor.image_processor(images=photos, return_tensors="pt")
        features: Tensor = self._base.model.get_image_features(**image_inputs(self._base, inputs)).last_hidden_state
        return features.float().cpu()


def image_inputs(base: Base, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The processor's outputs that the model's `get_image_features` takes, on its device and in its dtype."""
    accepted = inspect.signature(base.model.get_image_features).parameters
    found = {key: value.to(base.device) for key, value in inputs.items() if key in accepted}
    return {**found, "pixel_values": found["pixel_values"].to(base.dtype)}


def _channels_first(features: Tensor) -> Tensor:
    """(images, channels, height, width) unchanged, (images, positions, channels) with the last two axes swapped."""
    return features if features.ndim == 4 else features.transpose(1, 2)


def _grid(features: Tensor) -> Tensor | None:
    """The features as a square map, without a class token; None if the positions do not form a square."""
    if features.ndim == 3:
        return features
    positions = features.shape[1]
    side = math.isqrt(positions)
    if positions - side**2 not in (0, 1):
        return None
    return features[:, positions - side**2 :].reshape(-1, side, side)


@contextmanager
def _adapters_off(model: nn.Module) -> Iterator[None]:
    layers = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer | ModulesToSaveWrapper)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
