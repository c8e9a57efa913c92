"""A small detection head on the frozen tower's feature map: anchor-free like FCOS (Tian et al. 2019), one scale."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert, generalized_box_iou_loss, sigmoid_focal_loss

from datasets_vision.example import BOX_SCALE, box_area
from vlm_ft.answers.kinds import BoxedList, Items
from vlm_ft.answers.metrics import match_items
from vlm_ft.answers.task import Values
from vlm_ft.data.cases import Case
from vlm_ft.evaluation.rivals.rival_data import Attempt, RivalData

WIDTH = 256  # channels between the two 1x1 convolutions
BATCH = 32
LEARNING_RATE = 1e-3
EPOCHS = 200
CHECK_EVERY = 5  # epochs
PATIENCE = 8  # checks without a better F1 on `tune`
OVERLAP = 0.5  # IoU above which the less certain of two boxes of a class is dropped
THRESHOLDS = np.linspace(0.1, 0.9, 17)
DEFAULT_THRESHOLD = 0.3  # if there are no `tune` examples to choose it with


def detector(data: RivalData) -> Attempt | None:
    """Predict names and boxes for the form's first list of boxed items; other parts get their most common value.

    Boxes are right only if the processor shows the tower the whole photo. None without a tower or such a list, or if
    the tower's features form no grid.
    """
    field = next(BoxedList.all_in(data.form.fields), None)
    if data.tower is None or field is None:
        return None
    train, tune = _labelled(data.train, field.name), _labelled(data.tune, field.name)
    names = sorted({_name(item, field.kind) for case in train for item in case.values[field.name]})
    if not names:
        return None
    maps = data.tower.grids([case.example.images[0] for case in (*train, *tune)])
    seen = [example.images[0] for example in data.test if len(example.images) == 1]
    tested = data.tower.grids(seen) if seen else None
    if maps is None or tested is None:
        return None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learner = _Learner(field, names, maps[: len(train)], [case.values[field.name] for case in train])
        learner.fit(maps[len(train) :], [case.values[field.name] for case in tune], data.seconds)
    answers = iter(learner.answers(tested))
    column = [next(answers) if len(example.images) == 1 else None for example in data.test]
    settings = f"{learner.epochs} epochs, score above {learner.threshold:g}"
    return Attempt.of(data.form, {field.name: column}, settings)


class _Learner:
    """The head and its training; afterwards it has the weights and the threshold that were best on `tune`."""

    def __init__(self, field: BoxedList, names: list[str], maps: Tensor, truths: Sequence[Sequence[Values]]) -> None:
        self.kind, self.box, self.names, self.maps = field.kind, field.box, names, maps
        channels, self.height, self.width = maps.shape[1:]
        self.mean = maps.float().mean((0, 2, 3), keepdim=True)
        self.std = maps.float().std((0, 2, 3), keepdim=True) + 1e-6
        last = nn.Conv2d(WIDTH, len(names) + 4, 1)
        nn.init.constant_(last.bias[: len(names)], -4.6)  # type: ignore[index]  # scores start at 0.01: few cells hold an object
        self.head = nn.Sequential(nn.Conv2d(channels, WIDTH, 1), nn.GELU(), last)
        rows, columns = torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing="ij")
        self.centres = torch.stack([columns, rows], -1).reshape(-1, 2) + 0.5  # (positions, 2) in cells
        targets = [self._target(items) for items in truths]
        self.classes, self.boxes = (torch.stack(part) for part in zip(*targets, strict=True))
        self.others = _usual_parts(self.kind, truths)
        self.threshold, self.epochs = DEFAULT_THRESHOLD, 0

    def fit(self, maps: Tensor, truths: Sequence[Sequence[Values]], seconds: float) -> None:
        """Train until the time is up, or the F1 on `tune` (these maps and truths) has not improved for a while."""
        start, best, waited = time.monotonic(), (-1.0, self.threshold), 0
        weights = copy.deepcopy(self.head.state_dict())
        optimizer = torch.optim.AdamW(self.head.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
        while self.epochs < EPOCHS and waited < PATIENCE and time.monotonic() - start < seconds:
            for chosen in torch.split(torch.randperm(len(self.maps)), BATCH):
                optimizer.zero_grad()
                self._loss(chosen).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            self.epochs += 1
            if len(truths) and self.epochs % CHECK_EVERY == 0:
                reached = self._best_threshold(maps, truths)
                waited = 0 if reached[0] > best[0] else waited + 1
                if not waited:
                    best, weights = reached, copy.deepcopy(self.head.state_dict())
        if best[0] >= 0:
            self.head.load_state_dict(weights)
            self.threshold = best[1]

    def answers(self, maps: Tensor) -> list[list[Values]]:
        """The items of each map, most certain first, up to the form's limit."""
        return [_above(self.threshold, found) for found in self._scored(maps)]

    @torch.inference_mode()
    def _scored(self, maps: Tensor) -> list[list[tuple[float, Values]]]:
        found = []
        for chunk in torch.split(maps, BATCH):
            scores, boxes = self._forward(chunk)
            found += [self._items(*pair) for pair in zip(scores.sigmoid(), boxes, strict=True)]
        return found

    def _forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (images, positions, names) and boxes (images, positions, 4) in cells, left to bottom."""
        out = self.head((maps.float() - self.mean) / self.std).flatten(2).transpose(1, 2)
        logits, shape = out[..., : len(self.names)], out[..., len(self.names) :]
        centres, sizes = self.centres + shape[..., :2], shape[..., 2:].clamp(-4, 4).exp()
        return logits, box_convert(torch.cat([centres, sizes], -1), "cxcywh", "xyxy")

    def _loss(self, chosen: Tensor) -> Tensor:
        logits, boxes = self._forward(self.maps[chosen])
        classes, target_boxes = self.classes[chosen], self.boxes[chosen]
        occupied = classes >= 0
        labels = torch.nn.functional.one_hot(classes.clamp(0), len(self.names)) * occupied[..., None]
        focal = sigmoid_focal_loss(logits, labels.float(), reduction="sum")
        box_loss = generalized_box_iou_loss(boxes[occupied], target_boxes[occupied], reduction="sum")
        loss: Tensor = (focal + box_loss) / occupied.sum().clamp(1)
        return loss

    def _target(self, items: Sequence[Values]) -> tuple[Tensor, Tensor]:
        """The class (positions,), -1 for background, and the box (positions, 4), in cells, for each cell of one map.

        A cell belongs to the smallest object with the cell in the central half of its box, in both directions.
        """
        classes, boxes = torch.full((len(self.centres),), -1), torch.zeros(len(self.centres), 4)
        side = torch.tensor([self.width, self.height] * 2) / BOX_SCALE
        boxed = [(item[self.box], _name(item, self.kind)) for item in items if item.get(self.box)]
        for corners, name in sorted(boxed, key=lambda pair: -box_area(pair[0])):
            box = torch.tensor(corners, dtype=torch.float32) * side
            middle, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
            inside = ((self.centres - middle).abs() <= (size / 4).clamp(min=0.5)).all(-1)
            classes[inside], boxes[inside] = self.names.index(name), box
        return classes, boxes

    def _items(self, scores: Tensor, boxes: Tensor) -> list[tuple[float, Values]]:
        """Items with their scores; `scores` are (positions, names)."""
        places, classes = (scores >= THRESHOLDS[0]).nonzero(as_tuple=True)
        kept = batched_nms(boxes[places], scores[places, classes], classes, OVERLAP)[: self.kind.max_items]
        side = BOX_SCALE / torch.tensor([self.width, self.height] * 2)
        found = []
        for index in kept.tolist():
            corners = (boxes[places[index]] * side).round().clamp(0, BOX_SCALE).int().tolist()
            item = {**self.others, self.box: corners}
            if self.kind.name:
                item[self.kind.name] = self.names[int(classes[index])]
            found.append((float(scores[places[index], classes[index]]), item))
        return found

    def _best_threshold(self, maps: Tensor, truths: Sequence[Sequence[Values]]) -> tuple[float, float]:
        """The highest F1 over all items, and the threshold that reaches it."""
        scored = self._scored(maps)
        reached = []
        for threshold in THRESHOLDS:
            pairs = [(truth, _above(threshold, found)) for truth, found in zip(truths, scored, strict=True)]
            hits = sum(len(match_items(self.kind, truth, answer)) for truth, answer in pairs)
            reached.append((2 * hits / max(sum(len(truth) + len(answer) for truth, answer in pairs), 1), threshold))
        return max(reached)


def _above(threshold: float, found: Sequence[tuple[float, Values]]) -> list[Values]:
    return [item for score, item in found if score >= threshold]


def _labelled(cases: Sequence[Case], name: str) -> list[Case]:
    return [case for case in cases if len(case.example.images) == 1 and name in case.values]


def _usual_parts(kind: Items, truths: Sequence[Sequence[Values]]) -> Values:
    """The most common value of every part of an item, in case the form asks for more than name and box."""
    seen: dict[str, Counter[Any]] = {part.name: Counter() for part in kind.fields if part.name != kind.box}
    for item in (item for items in truths for item in items):
        for name in seen.keys() & item.keys():
            seen[name][item[name]] += 1
    return {name: counts.most_common(1)[0][0] for name, counts in seen.items() if counts}


def _name(item: Values, kind: Items) -> str:
    return str(item[kind.name]) if kind.name else ""
