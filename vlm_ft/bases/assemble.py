"""Join a timm backbone and a causal language model into one vision-language base, in the style of LLaVA.

The result is a folder of transformers' `FastVlmForConditionalGeneration` that the `Auto*` classes load. Its
projector (two linear layers, Liu et al. 2023, "Improved Baselines with Visual Instruction Tuning") has random weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datasets_vision.errors import cause
from vlm_ft.errors import ModelError

IMAGE = "<image>"
FACTS = "vlm_ft.json"
"""The file in a base's folder with facts that do not belong in a transformers configuration."""
PAD_VOCABULARY = 64
"""The embedding's rows are rounded up to a multiple of this, for faster matrix products."""

_FLATTENED = (
    "{%- set flat = namespace(messages=[]) -%}"
    "{%- for message in messages -%}"
    "{%- set text = namespace(said='') -%}"
    "{%- if message['content'] is string -%}{%- set text.said = message['content'] -%}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- set text.said = text.said + ('" + IMAGE + "' if part['type'] == 'image' else part['text']) -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- set flat.messages = flat.messages + [dict(message, content=text.said)] -%}"
    "{%- endfor -%}"
    "{%- set messages = flat.messages -%}"
)
"""Prepended to a language model's own chat template, to turn contents that are lists of parts into strings."""


@dataclass(frozen=True)
class Vision:
    """A timm backbone: weights under timm's names, the side of its square input in pixels, and its mean and std.

    `options` are passed to `timm.create_model`, such as ``{"output_stride": 16}``.
    """

    architecture: str
    weights: Mapping[str, Tensor]
    side: int
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Language:
    """A causal language model in memory, and its tokenizer."""

    model: Any
    tokenizer: Any


def read_language(place: str) -> Language:
    """A causal language model from a Hub name, a folder of safetensors, or a folder that holds one GGUF file.

    Weights are loaded as float32. Raises `ModelError` if that fails, or if the tokenizer has no chat template.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    if not sys.stderr.isatty():
        disable_progress_bar()
    found = sorted(Path(place).glob("*.gguf")) if Path(place).is_dir() else []
    if len(found) > 1:
        raise ModelError(place, f"holds {len(found)} GGUF files", "keep only the one to use")
    options: dict[str, Any] = {"gguf_file": found[0].name} if found else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **options)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"--language {place}", f"cannot be loaded ({cause(error)})", "check the name or the folder"
        ) from error
    if not tokenizer.chat_template:
        raise ModelError(
            f"--language {place}", "its tokenizer has no chat template", "choose an instruction-tuned model"
        )
    return Language(model, tokenizer)


def read_vision(name: str, *, side: int | None = None) -> Vision:
    """A pretrained timm backbone by its timm name, or a folder that timm's `save_for_hf` or transformers wrote.

    `side` is in pixels; None is the side at which the backbone was trained. Raises `ModelError` if timm does not know
    the name or cannot load the weights.
    """
    import timm

    folder = Path(name)
    chosen = f"local-dir:{folder}" if folder.is_dir() else name
    try:
        model = timm.create_model(chosen, pretrained=True, num_classes=0)
    except Exception as error:  # RuntimeError of timm, and errors of huggingface_hub and safetensors
        raise ModelError(
            f"--vision {name}", f"cannot be loaded ({cause(error)})", "give a name that timm lists, or a folder"
        ) from error
    settings = timm.data.resolve_model_data_config(model)
    return Vision(
        architecture=model.pretrained_cfg["architecture"],
        weights=model.state_dict(),
        side=side or int(settings["input_size"][-1]),
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
    )


def assemble(vision: Vision, language: Language, out: Path) -> None:
    """Write the joined base into the folder `out`, which must exist.

    The tokenizer gets one special token, ``<image>``, whose embedding is the mean of all others. Raises `ModelError`
    if the backbone's features are not maps (channels, height, width).
    """
    from transformers import FastVlmConfig, FastVlmForConditionalGeneration, TimmWrapperConfig

    channels, cells = _feature_map(vision)
    tokenizer = language.tokenizer
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    image_token = tokenizer.convert_tokens_to_ids(IMAGE)
    tower = TimmWrapperConfig(architecture=vision.architecture, model_args=dict(vision.options), do_pooling=False)
    tower.hidden_size = channels
    text = language.model.config
    tied = bool(text.tie_word_embeddings)
    if hasattr(text, "quantization_config"):  # the weights of a GGUF file are plain tensors by now
        del text.quantization_config
    language.model.resize_token_embeddings(max(len(tokenizer), text.vocab_size), PAD_VOCABULARY, mean_resizing=False)
    embeddings = language.model.get_input_embeddings().weight  # (vocabulary, width)
    with torch.no_grad():
        embeddings[image_token:] = embeddings[:image_token].mean(0)
    config = FastVlmConfig(
        vision_config=tower,
        text_config=text,
        image_token_id=image_token,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    model = FastVlmForConditionalGeneration(config)
    model.model.vision_tower.timm_model.load_state_dict(
        {key: value for key, value in vision.weights.items() if not key.startswith(("classifier.", "head.", "fc."))}
    )
    model.model.language_model.load_state_dict(language.model.base_model.state_dict())
    if not tied:
        model.lm_head.load_state_dict(language.model.lm_head.state_dict())
    model.generation_config = language.model.generation_config
    model.save_pretrained(out)
    _processor(vision, tokenizer, cells).save_pretrained(out)
    (out / FACTS).write_text(json.dumps({"projector": "untrained"}) + "\n", encoding="utf-8")


def _feature_map(vision: Vision) -> tuple[int, int]:
    """The channels of the backbone's features, and the positions along one side of its square map."""
    import timm

    with torch.inference_mode():
        network = timm.create_model(vision.architecture, pretrained=False, num_classes=0, **vision.options).eval()
        shape = network.forward_features(torch.zeros(1, 3, vision.side, vision.side)).shape
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ModelError(
            f"--vision {vision.architecture}",
            f"its features have the shape {tuple(shape)}, not (1, channels, side, side)",
            "choose a convolutional backbone",
        )
    return int(shape[1]), int(shape[2])


def _processor(vision: Vision, tokenizer: Any, cells: int) -> Any:
    from transformers import CLIPImageProcessor, LlavaProcessor

    square = {"height": vision.side, "width": vision.side}
    images = CLIPImageProcessor(
        size=square,
        crop_size=square,
        do_center_crop=False,
        image_mean=list(vision.mean),
        image_std=list(vision.std),
        resample=3,
    )
    template = _FLATTENED + tokenizer.chat_template
    tokenizer.padding_side = "left"
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=vision.side // cells,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        image_token=IMAGE,
        chat_template=template,
    )
