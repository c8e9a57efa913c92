"""Several photos of one case become one example: nothing is guessed, nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from datasets_vision.cases import joined
from datasets_vision.example import Example, Label, LabelledObject, Turn
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.source import read

DENT = LabelledObject("dent", (1, 2, 3, 4), {"part": "door"})


def example(name: str, label: Label | None = None, **more: object) -> Example:
    return Example(name, images=(Path(f"set/{name}.png"),), label=label or Label(), source=f"{name}.xml", **more)


def case(*examples: Example, worst_first: tuple[str, ...] = ()) -> Example | SetAside:
    (found,) = joined(examples, "folder", worst_first)
    return found


def test_photos_are_in_natural_order_and_findings_name_their_photo():
    labels = [Label(objects=(DENT,)), Label(objects=()), Label(objects=(DENT, DENT))]
    found = case(*(example(f"17/{name}", label) for name, label in zip(("10", "2", "1"), labels, strict=True)))
    assert [image.stem for image in found.images] == ["1", "2", "10"]
    assert [obj.attributes for obj in found.label.objects or ()] == [
        {"part": "door", "photo": photo} for photo in (1, 1, 3)
    ]
    assert (found.id, found.group) == ("17", "set/17")


@pytest.mark.parametrize(("stated", "photo"), [({}, 2), ({"photo": 1}, 1), ({"photo": "1"}, 1), ({"photo": "IMG"}, 2)])
def test_an_object_belongs_to_the_last_photo_unless_it_names_another(stated, photo):
    pair = replace(
        example("17/1", Label(objects=(LabelledObject("dent", (1, 2, 3, 4), stated),))),
        images=(Path("set/17/1a.png"), Path("set/17/1b.png")),
    )
    found = case(pair, example("17/2", Label(objects=(DENT,))))
    assert [obj.attributes["photo"] for obj in found.label.objects or ()] == [photo, 3]


def test_a_photo_without_object_labels_leaves_the_case_unlabelled():
    found = case(example("17/1", Label(objects=(DENT,))), example("17/2"))
    assert found.label.objects is None


@pytest.mark.parametrize(
    ("classes", "order", "merged"),
    [
        (["minor", "minor"], (), "minor"),
        (["minor", None], (), "minor"),
        ([None, None], (), None),
        (["minor", "severe"], ("severe", "minor"), "severe"),
    ],
)
def test_the_case_has_the_shared_or_the_worst_class(classes, order, merged):
    found = case(*(example(f"17/{n}", Label(name)) for n, name in enumerate(classes)), worst_first=order)
    assert found.label.image_class == merged


@pytest.mark.parametrize("order", [(), ("severe",)])
def test_differing_classes_without_worst_first_set_the_case_aside(order):
    found = case(example("17/1", Label("minor")), example("17/2", Label("severe")), worst_first=order)
    assert isinstance(found, SetAside)
    message = "case 'set/17' of 2 photos: image class: its photos differ: 'minor', 'severe'; give worst_first"
    assert message in found.reason


def test_columns_are_merged_like_classes():
    labels = [Label(columns={"model": "A", "grade": "low"}), Label(columns={"grade": "high"})]
    found = case(*(example(f"17/{n}", label) for n, label in enumerate(labels)), worst_first=("high", "low"))
    assert found.label.columns == {"model": "A", "grade": "high"}


def test_one_case_has_one_role():
    found = case(example("17/1", role="train"), example("17/2", role="val"))
    assert isinstance(found, SetAside)
    assert "train, val" in found.reason


def test_differing_texts_become_one_turn():
    turns = [(Turn("user", text),) for text in ("Front.", "Rear.", "Front.")]
    found = case(*(example(f"17/{n}", turns=turn) for n, turn in enumerate(turns)))
    assert found.turns == (Turn("user", "Front.\nRear."),)


def claims(folder: Path) -> Path:
    for name in ("dent/c1_front", "dent/c1_rear", "dent/c2_front", "good/c3_front", "dent/c3_rear"):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    return folder


@pytest.mark.parametrize(("worst_first", "cases", "aside"), [((), 2, 1), (("dent", "good"), 3, 0)])
def test_a_source_is_read_by_case(tmp_path, worst_first, cases, aside):
    settings = {"format": "folders", "group": r"(c\d)_", "case_by": "group", "worst_first": worst_first}
    found = read(Source(path=claims(tmp_path), **settings))
    assert (len(found.examples), len(found.set_aside)) == (cases, aside)
    assert {one.group for one in found.examples} <= {"c1", "c2", "c3"}
    assert {len(one.images) for one in found.examples} == {1, 2}
    assert len(read(Source(path=tmp_path, limit=1, **settings)).examples) == 1
