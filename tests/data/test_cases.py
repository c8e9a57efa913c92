"""A recipe's data as cases: only the form's fields, every label checked, nothing dropped silently."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets_vision.synthetic import write_set
from vlm_ft.data.cases import load
from vlm_ft.data.checks import check
from vlm_ft.errors import DataError, FormError
from vlm_ft.recipe import Recipe

Recipes = Callable[..., Recipe]


def table(folder: Path, rows: list[str], header: str = "text\tclause_type\trisk\tpresent") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "rows.tsv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder


def legal(folder: Path, **more: Any) -> Recipe:
    source = {"path": str(folder), "format": "tables", "values": {"present": {"yes": True, "no": False}}}
    source["columns"] = {"clause_type": "clause_type", "risk": "risk", "present": "present"}
    return Recipe.model_validate({"name": "trial", "task": "legal_documents", "data": [source], **more})


def test_drawings_fill_the_form_and_are_marked_as_synthetic(recipe_of: Recipes) -> None:
    dataset = load(recipe_of("qwen3_vl", fields=["kind", "findings"]))
    assert dataset.form.names == ("kind", "findings")
    assert "severity" not in dataset.form.prompt
    assert dataset.synthetic
    assert sum(dataset.counts.values()) == 20
    ids = [case.example.id for cases in dataset.cases.values() for case in cases]
    assert len(set(ids)) == 20
    for case in (case for cases in dataset.cases.values() for case in cases):
        assert dataset.form.parse(dataset.form.target(case.values)) == case.values


def test_the_fingerprint_depends_only_on_what_is_learned(recipe_of: Recipes) -> None:
    one = load(recipe_of("qwen3_vl"))
    assert load(recipe_of("qwen3_vl", name="other", training={"max_steps": 9})).fingerprint == one.fingerprint
    assert load(recipe_of("qwen3_vl", splits={"seed": 4})).fingerprint != one.fingerprint
    assert load(recipe_of("qwen3_vl", fields=["kind"])).fingerprint != one.fingerprint


def test_an_empty_cell_is_unobserved(tmp_path: Path) -> None:
    rows = [f"Text {index}.\taudit\t{'low' if index % 2 else ''}\t{'yes' if index % 3 else ''}" for index in range(40)]
    dataset = load(legal(table(tmp_path / "set", rows)))
    assert dataset.form.names == ("clause_type", "present", "risk")
    assert "risk: 20 of 40 examples lack it, so their prompts do not ask for it" in dataset.notes
    for case in dataset.cases["train"]:
        number = int(case.example.text.removeprefix("Text ").rstrip("."))
        assert ("risk" in case.values) == bool(number % 2)
        assert ("present" in case.values) == bool(number % 3)


def test_training_on_two_sources_asks_only_for_what_serving_asks_for(tmp_path: Path) -> None:
    """One labels the clause and the risk, the other only the clause: no row may ask for less than the form does."""
    rated = table(tmp_path / "rated", [f"Rated {index}.\taudit\tlow\tyes" for index in range(20)])
    bare = table(tmp_path / "bare", [f"Bare {index}.\tnotice\t\tno" for index in range(20)])
    (bare / "rows.tsv").rename(bare / "others.tsv")  # an id is a file's name and a row
    sources = [legal(folder).data[0].model_dump() for folder in (rated, bare)]
    dataset = load(legal(rated, data=sources))
    assert dataset.form.names == ("clause_type", "present")
    assert "risk: 20 of 20 examples of data.1 (bare) lack it, so it is not asked for" in " ".join(dataset.notes)
    assert {tuple(case.values) for case in dataset.cases["train"]} == {dataset.form.names}
    with pytest.raises(FormError, match=r"'risk' is asked for, but no label of data\.1 \(bare\) states it"):
        load(legal(rated, data=sources, fields=["clause_type", "risk"]))


def test_examples_without_a_requested_field_are_reported(tmp_path: Path) -> None:
    rows = [f"Text {index}.\taudit\t{'low' if index < 30 else ''}\tyes" for index in range(40)]
    dataset = load(legal(table(tmp_path / "set", rows), fields=["risk"]))
    assert sum(dataset.counts.values()) == 30
    assert any("10 examples state none of the requested fields" in note for note in dataset.notes)


def test_a_label_outside_the_form_is_reported_with_its_place(tmp_path: Path) -> None:
    rows = ["One.\taudit\tlow\tyes", "Two.\taudit\thuge\tyes"]
    with pytest.raises(DataError, match=r"rows.tsv:3: label does not fit the form: risk: 'huge'") as error:
        load(legal(table(tmp_path / "set", rows)))
    assert "\n" not in str(error.value)


def test_a_label_outside_the_listed_ones_is_reported(tmp_path: Path) -> None:
    rows = ["One.\taudit\tlow\tyes", "Two.\tother\tlow\tyes"]
    with pytest.raises(DataError, match=r"rows.tsv.*label does not fit the form: clause_type: 'other'"):
        load(legal(table(tmp_path / "set", rows), labels={"clause_type": ["audit", "notice"]}))


def test_two_sources_may_not_share_an_id(recipe_of: Recipes, tmp_path: Path) -> None:
    sets = [write_set("product_defects", tmp_path / name, 2, 0, size=64) for name in ("a", "b")]
    with pytest.raises(DataError, match=r"scene_00000.*: id 'JPEGImages/scene_00000' is also in"):
        load(recipe_of("qwen3_vl", data=[{"path": str(path)} for path in sets]))


REPLIES = {"prompt": "Where is it?", "chosen": "On its way.", "rejected": "No idea."}
THUMBS = {"prompt": "Where is it?", "completion": "On its way.", "label": True}


@pytest.mark.parametrize(
    ("row", "replies", "values"),
    [
        (REPLIES, [("On its way.", True), ("No idea.", False)], {"reply": "On its way."}),
        (THUMBS, [("On its way.", True)], {"reply": "On its way."}),
        ({**THUMBS, "label": False}, [("On its way.", False)], {}),
    ],
    ids=["pair", "thumb up", "thumb down"],
)
def test_a_case_keeps_the_replies_that_people_judged(
    row: dict[str, Any], replies: list[tuple[str, bool]], values: dict[str, Any], tmp_path: Path
) -> None:
    other = {"prompt": "When?", "completion": "Soon.", "label": True}  # a form needs a field that some label states
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(row)}\n{json.dumps(other)}\n", encoding="utf-8")
    source = {"path": str(file), "format": "preferences"}
    cases = [
        case
        for part in load(Recipe(name="trial", task="customer_chatbot", data=[source])).cases.values()
        for case in part
    ]
    (case,) = [case for case in cases if case.example.text == row["prompt"]]
    assert case.values == values
    assert [(reply.values["reply"], reply.liked) for reply in case.replies] == replies


@pytest.mark.parametrize(("worse", "replies"), [("No.", [("Yes.", True), ("No.", False)]), ("Yes.", [])])
def test_two_columns_may_be_a_pair(worse: str, replies: list[tuple[str, bool]], tmp_path: Path) -> None:
    """Equal replies state no preference."""
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"abstract": "Is it?", "good": "Yes.", "bad": worse}) + "\n", encoding="utf-8")
    columns = {"chosen": "good", "rejected": "bad"}
    source = {"path": str(file), "format": "records", "text": "{abstract}", "columns": columns}
    splits = {"train": 1, "tune": 0, "calibrate": 0, "test": 0}
    recipe = Recipe(name="trial", task="scientific_research", data=[source], splits=splits)
    (case,) = load(recipe).cases["train"]
    assert case.values == {"summary": "Yes."}
    assert [(reply.values["summary"], reply.liked) for reply in case.replies] == replies


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    rows = ["One.\taudit\tlow\tyes"]
    with pytest.raises(DataError, match=r"no example remains for training \(train 0, tune 0, calibrate 0, test 1\)"):
        load(legal(table(tmp_path / "set", rows), splits={"train": 1e-9, "test": 1.0}))
    aside = r" \(\d set aside, such as .*/rows\.tsv:3: expected 4 cells, found 1; "
    with pytest.raises(DataError, match=f"add examples, or change splits{aside}"):
        load(legal(table(tmp_path / "set", [*rows, "cut"]), splits={"train": 1e-9, "test": 1.0}))
    recipe = legal(table(tmp_path / "set", ["One.\t\t\t", "cut"]))
    with pytest.raises(FormError, match=f"the data label none of its fields; .*{aside}"):
        load(recipe)
    with pytest.raises(FormError, match=aside):
        check(recipe)


def test_roles_are_stored_with_the_run(recipe_of: Recipes, tmp_path: Path) -> None:
    file = tmp_path / "splits.jsonl"
    first = load(recipe_of("qwen3_vl"), file)
    assert load(recipe_of("qwen3_vl", splits={"seed": 9}), file).cases == first.cases
