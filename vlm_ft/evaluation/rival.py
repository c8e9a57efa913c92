"""The honest rival: a small convnet that learns one image-level label from the same images in the same time.

It starts from random weights, so it shows what the images alone teach; a fine-tuned model that does not beat
it has not earned its size.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from datasets_vision.example import Picture
from datasets_vision.images import open_image

MODEL = "resnet10t"  # 4.9 M parameters; the strongest of the small ResNets on a few hundred images
BATCH = 32
LEARNING_RATE = 3e-3  # three runs on 250 drawn surfaces: 3 to 9 points above 1e-3 at the same seconds
WEIGHT_DECAY = 0.05
SMOOTHING = 0.1  # Szegedy et al. 2016
WARM_UP = 0.05  # share of the time
CHECKING = 0.15  # the most of the time that goes to the tune images
STRIDE = 32  # of the convnets: sides are multiples

Flips = Literal["none", "horizontal", "both"]
Labelled = tuple[Picture, str]
Progress = Callable[[float, float], None]
"""Called with the seconds that have passed and those that there are."""


@dataclass(frozen=True)
class Rival:
    """A trained classifier: `side` in pixels, `seconds` that training took, `accuracy` on tune (0..1)."""

    network: nn.Module
    classes: tuple[str, ...]
    side: int
    model: str
    seconds: float
    accuracy: float | None

    def predict(self, paths: Sequence[Picture]) -> list[str]:
        """The most probable class of each image. Raises `DataError` where one cannot be read."""
        pictures = _Pictures(paths, self.side, keep=False)
        logits = _logits(self.network, pictures)  # (images, classes)
        return [self.classes[index] for index in logits.argmax(-1).tolist()]


def train_rival(
    train: Sequence[Labelled],
    tune: Sequence[Labelled],
    seconds: float,
    side: int,
    seed: int,
    progress: Progress | None = None,
    *,
    model: str = MODEL,
    flips: Flips = "horizontal",
) -> Rival:
    """Train for `seconds` of wall clock, decoding and checking included, and keep the weights best on tune.

    Images are squeezed to `side` x `side` pixels (rounded to a multiple of 32), so that nothing at a border is
    lost, and kept in memory: 3 x side^2 bytes each. AdamW, cosine over the elapsed share of the time; each draw
    is cropped, lit and flipped anew. `model` is a name of timm. Without tune images the last weights stay.
    Raises `DataError` where an image cannot be read.
    """
    start = time.monotonic()
    classes = tuple(sorted({label for _, label in train}))
    side = max(round(side / STRIDE), 1) * STRIDE
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = timm.create_model(model, pretrained=False, num_classes=len(classes))
        network = network.to(_device(), memory_format=torch.channels_last)
        course = _Course(network, classes, train, tune, side, start, seconds)
        course.run(flips, progress)
    network.load_state_dict(course.best)
    return Rival(network.eval(), classes, side, model, time.monotonic() - start, course.accuracy)


class _Course:
    """One training: the clock, and the best weights so far."""

    def __init__(
        self,
        network: nn.Module,
        classes: tuple[str, ...],
        train: Sequence[Labelled],
        tune: Sequence[Labelled],
        side: int,
        start: float,
        seconds: float,
    ) -> None:
        self.network, self.start, self.seconds = network, start, seconds
        self.train = _Pictures([path for path, _ in train], side)
        self.tune = _Pictures([path for path, _ in tune], side)
        place = {name: index for index, name in enumerate(classes)}
        self.labels = torch.tensor([place[label] for _, label in train])
        self.tune_labels = torch.tensor([place.get(label, -1) for _, label in tune])  # -1: never seen, never right
        self.best = network.state_dict()
        self.accuracy: float | None = None
        self._rank = (-1.0, -math.inf)
        self._check_seconds = self._checked = 0.0

    def run(self, flips: Flips, progress: Progress | None) -> None:
        """Take steps until the last check just fits into the time."""
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        self.check()  # reads the tune images, and tells how long a check takes
        steps = _endless_batches(len(self.train))
        step_seconds = 0.0
        while (begun := self.elapsed) + step_seconds + self._check_seconds < self.seconds:
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * _schedule(begun / self.seconds)
            self.step(optimizer, next(steps), flips)
            step_seconds = self.elapsed - begun
            if self._checked + self._check_seconds < CHECKING * self.elapsed:
                self.check()
            if progress is not None:
                progress(min(self.elapsed, self.seconds), self.seconds)
        self.check()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.start

    def step(self, optimizer: torch.optim.Optimizer, chosen: Tensor, flips: Flips) -> None:
        self.network.train()
        images = varied(self.train.batch(chosen.tolist()), flips)
        target = self.labels[chosen].to(images.device)
        with _quick(images.device):
            logits = self.network(images)
        loss = functional.cross_entropy(logits.float(), target, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def check(self) -> None:
        """Keep the weights if they are the best on tune: by accuracy, then by loss."""
        if not len(self.tune):
            self.best = self.network.state_dict()
            return
        begun = self.elapsed
        logits = _logits(self.network, self.tune)
        right = (logits.argmax(-1) == self.tune_labels).float().mean().item()
        loss = functional.cross_entropy(logits, self.tune_labels, ignore_index=-1, reduction="sum").item()
        if (right, -loss) > self._rank:
            self._rank, self.accuracy = (right, -loss), right
            self.best = copy.deepcopy(self.network.state_dict())
        self._check_seconds = self.elapsed - begun
        self._checked += self._check_seconds


class _Pictures:
    """Images as uint8 tensors (3, side, side), read at first use."""

    def __init__(self, paths: Sequence[Picture], side: int, keep: bool = True) -> None:
        self._paths, self._side, self._keep = paths, side, keep
        self._read: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        if index in self._read:
            return self._read[index]
        squeezed = open_image(self._paths[index]).resize((self._side, self._side))
        picture = torch.from_numpy(np.array(squeezed)).permute(2, 0, 1)
        if self._keep:
            self._read[index] = picture
        return picture

    def batch(self, indices: Sequence[int]) -> Tensor:
        """(images, 3, side, side), about zero mean and unit variance."""
        pixels = torch.stack([self[index] for index in indices]).to(_device())
        return ((pixels.float() - 118.0) / 58.0).contiguous(memory_format=torch.channels_last)


def varied(images: Tensor, flips: Flips) -> Tensor:
    """The same images (images, channels, height, width), each cropped, flipped and lit by its own draw.

    A crop keeps 80 to 100 % of either side; light and contrast change by up to 20 %.
    """
    count, device = len(images), images.device

    def between(low: float, high: float) -> Tensor:
        return torch.empty(count, device=device).uniform_(low, high)

    mirrored = torch.ones(2, count, device=device)  # horizontally, vertically
    axes = {"none": 0, "horizontal": 1, "both": 2}[flips]
    mirrored[:axes] = torch.randint(0, 2, (axes, count), device=device) * 2.0 - 1.0
    scale = between(0.8, 1.0)
    place = torch.zeros(count, 2, 3, device=device)
    place[:, 0, 0], place[:, 1, 1] = scale * mirrored[0], scale * mirrored[1]
    place[:, 0, 2], place[:, 1, 2] = (1 - scale) * between(-1, 1), (1 - scale) * between(-1, 1)
    grid = functional.affine_grid(place, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast, light = between(0.8, 1.2), between(-0.4, 0.4)  # in standard deviations of a pixel
    return moved * contrast[:, None, None, None] + light[:, None, None, None]


@torch.inference_mode()
def _logits(network: nn.Module, pictures: _Pictures) -> Tensor:
    """(images, classes) on the CPU."""
    network.eval()
    starts = range(0, len(pictures), BATCH)
    batches = [range(begin, min(begin + BATCH, len(pictures))) for begin in starts]
    with _quick(_device()):
        logits = [network(pictures.batch(batch)).float().cpu() for batch in batches]
    return torch.cat(logits) if logits else torch.empty(0, 1)


def _endless_batches(count: int) -> Iterator[Tensor]:
    """Shuffled passes end to end, BATCH indices at a time: also where there are fewer images than that."""
    pending = torch.empty(0, dtype=torch.long)
    while True:
        while len(pending) < BATCH:
            pending = torch.cat([pending, torch.randperm(count)])
        yield pending[:BATCH]
        pending = pending[BATCH:]


def _schedule(share: float) -> float:
    """Linear warm-up, then half a cosine to zero over the share of the time (Loshchilov & Hutter 2017)."""
    return min(share / WARM_UP, 1.0) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def _quick(device: torch.device) -> torch.autocast:
    """bfloat16 where the hardware multiplies in it: twice the steps in the same time."""
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported()
    else:
        capable = torch.cpu.get_capabilities()
        able = bool(capable.get("avx512_bf16") or capable.get("amx_bf16"))
    return torch.autocast(device.type, torch.bfloat16, enabled=able)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
