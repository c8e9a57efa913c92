"""Keep the image tokens of one row within a budget by scaling down the photos of a large case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from PIL.Image import Image, Resampling
from PIL.Image import new as blank

from vlm_ft.errors import DataError

MIN_PIXELS = 32 * 32
"""Photos are not scaled down below this number of pixels."""

_STEPS = 14  # bisection steps, enough to find the largest area that fits to within 1 %


def within_budget(processor: Any, image_token_id: int, images: Sequence[Image], budget: int) -> list[Image]:
    """The photos, the larger ones scaled down to a common area, so that together they take at most `budget` tokens.

    Aspect ratios are kept. Raises `DataError` if even the smallest photos take more tokens, because the family has a
    fixed number per image, or because there are too many photos.
    """
    sizes = tuple(image.size for image in images)
    if _tokens(processor, image_token_id, sizes) <= budget:
        return list(images)
    least = _tokens(processor, image_token_id, _scaled_down(sizes, MIN_PIXELS))
    if least > budget:
        raise DataError(
            "",
            f"{len(images)} photos take {least} image tokens at their smallest, more than image_tokens {budget}",
            "raise image_tokens, lower pixels.minimum, or give fewer photos",
        )
    low, high = float(MIN_PIXELS), float(max(width * height for width, height in sizes))
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        fits = _tokens(processor, image_token_id, _scaled_down(sizes, middle)) <= budget
        low, high = (middle, high) if fits else (low, middle)
    return [
        image if image.size == size else image.resize(size, Resampling.BICUBIC)
        for image, size in zip(images, _scaled_down(sizes, low), strict=True)
    ]


def _scaled_down(sizes: Sequence[tuple[int, int]], area: float) -> tuple[tuple[int, int], ...]:
    """The sizes scaled down to at most `area` pixels, with the same aspect ratios."""
    factors = [min(1.0, math.sqrt(area / (width * height))) for width, height in sizes]
    return tuple(
        (max(1, round(width * factor)), max(1, round(height * factor)))
        for (width, height), factor in zip(sizes, factors, strict=True)
    )


@lru_cache(maxsize=4096)
def _tokens(processor: Any, image_token_id: int, sizes: tuple[tuple[int, int], ...]) -> int:
    """The number of image tokens of photos of these sizes, as the processor counts them."""
    photos = [blank("RGB", size) for size in sizes]
    batch = processor(text=[str(processor.image_token) * len(photos)], images=[photos], return_tensors="pt")
    return int((batch["input_ids"] == image_token_id).sum())
