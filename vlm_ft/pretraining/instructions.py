"""Instruction rows for the starter: a drawn picture or a text, a form of a random shape, the exact answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image

from datasets_vision.example import Label, LabelledObject, Turn, normalised_box
from datasets_vision.synthetic.objects import OBJECTS, object_scene
from datasets_vision.synthetic.scene import GOOD, Scene
from datasets_vision.synthetic.surfaces import KINDS, surface_scene
from datasets_vision.synthetic.texts import CLAUSES, SLOTS, clause, sentence
from vlm_ft.answers.form import Form
from vlm_ft.answers.task import Task, Values
from vlm_ft.conversation import Row
from vlm_ft.models.starter.architecture import SIDE
from vlm_ft.tasks import legal_documents, object_identification, product_defects

CLAUSE_SHARE = 0.08
NOTE_SHARE = 0.10  # texts that name the answer: an option, known or invented, is found in the prompt and copied
RENAMED_SHARE = 0.1  # of the pictures' rows, whose options bear invented names: the answer must be one of them
DISTRACTORS = (2, 9)  # options beside those that the answer uses

# Short forms come often: one word is learned from a whole picture, and costs little.
DEFECT_FORMS: tuple[tuple[str, ...], ...] = (
    *[("kind",)] * 5,
    *[("passed", "kind")] * 3,
    ("passed", "kind", "findings.kind", "findings.box"),
    ("kind", "findings.kind", "findings.box"),
    ("findings.kind", "findings.box"),
)
OBJECT_FORMS: tuple[tuple[str, ...], ...] = (
    *[("kind",)] * 7,
    ("kind", "count"),
    ("count", "objects.name", "objects.box"),
    ("objects.name", "objects.box"),
    ("kind", "count", "objects.name", "objects.box"),
)
WORDS = tuple(sorted({word for slot in SLOTS.values() for phrase in slot for word in phrase.split() if len(word) > 2}))
NOTES = ("It is {}.", "Seen: {}", "kind {}", "The inspector wrote {}.", "{}", "This looks like {} to me.")
CLAUSE_FORMS: tuple[tuple[str, ...], ...] = (("clause_type",), ("present",))


def draw_row(rng: Generator) -> Row:
    """One supervised row: a text, or a surface, or objects."""
    draw = rng.random()
    if draw < CLAUSE_SHARE:
        return _clause_row(rng)
    if draw < (texts := CLAUSE_SHARE + NOTE_SHARE):
        return _note_row(rng)
    if draw < texts + (1 - texts) / 2:
        scene = surface_scene(rng, SIDE)
        names = sorted(KINDS["starter"])
        return _seen(rng, scene, product_defects.TASK, DEFECT_FORMS, [*names, GOOD], ("kind", "findings.kind"))
    scene = object_scene(rng, SIDE)
    names = sorted(OBJECTS["starter"])
    return _seen(rng, scene, object_identification.TASK, OBJECT_FORMS, names, ("kind", "objects.name"))


def _seen(
    rng: Generator,
    scene: Scene,
    task: Task,
    forms: Sequence[tuple[str, ...]],
    names: Sequence[str],
    choices: tuple[str, str],
) -> Row:
    scene = _flipped(rng, scene)
    label = label_of(scene, image_class=task is object_identification.TASK and bool(scene.objects))
    values = task.values(label)
    only = list(forms[int(rng.integers(len(forms)))])
    if "kind" in only and "kind" not in values:
        only = [path for path in only if path != "kind"] or ["count"]
    used = {thing.name for thing in scene.objects} | ({values["kind"]} if "kind" in values else set())
    options = _options(rng, used, names)
    called = _called(rng, options, RENAMED_SHARE)
    listed = sorted(called[name] for name in options if name != GOOD)
    open_options = {path: listed if "." in path else sorted(called.values()) for path in choices if path in only}
    form = Form.of(task, open_options, only)
    return Row(form, (), (Image.fromarray(scene.image),), form.target(_renamed(_only(values, form), called)))


def _clause_row(rng: Generator) -> Row:
    text, name = clause(rng)
    if rng.random() < 0.5:
        form = Form.of(legal_documents.TASK, {"clause_type": _options(rng, {name}, sorted(CLAUSES))}, ["clause_type"])
        return Row(form, (Turn("user", text),), (), form.target({"clause_type": name}))
    asked = name if rng.random() < 0.5 else str(rng.choice(sorted(CLAUSES)))
    form = Form.of(legal_documents.TASK, only=["present"])
    turn = Turn("user", f"Clause asked about: {asked}\n\n{text}")
    return Row(form, (turn,), (), form.target({"present": asked == name}))


def _note_row(rng: Generator) -> Row:
    """A sentence that names the kind, among sentences that name nothing."""
    task = (product_defects.TASK, object_identification.TASK)[int(rng.integers(2))]
    names = sorted(KINDS["starter"]) if task is product_defects.TASK else sorted(OBJECTS["starter"])
    options = _options(rng, set(), names)
    called = _called(rng, options, 0.8)
    name = called[str(rng.choice(options))]
    told = str(rng.choice(NOTES)).format(name)
    text = " ".join(part for part in (sentence(rng), told, sentence(rng)) if part == told or rng.random() < 0.5)
    form = Form.of(task, {"kind": sorted(called.values())}, ["kind"])
    return Row(form, (Turn("user", text),), (), form.target({"kind": name}))


def label_of(scene: Scene, *, image_class: bool) -> Label:
    """What a drawn scene's own files would say of it."""
    height, width = scene.mask.shape
    return Label(
        image_class=scene.label if image_class else None,
        objects=tuple(LabelledObject(thing.name, normalised_box(*thing.box, width, height)) for thing in scene.objects),
    )


def _only(values: Values, form: Form) -> Values:
    kept: Values = {}
    for field in form.fields:
        value = values[field.name]
        inner = getattr(field.kind, "fields", None)
        kept[field.name] = value if inner is None else [{part.name: row[part.name] for part in inner} for row in value]
    return kept


def _options(rng: Generator, used: set[str], names: Sequence[str]) -> list[str]:
    """The names that the answer needs among some that it does not, in the sorted order of a real form."""
    others = [name for name in names if name not in used]
    count = min(len(others), int(rng.integers(*DISTRACTORS)))
    picked = {str(name) for name in rng.choice(others, count, replace=False)} if count else set()
    if not (used | picked) - {GOOD}:
        picked.add(next(name for name in others if name != GOOD))
    return sorted(used | picked)


def _called(rng: Generator, options: Sequence[str], share: float) -> dict[str, str]:
    """Option -> what it is called: its own name, or an invented one in this share of the rows."""
    if rng.random() >= share:
        return {name: name for name in options}
    called: dict[str, str] = {}
    for name in options:
        new = name
        while name != GOOD and (new == name or new in called.values()):
            new = invented(rng)
        called[name] = new
    return called


def invented(rng: Generator) -> str:
    """A name of one to three syllables or words, joined as label sets join them."""
    parts = [
        "".join(
            str(rng.choice(list(letters)))
            for letters in ("bcdfghjklmnprstvwz", "aeiouy", "lmnrstxk")[: rng.integers(2, 4)]
        )
        if rng.random() < 0.6
        else str(rng.choice(WORDS))
        for _ in range(int(rng.integers(1, 4)))
    ]
    name = str(rng.choice(["_", "-", " ", ""])).join(parts)
    return name.capitalize() if rng.random() < 0.15 else name


def _renamed(values: Values, called: dict[str, str]) -> Values:
    """The same values with every option by its new name."""
    return {
        name: [_renamed(row, called) for row in value]
        if isinstance(value, list) and value and isinstance(value[0], dict)
        else called.get(value, value)
        if isinstance(value, str)
        else value
        for name, value in values.items()
    }


def _flipped(rng: Generator, scene: Scene) -> Scene:
    """The scene mirrored half of the time, boxes with it."""
    if rng.random() < 0.5:
        return scene
    width = scene.mask.shape[1]

    def mirrored(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        return width - box[2], box[1], width - box[0], box[3]

    objects = tuple(replace(thing, box=mirrored(thing.box)) for thing in scene.objects)
    image, mask = (np.ascontiguousarray(array[:, ::-1]) for array in (scene.image, scene.mask))
    return replace(scene, image=image, mask=mask, objects=objects)


def corpus(count: int, seed: int = 0) -> Iterator[str]:
    """Texts for the vocabulary: prompts, answers, and sentences of every domain."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        if rng.random() < 0.5:
            yield sentence(rng)
            continue
        row: Any = draw_row(rng)
        yield row.form.prompt
        yield row.target
