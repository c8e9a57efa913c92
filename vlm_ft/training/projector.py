"""Initialise a projector with random weights, before the first step.

A frozen tower's features distinguish most answers, as a linear probe shows, but a random projector maps them to
directions that mean nothing to the language model. So the projector is first fitted to the training set in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, Flag, Integer
from vlm_ft.answers.task import Values
from vlm_ft.bases.load import Base
from vlm_ft.bases.parts import part_of, plain_name
from vlm_ft.bases.tower import Tower
from vlm_ft.data.cases import Case
from vlm_ft.data.subsets import spaced
from vlm_ft.decoding.decisions import Decision, target_steps
from vlm_ft.training.attach import Attached

MAX_SCALING_PHOTOS = 64
"""The most photos used to measure the spread of the features."""

MAX_FITTING_PHOTOS = 400
"""The most photos used to fit the projector."""

MIN_SPREAD = 0.1
"""The least spread of a channel, as a share of the median channel's, so that a near-constant one is not inflated."""

PENALTIES = np.logspace(-4, 2, 13)
"""Ridge penalties, in units of the features' total variance; leave-one-out cross-validation chooses one."""


def has_closed_values(form: Form) -> bool:
    """Whether the form has closed fields, on their own or in lists, to whose values a projector can be fitted."""
    parts = [part for field in form.fields for part in getattr(field.kind, "fields", (field,))]
    return any(isinstance(part.kind, Choice | Flag | Integer) for part in parts)


def initialise_projector(attached: Attached, base: Base, form: Form, train: Sequence[Case]) -> None:
    """Fit a new projector that will be trained in full to the training set; leave any other projector alone."""
    cases = spaced([case for case in train if case.example.images], MAX_FITTING_PHOTOS)
    if not attached.has_new_projector(base) or len(cases) < 2:
        return
    layers = [
        module
        for name, module in attached.model.named_modules()
        if isinstance(module, nn.Linear)
        and module.weight.requires_grad
        and part_of(plain_name(name), attached.family) == "projector"
    ]
    photos = [case.example.images[0] for case in cases]
    tower = Tower(base, base.reader.limits)
    standardise(layers[0], *tower.channels(spaced(photos, MAX_SCALING_PHOTOS)))
    embeddings = torch.stack([_answer_embedding(base, form.narrow(case.values), case.values) for case in cases])
    align(layers[-1], tower.entering(layers[-1], photos), embeddings)


def standardise(layer: nn.Linear, mean: Tensor, spread: Tensor) -> None:
    """Scale a projector's first layer for features of this mean and standard deviation, (channels,) each.

    Channels differ by orders of magnitude, which a few steps of training cannot correct (data-dependent
    initialization, Krähenbühl et al. 2016). What the layer can express stays the same.
    """
    mean, spread = mean.to(layer.weight), spread.to(layer.weight)
    with torch.no_grad():
        size = (mean.square() + spread.square()).mean().sqrt()  # RMS of the input that the random weights assume
        layer.weight.mul_(size / spread.clamp(min=MIN_SPREAD * float(spread.median())))
        if layer.bias is not None:
            layer.bias.sub_(layer.weight @ mean)


def align(layer: nn.Linear, inputs: Tensor, embeddings: Tensor) -> None:
    """Add to a projector's last layer a ridge regression from its inputs to answer embeddings, (photos, width) each.

    It predicts how the embeddings differ from their mean. The random weights stay, so that gradients still reach every
    direction.
    """
    penalties = PENALTIES * len(inputs) * max(float(inputs.var(0).sum()), 1e-6)
    ridge = RidgeCV(penalties).fit(inputs.numpy(), (embeddings - embeddings.mean(0)).numpy())
    with torch.no_grad():
        layer.weight.add_(torch.from_numpy(ridge.coef_).to(layer.weight))
        if layer.bias is not None:
            layer.bias.add_(torch.from_numpy(ridge.intercept_).to(layer.bias))


def _answer_embedding(base: Base, form: Form, values: Values) -> Tensor:
    """The mean embedding, (width,), of the values of an answer's closed fields, including those in its lists."""
    table = base.model.get_input_embeddings()
    steps = target_steps(form, values, None)
    said = [str(value) for step, value in steps if isinstance(step, Decision) and step.kind == "closed"]
    ids = base.reader.tokenizer(" ".join(said), add_special_tokens=False)["input_ids"]
    if not ids:
        return torch.zeros(table.weight.shape[1])
    with torch.inference_mode():
        embedded: Tensor = table(torch.tensor(ids, device=base.device))
    return embedded.float().mean(0).cpu()
