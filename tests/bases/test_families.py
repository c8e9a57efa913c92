"""Every fact in the table of families holds for the tiny models."""

from __future__ import annotations

import pickle
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, MllamaConfig, Qwen3Config, ViTConfig

from tests.families import SEEING
from vlm_ft.bases.families import FAMILIES, TEXT, family_of
from vlm_ft.bases.limits import Limits
from vlm_ft.bases.parts import PARTS, leaf_modules, low_rank_modules, part_of, part_sizes, resolve_tunings
from vlm_ft.bases.reader import limit_pixels, open_reader
from vlm_ft.bases.tiny import TINY
from vlm_ft.errors import ModelError

pytestmark = [
    # PaliGemma's processor calls numpy on tensors in a way that numpy deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # PEFT reads a deprecated attribute of transformers models.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

ALL = list(TINY)
QUESTION = "Which kind of defect?"
SQUARE = 56 * 56  # pixels of a tiny tower's fixed square, or of one tile


def low_rank_parts(model):
    """The parts that have layers which support LoRA, with these layers."""
    found = {part: low_rank_modules(model, family_of(model.config), part) for part in PARTS}
    return {part: names for part, names in found.items() if names}


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
def test_every_linear_module_belongs_to_a_part(name, tiny):
    model = tiny(name).model
    linear = {key for key, module in model.named_modules() if isinstance(module, nn.Linear)} - {"lm_head"}
    family = family_of(model.config)
    assert all(part_of(key, family) is not None for key in linear)
    assert part_of("lm_head", family) is None
    assert {row.part for row in part_sizes(model, family)} >= {
        part for part in PARTS if family.sees or part == "language"
    }


@pytest.mark.parametrize("name", ALL)
def test_text_runs_only_the_language_model(name, tiny):
    model = tiny(name).model
    ids = torch.arange(4, 12)[None]
    names = called(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert names == {"lm_head", *low_rank_parts(model)["language"]}


@pytest.mark.parametrize("name", SEEING)
def test_projector_ends_in_the_language_models_width(name, tiny):
    model = tiny(name).model
    names = low_rank_parts(model).get("projector")
    if names is None:  # Gemma3's is one bare parameter, which only full training can train
        assert leaf_modules(model, family_of(model.config), "projector")
        return
    assert model.get_submodule(names[-1]).out_features == model.config.text_config.hidden_size


@pytest.mark.parametrize("name", ALL)
def test_lora_trains_in_every_part(name, tiny, noise):
    read = tiny(name)
    names = [name for names in low_rank_parts(read.model).values() for name in names]
    lora = LoraConfig(r=2, target_modules=names, init_lora_weights=False)
    model = get_peft_model(read.model, lora)
    inputs = read.encode([read.render(QUESTION)], [[noise()]])
    model.train()
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    trained = {key: weight for key, weight in model.named_parameters() if weight.requires_grad}
    assert len(trained) == 2 * len(names)
    assert all(weight.grad is not None and weight.grad.any() for weight in trained.values())


def test_grouped_convolutions_get_no_lora(tiny):
    model = tiny("fast_vlm").model
    grouped = {key for key, module in model.named_modules() if getattr(module, "groups", 1) > 1}
    assert grouped
    assert not grouped & set(low_rank_parts(model)["vision"])
    assert grouped <= set(leaf_modules(model, family_of(model.config), "vision"))


@pytest.mark.parametrize("name", ALL)
def test_defaults_never_raise_and_note_what_they_leave_out(name, tiny):
    model = tiny(name).model
    family = family_of(model.config)
    tunings, notes = resolve_tunings({}, model, family, projector_untrained=False, quantized=False)
    assert (tunings["language"], tunings["vision"]) == ("lora", "frozen")
    left_out = family.sees and "projector" not in low_rank_parts(model)
    assert [note.startswith("adapter.projector") for note in notes] == [True] * left_out
    if family.sees:
        assert resolve_tunings({}, model, family, projector_untrained=True, quantized=True)[0]["projector"] == "full"


def test_impossible_tunings_are_refused(tiny):
    model = tiny("qwen3_vl").model
    family = family_of(model.config)
    with pytest.raises(ModelError, match="quantized part can only be trained with lora or dora"):
        resolve_tunings({"language": "full"}, model, family, projector_untrained=False, quantized=True)
    frozen = dict.fromkeys(PARTS, "frozen")
    with pytest.raises(ModelError, match="every part is frozen"):
        resolve_tunings(frozen, model, family, projector_untrained=False, quantized=False)
    gemma = tiny("gemma3").model
    with pytest.raises(ModelError, match=r"adapter\.projector: 'lora' is not possible"):
        resolve_tunings(
            {"projector": "lora"}, gemma, family_of(gemma.config), projector_untrained=False, quantized=False
        )


def test_layers_that_llava_drops_are_left_out(tiny):
    model = tiny("llava_clip_llama").model  # uses the features of the second-to-last layer
    assert model.config.vision_feature_layer == -2
    names = low_rank_parts(model)["vision"]
    assert names
    assert all("layers.0." in key for key in names)


@pytest.mark.parametrize("name", SEEING)
def test_adapters_of_the_tower_mix_in_a_batch_if_the_family_allows_it(name, tiny, noise):
    read = tiny(name)
    family = family_of(read.model.config)
    names = ["first", "second"]
    inputs = read.encode([read.render(QUESTION)] * 2, [[noise()], [noise(seed=1)]])
    lora = LoraConfig(r=2, target_modules=low_rank_parts(read.model)["vision"], init_lora_weights=False)
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
def test_an_answer_has_the_token_type_of_its_family(name, tiny, noise):
    read = tiny(name)
    family = family_of(read.model.config)
    kinds = {"token_type_ids", "mm_token_type_ids"}
    read.tokenizer.padding_side = "right"
    if read.processor.chat_template is None:
        batch = read.processor(text=read.render(QUESTION), images=noise(), suffix="scratch", return_tensors="pt")
    else:
        batch = read.encode([read.render(QUESTION) + "scratch"], [[noise()]])
    answer = len(read.tokenizer("scratch", add_special_tokens=False)["input_ids"])
    assert len(kinds & set(batch)) <= 1
    for key in kinds & set(batch):
        assert (batch[key][0, -answer:] == family.answer_token_type).all()
        assert (batch[key][0] != family.answer_token_type).any()


def test_answer_token_type_changes_what_paligemma_attends_to(tiny, noise):
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
    assert (read.processor.chat_template is None) == (not family.system_role)
    if not family.system_role:
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


FREE = [name for name in SEEING if name in FAMILIES and FAMILIES[name].pixel_limits not in ("fixed", "grids")]


@pytest.mark.parametrize("name", FREE)
def test_limit_pixels_lowers_the_area(name, tiny, noise):
    read = tiny(name)
    image = noise(400, 400)
    before, tokens = tower_pixels(read, image)
    limit_pixels(read.processor, family_of(read.model.config), 1, SQUARE)
    after, fewer = tower_pixels(read, image)
    assert after <= SQUARE < before
    assert 0 < fewer < tokens


def test_a_side_that_is_not_a_whole_number_of_tokens_is_kept():
    """At 260 pixels, a tower with a stride of 32 has nine positions per side; at 252, it has eight."""
    size, unused = {"height": 260, "width": 260}, {"height": 224, "width": 224}
    images = SimpleNamespace(size=size, crop_size=unused, do_center_crop=False)
    processor = SimpleNamespace(image_processor=images, patch_size=28)
    limit_pixels(processor, FAMILIES["fast_vlm"], 50_176, 100_000)
    assert processor.image_processor.size == size
    with pytest.raises(ModelError, match="no square of whole visual tokens"):
        limit_pixels(processor, FAMILIES["fast_vlm"], 100_000, 200_000)


@pytest.mark.parametrize("size", [(400, 400), (500, 90), (90, 500), (30, 30)])
def test_a_pixel_limit_scales_the_photo_and_leaves_the_grids(size, tiny, tiny_folder, noise):
    """The model derives a photo's grid from its own configuration, which every adapter shares."""
    read = tiny("llava_onevision")
    grids = list(read.model.config.image_grid_pinpoints)
    reader = open_reader(str(tiny_folder("llava_onevision")), limits=Limits((1, 2 * SQUARE)))
    free, _ = tower_pixels(read, noise(400, 400))
    read = replace(read, processor=reader.processor)
    (photo,) = reader.scaled_to_limits([noise(*size)])
    held, _ = tower_pixels(read, photo)
    assert held <= 3 * SQUARE < free  # two tiles and the overview
    assert read.model.config.image_grid_pinpoints == reader.processor.image_processor.image_grid_pinpoints == grids


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl", "internvl"])
def test_limit_pixels_raises_the_area(name, tiny, noise):
    read = tiny(name)
    limit_pixels(read.processor, family_of(read.model.config), 3 * SQUARE, 100 * SQUARE)
    assert tower_pixels(read, noise(40, 40))[0] >= 3 * SQUARE


@pytest.mark.parametrize("name", [*FREE, "llava_onevision"])
def test_limits_that_no_image_can_meet_are_refused(name, tiny):
    read = tiny(name)
    with pytest.raises(ModelError, match=r"^pixels: .*change pixels"):
        limit_pixels(read.processor, family_of(read.model.config), 10, 20)


@pytest.mark.parametrize("name", SEEING)
def test_readers_of_one_base_share_no_settings_and_hold_no_weights(name, tiny_folder):
    free = open_reader(str(tiny_folder(name)))
    before = free.processor.image_processor.to_dict()
    held = free.limited(Limits((1, 4 * SQUARE), 500))
    assert free.processor.image_processor.to_dict() == before
    assert free.limited(Limits()) is free
    assert pickle.loads(pickle.dumps(held)).limits == held.limits
    assert len(pickle.dumps(held)) < 2_000_000


def test_causal_language_models_are_text():
    assert family_of(LlamaConfig()) is family_of(Qwen3Config()) is TEXT
    assert not TEXT.sees
    assert all(family.sees for family in FAMILIES.values())


@pytest.mark.parametrize("config", [MllamaConfig(), ViTConfig()], ids=lambda config: config.model_type)
def test_an_unknown_family_is_refused(config):
    with pytest.raises(ModelError, match="known: fast_vlm, gemma3, idefics3") as error:
        family_of(config)
    assert config.model_type in str(error.value)
    assert "\n" not in str(error.value)


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that an operation returns."""

    def __init__(self):
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.size = max([self.size, *(leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, Tensor))])
        return found


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5"])
def test_the_tower_holds_no_attention_weights_of_a_whole_photo(tiny, name):
    """They would be quadratic in its pixels: 141 GB for 12 megapixels on a published base."""
    model, side = tiny(name).model, 40
    vision = model.config.vision_config
    patches = torch.zeros(side**2, 3 * vision.temporal_patch_size * vision.patch_size**2)
    with torch.inference_mode(), Largest() as largest:
        model.get_image_features(patches, torch.tensor([[1, side, side]]))
    assert patches.numel() <= largest.size < side**4
