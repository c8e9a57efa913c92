"""Stage 2: the whole starter learns to follow forms, from the tower of stage 1."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from transformers import AutoProcessor

from vlm_ft.conversation import CHOICES, IGNORED, Batch, Conversation
from vlm_ft.grammar import narrowed
from vlm_ft.models.base_ref import BaseRef
from vlm_ft.models.families import FAMILIES
from vlm_ft.models.load import Base
from vlm_ft.models.starter.architecture import build_starter
from vlm_ft.pretraining.instructions import draw_row
from vlm_ft.pretraining.lessons import one_thread
from vlm_ft.pretraining.tower import Budget, load_tower, quicken, rate
from vlm_ft.recipe import LossOn

BATCH = 32
PART = 8
LANGUAGE_RATE = 1.5e-3
TOWER_RATE = 3e-4
CHECKPOINT = "instruct.pt"
Conversations = dict[LossOn, Conversation]


SPELLED_SHARE = 0.15  # of the parts whose answers are learned whole; of the others, what their forms leave open


def conversations_of(processor_folder: Path) -> Conversations:
    """The starter's prompts, without its weights, by what is learned of an answer."""
    processor = AutoProcessor.from_pretrained(processor_folder)
    ref = BaseRef(name="starter", fingerprint="", model_type="qwen3_vl", kind="vision")
    base = Base(None, processor, FAMILIES["qwen3_vl"], ref)
    return {loss_on: Conversation(base, loss_on) for loss_on in get_args(LossOn)}


def draw_batch(conversations: Conversations, seed: int, step: int, count: int = BATCH) -> list[Batch]:
    """The supervised tensors of one step, the same for the same seed and step.

    Rows of like length, with images or without, come in parts of `PART`, so that little of a part is padding.
    """
    rng = np.random.default_rng((seed, step))
    rows = sorted(
        (draw_row(rng) for _ in range(count)), key=lambda row: len(row.form.prompt) + 2 * len(row.target or "")
    )
    kinds = ([row for row in rows if row.images], [row for row in rows if not row.images])
    parts = [kind[start : start + PART] for kind in kinds for start in range(0, len(kind), PART)]
    return [
        conversations["answer" if rng.random() < SPELLED_SHARE else "decisions"].encode(part, supervised=True)
        for part in parts
    ]


class Steps(Dataset[list[Batch]]):
    """Item i is the whole batch of step i."""

    def __init__(self, processor_folder: Path, seed: int) -> None:
        self.folder, self.seed = processor_folder, seed
        self.conversations: Conversations | None = None

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, step: int) -> list[Batch]:
        if self.conversations is None:
            self.conversations = conversations_of(self.folder)
        return draw_batch(self.conversations, self.seed, step)


def batches(processor_folder: Path, seed: int, first: int, workers: int = 1) -> Iterator[list[Batch]]:
    """Batches from step `first` on, without end, drawn ahead in another process."""
    loader = DataLoader(
        Steps(processor_folder, seed),
        batch_size=None,
        sampler=range(first, 2**31),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=one_thread,
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loader)


def answer_losses(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy (rows,) of each row's supervised tokens, and the share that was the likeliest (rows,).

    By row, so that a long list of boxes does not drown a single word's lesson.
    """
    inputs = {key: value for key, value in batch.items() if key not in ("labels", CHOICES)}
    hidden = model.model(**inputs).last_hidden_state[:, :-1]  # (batch, length - 1, width)
    targets = batch["labels"][:, 1:]
    kept = targets != IGNORED
    logits = narrowed(model.lm_head(hidden[kept]).float(), batch.get(CHOICES))
    losses = torch.zeros(kept.shape).masked_scatter(
        kept, functional.cross_entropy(logits, targets[kept], reduction="none")
    )
    right = torch.zeros(kept.shape).masked_scatter(kept, (logits.argmax(-1) == targets[kept]).float())
    counts = kept.sum(1)
    return losses.sum(1) / counts, right.sum(1) / counts


class Run:
    """The model, its optimiser and how far it is."""

    def __init__(self, seed: int, tower: Path | None) -> None:
        self.seed, self.step, self.seconds = seed, 0, 0.0
        self.model = build_starter(seed)
        if tower is not None:
            load_tower(self.model, tower)
        quicken(self.model.model.visual)
        visual = {id(p) for name, p in self.model.model.visual.named_parameters() if "merger" not in name}
        groups = [
            {"params": [p for p in self.model.parameters() if id(p) not in visual], "peak": LANGUAGE_RATE},
            {"params": [p for p in self.model.parameters() if id(p) in visual], "peak": TOWER_RATE},
        ]
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.05)

    def learn(self, parts: list[Batch], share: float) -> tuple[float, float]:
        """One step; the mean loss (nats a token) and the token accuracy before it."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate(share, group["peak"])
        with torch.autocast("cpu", torch.bfloat16):
            results = [answer_losses(self.model, part) for part in parts]
        losses = torch.cat([losses for losses, _ in results])
        losses.mean().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        right = torch.cat([right for _, right in results])
        return float(losses.mean().detach()), float(right.mean())

    def save(self, folder: Path) -> Path:
        """Write the checkpoint whole or not at all."""
        path = folder / CHECKPOINT
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": (self.step, self.seconds, self.seed),
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
        return path

    def restore(self, folder: Path) -> None:
        """Go on from the checkpoint in `folder`."""
        state = torch.load(folder / CHECKPOINT, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.seed = state["progress"]


def train_instructions(
    out: Path,
    *,
    processor_folder: Path,
    tower: Path | None,
    steps: int | None,
    minutes: float | None,
    seed: int,
    resume: bool,
    save_every: float = 180,
    tell_every: float = 60,
) -> Run:
    """Train until the budget of steps or minutes is spent. With `resume` a checkpoint in `out` is gone on with."""
    out.mkdir(parents=True, exist_ok=True)
    run, budget = Run(seed, tower), Budget(None if steps is None else steps * BATCH, minutes)
    if resume and (out / CHECKPOINT).exists():
        run.restore(out)
    source = batches(processor_folder, run.seed, run.step)
    started, before = time.monotonic(), run.seconds
    saved = told = started
    recent: list[tuple[float, float]] = []
    while (share := budget.share(run.step, run.seconds)) < 1:
        recent.append(run.learn(next(source), share))
        now = time.monotonic()
        run.seconds = before + now - started
        if now - told >= tell_every:
            loss, right = np.mean(recent, axis=0)
            print(
                f"{run.seconds / 60:5.1f} min {run.step * BATCH:7d} rows {len(recent) * BATCH / (now - told):5.1f}/s "
                f"loss {loss:.3f} token accuracy {right:.3f}",
                flush=True,
            )
            told, recent = now, []
        if now - saved >= save_every:
            run.save(out)
            saved = now
    run.save(out)
    return run
