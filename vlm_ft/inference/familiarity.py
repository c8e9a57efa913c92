"""How far a photo or a text is from what an adapter was trained on.

An example is judged by the distance between its features in the frozen base and those of the nearest training examples
(Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors"), a photo also by its sharpness and
brightness. A photo that is seen in tiles is as strange as the median of its tiles, so that a few unusual ones do not
flag it. The threshold is the conformal quantile of examples that training did not see.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from datasets_vision.example import Example, Picture, text_of
from datasets_vision.images import opened
from datasets_vision.placing import whole_file
from datasets_vision.tiles import grid
from vlm_ft.adapters import FAMILIARITY
from vlm_ft.answers.confidence import Familiar
from vlm_ft.bases.limits import Limits
from vlm_ft.bases.load import Base
from vlm_ft.bases.tower import Tower
from vlm_ft.conversation import Row
from vlm_ft.errors import AdapterError, cause
from vlm_ft.recipe import Tiling

EXEMPLARS = 150
"""With 1,280 channels in eight bits, the file is below 200 kB."""

NEIGHBOURS = 3
EDGE = 0.95
"""The quantile of the training examples' distances that counts as their edge; for quality, it is the extreme."""

FALSE_ALARMS = 0.05
MIN_THRESHOLD = 0.05
"""Scores are divided by the threshold, which is 0 or less if all held-out texts repeat training texts."""

FEWEST = 40
"""With fewer training examples, or fewer held-out ones, nothing is fitted."""

AT_ONCE = 16  # photos in memory at a time
SIDE = 224  # pixels; photos are scaled to this to measure sharpness and brightness

Input = Example | Row
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Description:
    """A description of the training examples, as arrays; see `fit`."""

    arrays: dict[str, NDArray[Any]]

    @classmethod
    def fit(cls, features: Rows, quality: Rows) -> Description:
        """Describe features (examples, channels) and quality (examples, measures), which may have no columns."""
        step, middle = ceil(len(features) / EXEMPLARS), np.median(quality, axis=0)
        units = unit_vectors(features)
        scales = np.abs(units[::step]).max(1) / 127
        arrays = {
            "exemplars": np.round(units[::step] / scales[:, None]).astype(np.int8),
            "scales": scales,
            "quality": np.stack([middle, np.abs(quality - middle).max(0) + 1e-6]).astype(np.float32),
        }
        alike = cls(arrays)._similarities(features)
        own = np.arange(len(scales))
        alike[own * step, own] = -1.0  # an exemplar's nearest neighbour is another one
        far = _distances(alike)
        usual, edge = np.quantile(far, (0.5, EDGE))
        arrays["content"] = np.array([usual, edge - usual + 1e-6], dtype=np.float32)
        return cls(arrays)

    def _similarities(self, features: Rows) -> Rows:
        """(examples, exemplars) the cosines."""
        return np.asarray(unit_vectors(features) @ self.exemplars.T)

    @property
    def exemplars(self) -> Rows:
        """(exemplars, channels) the features of some training examples, of length 1."""
        return np.asarray(self.arrays["exemplars"].astype(np.float32) * self.arrays["scales"][:, None])

    @property
    def of_photos(self) -> bool:
        """Whether it describes photos, which have a quality; otherwise it describes texts."""
        return bool(self.arrays["quality"].shape[1])

    def scores(self, features: Rows, quality: Rows) -> Rows:
        """(examples, 1 + measures): how strange each is: 0 in the middle of the training examples, 1 at their edge."""
        (usual, content), (middle, quality_range) = self.arrays["content"], self.arrays["quality"]
        far = (_distances(self._similarities(features)) - usual) / content
        return np.column_stack([far, (quality - middle) / quality_range])

    def write(self, folder: Path) -> None:
        """Write the description beside the adapter's tensors."""
        with whole_file(folder / FAMILIARITY) as part:
            save_file(self.arrays, part)

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Read the description that `write` wrote. Raises `AdapterError` if it is missing or damaged."""
        try:
            return cls(load_file(folder / FAMILIARITY))
        except (SafetensorError, OSError) as error:
            problem = f"cannot be read ({cause(error)})"
            raise AdapterError(folder / FAMILIARITY, problem, "run vlm-ft calibrate again") from error


def unit_vectors(features: Rows) -> Rows:
    """The features of each example, scaled to length 1."""
    return np.asarray(features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-12), dtype=np.float32)


def _distances(similarities: Rows) -> Rows:
    """(examples,) the logarithm of the cosine distance to the last of the nearest exemplars."""
    nearest = np.sort(similarities, axis=1)[:, -min(NEIGHBOURS, similarities.shape[1])]
    return np.asarray(np.log(np.maximum(1 - nearest, 1e-6)), dtype=np.float32)


def strangeness(scores: Rows) -> Rows:
    """(examples,) the largest deviation: of content only upwards, of sharpness and brightness in both directions."""
    return np.asarray(np.maximum(scores[:, 0], np.abs(scores[:, 1:]).max(1, initial=-np.inf)))


def median_place(strange: Sequence[float]) -> int:
    """The index of the median, or of the upper one if there are two."""
    return int(np.argsort(strange, kind="stable")[len(strange) // 2])


def in_words(score: Rows, photo: bool) -> str:
    """Why an example with these scores is unlike the training data."""
    place = int(np.argmax([score[0], *np.abs(score[1:])]))
    if place == 0:
        return f"the {'photo' if photo else 'text'} is unlike those that the adapter was trained on"
    low, high = (("more blurred", "sharper"), ("darker", "brighter"))[place - 1]
    return f"the photo is {low if score[place] < 0 else high} than those that the adapter was trained on"


class Extractor:
    """Extracts the features of photos, or of texts, from one base without any adapter."""

    def __init__(self, base: Base, limits: Limits | None = None) -> None:
        self._base = base
        self._tower = Tower(base, limits) if base.reader.sees else None

    def of_photos(self, pictures: Iterable[Picture | Image.Image], features: Rows | None = None) -> tuple[Rows, Rows]:
        """Mean features (photos, channels), and log sharpness and mean brightness (photos, 2).

        `features`: the tower's output, if it has already run on these photos. Only a few photos are held at once.
        """
        assert self._tower is not None
        parts: list[Rows] = []
        quality: list[tuple[float, float]] = []
        remaining = iter(pictures)
        while photos := [opened(picture) for picture in islice(remaining, AT_ONCE)]:
            quality += [_quality(photo) for photo in photos]
            if features is None:
                parts.append(self._tower.means(photos))
        if features is None:
            features = np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)
        return features, np.array(quality, dtype=np.float32).reshape(-1, 2)

    def of_texts(self, texts: Sequence[str]) -> tuple[Rows, Rows]:
        """The mean of the tokens' embeddings (texts, width); texts have no quality."""
        table = self._base.model.get_input_embeddings()
        rows = []
        with torch.inference_mode():
            for text in texts:
                ids = self._base.reader.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
                rows.append(table(ids.to(self._base.device))[0].float().mean(0).cpu())
        return torch.stack(rows).numpy(), np.zeros((len(texts), 0), dtype=np.float32)

    def of(self, inputs: Sequence[Input], features: Rows | None = None) -> tuple[Rows, Rows]:
        """The same for examples or rows that all have photos (only the first counts), or all have none."""
        if inputs[0].images:
            return self.of_photos([one.images[0] for one in inputs], features)
        return self.of_texts([text_of(one.turns) or " " for one in inputs])


def _quality(photo: Image.Image) -> tuple[float, float]:
    """The logarithm of the Laplacian's variance (Pech-Pacheco et al. 2000), and the mean brightness, 0..1."""
    grey = photo.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    edges = np.asarray(grey.filter(ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), 1, 128)), dtype=np.float32)
    return float(np.log(edges[1:-1, 1:-1].var() + 1.0)), float(np.asarray(grey, dtype=np.float32).mean() / 255)


def fit_familiarity(
    extractor: Extractor, train: Sequence[Input], held_out: Sequence[Input], tiling: Tiling | None = None
) -> tuple[Description, Familiar] | None:
    """The description of the training examples, and the threshold.

    None if there are too few examples, or both photos and texts. With `tiling`, the training examples are tiles, and
    the held-out ones are whole photos.
    """
    have_photos = {bool(one.images) for one in (*train, *held_out)}
    if min(len(train), len(held_out)) < FEWEST or len(have_photos) > 1:
        return None
    description = Description.fit(*extractor.of(train))
    scores = np.sort(_held_out(extractor, description, held_out, tiling))
    place = min(ceil((len(scores) + 1) * (1 - FALSE_ALARMS)), len(scores))  # Vovk et al. 2005: conformal
    threshold = max(float(scores[place - 1]), MIN_THRESHOLD)
    found = Familiar(threshold=threshold, false_alarms=FALSE_ALARMS, trained=len(train), held_out=len(held_out))
    return description, found


def _held_out(extractor: Extractor, description: Description, inputs: Sequence[Input], tiling: Tiling | None) -> Rows:
    """(examples,) the strangeness of each example; with `tiling`, the median over a photo's tiles."""
    if tiling is None:
        return strangeness(description.scores(*extractor.of(inputs)))
    found = []
    for one in inputs:
        photo = opened(one.images[0])
        tiles = (photo.crop(crop) for crop in grid(*photo.size, tiling.side, tiling.overlap))
        strange = strangeness(description.scores(*extractor.of_photos(tiles)))
        found.append(strange[median_place(strange.tolist())])
    return np.array(found, dtype=np.float32)
