"""Facts about model families, as data: one table, looked up by ``config.model_type``.

Code branches on a fact, never on a family's name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from vlm_ft.answers.box_format import STANDARD, BoxFormat
from vlm_ft.errors import ModelError

TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")
"""Inputs with the type of each token; a family has at most one of them."""

PixelLimits = Literal["area", "tiles", "edge", "grids", "square", "fixed", "none"]


@dataclass(frozen=True)
class Family:
    """The facts about every model of a family.

    ``tower`` and ``language`` are regular expressions for ``re.fullmatch`` against the names of
    ``model.named_modules()``, the model as the ``Auto*`` class loads it, before PEFT wraps it; ``projector`` lists
    the names of the projector's modules. None or (): the family has no such part.
    """

    name: str
    """``config.model_type``; "text" for the causal language models."""

    tower: str | None
    """The vision tower's layers."""

    projector: tuple[str, ...]
    """What maps the tower's features into the language model (also called merger or connector)."""

    language: str
    """The language model's layers, without its embeddings and its head."""

    vision: str | None = None
    """The module with the tower's layers, its embeddings and its norms."""

    system_role: bool = True
    """The chat template puts a system message's text before the first image. False: there is no chat template."""

    mixed_adapters_with_vision: bool = False
    """A batch may mix adapters that train the tower or the projector, with one image per row. False if the tower's
    batch axis holds patches or tiles, so that its rows are not the batch's rows."""

    answer_token_type: int = 0
    """The type of answer tokens, if the family has an input of token types. The processor returns this input for the
    prompt; code that appends answer tokens extends it with this value."""

    boxes: BoxFormat = STANDARD
    """How the family was trained to write boxes; `STANDARD` if it was not, or if its format is the same (Qwen3-VL)."""

    prefix_reuse: bool = False
    """Rows can continue from the keys and values of a shared prefix: attention is causal, and the model keeps no
    other state."""

    grid_positions: bool = False
    """An image's tokens have three positions each: time, height, width."""

    first_position: int = 0
    """The position of the first token."""

    recurrent: bool = False
    """Some layers keep a recurrent state instead of keys and values: it cannot be masked, shared or cropped."""

    pixel_limits: PixelLimits = "fixed"
    """What `pixels` can change: the ``area`` of an image, its number of ``tiles``, its longest ``edge`` in
    tiles, the ``grids`` of tiles that the configuration lists, the side of one ``square`` (a convolutional tower
    takes any), or nothing (one ``fixed`` square)."""

    @property
    def one_square(self) -> bool:
        """Whether the tower sees each image as one square, so that a batch's rows are its images."""
        return self.pixel_limits in ("fixed", "square")

    @property
    def convolutional_tower(self) -> bool:
        return self.pixel_limits == "square"

    @property
    def separate_tower(self) -> bool:
        """Whether the tower can run separately from the projector, on one image at a time."""
        inside = any(name.startswith(f"{self.vision}.") for name in self.projector)
        return self.vision is not None and self.one_square and not inside

    @property
    def sees(self) -> bool:
        return self.tower is not None


_LANGUAGE = r"model\.language_model\.(layers\..+|norm)"

_QWEN = Family(
    name="qwen2_vl",
    vision="model.visual",
    tower=r"model\.visual\.blocks\..+",
    projector=("model.visual.merger", "model.visual.deepstack_merger_list"),
    language=_LANGUAGE,
    pixel_limits="area",
    grid_positions=True,
    prefix_reuse=True,
)
_LLAVA = Family(
    name="llava",
    vision="model.vision_tower",
    tower=r"model\.vision_tower\.encoder\..+",  # not SigLIP's pooling head, which these models never run
    projector=("model.multi_modal_projector",),
    language=_LANGUAGE,
    mixed_adapters_with_vision=True,
    prefix_reuse=True,
)
_IDEFICS3 = Family(
    name="idefics3",
    vision="model.vision_model",
    tower=r"model\.vision_model\.encoder\..+",
    projector=("model.connector",),
    language=r"model\.text_model\.(layers\..+|norm)",
    pixel_limits="edge",
    prefix_reuse=True,
)
_TABLE = (
    _QWEN,
    replace(_QWEN, name="qwen2_5_vl", boxes=BoxFormat(scale=None)),
    replace(_QWEN, name="qwen3_vl"),
    replace(_QWEN, name="qwen3_5", prefix_reuse=False, recurrent=True),
    _LLAVA,
    replace(_LLAVA, name="fast_vlm", tower=r"model\.vision_tower\.timm_model\..+", pixel_limits="square"),
    replace(_LLAVA, name="llava_onevision", mixed_adapters_with_vision=False, pixel_limits="grids"),
    _IDEFICS3,
    replace(_IDEFICS3, name="smolvlm"),
    replace(_LLAVA, name="internvl", mixed_adapters_with_vision=False, pixel_limits="tiles"),
    replace(_LLAVA, name="gemma3", prefix_reuse=False),
    # In training, PaliGemma attends bidirectionally among tokens of type 0, so its answer must be of type 1.
    replace(
        _LLAVA,
        name="paligemma",
        system_role=False,
        prefix_reuse=False,
        boxes=BoxFormat(scale=1023, top_first=True, locations=True),
        answer_token_type=1,
        first_position=1,
    ),
)

FAMILIES: dict[str, Family] = {family.name: family for family in _TABLE}
TEXT = Family(name="text", tower=None, projector=(), language=r".+\.\d+\..+", prefix_reuse=True, pixel_limits="none")


def family_of(config: Any) -> Family:
    """The facts about the model that ``config`` describes; ``TEXT`` for a causal language model.

    Raises `ModelError` for a vision model that is not in ``FAMILIES``, and for one that does not generate text.
    """
    kind = str(config.model_type)
    if kind in FAMILIES:
        return FAMILIES[kind]
    known = f"known: {', '.join(sorted(FAMILIES))}"
    if getattr(config, "vision_config", None) is not None:
        raise ModelError(f"model_type {kind!r}", "unknown vision-language family", known)
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"model_type {kind!r}", "neither a causal language model nor a known family", known)
    return TEXT


def reuses_prefix(config: Any) -> bool:
    """Whether the keys and values of a prefix are valid for every prompt that begins with it.

    They are not if the family attends to later tokens or keeps other state, or if any layer lacks full attention.
    """
    layers = getattr(config.get_text_config(), "layer_types", None) or ()
    return family_of(config).prefix_reuse and all(kind == "full_attention" for kind in layers)


def image_token_of(config: Any) -> int:
    """The id of the image placeholder token; -1 for a text model."""
    found = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
    return -1 if found is None else int(found)
