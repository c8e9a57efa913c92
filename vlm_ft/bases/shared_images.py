"""Run the vision side once on each image, although several rows, or several batches, show it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm_ft.bases.families import Family, image_token_of

Seen = dict[Hashable, Any]
"""The vision side's outputs by image."""


@contextmanager
def tower_once_per_image(
    model: Any, family: Family, batch: Mapping[str, Any], shown: Sequence[Hashable], seen: Seen | None = None
) -> Iterator[SharedImages]:
    """Run the vision tower once per distinct image of a batch; `shown` identifies the image of each row.

    If the tower runs separately, every row still passes through the projector of its own adapter. Otherwise the
    projector runs once per image too, so it must be the same for all rows. The outputs of images in `seen` are taken
    from there, and those of other images are added.
    """
    assert family.vision is not None
    tokens = (batch["input_ids"] == image_token_of(model.config)).sum(1).tolist()
    shared = SharedImages(shown, tokens, {} if seen is None else seen)
    if family.separate_tower:
        module, method, once = model.get_submodule(family.vision), "forward", shared.of_tower
    else:
        module, method, once = model.model, "get_image_features", shared.of_projector
    compute = getattr(module, method)
    setattr(module, method, lambda *given, **named: once(compute, *given, **named))  # shadows the method of its class
    try:
        yield shared
    finally:
        delattr(module, method)


class SharedImages:
    """The vision side's outputs for a batch in which several rows may show the same image."""

    def __init__(self, shown: Sequence[Hashable], tokens: Sequence[int], seen: Seen) -> None:
        """`shown`: the image of each row; `tokens`: the number of its image tokens."""
        self._shown, self._tokens, self._seen = shown, tokens, seen

    def of_tower(self, compute: Callable[..., Any], pixel_values: Tensor, **named: Any) -> Any:
        """The tower's outputs for every row; `compute` is its forward pass."""
        if rows := self._unseen():
            found = compute(self._only(rows, pixel_values), **named)
            for place, row in enumerate(rows):
                alone = {name: _at(value, place) for name, value in found.items()}
                self._seen[self._shown[row]] = type(found)(**alone)
        outputs = [self._seen[image] for image in self._shown]
        return type(outputs[0])(**{name: _joined([output[name] for output in outputs]) for name in outputs[0]})

    def of_projector(self, compute: Callable[..., Any], pixel_values: Tensor, *others: Any, **named: Any) -> Any:
        """The projector's outputs for every row; `compute` is the model's `get_image_features`."""
        if rows := self._unseen():
            pixels = self._only(rows, pixel_values)
            named = {name: self._only(rows, value) for name, value in named.items()}
            found = compute(pixels, *(self._only(rows, value) for value in others), **named)
            tokens = [self._tokens[row] for row in rows]
            pooled = _by_image(found.pooler_output, tokens)
            hidden = _by_image(found.last_hidden_state, _tiles(pixels) if pixels.ndim == 5 else tokens)
            layers = getattr(found, "deepstack_features", None) or ()  # (layers, images)
            for place, row in enumerate(rows):
                self._seen[self._shown[row]] = SimpleNamespace(
                    pooler_output=pooled[place],
                    last_hidden_state=hidden[place],
                    deepstack_features=[layer[place] for layer in layers],
                    by_image=not isinstance(found.pooler_output, Tensor),
                )
        outputs = [self._seen[image] for image in self._shown]
        each = [output.pooler_output for output in outputs]
        return SimpleNamespace(
            pooler_output=each if outputs[0].by_image else torch.cat(each),
            deepstack_features=list(zip(*(output.deepstack_features for output in outputs), strict=True)),
        )

    def means(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """Mean over the positions of what these rows show, (rows, channels); like `Tower.means`."""
        return np.stack([_mean(self._seen[self._shown[row]].last_hidden_state) for row in rows])

    def _unseen(self) -> list[int]:
        """The first row of each image whose outputs are not known yet."""
        shown = self._shown
        return [row for row, image in enumerate(shown) if image not in self._seen and shown.index(image) == row]

    def _only(self, rows: Sequence[int], value: Any) -> Any:
        """The part of an input that belongs to these rows."""
        if not isinstance(value, Tensor):
            return value
        parts = _by_image(value, [1] * len(self._tokens) if len(value) == len(self._tokens) else self._tokens)
        return torch.cat([parts[row] for row in rows])


def _by_image(value: Tensor | Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """The part of each image: as listed, or of a first axis of patches or tiles, in proportion to these sizes."""
    if not isinstance(value, Tensor):
        return list(value)
    return list(torch.split(value, [len(value) * size // sum(sizes) for size in sizes]))


def _tiles(pixels: Tensor) -> list[int]:
    """How many tiles each image has, (images, tiles, channels, height, width); those that pad it contain only zeros."""
    return [int(count) for count in (pixels != 0).flatten(2).any(2).sum(1)]


def _at(value: Any, place: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_at(one, place) for one in value)
    return value[place : place + 1] if isinstance(value, Tensor) else value


def _joined(values: Sequence[Any]) -> Any:
    if isinstance(values[0], tuple):
        return tuple(_joined(layer) for layer in zip(*values, strict=True))
    return torch.cat(list(values)) if isinstance(values[0], Tensor) else values[0]


def _mean(features: Tensor) -> NDArray[np.float32]:
    """(channels,) the mean over one image's positions: (1, channels, height, width), or (..., positions, channels)."""
    flat = features.flatten(2)[0].T if features.ndim == 4 else features.flatten(0, -2)
    mean: NDArray[np.float32] = flat.float().cpu().mean(0).numpy()
    return mean


class Views:
    """The vision side's outputs for images that several batches show, each kept until its last batch is done."""

    def __init__(self, batches: Iterable[Iterable[Hashable]]) -> None:
        """`batches`: the images that each batch will show."""
        self._awaited = Counter(image for batch in batches for image in set(batch))
        self._seen = defaultdict[Hashable, Seen](dict)

    def under(self, settings: Hashable) -> Seen:
        """What was seen under these settings, on which the outputs depend."""
        return self._seen[settings]

    def done(self, batch: Iterable[Hashable]) -> None:
        """Forget the images that no further batch shows."""
        self._awaited.subtract(set(batch))
        for seen in self._seen.values():
            for image in [image for image in seen if self._awaited[image] <= 0]:
                del seen[image]
