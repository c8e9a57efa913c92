"""Scoring through many kills, and a large ledger: ``python -m tests.soak.scoring --out soak.json``.

Writes a list of {figure, value, goal, better, unit}. Every figure is measured through the command line or the ledger
that users have, on a random tiny model.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import yaml
from PIL import Image

from datasets_vision.synthetic.writing import write_set
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.bases.tiny import save_tiny
from vlm_ft.scoring.ledger import Ledger, Row

KILLS, IMAGES, ENTRIES = 20, 2000, 1_000_000
SEED = 0


def main() -> None:
    """Run both, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        figures = kills(Path(work), options.kills, options.images) + ledger(Path(work), options.entries)
    options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for figure in figures:
        print(f"{figure['figure']}: {figure['value']:.4g} {figure['unit']} (goal {figure['goal']})")
    sys.exit(any(not _met(figure) for figure in figures))


def kills(work: Path, count: int, images: int) -> list[dict[str, Any]]:
    """Score a folder, killed at random moments; then compare with a run that nobody killed."""
    adapter, photos = trained(work), drawn(work / "photos", images)
    score = [sys.executable, "-m", "vlm_ft", "score", str(photos), "--adapter", str(adapter)]
    whole, killed = work / "whole.parquet", work / "killed.parquet"
    started = time.monotonic()
    subprocess.run([*score, "--out", str(whole)], check=True, capture_output=True)
    seconds = time.monotonic() - started
    moments, done = random.Random(SEED), 0
    for _ in range(count):
        run = subprocess.Popen([*score, "--out", str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            run.wait(moments.uniform(0.2, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
            done += 1
    subprocess.run([*score, "--out", str(killed)], check=True, capture_output=True)
    rows, expected = (parquet.read_table(path).to_pylist() for path in (killed, whole))
    paths = [row["path"] for row in rows]
    missing, twice = images - len(set(paths)), len(paths) - len(set(paths))
    other = sum(one["kind"] != two["kind"] for one, two in zip(rows, expected, strict=False))
    return [
        _figure("SIGKILLs while scoring", done, count, "higher", "kills"),
        _figure("images without a row after them", missing, 0, "lower", "images"),
        _figure("images with two rows after them", twice, 0, "lower", "images"),
        _figure("images answered otherwise than without a kill", other, 0, "lower", "images"),
    ]


def trained(work: Path) -> Path:
    """The run folder of a tiny adapter."""
    write_set("product_defects", work / "set", 24, SEED)
    recipe = {
        "name": "soak",
        "task": "product_defects",
        "base": str(save_tiny("fast_vlm", work / "base")),
        "data": [{"path": str(work / "set"), "format": "voc"}],
        "fields": ["passed", "kind"],
        "training": {"max_steps": 2, "batch_size": 4},
    }
    (work / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    command = [sys.executable, "-m", "vlm_ft", "train", str(work / "recipe.yaml"), "--out", str(work / "run")]
    subprocess.run(command, check=True, capture_output=True)
    return work / "run"


def drawn(folder: Path, count: int) -> Path:
    """A folder of noise, no two images alike."""
    folder.mkdir()
    noise = np.random.default_rng(SEED)
    for number in range(count):
        pixels = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg")
    return folder


def ledger(work: Path, entries: int) -> list[dict[str, Any]]:
    """Record answers as scoring does, fill the ledger up, open it again and look up every image."""
    place = work / "large.ledger"
    answer = Prediction(fields={"kind": FieldValue("scratch", {"scratch": 0.9, "dent": 0.1}, legal=0.99)})
    rows = [Row(f"photos/{number:07}.jpg", "0" * 64, 640, 480, answer) for number in range(16)]
    with Ledger(place, "soak", "0", work) as opened:
        started = time.perf_counter()
        for batch in range(200):
            opened.record(_renamed(rows, 16 * batch))
        cost = (time.perf_counter() - started) / (200 * 16)
        for start in range(3200, entries, 16_000):
            opened.record(row for first in range(start, start + 16_000, 16) for row in _renamed(rows, first))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    with Ledger(place, "soak", "0", work) as opened:
        found = sum(opened.find(f"photos/{number:07}.jpg") is not None for number in range(entries))
    seconds = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return [
        _figure("the ledger's time per image, in batches of 16", 1000 * cost, 1.0, "lower", "ms"),
        _figure(f"looking up the {found:,} entries of a ledger again", seconds, 10.0, "lower", "s"),
        _figure("memory that this took", grown, 50.0, "lower", "MiB"),
    ]


def _renamed(rows: Sequence[Row], first: int) -> list[Row]:
    return [
        Row(f"photos/{first + at:07}.jpg", row.digest, row.width, row.height, row.prediction)
        for at, row in enumerate(rows)
    ]


def _figure(name: str, value: float, goal: float, better: str, unit: str) -> dict[str, Any]:
    return {"figure": name, "value": round(value, 4), "goal": goal, "better": better, "unit": unit}


def _met(figure: dict[str, Any]) -> bool:
    value, goal = figure["value"], figure["goal"]
    return bool(value >= goal if figure["better"] == "higher" else value <= goal)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
