"""Every fact of the table of families holds for the tiny models."""

from __future__ import annotations

import re

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, MllamaConfig, Qwen3Config, ViTConfig

from vlm_ft.bases.families import FAMILIES, TEXT, family_of, limit_pixels, linear_modules
from vlm_ft.bases.tiny import TINY
from vlm_ft.errors import ModelError

pytestmark = [
    # PaliGemma's processor calls numpy on tensors in a way that numpy deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # PEFT asks a model of transformers for a name that the latter has replaced.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

ALL = list(TINY)
SEEING = [name for name, family in TINY.items() if family.processor is not None]
QUESTION = "Which kind of defect?"
SQUARE = 56 * 56  # pixels of a tiny tower's fixed square, or of one tile


def parts(family):
    """The scopes in which the family has Linear modules."""
    patterns = {"vision": family.tower, "projector": family.projector, "language": family.language}
    return {scope: pattern for scope, pattern in patterns.items() if pattern is not None}


def called(model, inputs):
    """The names of the Linear modules that a forward pass runs."""
    names = set()
    hooks = [
        module.register_forward_hook(lambda *_, name=name: names.add(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return names


def test_every_family_has_a_tiny_model(tiny):
    assert {tiny(name).model.config.model_type for name in SEEING} == set(FAMILIES)
    assert all(family.name == kind for kind, family in FAMILIES.items())


@pytest.mark.parametrize("name", ALL)
def test_scopes_share_out_the_linear_modules(name, tiny):
    model = tiny(name).model
    linear = {key for key, module in model.named_modules() if isinstance(module, nn.Linear)} - {"lm_head"}
    chosen = {
        scope: {key for key in linear if re.fullmatch(pattern, key)}
        for scope, pattern in parts(family_of(model.config)).items()
    }
    assert all(chosen.values())
    assert sum(map(len, chosen.values())) == len(linear)
    assert set.union(*chosen.values()) == linear


@pytest.mark.parametrize("name", ALL)
def test_text_runs_the_language_scope_alone(name, tiny):
    model = tiny(name).model
    ids = torch.arange(4, 12)[None]
    names = called(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert names == {"lm_head", *linear_modules(model, family_of(model.config), ["language"])}


@pytest.mark.parametrize("name", SEEING)
def test_projector_ends_in_the_language_models_width(name, tiny):
    model = tiny(name).model
    family = family_of(model.config)
    if family.projector is None:
        with pytest.raises(ModelError, match="projector"):
            linear_modules(model, family, ["projector"])
        return
    last = linear_modules(model, family, ["projector"])[-1]
    assert model.get_submodule(last).out_features == model.config.text_config.hidden_size


@pytest.mark.parametrize("name", ALL)
def test_lora_trains_in_every_scope(name, tiny, noise):
    read = tiny(name)
    family = family_of(read.model.config)
    names = linear_modules(read.model, family, list(parts(family)))
    lora = LoraConfig(r=2, target_modules=names, init_lora_weights=False)
    model = get_peft_model(read.model, lora)
    inputs = read.encode([read.render(QUESTION)], [[noise()]])
    model.train()
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    trained = {key: weight for key, weight in model.named_parameters() if weight.requires_grad}
    assert len(trained) == 2 * len(names)
    assert all(weight.grad is not None and weight.grad.any() for weight in trained.values())


def test_layers_that_llava_drops_are_left_out(tiny):
    model = tiny("llava_clip_llama").model  # takes the features of the last layer but one
    assert model.config.vision_feature_layer == -2
    names = linear_modules(model, family_of(model.config), ["vision"])
    assert names
    assert all("layers.0." in key for key in names)


@pytest.mark.parametrize("name", SEEING)
def test_mixed_adapters_with_vision(name, tiny, noise):
    read = tiny(name)
    family = family_of(read.model.config)
    names = ["first", "second"]
    inputs = read.encode([read.render(QUESTION)] * 2, [[noise()], [noise(seed=1)]])
    lora = LoraConfig(r=2, target_modules=linear_modules(read.model, family, ["vision"]), init_lora_weights=False)
    model = get_peft_model(read.model, lora, adapter_name="first")
    model.add_adapter("second", lora)
    model.eval()
    with torch.no_grad():
        alone = []
        for row, adapter in enumerate(names):
            model.set_adapter(adapter)
            alone.append(model(**inputs).logits[row])
        if not family.mixed_adapters_with_vision:
            with pytest.raises(ValueError, match="adapter_names"):
                model(**inputs, adapter_names=names)
            return
        mixed = model(**inputs, adapter_names=names).logits
    assert torch.allclose(mixed, torch.stack(alone), atol=1e-5)  # float32, sums in another order


@pytest.mark.parametrize("name", SEEING)
def test_suffix_token_type(name, tiny, noise):
    read = tiny(name)
    family = family_of(read.model.config)
    kinds = {"token_type_ids", "mm_token_type_ids"}
    read.tokenizer.padding_side = "right"
    if family.image_first:
        batch = read.processor(text=read.render(QUESTION), images=noise(), suffix="scratch", return_tensors="pt")
    else:
        batch = read.encode([read.render(QUESTION) + "scratch"], [[noise()]])
    if family.suffix_token_type is None:
        assert not kinds & set(batch)
        return
    key, value = family.suffix_token_type
    answer = len(read.tokenizer("scratch", add_special_tokens=False)["input_ids"])
    assert kinds & set(batch) == {key}
    assert (batch[key][0, -answer:] == value).all()
    assert (batch[key][0] != value).any()


def test_suffix_token_type_changes_what_paligemma_attends_to(tiny, noise):
    read = tiny("paligemma")
    batch = dict(read.processor(text="<image>" + QUESTION, images=noise(), suffix="scratch", return_tensors="pt"))
    with torch.no_grad():
        right = read.model(**batch).logits
        wrong = read.model(**batch | {"token_type_ids": torch.zeros_like(batch["token_type_ids"])}).logits
    assert not torch.equal(right, wrong)


@pytest.mark.parametrize("name", SEEING)
def test_system_role_comes_before_the_image(name, tiny):
    read = tiny(name)
    family = family_of(read.model.config)
    assert (read.processor.chat_template is None) == family.image_first == (not family.system_role)
    if family.image_first:
        return
    prompt = read.render(QUESTION, system="Inspect with care.")
    rest = prompt.split("Inspect with care.")[1]
    placeholder = getattr(read.processor, "boi_token", read.processor.image_token)
    assert prompt.count(placeholder) == rest.count(placeholder) == 1
    assert rest.index(placeholder) < rest.index(QUESTION)


def tower_pixels(read, image):
    """Pixels of ``image`` as the tower sees them, and the number of its visual tokens."""
    batch = read.encode([read.render(QUESTION)], [[image]])
    token = read.model.config.image_token_id
    with torch.no_grad():
        assert read.model(**batch).logits.isfinite().all()
    channels = 3 * getattr(read.processor.image_processor, "temporal_patch_size", 1)
    return batch["pixel_values"].numel() // channels, int((batch["input_ids"] == token).sum())


FREE = [name for name in SEEING if name in FAMILIES and FAMILIES[name].pixel_limits != "fixed"]


@pytest.mark.parametrize("name", FREE)
def test_limit_pixels_lowers_the_area(name, tiny, noise):
    read = tiny(name)
    family = family_of(read.model.config)
    image = noise(400, 400)
    before, tokens = tower_pixels(read, image)
    limit_pixels(read.processor, family, SQUARE, SQUARE, config=read.model.config)
    after, fewer = tower_pixels(read, image)
    overview = SQUARE if family.pixel_limits == "grids" else 0
    assert after <= SQUARE + overview < before
    assert 0 < fewer < tokens


@pytest.mark.parametrize("name", FREE)
def test_one_limit_alone(name, tiny, noise):
    read = tiny(name)
    family = family_of(read.model.config)
    before = tower_pixels(read, noise(400, 400))
    limit_pixels(read.processor, family, 1, None, config=read.model.config)
    assert tower_pixels(read, noise(400, 400)) == before
    limit_pixels(read.processor, family, None, SQUARE, config=read.model.config)
    assert tower_pixels(read, noise(400, 400)) < before


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl", "internvl"])
def test_limit_pixels_raises_the_area(name, tiny, noise):
    read = tiny(name)
    limit_pixels(read.processor, family_of(read.model.config), 3 * SQUARE, 100 * SQUARE)
    assert tower_pixels(read, noise(40, 40))[0] >= 3 * SQUARE


@pytest.mark.parametrize("name", SEEING)
def test_limit_pixels_lives_through_saving(name, tiny, tmp_path):
    read = tiny(name)
    limit_pixels(read.processor, family_of(read.model.config), SQUARE, SQUARE, config=read.model.config)
    read.processor.save_pretrained(tmp_path)
    again = type(read.processor).from_pretrained(tmp_path).image_processor
    for key in ("size", "max_patches", "image_grid_pinpoints"):
        assert getattr(again, key, None) == getattr(read.processor.image_processor, key, None)


@pytest.mark.parametrize("name", SEEING)
def test_limit_pixels_refuses(name, tiny):
    read = tiny(name)
    family = family_of(read.model.config)
    with pytest.raises(ModelError):
        limit_pixels(read.processor, family, 10, 20)
    with pytest.raises(ModelError, match="min_pixels"):
        limit_pixels(read.processor, family, 20, 10)


def test_grids_need_the_configuration(tiny):
    read = tiny("llava_onevision")
    with pytest.raises(ModelError, match="config"):
        limit_pixels(read.processor, FAMILIES["llava_onevision"], SQUARE, SQUARE)


def test_text_models_take_no_pixels(tiny):
    with pytest.raises(ModelError, match="no images"):
        limit_pixels(tiny("llama").processor, TEXT, 1, 2)


def test_causal_language_models_are_text():
    assert family_of(LlamaConfig()) is family_of(Qwen3Config()) is TEXT
    assert not TEXT.sees
    assert all(family.sees for family in FAMILIES.values())


@pytest.mark.parametrize("config", [MllamaConfig(), ViTConfig()], ids=lambda config: config.model_type)
def test_unknown_family(config):
    with pytest.raises(ModelError, match="known: gemma3, idefics3") as error:
        family_of(config)
    assert config.model_type in str(error.value)
    assert "\n" not in str(error.value)
