"""Augmentation that never makes a label lie: boxes follow, and a draw that hides an object is not taken."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datasets_vision.example import BOX_SCALE, LabelledObject, normalised_box
from vlm_ft.errors import DataError, nearest

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # documented: no look-up of newer versions on import

MIN_VISIBLE = 0.4
"""The share of an object's area that has to stay in the image."""

Step = tuple[str, dict[str, Any]]

_LIGHT: tuple[Step, ...] = (
    ("RandomBrightnessContrast", {"brightness_limit": 0.15, "contrast_limit": 0.15, "p": 0.8}),
    # Each side loses up to 10 % and the size is kept: scale, shift and crop in one, and no invented border.
    # Keep it the only step that cuts: MIN_VISIBLE is measured step by step.
    ("CropAndPad", {"percent": (-0.1, 0.0), "keep_size": True, "p": 0.8}),
)
_TURNS: tuple[Step, ...] = (
    ("HorizontalFlip", {"p": 0.5}),
    ("VerticalFlip", {"p": 0.5}),
    ("RandomRotate90", {"p": 0.5}),
)

AUGMENTATIONS: dict[str, tuple[Step, ...]] = {
    "none": (),
    "light": _LIGHT,
    "flips": _LIGHT + _TURNS,  # for surfaces on which sides do not matter
}
"""Preset -> steps, each the name of an albumentations transform and its arguments."""


def augment(
    image: PILImage, objects: tuple[LabelledObject, ...] | None, preset: str, seed: int
) -> tuple[PILImage, tuple[LabelledObject, ...] | None]:
    """One draw of `preset` on an RGB image; the same seed gives the same draw.

    Boxes are 0..1000 of the image on both ways. Where less than MIN_VISIBLE of an object's area would stay,
    image and objects come back as they were. Raises DataError for an unknown preset.
    """
    if preset not in AUGMENTATIONS:
        raise DataError(f"augmentation {preset!r} is not known; {nearest(preset, AUGMENTATIONS)}")
    if not AUGMENTATIONS[preset]:
        return image, objects
    boxed = {place: thing.box for place, thing in enumerate(objects or ()) if thing.box is not None}
    pixels, boxes = _draw(image, boxed, preset, seed)
    if len(boxes) < len(boxed):
        return image, objects
    if objects is None:
        return pixels, None
    return pixels, tuple(
        replace(thing, box=normalised_box(*boxes[place], 1, 1)) if place in boxes else thing
        for place, thing in enumerate(objects)
    )


def _draw(
    image: PILImage, boxed: dict[int, tuple[int, int, int, int]], preset: str, seed: int
) -> tuple[PILImage, dict[int, tuple[float, float, float, float]]]:
    """The image, and the boxes (0..1) that stayed visible, by their place."""
    import albumentations
    import numpy as np
    from PIL import Image

    pipeline = albumentations.Compose(
        [getattr(albumentations, name)(**arguments) for name, arguments in AUGMENTATIONS[preset]],
        bbox_params=albumentations.BboxParams(
            format="albumentations", label_fields=["places"], min_visibility=MIN_VISIBLE
        ),
        seed=seed,
    )
    drawn = pipeline(
        image=np.asarray(image.convert("RGB")),
        bboxes=[[side / BOX_SCALE for side in box] for box in boxed.values()],
        places=list(boxed),
    )
    kept = {int(place): tuple(map(float, box)) for place, box in zip(drawn["places"], drawn["bboxes"], strict=True)}
    return Image.fromarray(drawn["image"]), kept  # type: ignore[return-value]  # four sides each
