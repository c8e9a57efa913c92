"""How a projector with random weights begins, before the first step.

Features of the frozen tower hold most of what a photo's answer depends on, as a linear probe shows; a random projector
scatters them over directions that mean nothing to the language model. So the projector is first fitted in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

from datasets_vision.example import Picture
from vlm_ft.bases.load import Base
from vlm_ft.bases.parts import part_of, plain_name
from vlm_ft.bases.tower import Tower
from vlm_ft.training.attach import Attached
from vlm_ft.training.collate import Collator

T = TypeVar("T")

SCALED_WITH = 64
"""Photos, at most, that the spread of the features is measured on."""

FITTED_TO = 1000
"""Photos, at most, that the words of the answers are fitted to."""

LEAST_SPREAD = 0.1
"""Of the median channel's: one that hardly varies over the photos is not blown up beyond this."""

PENALTIES = np.logspace(-4, 2, 13)
"""Of the ridge regression, in units of the features' total variance; leave-one-out decides."""


def start_projector(attached: Attached, base: Base, train: Collator) -> None:
    """Let a new projector that is trained in full begin near its task; any other is left alone.

    `train` gives the rows without augmentation.
    """
    rows = _spaced([place for place, case in enumerate(train.cases) if case.example.images], FITTED_TO)
    if not (base.projector_untrained and attached.words["projector"] == "full" and len(rows) > 1):
        return
    photos = [train.cases[place].example.images[0] for place in rows]
    layers = [
        module
        for name, module in attached.model.named_modules()
        if isinstance(module, nn.Linear)
        and module.weight.requires_grad
        and part_of(plain_name(name), attached.family) == "projector"
    ]
    standardise(layers[0], base, _spaced(photos, SCALED_WITH))
    align(layers[-1], base, photos, torch.stack([_words(base, train, place) for place in rows]))


def standardise(layer: nn.Linear, base: Base, pictures: Sequence[Picture]) -> None:
    """Scale a projector's first layer so that its input has the mean 0 and one spread over these photos.

    Channels differ by orders of magnitude, and few steps do not make up for that (data-dependent initialization,
    Krähenbühl et al. 2016). What the layer can express stays the same.
    """
    mean, spread = (tensor.to(layer.weight) for tensor in Tower(base, base.reader.limits).channels(pictures))
    with torch.no_grad():
        whole = (mean.square() + spread.square()).mean().sqrt()  # the size of the input that the weights are made for
        layer.weight.mul_(whole / spread.clamp(min=LEAST_SPREAD * float(spread.median())))
        if layer.bias is not None:
            layer.bias.sub_(layer.weight @ mean)


def align(layer: nn.Linear, base: Base, pictures: Sequence[Picture], words: Tensor) -> None:
    """Add to a projector's last layer what points each photo at the words of its answer, (photos, width).

    A ridge regression from the layer's input, averaged over a photo's positions, to `words` as they differ from their
    mean. The random weights stay, so that gradients still reach every direction.
    """
    inputs = Tower(base, base.reader.limits).entering(layer, pictures)  # (photos, layer's input)
    penalties = PENALTIES * len(inputs) * max(float(inputs.var(0).sum()), 1e-6)
    ridge = RidgeCV(penalties).fit(inputs.numpy(), (words - words.mean(0)).numpy())
    with torch.no_grad():
        layer.weight.add_(torch.from_numpy(ridge.coef_).to(layer.weight))
        if layer.bias is not None:
            layer.bias.add_(torch.from_numpy(ridge.intercept_).to(layer.bias))


def _words(base: Base, train: Collator, place: int) -> Tensor:
    """(width,) the mean embedding of the tokens that a case's answers decide on."""
    taught = [train.conversation.completion(row) for row in train.rows(place)]
    ids = [token for one in taught for token, decided in zip(one.ids, one.decided, strict=True) if decided]
    table = base.model.get_input_embeddings()
    with torch.inference_mode():
        return table(torch.tensor(ids, device=base.device)).float().mean(0).cpu()


def _spaced(items: Sequence[T], most: int) -> Sequence[T]:
    """At most so many, from all over the sequence."""
    return items[:: -(-len(items) // most) or 1]
