"""Stage one of the starter: its vision tower learns to see from exact masks.

Every merged token says what is under it: the class, the substance, and how far the thing's box reaches; the
whole picture says which classes it holds. Next-token loss alone stays at chance for long on so small a model.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen3VLForConditionalGeneration

from vlm_ft.models.pictures import attend_together
from vlm_ft.models.starter.architecture import (
    DEEPSTACK,
    MERGE,
    PATCH,
    SIDE,
    TEMPORAL,
    TOKEN,
    TOKENS,
    WIDTH,
    build_starter,
)
from vlm_ft.pretraining.lessons import BATCH, CLASSES, SUBSTANCES, batches, draw_batch

PEAK_RATE = 1.5e-3
WARMUP = 0.03  # share of the run
CHECKPOINT = "tower.pt"
HELD_OUT = 2**31  # seed of the pictures that are only looked at


# --- the tower and its heads ---


def patches(images: Tensor) -> Tensor:
    """uint8 (n, 192, 192, 3) -> (n * 144, 1536) in -1..1, laid out as the Qwen3-VL image processor does."""
    n, height, width, channels = images.shape
    pixels = images.float().div_(127.5).sub_(1)
    rows, columns = height // TOKEN, width // TOKEN
    pixels = pixels.view(n, rows, MERGE, PATCH, columns, MERGE, PATCH, channels).permute(0, 1, 4, 2, 5, 7, 3, 6)
    pixels = pixels.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, TEMPORAL, -1, -1)
    return pixels.reshape(n * rows * columns * MERGE**2, -1)


def quicken(visual: Any) -> None:
    """Let a tower train quickly on a CPU: one attention product for all pictures, no convolution; same values."""
    attend_together(visual)
    projection = visual.patch_embed.proj
    # The convolution's stride is its kernel: a plain product, many times quicker backward on a CPU.
    visual.patch_embed.forward = lambda flat: functional.linear(flat, projection.weight.flatten(1), projection.bias)


class Tower(nn.Module):
    """The starter's vision tower with its training heads."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.visual = build_starter(seed).model.visual
        quicken(self.visual)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(len(DEEPSTACK) + 1))
            self.classes = nn.ModuleList(nn.Linear(WIDTH, len(CLASSES)) for _ in self.norms)
            self.substances = nn.ModuleList(nn.Linear(WIDTH, len(SUBSTANCES)) for _ in self.norms)
            self.boxes = nn.Linear(WIDTH, 4)
            self.picture = nn.Linear(2 * WIDTH, len(CLASSES))

    def forward(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Logits of the final tokens first, then of each deepstack layer; all (n, 36, ...) but picture (n, C)."""
        n = len(images)
        grid = torch.tensor([[1, SIDE // PATCH, SIDE // PATCH]]).expand(n, 3).to(images.device)
        flat = patches(images)
        seen = self.visual(flat, grid_thw=grid)
        layers = [seen.pooler_output, *seen.deepstack_features]
        tokens = [norm(layer.view(n, TOKENS, WIDTH)) for norm, layer in zip(self.norms, layers, strict=True)]
        pooled = torch.cat([tokens[0].mean(1), tokens[0].amax(1)], -1)
        return {
            "classes": [head(t) for head, t in zip(self.classes, tokens, strict=True)],
            "substances": [head(t) for head, t in zip(self.substances, tokens, strict=True)],
            "boxes": [self.boxes(tokens[0])],
            "picture": [self.picture(pooled)],
        }


def dense_loss(said: dict[str, list[Tensor]], true: dict[str, Tensor]) -> Tensor:
    """The sum of what every head gets wrong; deepstack layers count a quarter."""
    total = functional.cross_entropy(said["picture"][0].float(), true["picture"])
    weight = 0.3 + 0.7 * true["covered"]  # background is most of every picture
    for index, (classes, substances) in enumerate(zip(said["classes"], said["substances"], strict=True)):
        share = 1.0 if index == 0 else 0.25
        per_token = functional.cross_entropy(
            classes.float().transpose(1, 2), true["classes"].transpose(1, 2), reduction="none"
        )
        total = total + share * (per_token * weight).sum() / weight.sum()
        total = total + 0.5 * share * functional.cross_entropy(
            substances.float().transpose(1, 2), true["substances"].transpose(1, 2)
        )
    reach = (said["boxes"][0].float() - true["boxes"]).abs().mean(-1)
    return total + 2 * (reach * true["covered"]).sum() / true["covered"].sum().clamp(min=1)


# --- training ---


@dataclass(frozen=True)
class Budget:
    """How long to train: a number of pictures, or minutes of wall clock (all runs of a resumed one together)."""

    pictures: int | None
    minutes: float | None

    def share(self, step: int, seconds: float) -> float:
        """How much of the run is over, 0..1."""
        if self.pictures is not None:
            return min(1.0, step * BATCH / self.pictures)
        assert self.minutes is not None
        return min(1.0, seconds / (60 * self.minutes))


def rate(share: float, peak: float) -> float:
    """Linear warmup, then a cosine to nothing."""
    return peak * min(1.0, (share + 1e-4) / WARMUP) * 0.5 * (1 + float(np.cos(np.pi * share)))


class Run:
    """A training run that can be stopped and gone on with at any step."""

    def __init__(self, seed: int) -> None:
        self.seed, self.step, self.seconds = seed, 0, 0.0
        self.tower = Tower(seed)
        named = self.tower.visual.named_parameters()
        inner = [p for name, p in named if p.ndim == 2 and name.startswith("blocks.")]
        ids = {id(p) for p in inner}
        outer = [p for p in self.tower.parameters() if id(p) not in ids]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(outer, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.05),
            torch.optim.Muon(inner, lr=PEAK_RATE, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        ]

    def learn(self, batch: dict[str, Tensor], share: float) -> float:
        """One step at the rate of `share`; the loss before it."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate(share, PEAK_RATE)
        with torch.autocast("cpu", torch.bfloat16):
            said = self.tower(batch["images"])
        loss = dense_loss(said, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.tower.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return float(loss.detach())

    def save(self, folder: Path) -> Path:
        """Write the checkpoint whole or not at all."""
        path = folder / CHECKPOINT
        state = {
            "visual": self.tower.visual.state_dict(),
            "tower": self.tower.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "step": self.step,
            "seconds": self.seconds,
            "seed": self.seed,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
        return path

    def restore(self, folder: Path) -> None:
        state = torch.load(folder / CHECKPOINT, weights_only=True)
        self.tower.load_state_dict(state["tower"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.seconds, self.seed = state["step"], state["seconds"], state["seed"]


@lru_cache(maxsize=32)
def held_out_batch(index: int) -> dict[str, Tensor]:
    return draw_batch(HELD_OUT, index, augment=False)


@torch.no_grad()
def held_out_scores(tower: Tower, batches_seen: int = 6) -> dict[str, float]:
    """Accuracy on tokens that show something, and macro-F1 of the picture's class, on unseen pictures."""
    from sklearn.metrics import f1_score

    tower.eval()
    right, shown, told, true = 0, 0, [], []
    for index in range(batches_seen):
        batch = held_out_batch(index)
        with torch.autocast("cpu", torch.bfloat16):
            said = tower(batch["images"])
        front = batch["covered"] >= 0.5
        right += int((said["classes"][0].argmax(-1) == batch["classes"].argmax(-1))[front].sum())
        shown += int(front.sum())
        guess = said["picture"][0].argmax(-1)
        fits = batch["picture"].gather(1, guess[:, None])[:, 0] > 0  # any object of the picture will do
        told += guess.tolist()
        true += torch.where(fits, guess, batch["picture"].argmax(-1)).tolist()
    tower.train()
    return {
        "dense_accuracy": right / max(1, shown),
        "macro_f1": float(f1_score(true, told, average="macro", zero_division=0)),
    }


def train_tower(
    out: Path,
    *,
    pictures: int | None,
    minutes: float | None,
    seed: int,
    resume: bool,
    workers: int = 1,
    save_every: float = 180,
    tell_every: float = 120,
) -> Path:
    """Train until the budget of pictures or minutes is spent; returns the checkpoint's path.

    With `resume` a checkpoint in `out` is gone on with: exactly, where the budget is in pictures.
    """
    if (pictures is None) == (minutes is None):
        raise ValueError("give a budget of either pictures or minutes")
    out.mkdir(parents=True, exist_ok=True)
    run, budget = Run(seed), Budget(pictures, minutes)
    if resume and (out / CHECKPOINT).exists():
        run.restore(out)
    source = batches(run.seed, run.step, workers)
    started, before = time.monotonic(), run.seconds
    saved = told = started
    told_step, losses = run.step, list[float]()
    while (share := budget.share(run.step, run.seconds)) < 1:
        losses.append(run.learn(next(source), share))
        now = time.monotonic()
        run.seconds = before + now - started
        if now - told >= tell_every:
            pace = (run.step - told_step) * BATCH / (now - told)
            tell(run, losses, pace)
            told, told_step, losses = time.monotonic(), run.step, []
        if now - saved >= save_every:
            run.save(out)
            saved = now
    path = run.save(out)
    tell(run, losses, float("nan"))
    return path


def tell(run: Run, losses: list[float], pace: float) -> None:
    scores = " ".join(f"{name} {value:.3f}" for name, value in held_out_scores(run.tower).items())
    loss = float(np.mean(losses)) if losses else float("nan")
    print(
        f"{run.seconds / 60:5.1f} min {run.step * BATCH:7d} pictures {pace:5.1f}/s loss {loss:.3f} {scores}", flush=True
    )


def load_tower(model: Qwen3VLForConditionalGeneration, checkpoint: Path) -> None:
    """Put a trained tower into the whole model, in place."""
    model.model.visual.load_state_dict(torch.load(checkpoint, weights_only=True)["visual"])
