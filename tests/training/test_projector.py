"""A new projector is fitted to its task; one that has been trained is left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from datasets_vision.example import Example
from tests.forms import whole_form
from vlm_ft.bases.load import Base
from vlm_ft.bases.tower import Tower
from vlm_ft.data.cases import Case
from vlm_ft.recipe import AdapterSettings
from vlm_ft.tasks import TASKS
from vlm_ft.training.attach import Attached, attach
from vlm_ft.training.projector import align, initialise_projector, standardise


@pytest.fixture
def photos(drawings: Path) -> list[Path]:
    return sorted((drawings / "JPEGImages").glob("*.png"))[:8]


@pytest.fixture
def untrained(tiny_base: Callable[[str], Base]) -> Base:
    return replace(tiny_base("fast_vlm"), projector_untrained=True)


def attached_to(base: Base) -> Attached:
    return attach(base, AdapterSettings(language="lora", projector="full"), 0)


def projector(attached: Attached) -> tuple[nn.Linear, nn.Linear]:
    own = attached.model.base_model.model.model.multi_modal_projector
    return own.linear_1.modules_to_save["default"], own.linear_2.modules_to_save["default"]


def test_the_first_layer_is_scaled_as_if_its_features_were_standardised(untrained: Base, photos: list[Path]) -> None:
    layer, _ = projector(attached_to(untrained))
    own = nn.Linear(layer.in_features, layer.out_features)
    own.load_state_dict(layer.state_dict())
    mean, spread = Tower(untrained).channels(photos)
    standardise(layer, mean, spread)
    whole = (mean.square() + spread.square()).mean().sqrt()
    features = torch.randn(5, len(mean))
    alike = whole * (features - mean) / spread.clamp(min=0.1 * float(spread.median()))
    torch.testing.assert_close(layer(features), own(alike), rtol=1e-3, atol=1e-4)  # other order of sums


@torch.no_grad()
def test_the_last_layer_predicts_embeddings_that_depend_on_its_inputs(untrained: Base) -> None:
    """The layer predicts embeddings that depend on its strongest input, in addition to its previous output."""
    _, last = projector(attached_to(untrained))
    inputs = torch.randn(40, last.in_features) * torch.logspace(0, -2, last.in_features)
    embeddings = inputs[:, :1] * torch.randn(last.out_features)
    before = last(inputs)
    align(last, inputs, embeddings)
    embeddings -= embeddings.mean(0)
    missed = (last(inputs) - before - embeddings).std() / embeddings.std()
    assert missed < 0.1  # the penalty that leave-one-out chooses is not zero


def test_the_inputs_of_a_layer_are_collected_image_by_image(untrained: Base, photos: list[Path]) -> None:
    _, last = projector(attached_to(untrained))
    together = Tower(untrained).entering(last, photos)
    assert together.shape == (len(photos), last.in_features)
    alone = Tower(untrained).entering(last, photos[3:4])
    torch.testing.assert_close(together[3:4], alone, rtol=1e-4, atol=1e-5)  # convolved in another batch


def test_only_a_new_projector_is_fitted_before_training(tiny_base: Callable[[str], Base], photos: list[Path]) -> None:
    form = whole_form(TASKS["product_defects"]).narrow(("findings",))
    (kind,) = (part.kind for part in form.field("findings").kind.fields if part.name == "kind")
    finding = {**TASKS["product_defects"].sample.model_dump(mode="json")["findings"][0], "kind": kind.options[0]}
    cases = [
        Case(
            example=Example(id=str(place), images=(photo,)),
            values={"findings": [] if passed else [finding]},
        )
        for place, (photo, passed) in enumerate(zip(photos, [True, False] * 4, strict=True))
    ]
    for started in (True, False):
        base = replace(tiny_base("fast_vlm"), projector_untrained=started)
        attached = attached_to(base)
        before = [layer.weight.clone() for layer in projector(attached)]
        kept = {name: tensor.clone() for name, tensor in attached.model.state_dict().items() if "default" not in name}
        initialise_projector(attached, base, form, cases)
        for layer, weight in zip(projector(attached), before, strict=True):
            assert torch.equal(layer.weight, weight) is not started
        for name, tensor in kept.items():
            assert torch.equal(attached.model.state_dict()[name], tensor), name
