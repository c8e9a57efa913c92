"""Facts about model families, as data: one table, looked up by ``config.model_type``.

Code branches on a fact, never on a family's name.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Literal

from vlm_ft.errors import ModelError

Scope = Literal["vision", "projector", "language"]
PixelLimits = Literal["area", "tiles", "edge", "grids", "fixed", "none"]


@dataclass(frozen=True)
class Family:
    """What is true of every model of a family.

    ``tower``, ``projector`` and ``language`` are regular expressions for ``re.fullmatch`` against the names of
    ``model.named_modules()``, the model as the ``Auto*`` class loads it, before PEFT wraps it. None: the family
    has no such part, or none that is made of Linear modules.
    """

    name: str
    """``config.model_type``; "text" for the causal language models."""

    tower: str | None
    """The vision tower's layers."""

    projector: str | None
    """What maps the tower's features into the language model (also called merger or connector)."""

    language: str
    """The language model's layers, without its embeddings and its head."""

    image_first: bool = False
    """Images precede all text, and there is no chat template: the prompt is plain text that ends in a newline."""

    system_role: bool = True
    """The chat template puts a system message's text before the first image."""

    mixed_adapters_with_vision: bool = False
    """A batch may mix adapters that reach the tower or the projector, given one image a row. False where the
    tower sees patches or tiles along the batch axis: its rows are then not the batch's rows."""

    suffix_token_type: tuple[str, int] | None = None
    """The input that tells kinds of token apart, and its value at a supervised token of the answer. A
    processor gives that input; whoever appends answer tokens extends it by this value. None: no such input."""

    tower_by_picture: bool = False
    """Off a GPU, the tower's attention goes through a batch picture by picture (`models.pictures` mends that)."""

    pixel_limits: PixelLimits = "fixed"
    """What ``limit_pixels`` can change: the ``area`` of an image, its number of ``tiles``, its longest
    ``edge`` in tiles, the ``grids`` of tiles that the configuration lists, or nothing (one ``fixed`` square)."""

    @property
    def sees(self) -> bool:
        """Whether the family takes images."""
        return self.tower is not None


_LANGUAGE = r"model\.language_model\.layers\..+"

_QWEN = Family(
    name="qwen2_vl",
    tower=r"model\.visual\.blocks\..+",
    projector=r"model\.visual\.(merger|deepstack_merger_list)\..+",
    language=_LANGUAGE,
    suffix_token_type=("mm_token_type_ids", 0),
    tower_by_picture=True,
    pixel_limits="area",
)
_LLAVA = Family(
    name="llava",
    tower=r"model\.vision_tower\.encoder\..+",  # not SigLIP's pooling head, which these models never run
    projector=r"model\.multi_modal_projector\..+",
    language=_LANGUAGE,
    mixed_adapters_with_vision=True,
)
_IDEFICS3 = Family(
    name="idefics3",
    tower=r"model\.vision_model\.encoder\..+",
    projector=r"model\.connector\..+",
    language=r"model\.text_model\.layers\..+",
    pixel_limits="edge",
)
_TABLE = (
    _QWEN,
    replace(_QWEN, name="qwen2_5_vl"),
    replace(_QWEN, name="qwen3_vl"),
    replace(_QWEN, name="qwen3_5"),
    _LLAVA,
    replace(_LLAVA, name="llava_onevision", mixed_adapters_with_vision=False, pixel_limits="grids"),
    _IDEFICS3,
    replace(_IDEFICS3, name="smolvlm"),
    replace(_LLAVA, name="internvl", mixed_adapters_with_vision=False, pixel_limits="tiles"),
    # Gemma3's projector is one bare parameter, which LoRA on modules cannot reach.
    replace(_LLAVA, name="gemma3", projector=None, suffix_token_type=("token_type_ids", 0)),
    # PaliGemma attends both ways among tokens of type 0 in training, so its answer must be of type 1.
    replace(_LLAVA, name="paligemma", image_first=True, system_role=False, suffix_token_type=("token_type_ids", 1)),
)

FAMILIES: dict[str, Family] = {family.name: family for family in _TABLE}
TEXT = Family(name="text", tower=None, projector=None, language=r".+\.\d+\..+", pixel_limits="none")


def family_of(config: Any) -> Family:
    """The facts about the model that ``config`` describes; ``TEXT`` for a causal language model.

    Raises ModelError for a model that sees and is not in ``FAMILIES``, and for one that writes no text.
    """
    kind = str(config.model_type)
    if kind in FAMILIES:
        return FAMILIES[kind]
    known = ", ".join(sorted(FAMILIES))
    if getattr(config, "vision_config", None) is not None:
        raise ModelError(f"model_type {kind!r} is no known vision-language family; known", known)
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"model_type {kind!r} is no causal language model and no known family; known", known)
    return TEXT


def linear_modules(model: Any, family: Family, scopes: Collection[Scope]) -> list[str]:
    """The names of the Linear modules of ``scopes``, in the model's order, for LoRA's ``target_modules``.

    Left out are the head, the embeddings, and layers of the tower past the one whose features the model takes.
    Raises ModelError for a scope in which the family has no Linear module.
    """
    return [name for scope in _in_order(scopes) for name in _linear_modules(model, family, scope)]


def _in_order(scopes: Collection[Scope]) -> list[Scope]:
    order: tuple[Scope, ...] = ("vision", "projector", "language")
    return [scope for scope in order if scope in scopes]


def _linear_modules(model: Any, family: Family, scope: Scope) -> list[str]:
    from torch import nn

    pattern = {"vision": family.tower, "projector": family.projector, "language": family.language}[scope]
    if pattern is None:
        raise ModelError("", f"a {family.name} model has no Linear module in the scope {scope!r}", "leave it out")
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    names = [name for name in linear if re.fullmatch(pattern, name)]
    if not names:
        raise ModelError("", f"no module of this {family.name} model matches {pattern!r} (scope {scope!r})")
    return names if scope != "vision" else _used(names, model.config)


def _used(tower: list[str], config: Any) -> list[str]:
    """``tower`` without the layers past ``vision_feature_layer`` (LLaVA 1.5 takes the last but one)."""
    layers = [int(found.group(1)) for name in tower if (found := re.search(r"\.(\d+)\.", name))]
    depth = max(layers) + 1
    taken = getattr(config, "vision_feature_layer", -1)
    states = taken if isinstance(taken, list | tuple) else [taken]
    run = max(state if state >= 0 else depth + 1 + state for state in states)  # hidden state 0 is the embedding
    return [name for name, layer in zip(tower, layers, strict=True) if layer < run]


def limit_pixels(
    processor: Any, family: Family, min_pixels: int | None, max_pixels: int | None, *, config: Any | None = None
) -> None:
    """Keeps each image that ``processor`` gives the tower between two areas, in pixels; None: as it was.

    A family that cuts images into tiles keeps to the smaller of this and its own limit, and an overview tile
    comes on top. ``config``, the model's, is needed where the grids of tiles stand there too (``grids``).
    Raises ModelError where the family cannot keep to the limits.
    """
    if family.pixel_limits == "none":
        raise ModelError("a text model takes no images", "leave min_pixels and max_pixels out")
    images = processor.image_processor
    low, high = _bounds(images, family, min_pixels, max_pixels)
    if not 0 < low <= high:
        raise ModelError("", f"min_pixels {low} and max_pixels {high} must be 0 < min_pixels <= max_pixels")
    match family.pixel_limits:
        case "area":
            _limit_area(images, low, high)
        case "tiles":
            _limit_tiles(images, low, high)
        case "edge":
            _limit_edge(images, low, high)
        case "grids":
            _limit_grids(images, low, high, config)
        case "fixed":
            _require(_square(images), low, high)


def _bounds(images: Any, family: Family, min_pixels: int | None, max_pixels: int | None) -> tuple[int, int]:
    """The two areas, with the processor's own for one not given, moved to meet the given one if need be."""
    own = images.size if family.pixel_limits == "area" else {"shortest_edge": 1, "longest_edge": sys.maxsize}
    low = min(own["shortest_edge"], max_pixels or sys.maxsize) if min_pixels is None else min_pixels
    high = max(own["longest_edge"], low) if max_pixels is None else max_pixels
    return int(low), int(high)


def _limit_area(images: Any, min_pixels: int, max_pixels: int) -> None:
    """The edges in ``size`` are areas here; an image's sides are rounded to whole visual tokens within them."""
    cell = (images.patch_size * images.merge_size) ** 2
    if max_pixels < cell:
        raise ModelError("", f"max_pixels {max_pixels} is less than one visual token of this model, {cell} pixels")
    images.size = {"shortest_edge": min_pixels, "longest_edge": max_pixels}


def _square(images: Any) -> int:
    """The area in pixels of the one square that this image processor makes."""
    size = getattr(images, "crop_size", None) or images.size
    return int(size["height"] * size["width"])


def _require(area: int, min_pixels: int, max_pixels: int) -> None:
    if not min_pixels <= area <= max_pixels:
        raise ModelError(
            "",
            f"this model gives images {area} pixels, which is not in {min_pixels} to {max_pixels}",
            f"set min_pixels and max_pixels around {area}",
        )


def _limit_tiles(images: Any, min_pixels: int, max_pixels: int) -> None:
    tile = _square(images)
    fewest = max(images.min_patches, math.ceil(min_pixels / tile))
    most = min(images.max_patches, max_pixels // tile)
    if fewest > most:
        raise ModelError("", f"no number of tiles of {tile} pixels lies within {min_pixels} to {max_pixels} pixels")
    images.min_patches, images.max_patches = fewest, most


def _limit_edge(images: Any, min_pixels: int, max_pixels: int) -> None:
    """Images are scaled, up or down, to this longest edge; a square one then has the largest area."""
    tile = int(images.max_image_size["longest_edge"])
    edge = min(int(images.size["longest_edge"]), max(1, math.isqrt(max_pixels) // tile) * tile)
    _require(edge**2, min_pixels, max_pixels)
    images.size = {"longest_edge": edge}


def _limit_grids(images: Any, min_pixels: int, max_pixels: int, config: Any | None) -> None:
    grids = [grid for grid in images.image_grid_pinpoints if min_pixels <= grid[0] * grid[1] <= max_pixels]
    if not grids:
        raise ModelError("", f"this model has no grid of tiles within {min_pixels} to {max_pixels} pixels")
    if config is None and len(grids) < len(images.image_grid_pinpoints):
        raise ModelError("this model's grids stand in its configuration too", "give limit_pixels that config")
    images.image_grid_pinpoints = grids
    if config is not None:
        config.image_grid_pinpoints = grids
