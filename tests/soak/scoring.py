"""Scoring through many kills, and a large ledger: ``python -m tests.soak.scoring --out soak.json``.

Every figure is measured through the command line or the ledger that users have, on a random tiny model.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as parquet

from tests.soak.made import SEED, drawn, killed, measured, trained
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.scoring.ledger import Entry, Ledger, Row

KILLS, IMAGES, ENTRIES = 20, 2000, 1_000_000
TIMED = 3200  # entries that are recorded as scoring does, in batches of 16


def main() -> None:
    """Run both, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    options = parser.parse_args()
    with measured(options.out) as (work, sheet):
        kills(work, options.kills, options.images, sheet)
        ledger(work, options.entries, sheet)


def kills(work: Path, count: int, images: int, sheet: Sheet) -> None:
    """Score a folder with kills at random moments, and compare with an uninterrupted run."""
    adapter, photos = trained(work), drawn(work / "photos", images)
    score = [sys.executable, "-m", "vlm_ft", "score", str(photos), "--adapter", str(adapter)]
    whole, table = work / "whole.parquet", work / "killed.parquet"
    seconds = _timed([*score, "--out", str(whole)])
    startup = _timed([*score, "--out", str(whole)])  # every image is answered already
    share = 2 * (seconds - startup) / (count + 2)  # on average, the kills come before the last image
    moments, done = random.Random(SEED), 0
    while done < count:
        run = subprocess.Popen([*score, "--out", str(table)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if killed(run, startup + moments.uniform(-0.5, 1.0) * share):
            done += 1
        else:  # it is complete: start over
            assert _compared(table, whole, images) == (0, 0, 0)
            for file in work.glob(f"{table.name}*"):
                file.unlink()
    _timed([*score, "--out", str(table)])
    missing, twice, other = _compared(table, whole, images)
    sheet.add("SIGKILLs while scoring", done, count, "higher", "kills")
    sheet.add("images without a row after them", missing, 0, "lower", "images")
    sheet.add("images with two rows after them", twice, 0, "lower", "images")
    sheet.add("images answered otherwise than without a kill", other, 0, "lower", "images")


def _timed(command: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - started


def _compared(table: Path, whole: Path, images: int) -> tuple[int, int, int]:
    """The number of images without a row, with two rows, and with another answer than in an uninterrupted run."""
    rows, expected = (parquet.read_table(path).to_pylist() for path in (table, whole))
    paths = [row["path"] for row in rows]
    missing, twice = images - len(set(paths)), len(paths) - len(set(paths))
    other = sum(one["kind"] != two["kind"] for one, two in zip(rows, expected, strict=False))
    return missing, twice, other


def ledger(work: Path, entries: int, sheet: Sheet) -> None:
    """Record answers as scoring does, fill the ledger up, then resume from it with one image left to answer."""
    place = work / "large.ledger"
    answer = Prediction(fields={"kind": FieldValue("scratch", {"scratch": 0.9, "dent": 0.1}, legal=0.99)})
    with Ledger(place, "soak", "0", work) as opened:
        opened.expect(_entries(entries))
        started = time.perf_counter()
        for first in range(0, TIMED, 16):
            opened.record(_rows(answer, first, first + 16))
        cost = (time.perf_counter() - started) / TIMED
        for first in range(TIMED, entries - 1, 16_000):
            opened.record(_rows(answer, first, min(first + 16_000, entries - 1)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    with Ledger(place, "soak", "0", work) as opened:
        opened.expect(_entries(entries))
        done, _ = opened.unchanged()
        failed, left = len(opened.failed()), [entry.path for entry in opened.changed()]
    seconds = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert (done, failed, left) == (entries - 1, 0, [_path(entries - 1)])
    sheet.add("the ledger's time per image, in batches of 16", 1000 * cost, 1.0, "lower", "ms")
    sheet.add(f"from a ledger of {entries:,} entries to the first image", seconds, 10.0, "lower", "s")
    sheet.add("memory that this took", grown, 50.0, "lower", "MiB")


def _path(number: int) -> str:
    return f"photos/{number:07}.jpg"


def _entries(count: int) -> Iterator[Entry]:
    return (Entry(_path(number), f"40000:{number}:{number}", _path(number).encode()) for number in range(count))


def _rows(answer: Prediction, first: int, last: int) -> Iterator[Row]:
    return (Row(_path(number), "0" * 64, 640, 480, answer) for number in range(first, last))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
