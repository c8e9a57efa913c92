"""The vision bank: a run's vision features, computed once per photo and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from datasets_vision.example import Picture, View, path_of
from datasets_vision.placing import whole_file
from vlm_ft.answers.task import Values
from vlm_ft.bases.features import Features
from vlm_ft.errors import DataError


@dataclass(frozen=True)
class Entry:
    """The features and sizes of a case's photos, and its values if they were augmented with the photos."""

    features: Features
    sizes: tuple[tuple[int, int], ...]
    values: Values | None


@dataclass(frozen=True)
class Bank:
    """A folder with a file for each variant of a case's photos.

    `space` identifies the tower's weights and input settings; `views` is the number of variants of each case. `hashes`
    are those of the photos' files, each read once.
    """

    folder: Path
    space: str
    views: int = 1
    hashes: dict[Path, str] = field(default_factory=dict)

    def file(self, photos: Sequence[Picture], variant: Sequence[Any]) -> Path:
        """The file of an entry. `variant` identifies how the photos are augmented, as JSON."""
        shown = [
            [self._hash(path_of(photo)), *((photo.frame, photo.window, photo.crop) if isinstance(photo, View) else ())]
            for photo in photos
        ]
        key = json.dumps([self.space, shown, variant])
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"

    def _hash(self, file: Path) -> str:
        """The SHA-256 of a file. Raises `DataError` if it cannot be read."""
        if file not in self.hashes:
            try:
                with file.open("rb") as content:
                    self.hashes[file] = hashlib.file_digest(content, "sha256").hexdigest()
            except OSError as error:
                raise DataError(
                    file, f"cannot be read ({error.strerror})", "restore it, or remove its label"
                ) from error
        return self.hashes[file]


def load_entry(file: Path) -> Entry:
    """Read an entry."""
    with safe_open(file, "pt") as stored:
        described = json.loads(stored.metadata()["entry"])
        features = {name: stored.get_tensor(name) for name in described["names"]}
    return Entry(features, tuple((width, height) for width, height in described["sizes"]), described["values"])


def save_entry(file: Path, entry: Entry) -> None:
    """Write an entry."""
    described = {"names": list(entry.features), "sizes": entry.sizes, "values": entry.values}
    with whole_file(file) as part:
        tensors = {name: tensor.contiguous() for name, tensor in entry.features.items()}
        save_file(tensors, part, {"entry": json.dumps(described)})
