"""What the starter's tower is shown in stage one, and what is true of each token of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets_vision.synthetic.defects import STARTER_KINDS
from datasets_vision.synthetic.grounds import GROUNDS, STARTER_SURFACES
from datasets_vision.synthetic.materials import MATERIALS
from datasets_vision.synthetic.objects import OBJECTS, object_scene
from datasets_vision.synthetic.scene import GOOD, SMALLEST, Scene, extent
from datasets_vision.synthetic.surfaces import surface_scene
from vlm_ft.models.starter.architecture import SIDE, TOKEN, TOKENS

CLASSES = (GOOD, *STARTER_KINDS, *OBJECTS["starter"])
SUBSTANCES = tuple(sorted({*STARTER_SURFACES, *GROUNDS, *MATERIALS}))
CLASS_ID = {name: index for index, name in enumerate(CLASSES)}
SUBSTANCE_ID = {name: index for index, name in enumerate(SUBSTANCES)}
BATCH = 32
Arrays = dict[str, NDArray[Any]]


def draw_scene(rng: Generator) -> Scene:
    """A picture of either domain, from the starter's world only."""
    return surface_scene(rng, SIDE) if rng.random() < 0.5 else object_scene(rng, SIDE)


def augmented(rng: Generator, scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(image, mask) flipped, cropped, dimmed, made grey or compressed; ids keep their meaning."""
    image, mask = scene.image, scene.mask
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    if rng.random() < 0.3:
        image, mask = image[::-1], mask[::-1]
    if rng.random() < 0.3:
        side = int(SIDE * rng.uniform(0.6, 0.95))
        x, y = rng.integers(0, SIDE - side, 2)
        image, mask = image[y : y + side, x : x + side], mask[y : y + side, x : x + side]
        image = np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.uint8)
        mask = np.asarray(cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST), np.uint8)
    if rng.random() < 0.2:
        image = np.asarray(cv2.convertScaleAbs(image, alpha=rng.uniform(0.6, 1.3), beta=rng.uniform(-25, 25)), np.uint8)
    if rng.random() < 0.1:
        image = np.repeat(image.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    if rng.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 90))]
        image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(image), np.ascontiguousarray(mask)


def truths(mask: NDArray[np.uint8], scene: Scene) -> Arrays:
    """What each token and the picture should say; shares sum to 1 over the last axis.

    classes (36, C), substances (36, S), boxes (36, 4): how far left, up, right, down of the token's centre
    the box reaches, in picture sides; covered (36,): the token shows an object; picture (C,).
    """
    cells = SIDE // TOKEN
    shares = np.zeros((TOKENS, len(scene.objects) + 1), np.float32)
    for index in range(len(scene.objects) + 1):
        shares[:, index] = (mask == index).reshape(cells, TOKEN, cells, TOKEN).mean((1, 3)).ravel()
    kept = [i for i in range(1, len(scene.objects) + 1) if shares[:, i].sum() * TOKEN**2 >= SMALLEST]
    classes = np.zeros((TOKENS, len(CLASSES)), np.float32)
    substances = np.zeros((TOKENS, len(SUBSTANCES)), np.float32)
    boxes, picture = np.zeros((TOKENS, 4), np.float32), np.zeros(len(CLASSES), np.float32)
    y, x = (np.indices((cells, cells)).reshape(2, -1) + 0.5) / cells
    substances[:, SUBSTANCE_ID[scene.surface]] = 1
    front = shares[:, 1:].argmax(1) + 1 if scene.objects else np.zeros(TOKENS, int)
    for i in kept:
        thing, share = scene.objects[i - 1], shares[:, i]
        left, top, right, bottom = np.array(extent(mask == i)) / SIDE
        classes[:, CLASS_ID[thing.name]] += share
        substances[:, SUBSTANCE_ID[scene.surface]] -= share
        substances[:, SUBSTANCE_ID[thing.material]] += share
        boxes[front == i] = np.stack([x - left, y - top, right - x, bottom - y], 1)[front == i]
        picture[CLASS_ID[thing.name]] = 1
    shown = classes.sum(1)
    seen = np.minimum(1, 4 * shown)  # a quarter of the token is enough: most defects are thin
    classes *= (seen / np.maximum(shown, 1e-6))[:, None]
    classes[:, 0] = 1 - seen
    picture[0] = not kept
    return {
        "classes": classes,
        "substances": substances,
        "boxes": boxes,
        "covered": seen,
        "picture": picture / picture.sum(),
    }


def draw_batch(seed: int, step: int, augment: bool = True, count: int = BATCH) -> dict[str, Tensor]:
    """The pictures (count, 192, 192, 3) uint8 and truths of one step, the same for the same seed and step."""
    rng = np.random.default_rng((seed, step))
    rows: list[Arrays] = []
    for _ in range(count):
        scene = draw_scene(rng)
        image, mask = augmented(rng, scene) if augment else (scene.image, scene.mask)
        rows.append({"images": image, **truths(mask, scene)})
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


class Steps(Dataset[dict[str, Tensor]]):
    """Item i is the whole batch of step i."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        return draw_batch(self.seed, step)


def batches(seed: int, first: int, workers: int) -> Iterator[dict[str, Tensor]]:
    """Batches from step `first` on, without end, drawn ahead in other processes."""
    loader = DataLoader(
        Steps(seed),
        batch_size=None,
        sampler=range(first, 2**31),
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        worker_init_fn=one_thread,
        multiprocessing_context="spawn" if workers else None,  # a fork would inherit dead OpenCV threads
    )
    return iter(loader)


def one_thread(_: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
