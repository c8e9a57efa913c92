"""Every tuning of every part, on every family, is attached and survives saving, or is rejected in one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.untrained import move_trained_tensors
from vlm_ft.adapters import ADAPTER, TENSORS
from vlm_ft.answers.form import Form
from vlm_ft.bases.families import Family
from vlm_ft.bases.load import Base, load_base
from vlm_ft.bases.parts import PARTS, Part, Tuning, low_rank_modules, owner_of
from vlm_ft.bases.tiny import TINY
from vlm_ft.card_base import with_adapter
from vlm_ft.conversation import Conversation, Row
from vlm_ft.errors import ModelError
from vlm_ft.recipe import AdapterSettings, Recipe
from vlm_ft.training.attach import attach, parameter_groups, part_rates
from vlm_ft.training.verify import load_saved, probe_logits

Recipes = Callable[..., Recipe]
Bases = Callable[[str], Base]
FULL: dict[Part, Tuning] = dict.fromkeys(PARTS, "full")
EVERY_FAMILY = pytest.mark.parametrize("name", list(TINY))


def settings(tunings: dict[Part, Tuning], **more: Any) -> AdapterSettings:
    return AdapterSettings.model_validate({**tunings, "rank": 4, **more})


def row(form: Form, base: Base) -> Row:
    image = Image.radial_gradient("L").resize((120, 80)).convert("RGB")
    return Row(form, (), (image,) if base.reader.sees else ())


@pytest.fixture(scope="module")
def bare_logits(tiny_base: Callable[[str], Base], form: Form) -> Callable[[str], torch.Tensor]:
    """The logits of a family's bare base after the probe, computed once."""

    @cache
    def of(name: str) -> torch.Tensor:
        base = tiny_base(name)
        return probe_logits(base.model, Conversation(base.reader), row(form, base))

    return of


@pytest.mark.parametrize("tuning", get_args(Tuning))
@pytest.mark.parametrize("part", PARTS)
@EVERY_FAMILY
def test_a_tuning_survives_saving_or_is_refused(
    name: str,
    part: Part,
    tuning: Tuning,
    tiny_base: Callable[[str], Base],
    bare_logits: Callable[[str], torch.Tensor],
    form: Form,
    tmp_path: Path,
) -> None:
    base = tiny_base(name)
    others: dict[Part, Tuning] = {other: "frozen" for other in PARTS if other != part}
    lacks_part = not base.family.sees and part != "language"
    lacks_layers = (name, part) == ("gemma3", "projector") and tuning != "full"  # it is one bare parameter
    if tuning == "frozen" or lacks_part or lacks_layers:
        with pytest.raises(ModelError, match=r"^adapter[^\n]+$"):
            attach(base, settings({**others, part: tuning}), 0)
        return
    attached = attach(base, settings({**others, part: tuning}), 0)
    assert attached.tunings[part] == tuning
    conversation, probe = Conversation(base.reader), row(form, base)
    move_trained_tensors(attached.model)
    trained = probe_logits(attached.model, conversation, probe)
    attached.model.save_pretrained(str(tmp_path))
    assert (tmp_path / ("config.json" if attached.whole else "adapter_config.json")).is_file()
    reloaded = probe_logits(load_saved(tiny_base(name), tmp_path), conversation, probe)
    assert not torch.equal(trained, bare_logits(name))
    torch.testing.assert_close(reloaded, trained, rtol=1e-5, atol=1e-5)  # other memory layout, other order of sums


@EVERY_FAMILY
def test_a_whole_model_is_saved_as_a_model_folder(
    name: str, tiny_base: Callable[[str], Base], form: Form, tmp_path: Path
) -> None:
    base = tiny_base(name)
    if not base.family.sees:  # a text base has only a language model
        attached = attach(base, settings({"language": "full"}), 0)
    else:
        attached = attach(base, settings(FULL), 0)
    assert attached.whole
    assert all(parameter.requires_grad for parameter in attached.model.parameters())
    move_trained_tensors(attached.model)
    attached.model.save_pretrained(str(tmp_path))
    base.reader.processor.save_pretrained(str(tmp_path))
    conversation, probe = Conversation(base.reader), row(form, base)
    again = load_base(str(tmp_path))
    torch.testing.assert_close(
        probe_logits(again.model, Conversation(again.reader), probe),
        probe_logits(attached.model, conversation, probe),
        rtol=1e-5,  # other memory layout, other order of sums
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["qwen3_vl", "fast_vlm"])
def test_lora_combined_with_dora_is_refused(name: str, tiny_base: Callable[[str], Base]) -> None:
    with pytest.raises(ModelError, match="lora and dora cannot be combined"):
        attach(tiny_base(name), settings({"language": "dora", "projector": "lora"}), 0)


def test_a_part_left_to_its_default_follows_the_dora_of_another(tiny_base: Callable[[str], Base]) -> None:
    attached = attach(tiny_base("qwen3_vl"), settings({"language": "dora"}), 0)
    assert attached.tunings == {"language": "dora", "projector": "dora", "vision": "frozen"}


def test_a_rank_above_the_width_is_refused(tiny_base: Callable[[str], Base]) -> None:
    with pytest.raises(ModelError, match=r"adapter\.rank: 1000000 exceeds the base's width of \d+"):
        attach(tiny_base("qwen3_vl"), AdapterSettings(rank=10**6), seed=0)


def test_lora_on_a_layer_that_nobody_asked_for_is_refused(
    tiny_base: Callable[[str], Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT's own `all-linear` reaches the tower, too."""

    def all_linear(model: Any, family: Family, part: Part) -> list[str]:
        return [name for other in PARTS for name in low_rank_modules(model, family, other)]

    monkeypatch.setattr("vlm_ft.training.attach.low_rank_modules", all_linear)
    with pytest.raises(ModelError, match=r"adapter: model\.visual\..*lora_A.* would be trained, which no setting asks"):
        attach(tiny_base("qwen3_vl"), settings({"language": "lora", "projector": "lora", "vision": "frozen"}), 0)


@pytest.mark.parametrize("name", ["qwen3_vl", "llava_siglip_qwen2", "idefics3"])
def test_nothing_of_a_frozen_tower_is_trained_with_the_whole_language_model(
    name: str, tiny_base: Callable[[str], Base]
) -> None:
    base = tiny_base(name)
    attached = attach(base, settings({"language": "full", "projector": "full", "vision": "frozen"}), 0)
    assert attached.whole
    vision = [weight for part, weight in base.model.named_parameters() if owner_of(part, base.family) == "vision"]
    inside = list(base.model.get_submodule(base.family.vision).parameters())
    assert any(weight is inside[0] for weight in vision)
    assert not any(weight.requires_grad for weight in vision)
    assert base.model.get_input_embeddings().weight.requires_grad


def test_each_part_learns_at_its_own_rate(recipe_of: Recipes, tiny_base: Bases) -> None:
    loaded = tiny_base("fast_vlm")
    recipe = recipe_of("fast_vlm", adapter={"projector": "full", "rates": {"projector": 0.5}})
    attached = attach(loaded, recipe.adapter, seed=0)
    rates = part_rates(attached, loaded, recipe.adapter, recipe.training, fitted=True)
    groups = parameter_groups(attached, rates, weight_decay=0.1)
    rate_of = {id(p): group["lr"] for group in groups for p in group["params"]}
    decay_of = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    trained = {name: weight for name, weight in attached.model.named_parameters() if weight.requires_grad}
    assert {"projector" in name for name in trained} == {True, False}
    for name, parameter in trained.items():
        assert rate_of[id(parameter)] == (0.5 if "projector" in name else recipe.training.learning_rate)
        assert decay_of[id(parameter)] == (0.1 if parameter.ndim > 1 else 0)


def test_a_pretrained_part_moves_less_in_full_than_by_lora(recipe_of: Recipes, tiny_base: Bases) -> None:
    loaded = tiny_base("fast_vlm")
    recipe = recipe_of("fast_vlm", adapter={"vision": "full"})
    attached = attach(loaded, recipe.adapter, seed=0)
    rates = part_rates(attached, loaded, recipe.adapter, recipe.training, fitted=True)
    assert rates["vision"] == pytest.approx(recipe.training.learning_rate / 10)
    assert rates["language"] == recipe.training.learning_rate


@pytest.mark.parametrize("rslora", [False, True])
def test_rslora_scales_by_the_root_of_the_rank(
    rslora: bool, untrained_run_of: Callable[..., Path], tiny_base: Bases
) -> None:
    """An adapter keeps it: the update is the product of its matrices times alpha over 4, or over the root of 4."""
    run = untrained_run_of("qwen3_vl", adapter={"rank": 4, "alpha": 8, "rslora": rslora})
    plain = tiny_base("qwen3_vl").model
    tuned = with_adapter(tiny_base("qwen3_vl").model, run / ADAPTER)
    tensors = load_file(run / ADAPTER / TENSORS)
    name = min(name for name in tensors if "lora_A" in name)
    down, up = tensors[name], tensors[name.replace("lora_A", "lora_B")]
    module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
    change = tuned.merge_and_unload().get_submodule(module).weight - plain.get_submodule(module).weight
    torch.testing.assert_close(change, up @ down * (4.0 if rslora else 2.0), rtol=1e-4, atol=1e-6)  # float32
