"""The starter's processor: its own byte-level BPE, a Qwen-style chat template, 192-pixel pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor, TokenizersBackend

from vlm_ft.models.starter.architecture import MERGE, PATCH, SIDE, SPECIAL_TOKENS, TEMPORAL, VOCABULARY
from vlm_ft.pretraining.instructions import corpus

TEXTS = 3000  # drawn for the merges
# Qwen2's own splitting: words with their space, single digits, punctuation with its line ends, spaces.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.content is string -%}{{ message.content }}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{{ '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)


def train_tokenizer(seed: int = 0) -> Any:
    """A tokenizer of `VOCABULARY` entries, the special tokens first; the same for the same seed."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(TEXTS, seed), trainer)
    return TokenizersBackend(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[token for token in SPECIAL_TOKENS if token not in ("<|im_end|>", "<|endoftext|>")],
        model_max_length=4096,
    )


def save_processor(folder: Path, seed: int = 0) -> None:
    """Write the processor, so that ``AutoProcessor`` loads it; a picture becomes 36 tokens at most."""
    area = SIDE * SIDE
    sizes = {"patch_size": PATCH, "temporal_patch_size": TEMPORAL, "merge_size": MERGE}
    means = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    limits = {"shortest_edge": area // 2, "longest_edge": area}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=limits, **sizes, **means),
        tokenizer=train_tokenizer(seed),
        video_processor=Qwen3VLVideoProcessor(size=limits, **sizes, **means),
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(folder)
