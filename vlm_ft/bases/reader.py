"""`Reader`: turns text and images into a base's tensors. It holds no weights, so data workers can use it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL.Image import Image, Resampling
from PIL.Image import new as new_image
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from datasets_vision.errors import cause
from vlm_ft.bases.budget import within_budget
from vlm_ft.bases.compact import COMPACT, compact_folder
from vlm_ft.bases.families import Family, family_of, image_token_of, reuses_prefix
from vlm_ft.bases.limits import Limits
from vlm_ft.errors import ModelError

SMALL = 32  # pixels, side of a blank image whose size makes no difference


@dataclass(frozen=True)
class Reader:
    """A base's tokenizer and processor with its limits, and the facts about its family.

    `image_token_id` is -1 for a text base; `max_length` is the maximum number of tokens in a sequence; `reuses_prefix`:
    whether prompts can share the keys and values of a prefix. The processor was loaded from `place` and `revision`.
    """

    name: str
    place: str
    revision: str | None
    processor: Any
    family: Family
    image_token_id: int
    max_length: int
    reuses_prefix: bool
    limits: Limits = field(default_factory=Limits)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer inside the processor, or the processor itself for a text base."""
        return getattr(self.processor, "tokenizer", self.processor)

    @property
    def sees(self) -> bool:
        return self.family.sees

    def limited(self, limits: Limits) -> Reader:
        """A reader of the same base with other limits, and with its own processor, so that readers share no settings.

        Raises `ModelError` if the family cannot keep to the limits.
        """
        if limits == self.limits:
            return self
        processor = read_processor(self.name, self.place, self.revision, self.family)
        if limits.pixels is not None:
            limit_pixels(processor, self.family, *limits.pixels)
        return replace(self, processor=processor, limits=limits)

    def scaled_to_limits(self, images: Sequence[Image]) -> list[Image]:
        """The images, scaled to the limits that the processor does not enforce itself (grids, image tokens of a row).

        Raises `DataError` if even the smallest photos take more tokens than the row may have.
        """
        photos = list(images)
        if self.family.pixel_limits == "grids" and self.limits.pixels is not None:
            photos = [_within_grid(photo, self.processor.image_processor, *self.limits.pixels) for photo in photos]
        if self.limits.image_tokens is None or not photos or not self.sees:
            return photos
        return within_budget(self.processor, self.image_token_id, photos, self.limits.image_tokens)

    def seen_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height in pixels at which the tower sees an image of this size, for boxes in pixels."""
        (photo,) = self.scaled_to_limits([new_image("L", size)])
        if self.family.pixel_limits != "area":
            return photo.size
        images = self.processor.image_processor
        height, width = smart_resize(
            photo.height,
            photo.width,
            factor=images.patch_size * images.merge_size,
            min_pixels=images.size["shortest_edge"],
            max_pixels=images.size["longest_edge"],
        )
        return int(width), int(height)

    def blank(self, size: tuple[int, int]) -> Image:
        """A blank image that gives a row the same tokens as a photo of this width and height."""
        any_size = self.family.one_square and self.family.boxes.scale is not None
        return new_image("RGB", (SMALL, SMALL) if any_size else size)

    @property
    def most_pixels(self) -> int | None:
        """The most pixels of one image that reach the tower; None for a text base."""
        if not self.sees:
            return None
        images = self.processor.image_processor
        match self.family.pixel_limits:
            case "area":
                return int(images.size["longest_edge"])
            case "edge":
                return int(images.size["longest_edge"]) ** 2
            case "grids":
                most = max(int(height * width) for height, width in images.image_grid_pinpoints)
                return min(most, self.limits.pixels[1]) if self.limits.pixels else most
            case "tiles":
                return _square(images) * int(images.max_patches)
        return _square(images)


def open_reader(name: str, *, revision: str | None = None, limits: Limits | None = None) -> Reader:
    """The reader of a base by Hub name, local folder, or ``compact``; only its configuration and tokenizer are read.

    Raises `ModelError` if they cannot be loaded, or if the family cannot keep to the limits.
    """
    from huggingface_hub.errors import HFValidationError
    from transformers import AutoConfig

    place = _place_of(name)
    try:
        config = AutoConfig.from_pretrained(place, revision=revision)
    except (OSError, ValueError, HFValidationError) as error:
        raise load_error(name, error) from error
    family = family_of(config)
    reader = Reader(
        name=name,
        place=place,
        revision=revision,
        processor=read_processor(name, place, revision, family),
        family=family,
        image_token_id=image_token_of(config),
        max_length=int(config.get_text_config().max_position_embeddings),
        reuses_prefix=reuses_prefix(config),
    )
    return reader.limited(limits or Limits())


def _place_of(name: str) -> str:
    """The folder of a local base, the folder of ``compact`` (downloaded on first use), or the name on the Hub itself.

    Raises `ModelError` if a local path is missing, or if ``compact`` cannot be downloaded.
    """
    if name == COMPACT:
        return str(compact_folder())
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        remedy = f"give a model folder, a Hub name (owner/model) or {COMPACT!r}"
        raise ModelError(f"base {name}", "no such folder", remedy)
    return name


def read_processor(name: str, place: str, revision: str | None, family: Family) -> Any:
    """The processor, or the tokenizer of a text base. Without a padding token, it pads with the end token."""
    from transformers import AutoProcessor, AutoTokenizer

    try:
        processor = (AutoProcessor if family.sees else AutoTokenizer).from_pretrained(place, revision=revision)
    except (OSError, ValueError, ImportError) as error:
        raise load_error(name, error) from error
    tokenizer = getattr(processor, "tokenizer", processor)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return processor


def load_error(name: str, error: Exception) -> ModelError:
    """The error for a base that a library cannot load."""
    return ModelError(
        f"base {name}", f"cannot be loaded ({cause(error)})", "check the name and the network, or give a local folder"
    )


@contextmanager
def mismatch_in_one_line(name: str) -> Iterator[None]:
    """Raise `ModelError` where transformers finds other image tokens in a batch than the tower has features."""
    try:
        yield
    except ValueError as error:
        if "image tokens do not match" not in str(error):
            raise
        raise ModelError(f"base {name}", cause(error), "restore the settings of its processor") from error


def limit_pixels(processor: Any, family: Family, min_pixels: int, max_pixels: int) -> None:
    """Keep the area of each image that `processor` gives the tower between two limits, in pixels.

    A family that cuts images into tiles keeps to the smaller of `max_pixels` and its own limit; its overview tile is
    not counted. A family with one square takes the side nearest to its own; one with a fixed square is left unchanged.
    Raises `ModelError` if the family cannot keep to the limits.
    """
    match family.pixel_limits:
        case "area":
            _limit_area(processor.image_processor, min_pixels, max_pixels)
        case "tiles":
            _limit_tiles(processor.image_processor, min_pixels, max_pixels)
        case "edge":
            _limit_edge(processor.image_processor, min_pixels, max_pixels)
        case "grids":
            _grids(processor.image_processor, min_pixels, max_pixels)
        case "square":
            _limit_square(processor, min_pixels, max_pixels)


def _limits_error(problem: str) -> ModelError:
    return ModelError("pixels", problem, "change pixels.minimum and pixels.maximum")


def _limit_area(images: Any, min_pixels: int, max_pixels: int) -> None:
    """The edges in ``size`` are areas here, and an image's sides are rounded to whole visual tokens within them."""
    cell = (images.patch_size * images.merge_size) ** 2
    if max_pixels < cell:
        raise _limits_error(f"maximum {max_pixels} is less than one visual token of this model, {cell} pixels")
    images.size = {"shortest_edge": min_pixels, "longest_edge": max_pixels}


def _square(images: Any) -> int:
    """The area in pixels of the one square that this image processor makes."""
    size = images.crop_size if getattr(images, "do_center_crop", False) else images.size
    return int(size["height"] * size["width"])


def _limit_square(processor: Any, min_pixels: int, max_pixels: int) -> None:
    """Sides are whole numbers of visual tokens; a model whose own side is not (such as 260 pixels) must keep it."""
    images, cell = processor.image_processor, int(processor.patch_size)
    side = math.isqrt(_square(images))
    if side % cell == 0:
        least, most = math.ceil(math.sqrt(min_pixels) / cell), math.isqrt(max_pixels) // cell
        side = min(max(side // cell, least), most) * cell
    if side == 0 or not min_pixels <= side**2 <= max_pixels:
        raise _limits_error(
            f"no square of whole visual tokens ({cell} pixels) is within {min_pixels} to {max_pixels} pixels"
        )
    images.size = images.crop_size = {"height": side, "width": side}


def _limit_tiles(images: Any, min_pixels: int, max_pixels: int) -> None:
    tile = _square(images)
    fewest = max(images.min_patches, math.ceil(min_pixels / tile))
    most = min(images.max_patches, max_pixels // tile)
    if fewest > most:
        raise _limits_error(f"no number of tiles of {tile} pixels lies within {min_pixels} to {max_pixels} pixels")
    images.min_patches, images.max_patches = fewest, most


def _limit_edge(images: Any, min_pixels: int, max_pixels: int) -> None:
    """Images are scaled, up or down, to this longest edge; a square one then has the largest area."""
    tile = int(images.max_image_size["longest_edge"])
    edge = min(int(images.size["longest_edge"]), max(1, math.isqrt(max_pixels) // tile) * tile)
    if not min_pixels <= edge**2 <= max_pixels:
        raise _limits_error(f"this model's smallest image has {edge**2} pixels, outside {min_pixels} to {max_pixels}")
    images.size = {"longest_edge": edge}


def _grids(images: Any, min_pixels: int, max_pixels: int) -> list[tuple[int, int]]:
    grids = [
        (height, width) for height, width in images.image_grid_pinpoints if min_pixels <= height * width <= max_pixels
    ]
    if not grids:
        raise _limits_error(f"this model has no grid of tiles within {min_pixels} to {max_pixels} pixels")
    return grids


def _within_grid(photo: Image, images: Any, min_pixels: int, max_pixels: int) -> Image:
    """The photo scaled to fit the allowed grid that shows it largest.

    The model derives a photo's grid from its size and the grids in its configuration. So the photo is changed, not the
    grids: a photo that exactly fits one grid never gets a larger one.
    """
    width, height = photo.size
    scales = [min(grid[0] / height, grid[1] / width) for grid in _grids(images, min_pixels, max_pixels)]
    scale = max(scales)
    size = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
    return photo if size == photo.size else photo.resize(size, Resampling.BICUBIC)
