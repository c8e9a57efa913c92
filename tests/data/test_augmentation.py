"""A preset that would make a label untrue is rejected; contact sheets and drawn sets work with a recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import pytest
from PIL import Image
from pydantic import Field

from datasets_vision.example import Example, Turn
from datasets_vision.synthetic import DOMAINS, Pictures, write_set
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Answer, Item
from vlm_ft.answers.observation import observed
from vlm_ft.answers.task import Task
from vlm_ft.data.augmentation import check_augmentation
from vlm_ft.data.cases import load
from vlm_ft.data.preview import preview
from vlm_ft.errors import DataError
from vlm_ft.recipe import Recipe, find_recipe, load_recipe

RECIPES = {
    "synthetic_car_damage": ("car_damage", "cars"),
    "synthetic_aviation": ("aviation_maintenance", "aircraft"),
    "synthetic_scans": ("scan_abnormalities", "scans"),
    "synthetic_objects": ("object_identification", "objects"),
}
TASKS = {"aviation_logs": "aviation_maintenance"}
UNSTATED = {
    "car_damage": set(),
    "aviation_maintenance": {"problem_part", "location", "event", "phase", "cause", "action"},
    "scan_abnormalities": set(),
    "product_defects": set(),
    "object_identification": set(),
    "aviation_logs": {"findings", "event", "phase", "cause"},
    "customer_chatbot": set(),
    "industry_language": set(),
    "legal_documents": {"present", "summary"},
    "medical_conditions": set(),
    "scientific_research": set(),
    "technical_diagnosis": {"option", "mentions"},
}
"""The fields of its task that a drawn set does not label."""


class Part(Item):
    """A part."""

    side: Literal["left", "right"]


class Sided(Answer):
    """An answer with a side in a list, and a free text."""

    kind: Literal["dent", "crack"]
    parts: Annotated[list[Part], Field(max_length=2)]
    note: str = Field(max_length=80)


SAMPLE = Sided(kind="dent", parts=[Part(side="left")], note="A dent.")
FORM = Form.of(Task(name="sided", title="Sided", answer=Sided, instruction="Look.", sample=SAMPLE))
PLAIN = FORM.narrow(("kind", "note"))
PHOTO = Example("a", images=(Path("a.png"),), source="set.csv:7")


def test_flips_are_refused_if_an_option_names_a_side():
    with pytest.raises(DataError, match=r"^augment: flips .* field parts.side says 'left', .* use one of none, light,"):
        check_augmentation("flips", FORM, [(PHOTO, {"kind": "dent"})])
    check_augmentation("light", FORM, [(PHOTO, {"kind": "dent"})])


@pytest.mark.parametrize(
    ("turns", "note", "place"),
    [((Turn("user", "What of the left door?"),), "", "its text"), ((), "Paint the R/H door.", "its answer")],
)
def test_flips_are_refused_if_free_text_about_an_image_names_a_side(turns, note, place):
    example = Example("a", turns=turns, images=PHOTO.images, source="set.csv:7")
    with pytest.raises(DataError, match=f"set.csv:7: {place}"):
        check_augmentation("cars", PLAIN, [(example, {"kind": "dent", "note": note})])


def test_texts_without_images_are_not_checked():
    example = Example("a", turns=(Turn("user", "The left wing."),))
    check_augmentation("flips", FORM, [(example, {"kind": "dent", "note": "left"})])
    cases = [(PHOTO, {"kind": "dent"}), (example, {"note": "left"})]
    check_augmentation("flips", PLAIN, cases)
    with pytest.raises(DataError, match="its text"):
        check_augmentation("flips", PLAIN, [(replace(case, images=PHOTO.images), values) for case, values in cases])


def test_an_unknown_preset_is_reported_before_any_image_is_read():
    with pytest.raises(DataError, match="unknown augmentation 'fips'; did you mean 'flips'"):
        check_augmentation("fips", FORM, [])


def recipe_for(name: str, folder: Path, **settings: object) -> Recipe:
    changes = [f"data.0.path={folder}", *(f"{key}={value}" for key, value in settings.items())]
    return load_recipe(find_recipe(name), changes)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_drawings_reads_and_previews_its_set(name, tmp_path):
    domain, preset = RECIPES[name]
    write_set(domain, tmp_path / "set", 30, 4, 48)
    recipe = recipe_for(name, tmp_path / "set")
    assert (recipe.task, recipe.augment) == (domain, preset)
    dataset = load(recipe)
    assert dataset.synthetic
    assert dataset.form.names == tuple(recipe.fields)
    assert not dataset.set_aside
    assert preview(recipe, tmp_path / "out" / "sheet.png", count=3, draws=1) == 3
    assert Image.open(tmp_path / "out" / "sheet.png").width > 240


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_synthetic_set_labels_the_fields_of_its_task(domain, tmp_path):
    from datasets_vision.source import Source, read
    from vlm_ft.tasks import TASKS as ALL

    write_set(domain, tmp_path / "set", 30, 4, 48 if isinstance(DOMAINS[domain], Pictures) else None)
    rows = tmp_path / "set" / "rows.jsonl"
    task = ALL[TASKS.get(domain, domain)]
    examples = read(Source(path=rows if rows.exists() else tmp_path / "set")).examples
    values = [task.values(example.label) for example in examples]
    form = observed(task, values)
    assert len(examples) == 30
    assert {field.name for field in task.fields} - set(form.names) <= UNSTATED[domain]
    for stated in values:
        asked = form.narrow(stated)
        assert asked.parse(asked.target({name: stated[name] for name in asked.names}))


def test_a_preview_needs_images_and_an_image_file_to_write(tmp_path):
    write_set("legal_documents", tmp_path / "set", 20, 4)
    recipe = Recipe(name="t", task="legal_documents", data=[{"path": tmp_path / "set" / "rows.jsonl"}])
    with pytest.raises(DataError, match="none of its training examples has an image"):
        preview(recipe, tmp_path / "sheet.png")
    with pytest.raises(DataError, match=r"sheet\.txt: not the name of an image file"):
        preview(recipe, tmp_path / "sheet.txt")
