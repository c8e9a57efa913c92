"""Small data sets for the checks, and faults to plant in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets_vision.example import Turn
from vlm_ft.answers.form import Form
from vlm_ft.data.checks import Report
from vlm_ft.recipe import Recipe

SIDE = 64
Plant = Callable[[Path], None]


class WordRuler:
    """A base that counts words, takes 200 of them, and sees 64x64 pixels of an image, 8x8 pixels per word."""

    limit = 200
    most_pixels = SIDE * SIDE

    def prompt(self, form: Form, turns: Sequence[Turn], sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        return sum(len(turn.text.split()) for turn in turns) + 64 * len(sizes), 64 * len(sizes)

    def answer(self, form: Form, turns: Sequence[Turn], sizes: Sequence[tuple[int, int]], target: str) -> int:
        return len(target.split())


def drawn(seed: int, side: int = SIDE) -> Image.Image:
    """Smooth blobs that differ by seed and are the same at every size."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


# Three clean sets, and what can be wrong in each.


def photos(folder: Path) -> Recipe:
    """Image folders with their own roles: 2 classes of 12 in train, 6 in test."""
    for role, count in (("train", 12), ("test", 6)):
        for number, kind in enumerate(("dent", "scratch")):
            place = folder / role / kind
            place.mkdir(parents=True)
            for index in range(count):
                drawn(1000 * count + 100 * number + index).save(place / f"{role}{kind}{index}.jpg", quality=92)
    splits = {"tune": 0, "calibrate": 0, "source": {"train": "train", "test": "test"}}
    return recipe(folder, "product_defects", fields=["kind"], splits=splits)


VOC = """<annotation><filename>{name}.jpg</filename><size><width>64</width><height>64</height><depth>3</depth></size>
{objects}</annotation>"""
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def boxed(folder: Path) -> Recipe:
    """Pascal VOC: 40 photos, each with a dent and a scratch."""
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    for index in range(40):
        photo(folder, f"part{index}", drawn(index), [("dent", 4, 4, 30, 30), ("scratch", 20, 30, 60, 50)])
    kinds = {"findings.kind": ["dent", "scratch"]}
    splits = {"train": 0.5, "tune": 0, "calibrate": 0, "test": 0.5}
    return recipe(folder, "product_defects", fields=["findings"], labels=kinds, splits=splits)


def photo(folder: Path, name: str, image: Image.Image, objects: list[tuple[Any, ...]], **save: Any) -> None:
    image.save(folder / "JPEGImages" / f"{name}.jpg", quality=92, **save)
    text = VOC.format(name=name, objects="".join(OBJECT.format(*entry) for entry in objects))
    (folder / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8")


def texts(folder: Path) -> Recipe:
    """Two tables: 30 passages in train, 12 in test, of two kinds, with different patients."""
    folder.mkdir(parents=True)
    for role, count in (("train", 30), ("test", 12)):
        rows = [f"{role} passage {n} says so.,{('audit', 'notice')[n % 2]},{role[1]}{n // 2}" for n in range(count)]
        (folder / f"{role}.csv").write_text("\n".join(["text,clause_type,patient_id", *rows]) + "\n", encoding="utf-8")
    splits = {"tune": 0, "calibrate": 0, "source": {"train": "train", "test": "test"}}
    return recipe(folder, "legal_documents", fields=["clause_type"], splits=splits)


def recipe(folder: Path, task: str, **more: Any) -> Recipe:
    content = {"name": "trial", "task": task, "data": [{"path": str(folder)}], **more}
    return Recipe.model_validate(content)


def copied(folder: Path, source: str, target: str) -> None:
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / source, folder / target)


def altered(alter: Callable[[Image.Image], Image.Image], target: str, **save: Any) -> Plant:
    """Plant an altered copy of a training picture."""

    def plant(folder: Path) -> None:
        image = Image.open(folder / "train/dent/traindent3.jpg")
        alter(image).save(folder / target, **save)

    return plant


def truncated(folder: Path) -> None:
    file = folder / "train/dent/traindent3.jpg"
    file.write_bytes(file.read_bytes()[:700])


def rows(name: str, *lines: str) -> Plant:
    """Plant more lines in a table."""

    def plant(folder: Path) -> None:
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    return plant


def one_photo(*objects: tuple[Any, ...], **save: Any) -> Plant:
    return lambda folder: photo(folder, "planted", drawn(777), [*objects, ("dent", 4, 4, 30, 30)], **save)


def found(report: Report) -> dict[str, str]:
    """Check -> its worst severity, for the checks that found something."""
    return {f.check: "error" if f.errors else "warning" for f in report.findings if f.total}
