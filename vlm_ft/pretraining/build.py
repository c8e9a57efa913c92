"""`vlm-ft starter build`: both stages, then the folder that ships."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import GenerationConfig

from vlm_ft.models.starter.architecture import ENDOFTEXT, IM_END
from vlm_ft.pretraining.instruct import BATCH, Run, train_instructions
from vlm_ft.pretraining.tower import CHECKPOINT as TOWER_CHECKPOINT
from vlm_ft.pretraining.tower import train_tower
from vlm_ft.pretraining.vocabulary import save_processor

FACTS = "build.json"


def build(out: Path, *, tower_minutes: float, minutes: float, seed: int, resume: bool, threads: int) -> Path:
    """Train the starter from nothing; returns the finished base (weights, processor, build facts, in ``out/base``).

    Minutes are of wall clock, all resumed runs together. With `resume`, finished parts are kept.
    """
    torch.set_num_threads(threads)
    processor = out / "processor"
    if not (resume and processor.exists()):
        save_processor(processor, seed)
    tower = train_tower(out / "tower", pictures=None, minutes=tower_minutes, seed=seed, resume=resume)
    assert tower.name == TOWER_CHECKPOINT
    run = train_instructions(
        out / "instruct",
        processor_folder=processor,
        tower=tower,
        steps=None,
        minutes=minutes,
        seed=seed,
        resume=resume,
    )
    stage = torch.load(tower, weights_only=True)
    facts = {
        "seed": seed,
        "threads": threads,
        "tower": {"minutes": round(stage["seconds"] / 60, 1), "steps": stage["step"]},
        "instructions": {"minutes": round(run.seconds / 60, 1), "rows": run.step * BATCH},
    }
    return export(run, processor, out / "base", facts)


def export(run: Run, processor: Path, base: Path, facts: dict[str, object]) -> Path:
    """Write the base as `AutoModelForImageTextToText` and `AutoProcessor` load it, weights in bf16."""
    base.mkdir(parents=True, exist_ok=True)
    for file in processor.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    model = run.model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(eos_token_id=[IM_END], pad_token_id=ENDOFTEXT)
    model.save_pretrained(base)
    (base / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return base
