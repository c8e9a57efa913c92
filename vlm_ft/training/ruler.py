"""How long a row will be, and how large its images are seen, from a base's processor alone: no weights are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from PIL import Image
from transformers import AutoConfig, AutoProcessor, AutoTokenizer

from datasets_vision.example import Turn
from vlm_ft.answers.form import Form
from vlm_ft.bases.base_ref import BaseRef
from vlm_ft.bases.families import Family, family_of, limit_pixels
from vlm_ft.bases.load import Base, locate
from vlm_ft.conversation import Conversation, Row
from vlm_ft.errors import ModelError
from vlm_ft.recipe import Recipe

Sizes = tuple[tuple[int, int], ...]
SOME_TEXT = (Turn("user", "Look"),)


class BaseRuler:
    """Measures rows as the recipe's base will read them.

    Images count by their size in pixels, and each size is put through the processor once.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Raises `ModelError` where the base's configuration or processor cannot be had."""
        base = replace(_without_weights(recipe), image_tokens=recipe.image_tokens)
        self._conversation = Conversation(base)
        self._added: dict[tuple[Sizes, bool], tuple[int, int]] = {}
        self.limit = min(recipe.training.max_length or base.max_length, base.max_length)
        self.most_pixels = most_pixels(base.processor, base.family)

    def lengths(
        self, form: Form, turns: Sequence[Turn], sizes: Sequence[tuple[int, int]], target: str
    ) -> tuple[int, int]:
        """Tokens of the row, prompt and answer, and image tokens among them; images count 0 for a text base."""
        text, _ = self._conversation.lengths(Row(form, tuple(turns), (), target))
        worded = any(turn.text for turn in turns)
        added, image_tokens = self._of_images(form, tuple(sizes), worded)
        return text + added, image_tokens

    def _of_images(self, form: Form, sizes: Sizes, worded: bool) -> tuple[int, int]:
        """Tokens that images of these sizes add to a row (with their separators), and image tokens among them.

        `worded`: a text follows; what ends an image can merge with what begins that.
        """
        if not sizes or not self._conversation.base.vision:
            return 0, 0
        key = sizes, worded
        if key not in self._added:
            turns, blank = SOME_TEXT if worded else (), tuple(Image.new("RGB", size) for size in sizes)
            without, _ = self._conversation.lengths(Row(form, turns, ()))
            tokens, image_tokens = self._conversation.lengths(Row(form, turns, blank))
            self._added[key] = tokens - without, image_tokens
        return self._added[key]


def _without_weights(recipe: Recipe) -> Base:
    """The base, with a model that has a configuration and nothing else."""
    try:
        place = locate(recipe.base)
        config = AutoConfig.from_pretrained(place, revision=recipe.revision)
        family = family_of(config)
        kind = AutoProcessor if family.sees else AutoTokenizer
        processor = kind.from_pretrained(place, revision=recipe.revision)
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"base {recipe.base}", f"its processor cannot be loaded ({reason})", "check the name"
        ) from error
    if recipe.pixels is not None:
        limit_pixels(processor, family, recipe.pixels.minimum, recipe.pixels.maximum, config=config)
    ref = BaseRef(
        name=recipe.base,
        revision=recipe.revision,
        fingerprint="",
        model_type=config.model_type,
        kind="vision" if family.sees else "text",
    )
    base = Base(SimpleNamespace(config=config), processor, family, ref)
    if base.tokenizer.pad_token_id is None:
        base.tokenizer.pad_token = base.tokenizer.eos_token
    return base


def most_pixels(processor: Any, family: Family) -> int | None:
    """The most pixels of one image that reach the tower; None where the processor states no bound."""
    images: Any = getattr(processor, "image_processor", None)
    match family.pixel_limits:
        case "none":
            return None
        case "area":
            return int(images.size["longest_edge"])
        case "edge":
            return int(images.size["longest_edge"]) ** 2
        case "grids":
            return max(int(width * height) for width, height in images.image_grid_pinpoints)
    size = getattr(images, "crop_size", None) or images.size
    square = int(size["height"] * size["width"])
    return square * int(images.max_patches) if family.pixel_limits == "tiles" else square
