"""`vlm-ft init`: the proposed recipe loads, its data can be trained on, and what it says about the data is true."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from datasets_vision.formats import FORMATS
from vlm_ft.cli import app
from vlm_ft.data.cases import items_of, load
from vlm_ft.data.proposal import Proposal, Survey, propose
from vlm_ft.errors import DataError, UserError
from vlm_ft.recipe import load_recipe
from vlm_ft.tasks import TASKS

DATA = Path(os.environ.get("VLM_FT_DATA", "../shared/data"))
SETS = json.loads((DATA / "manifest.json").read_text()) if (DATA / "manifest.json").is_file() else []
UNTRAINABLE = {
    "repair_cost_rules": "prices without photos or texts",
    "dicom_samples": "files without labels",
    "brain_tumor_mri": "photos of food",
}
KNOWN_GAPS = {"obd_codes_csv": "the system is the code's first letter, which only a `rename` by prefix can say"}
TRAINABLE = [entry for entry in SETS if entry["set"] not in UNTRAINABLE]


def proposed(path: Path, task: str) -> Proposal:
    return propose(Survey.of(path), TASKS[task])


def photos(root: Path, *classes: str) -> Path:
    """Six grey photos of each class, in class folders."""
    for shade, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(6):
            Image.new("L", (32, 32), 60 * shade + number).save(root / name / f"{name}{number}.png")
    return root


def table(file: Path, header: str, *rows: str) -> Path:
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return file


@pytest.mark.skipif(not SETS, reason="no real sets here; point VLM_FT_DATA at the folder that holds them")
@pytest.mark.parametrize("entry", TRAINABLE, ids=[entry["set"] for entry in TRAINABLE])
def test_a_real_set_gets_a_recipe_that_can_be_read_again(entry: dict[str, str], tmp_path: Path) -> None:
    survey = Survey.of(DATA / entry["path"])
    if entry["set"] in KNOWN_GAPS:
        with pytest.raises(DataError, match="state no field"):
            propose(survey, TASKS[entry["domain"]])
        return
    proposal = propose(survey, TASKS[entry["domain"]])
    assert proposal.dataset.cases["train"]  # read with these settings by vlm_ft.data.cases.load
    proposal.write(tmp_path / "recipe.yaml")
    written = load_recipe(tmp_path / "recipe.yaml")
    for name in ("data", "fields", "splits", "augment"):
        assert getattr(written, name) == getattr(proposal.recipe, name)


def test_class_folders_become_classes(tmp_path: Path) -> None:
    """A class that means that nothing was found answers whether the product passed."""
    recipe = proposed(photos(tmp_path / "parts", "good", "scratch"), "product_defects").recipe
    assert recipe.data[0].rename == {"good": "none"}
    assert recipe.fields == ("passed", "kind")
    assert recipe.augment == "surfaces"


def test_a_field_that_is_always_the_same_is_not_asked_for(tmp_path: Path) -> None:
    proposal = proposed(photos(tmp_path / "parts", "dent", "scratch"), "product_defects")
    assert proposal.recipe.fields == ("kind",)
    assert "# passed is false in every label" in proposal.yaml
    with pytest.raises(DataError, match="all labels are the same"):
        proposed(photos(tmp_path / "one", "dent"), "product_defects")


def test_photos_whose_labels_name_a_side_are_not_flipped(tmp_path: Path) -> None:
    assert proposed(photos(tmp_path / "cars", "left_door", "hood"), "car_damage").recipe.augment == "light"


def test_a_list_of_the_set_keeps_its_role_unless_it_shares_a_group(tmp_path: Path) -> None:
    for split in ("train", "val"):
        photos(tmp_path / "lists" / split, "dent", "scratch")
    assert proposed(tmp_path / "lists", "product_defects").recipe.splits.source == {"val": "test"}
    photos(tmp_path / "lists" / "test", "dent", "scratch")
    roles = proposed(tmp_path / "lists", "product_defects").recipe.splits.source
    assert roles == {"val": "tune", "test": "test"}


def test_columns_are_chosen_by_name_and_by_their_words(tmp_path: Path) -> None:
    rows = [f'r{i},"The engine stopped, case {i}, at night",{"AI"[i % 2]},Pilot,{i}' for i in range(40)]
    file = table(tmp_path / "reports.csv", "id,story,event_type,cause_category,year", *rows)
    entry = proposed(file, "aviation_maintenance").recipe.data[0]
    assert entry.text == "{story}"
    assert entry.columns == {"event": "event_type"}  # the cause is always the same, and so no choice
    assert entry.values == {"event": {"A": "accident", "I": "incident"}}


def test_a_column_with_other_words_than_its_field_is_reported(tmp_path: Path) -> None:
    rows = [f"Pump {i} leaks and is loud,{('leak', 'noise')[i % 2]},{('high', 'low')[i % 2]}" for i in range(12)]
    said = "column 'Urgency' has words such as 'high', 'low'; for urgency, write routine, soon or urgent"
    out = tmp_path / "mine.yaml"
    done = init(
        table(tmp_path / "a.csv", "message,fault,Urgency", *rows), "--task", "technical_diagnosis", "--out", out
    )
    assert done.exit_code == 0, done.output
    assert f"note: {said}" in done.stderr
    assert f"# {said}.\nfields: [fault]\n" in out.read_text()
    rows = [row.replace(",leak", "").replace(",noise", "") for row in rows]
    with pytest.raises(DataError, match=rf"its columns \(message, Urgency\) state no field .*; {said}$"):
        proposed(table(tmp_path / "b.csv", "message,Urgency", *rows), "technical_diagnosis")


def test_an_empty_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown format \(no files\); put the photos, tables or annotations in it$"):
        Survey.of(tmp_path)


def test_a_folder_that_decides_the_answer_is_shown(tmp_path: Path) -> None:
    """The same passages, labelled in one folder for each question about them."""
    for place, folder in enumerate(("audit", "notice")):
        (tmp_path / folder).mkdir()
        rows = [f"Passage {i} says what has to be done\t{'Yes' if i % 2 == place else 'No'}" for i in range(20)]
        table(tmp_path / folder / "rows.tsv", "text\tlabel", *rows)
    entry = proposed(tmp_path, "legal_documents").recipe.data[0]
    assert entry.text == "{folder}\n\n{text}"
    assert entry.values == {"present": {"Yes": True, "No": False}}
    assert entry.group_by == "text"


def test_long_answers_are_cut_to_their_field(tmp_path: Path) -> None:
    rows = [f"How do I return parcel {i}?,{'Go to the shop. ' * 60}" for i in range(20)]
    entry = proposed(table(tmp_path / "mail.csv", "question,response", *rows), "customer_chatbot").recipe.data[0]
    assert (entry.columns, entry.shorten) == ({"reply": "response"}, {"reply": 600})


def test_a_table_may_name_photos(tmp_path: Path) -> None:
    photos(tmp_path / "shots", "dent", "scratch")
    rows = [f"shots/{name}/{name}{i}.png,{name}" for name in ("dent", "scratch") for i in range(6)]
    proposal = proposed(table(tmp_path / "shots.csv", "file,label", *rows), "product_defects")
    assert (proposal.recipe.data[0].image, proposal.recipe.augment) == ("file", "surfaces")
    proposal.write(tmp_path / "recipe.yaml")
    assert load(load_recipe(tmp_path / "recipe.yaml")).counts == proposal.dataset.counts


@pytest.mark.parametrize("kind", ["folders", "tables"])
def test_the_data_are_read_once(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proposal has the items that its recipe reads."""
    made = photos(tmp_path / "shots", "dent", "scratch")
    if kind == "tables":
        rows = [f"shots/{name}/{name}{i}.png,{name}" for name in ("dent", "scratch") for i in range(6)]
        made = table(tmp_path / "shots.csv", "file,label", *rows, "shots/gone.png,dent", "torn")
    calls = []
    form = FORMATS[kind]
    monkeypatch.setitem(FORMATS, kind, replace(form, read=lambda source: calls.append(source) or form.read(source)))
    proposal = proposed(made, "product_defects")
    assert len(calls) == 1
    assert list(proposal.items) == list(items_of(proposal.recipe))


@pytest.mark.parametrize("label", [datasets.ClassLabel(names=["dent", "scratch"]), datasets.Value("string")], ids=str)
def test_rows_may_hold_photos(label: Any, tmp_path: Path) -> None:
    files = [str(file) for name in ("dent", "scratch") for file in sorted((photos(tmp_path, name) / name).iterdir())]
    kinds = ["dent"] * 6 + ["scratch"] * 6
    features = datasets.Features(image=datasets.Image(), file_name=datasets.Value("string"), label=label)
    rows = {"image": files, "file_name": [f"{i}.png" for i in range(12)], "label": kinds}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    proposal = proposed(tmp_path / "rows.parquet", "product_defects")
    assert (proposal.recipe.fields, proposal.recipe.data[0].image) == (("kind",), None)
    assert list(proposal.items) == list(items_of(proposal.recipe))


def test_labels_that_are_all_set_aside_are_reported(tmp_path: Path) -> None:
    Image.new("L", (32, 32)).save(tmp_path / "a.png")
    box = "<bndbox><xmin>30</xmin><ymin>30</ymin><xmax>40</xmax><ymax>40</ymax></bndbox>"
    (tmp_path / "a.xml").write_text(f"<annotation><object><name>dent</name>{box}</object></annotation>")
    with pytest.raises(
        DataError, match=r"state no field .* \(1 set aside, such as .*a\.xml:1: .* lies outside the image"
    ):
        proposed(tmp_path, "product_defects")


def init(*arguments: object, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["init", *map(str, arguments)], input=typed)


def test_the_written_recipe_is_named_with_the_next_commands(tmp_path: Path) -> None:
    """tests/test_page_commands.py trains such recipes."""
    out = tmp_path / "my.yaml"
    done = init(photos(tmp_path / "my parts", "good", "scratch"), "--task", "product_defects", "--out", out)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{out}\n"
    assert done.stderr.splitlines()[-2:] == [f"  vlm-ft train {out} --dry-run", f"  vlm-ft train {out}"]
    assert load(load_recipe(out)).form.names == ("passed", "kind")


def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    out, folder = tmp_path / "my.yaml", photos(tmp_path / "parts", "dent", "scratch")
    out.write_text("mine")
    done = init(folder, "--task", "product_defects", "--out", out)
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == f"{out}: already exists; give another --out, or --force to replace it"
    assert out.read_text() == "mine"
    assert init(folder, "--task", "product_defects", "--out", out, "--force").exit_code == 0
    assert load_recipe(out).fields == ("kind",)


def test_without_a_terminal_it_says_which_tasks_fit(tmp_path: Path) -> None:
    done = init(photos(tmp_path / "parts", "dent", "scratch"), "--out", tmp_path / "a.yaml")
    assert str(done.exception).startswith("--task: not given; give one that fits: ")
    assert "product_defects" in str(done.exception)
    assert "legal_documents" not in str(done.exception)


def test_on_a_terminal_it_asks_for_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm_ft.cli.init._interactive", lambda: True)
    out = tmp_path / "a.yaml"
    done = init(photos(tmp_path / "parts", "dent", "scratch"), "--out", out, typed="product_defects\n")
    assert done.exit_code == 0, done.output
    assert load_recipe(out).task == "product_defects"


def test_a_custom_task_gets_a_recipe(tmp_path: Path, own_task: Path, drawings: Path) -> None:
    out = tmp_path / "a.yaml"
    assert init(drawings, "--task", own_task, "--out", out).exit_code == 0
    assert load_recipe(out).fields == ("verdict",)


def test_a_task_that_does_not_fit_names_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"state no field of the task legal_documents; tasks that fit: .*car_damage"):
        proposed(photos(tmp_path / "parts", "dent", "scratch"), "legal_documents")
