"""The starter's shape: a Qwen3-VL of about nine million parameters that sees 192 x 192 pixels as 36 tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

VOCABULARY = 4096
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)  # ids 0 to 6
ENDOFTEXT, IM_START, IM_END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD = range(7)

PATCH = 16  # pixels
MERGE = 2  # patches a side that make one token
TEMPORAL = 2  # a still picture is repeated to fill it
SIDE = 192  # pixels; the side of the picture that the position table fits without interpolation
TOKEN = PATCH * MERGE  # pixels a side that one token stands for
TOKENS = (SIDE // TOKEN) ** 2
WIDTH = 256  # of the language model, and of the tokens that the tower hands it
DEEPSTACK = (1, 3)  # layers of the tower that also reach the language model's first layers


def starter_config() -> Qwen3VLConfig:
    """The whole model's configuration; `model.model.visual` is the tower that `dense` trains."""
    from transformers import Qwen3VLConfig

    vision = {
        "depth": 6,
        "hidden_size": 192,
        "num_heads": 6,  # 32 a head; axial rotation needs a multiple of 4
        "intermediate_size": 768,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": TEMPORAL,
        "out_hidden_size": WIDTH,
        "num_position_embeddings": (SIDE // PATCH) ** 2,
        "deepstack_visual_indexes": list(DEEPSTACK),
    }
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 100_000.0,
            "mrope_section": [12, 10, 10],  # sums to head_dim / 2
            "mrope_interleaved": True,
        },
        "tie_word_embeddings": True,
        "pad_token_id": ENDOFTEXT,
        "bos_token_id": None,
        "eos_token_id": IM_END,
    }
    return Qwen3VLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE_PAD,
        video_token_id=VIDEO_PAD,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
        tie_word_embeddings=True,
    )


def build_starter(seed: int = 0) -> Qwen3VLForConditionalGeneration:
    """The starter with random weights, float32, the same for the same seed."""
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3VLForConditionalGeneration(starter_config())
