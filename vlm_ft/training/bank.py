"""The vision bank: what the untrained part of the vision side makes of each photo, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from datasets_vision.example import Picture
from datasets_vision.placing import whole_file
from vlm_ft.answers.task import Values
from vlm_ft.bases.features import Features
from vlm_ft.data.contents import picture_key


@dataclass(frozen=True)
class Kept:
    """What the bank has of one case: the features and sizes of its photos, and the values of an augmented case."""

    features: tuple[Features, ...]
    sizes: tuple[tuple[int, int], ...]
    values: Values | None


@dataclass(frozen=True)
class Bank:
    """A folder with a file for each variant of a case's photos.

    `space` identifies the tower's weights and the processor's settings; `views` is the number of variants of each case.
    """

    folder: Path
    space: str
    views: int = 1
    _hashes: dict[Path, str] = field(default_factory=dict, repr=False, compare=False)

    def file(self, photos: Sequence[Picture], drawn: Sequence[Any]) -> Path:
        """Where the features of photos are kept. `drawn` identifies how they are augmented, as JSON."""
        key = json.dumps([self.space, [picture_key(photo, self._hashes) for photo in photos], drawn])
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"


def read(file: Path) -> Kept:
    """What is kept in a file of a bank."""
    with safe_open(file, "pt") as stored:
        described = json.loads(stored.metadata()["kept"])
        features: list[dict[str, torch.Tensor]] = [{} for _ in described["sizes"]]
        for name in stored.keys():  # noqa: SIM118 (not a dict)
            photo, _, tensor = name.partition("/")
            features[int(photo)][tensor] = stored.get_tensor(name)
    return Kept(tuple(features), tuple((width, height) for width, height in described["sizes"]), described["values"])


def write(file: Path, kept: Kept) -> None:
    """Keep this in a file of a bank."""
    described = json.dumps({"sizes": kept.sizes, "values": kept.values})
    tensors = {
        f"{photo}/{name}": tensor.contiguous()
        for photo, features in enumerate(kept.features)
        for name, tensor in features.items()
    }
    with whole_file(file) as part:
        save_file(tensors, part, {"kept": described})
