"""Uploaded photos, decoded in the same way as the service's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL.Image import Image

from datasets_vision.images import open_image
from vlm_ft.adapters import Card
from vlm_ft.errors import DataError
from vlm_ft.inference.photo_decoder import decoded

MAX_PHOTOS = 8  # per case: the highest photo number that a finding can have


def reads_photos(card: Card) -> bool:
    """Whether the adapter takes images."""
    return card.base.kind != "text" and "photo" in card.inputs


def reads_text(card: Card) -> bool:
    """Whether the adapter takes a text with or instead of a photo; one trained only on photos does not."""
    return "text" in card.inputs


def opened(card: Card, files: Sequence[str]) -> tuple[Image, ...]:
    """The photos of a case, upright RGB, in order; none for an adapter that reads text only.

    Raises `DataError` for a photo that cannot be read, and for too many.
    """
    if not reads_photos(card):
        return ()
    if len(files) > MAX_PHOTOS:
        raise DataError("", f"{len(files)} photos exceed the limit of {MAX_PHOTOS}", "choose the most informative ones")
    if not all(Path(file).is_file() for file in files):
        raise DataError("", "The app deletes photos an hour after they were uploaded", "upload them again")
    return decoded([Path(file) for file in files])


def caption(file: str, photo: Image) -> str:
    """The name of a photo's file, and its size in pixels."""
    return f"{Path(file).name}, {photo.width}×{photo.height}"


def photo_input(label: str, **look: Any) -> gr.File:
    """A file input for photos, whose value is the paths of the files."""
    photos = gr.File(label=label, file_count="multiple", **look)
    # `open_image` checks the content of files, whatever their names; Gradio would make an empty copy of each
    photos.preprocess = lambda payload: [file.path for file in payload] if payload else []
    return photos


def small(path: Path, side: int) -> Image:
    """The picture in a file, with at most `side` pixels per side. Raises `DataError` if it cannot be read."""
    picture = open_image(path, largest=side * side)
    picture.thumbnail((side, side))
    return picture
