"""Uploaded photos, decoded in the same way as the service's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL.Image import Image

from datasets_vision.images import open_image
from vlm_ft.adapters import Card
from vlm_ft.errors import DataError
from vlm_ft.inference import photo_decoder

from .handlers import QUIET

MAX_PHOTOS = 8  # per case: the highest photo number that a finding can have


def reads_photos(card: Card) -> bool:
    """Whether the adapter takes images."""
    return card.base.kind != "text" and "photo" in card.inputs


def reads_text(card: Card) -> bool:
    """Whether the adapter takes a text with or instead of a photo; one trained only on photos does not."""
    return "text" in card.inputs


def reads_texts_alone(card: Card) -> bool:
    """Whether the adapter takes texts and no images: it can be talked to, and reads the passages of a PDF."""
    return reads_text(card) and not reads_photos(card)


def opened(card: Card, files: Sequence[str]) -> tuple[Image, ...]:
    """The photos of a case, upright RGB, in order; none for an adapter that reads text only.

    Raises `DataError` for a photo that cannot be read, and for too many.
    """
    if not reads_photos(card):
        return ()
    if len(files) > MAX_PHOTOS:
        raise DataError("", f"{len(files)} photos exceed the limit of {MAX_PHOTOS}", "choose the most informative ones")
    require_kept(files)
    return photo_decoder.shared().decoded([Path(file) for file in files])


def require_kept(files: Iterable[str]) -> None:
    """Raise `DataError` if an upload was deleted meanwhile."""
    if not all(Path(file).is_file() for file in files):
        raise DataError("", "The app deletes photos and PDFs an hour after upload", "upload them again")


def caption(file: str, photo: Image) -> str:
    """The name of a photo's file, and its size in pixels."""
    return f"{Path(file).name}, {photo.width}×{photo.height}"


def photo_input(label: str, **look: Any) -> gr.File:
    """A file input for photos, whose value is the paths of the files."""
    photos = gr.File(label=label, file_count="multiple", **look)
    # `open_image` checks the content of files, whatever their names; Gradio would make an empty copy of each
    photos.preprocess = lambda payload: [file.path for file in payload] if payload else []
    return photos


def pdf_input(**look: Any) -> gr.File:
    """Where a PDF is uploaded; its value is the path of the file, whose content is checked when it is read."""
    pdf = gr.File(label="Or a PDF, to be answered by passage", file_types=[".pdf"], height=160, **look)
    pdf.preprocess = lambda payload: payload.path if payload else None
    return pdf


def photo_taken(photos: gr.File) -> gr.Image:
    """A camera, and a button that pastes; what they give is added to the photos. `accessible.py` adds Ctrl+V."""
    taken = gr.Image(label="Camera or clipboard", sources=["webcam", "clipboard"], height=260)
    taken.preprocess = lambda payload: payload.path if payload else None  # not decoded here

    def added(photo: str | None, earlier: list[str]) -> tuple[Any, Any]:
        return ([*earlier, photo], None) if photo else (gr.skip(), gr.skip())

    taken.input(added, [taken, photos], [photos, taken], **QUIET)
    return taken


def small(path: Path, side: int) -> Image:
    """The picture in a file, with at most `side` pixels per side, without metadata.

    Raises `DataError` if it cannot be read.
    """
    picture = open_image(path, largest=side * side)
    picture.thumbnail((side, side))
    picture.info = {name: fact for name, fact in picture.info.items() if name == "icc_profile"}
    return picture
