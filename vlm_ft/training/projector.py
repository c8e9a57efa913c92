"""How a projector with random weights begins, before the first step.

Features of the frozen tower hold most of what a photo's answer depends on, as a linear probe shows; a random projector
scatters them over directions that mean nothing to the language model. So the projector is first fitted in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

from datasets_vision.example import BOX_SCALE
from vlm_ft.answers.kinds import Items
from vlm_ft.bases.load import Base
from vlm_ft.bases.parts import part_of, plain_name
from vlm_ft.bases.tower import Tower
from vlm_ft.decoding.decisions import Decision, taught
from vlm_ft.training.attach import Attached
from vlm_ft.training.collate import Collator

T = TypeVar("T")

MAX_SCALING_PHOTOS = 64
"""Photos, at most, that the spread of the features is measured on."""

MAX_FITTING_PHOTOS = 1000
"""Photos, at most, that the words of the answers are fitted to."""

MIN_SPREAD = 0.1
"""Of the median channel's: one that hardly varies over the photos is not blown up beyond this."""

PENALTIES = np.logspace(-4, 2, 13)
"""Of the ridge regression, in units of the features' total variance; leave-one-out decides."""


def start_projector(attached: Attached, base: Base, train: Collator) -> None:
    """Let a new projector that is trained in full begin near its task; any other is left alone.

    `train` gives the rows without augmentation.
    """
    rows = _spaced([place for place, case in enumerate(train.cases) if case.example.images], MAX_FITTING_PHOTOS)
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
    tower = Tower(base, base.reader.limits)
    standardise(layers[0], *tower.channels(_spaced(photos, MAX_SCALING_PHOTOS)))
    inputs = tower.entering(layers[-1], photos)
    align(
        layers[-1],
        torch.stack([one.mean(0) for one in inputs]),
        torch.stack([_words(base, train, place) for place in rows]),
    )
    named = [(one, _named(base, train, place, len(one))) for one, place in zip(inputs, rows, strict=True)]
    if located := [pair for pair in named if pair[1] is not None]:
        align(layers[-1], *(torch.cat(column) for column in zip(*located, strict=True)))


def standardise(layer: nn.Linear, mean: Tensor, spread: Tensor) -> None:
    """Scale a projector's first layer for features of this mean and standard deviation, (channels,) each.

    Channels differ by orders of magnitude, and few steps do not make up for that (data-dependent initialization,
    Krähenbühl et al. 2016). What the layer can express stays the same.
    """
    mean, spread = mean.to(layer.weight), spread.to(layer.weight)
    with torch.no_grad():
        whole = (mean.square() + spread.square()).mean().sqrt()  # the size of the input that the weights are made for
        layer.weight.mul_(whole / spread.clamp(min=MIN_SPREAD * float(spread.median())))
        if layer.bias is not None:
            layer.bias.sub_(layer.weight @ mean)


def align(layer: nn.Linear, inputs: Tensor, words: Tensor) -> None:
    """Add to a projector's last layer a ridge regression from its inputs to words, (examples, width) each.

    What is fitted is how the words differ from their mean. The random weights stay, so that gradients still reach every
    direction.
    """
    penalties = PENALTIES * len(inputs) * max(float(inputs.var(0).sum()), 1e-6)
    ridge = RidgeCV(penalties).fit(inputs.numpy(), (words - words.mean(0)).numpy())
    with torch.no_grad():
        layer.weight.add_(torch.from_numpy(ridge.coef_).to(layer.weight))
        if layer.bias is not None:
            layer.bias.add_(torch.from_numpy(ridge.intercept_).to(layer.bias))


def _words(base: Base, train: Collator, place: int) -> Tensor:
    """(width,) the mean embedding of what a case's closed fields say, those of its lists included."""
    case = train.cases[place]
    answer = taught(train.form.narrow(case.values), case.values, None)
    said = [str(value) for step, value in answer if isinstance(step, Decision) and step.kind == "closed"]
    ids = base.reader.tokenizer(" ".join(said), add_special_tokens=False)["input_ids"]
    return _embedded(base, ids) if ids else torch.zeros(base.model.get_input_embeddings().weight.shape[1])


def _named(base: Base, train: Collator, place: int, positions: int) -> Tensor | None:
    """(positions, width) the name of what each position shows, 0 where nothing is marked.

    None where the case says of nothing both name and place, or the positions are not one square grid.
    """
    values, side = train.cases[place].values, math.isqrt(positions)
    lists = [(field.name, field.kind) for field in train.form.fields if isinstance(field.kind, Items)]
    known = [(name, kind.name, kind.box) for name, kind in lists if kind.name and kind.box and name in values]
    if not known or side**2 != positions:
        return None
    words = torch.zeros(positions, base.model.get_input_embeddings().weight.shape[1])
    for name, what, where in known:
        for item in values[name]:
            ids = base.reader.tokenizer(item[what], add_special_tokens=False)["input_ids"]
            words += _covered(item[where], side)[:, None] * _embedded(base, ids)
    return words


def _covered(box: Sequence[int], side: int) -> Tensor:
    """(side * side,) the share of each cell of a square grid that lies in the box."""
    edges = torch.linspace(0, BOX_SCALE, side + 1)
    across, down = (
        (edges[1:].clamp(max=high) - edges[:-1].clamp(min=low)).clamp(min=0) * side / BOX_SCALE
        for low, high in ((box[0], box[2]), (box[1], box[3]))
    )
    return torch.outer(down, across).flatten()


def _embedded(base: Base, ids: Sequence[int]) -> Tensor:
    """(width,) the mean embedding of these tokens."""
    table = base.model.get_input_embeddings()
    with torch.inference_mode():
        return table(torch.tensor(ids, device=base.device)).float().mean(0).cpu()


def _spaced(items: Sequence[T], most: int) -> Sequence[T]:
    """At most so many, from all over the sequence."""
    return items[:: -(-len(items) // most) or 1]
