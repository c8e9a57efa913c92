"""Checks before training: a clean set has no faults, and every kind of fault planted in it is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from tests.data.made_sets import (
    Plant,
    WordRuler,
    altered,
    boxed,
    copied,
    drawn,
    found,
    one_photo,
    photos,
    rows,
    texts,
    truncated,
)
from vlm_ft.cli.data import app
from vlm_ft.data.cases import load
from vlm_ft.data.checks import CHECKS, check, inspect
from vlm_ft.data.checks.report import html, print_report, write
from vlm_ft.errors import DataError, ModelError
from vlm_ft.recipe import Recipe
from vlm_ft.training.run import train


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PLANTS: list[tuple[str, Callable[[Path], Recipe], Plant, dict[str, str]]] = [
    ("truncated", photos, truncated, {"unreadable": "error"}),
    ("no image", photos, lambda f: (f / "train/dent/x.jpg").write_text("hello") and None, {"unreadable": "warning"}),
    ("0 bytes", photos, lambda f: (f / "train/dent/x.jpg").touch(), {"unreadable": "warning"}),
    ("PNG named jpg", photos, altered(lambda i: drawn(55), "train/dent/x.jpg", format="PNG"), {"extension": "warning"}),
    (
        "leak",
        photos,
        lambda f: copied(f, "train/dent/traindent3.jpg", "test/dent/again.jpg"),
        {"leaks": "error"},
    ),
    (
        "duplicate",
        photos,
        lambda f: copied(f, "train/dent/traindent3.jpg", "train/dent/again.jpg"),
        {"duplicates": "warning"},
    ),
    (
        "contradiction",
        photos,
        lambda f: copied(f, "train/dent/traindent3.jpg", "train/scratch/again.jpg"),
        {"duplicates": "warning", "conflicts": "warning"},
    ),
    ("smaller", photos, altered(lambda i: i.resize((40, 40)), "test/dent/x.png"), {"near_leaks": "warning"}),
    ("worse", photos, altered(lambda i: i, "test/dent/x.jpg", quality=30), {"near_leaks": "warning"}),
    (
        "brighter",
        photos,
        altered(lambda i: i.point(lambda v: v * 0.9 + 20), "test/dent/x.png"),
        {"near_leaks": "warning"},
    ),
    ("own role", photos, altered(lambda i: i, "train/dent/x.jpg", quality=30), {"near_duplicates": "warning"}),
    *(
        (method.name, photos, altered(lambda i, m=method: i.transpose(m), "test/dent/x.png"), {"near_leaks": "warning"})  # type: ignore[misc]
        for method in Image.Transpose
    ),
    (
        "constant",
        photos,
        altered(lambda i: Image.new("RGB", (64, 64), "grey"), "test/dent/x.png"),
        {"constant": "warning"},
    ),
    ("thumbnail", photos, altered(lambda i: drawn(55, 20), "test/dent/x.png"), {"small": "warning"}),
    ("turned", boxed, one_photo(exif=_turned()), {"orientation": "warning"}),
    ("empty box", boxed, one_photo(("dent", 9, 9, 9, 20)), {"boxes": "warning"}),
    ("outside", boxed, one_photo(("dent", 70, 70, 90, 90)), {"boxes": "warning"}),
    ("negative", boxed, one_photo(("dent", -40, -40, -10, -10)), {"boxes": "warning"}),
    ("tiny box", boxed, one_photo(("scratch", 9, 9, 12, 20)), {"tiny_boxes": "warning"}),
    ("unknown", boxed, one_photo(("dnet", 9, 9, 30, 30)), {"schema": "error"}),
    ("text leak", texts, rows("test.csv", "TRAIN  passage 4 says so.,audit,q"), {"texts": "warning"}),
    ("text twice", texts, rows("train.csv", "train passage 4 says so.,audit,q"), {"duplicates": "warning"}),
    (
        "text contradicts",
        texts,
        rows("train.csv", "train passage 4 says so.,notice,q"),
        {"duplicates": "warning", "conflicts": "warning"},
    ),
    ("patient", texts, rows("test.csv", "Another one.,audit,r4"), {"groups": "warning"}),
    ("overlong", texts, rows("train.csv", f"{'word ' * 300},audit,q"), {"lengths": "error"}),
    (
        "spelling",
        texts,
        rows("train.csv", *(f"Another {n}.,Audit ,q{n}" for n in range(6))),
        {"spellings": "warning", "balance": "warning"},
    ),
    ("rare", texts, rows("train.csv", "Another one.,privacy,q"), {"balance": "warning"}),
    ("never trained", texts, rows("test.csv", "Another one.,privacy,q"), {"balance": "warning"}),
    ("untested", texts, rows("train.csv", *(f"Another {n}.,privacy,q{n}" for n in range(6))), {"balance": "warning"}),
    ("uneven", texts, rows("train.csv", *(f"Another {n}.,audit,q{n}" for n in range(300))), {"balance": "warning"}),
    ("torn row", texts, rows("train.csv", "one cell"), {"set_aside": "warning"}),
    ("torn rows", texts, rows("train.csv", *["one cell"] * 8), {"set_aside": "error"}),
]


@pytest.mark.parametrize("clean", [photos, boxed, texts])
def test_a_clean_set_has_no_faults(clean: Callable[[Path], Recipe], tmp_path: Path) -> None:
    report = check(clean(tmp_path / "set"), WordRuler())
    assert found(report) == {}
    assert sum(report.roles.values()) in (36, 40, 42)
    report.stop_at_errors()


@pytest.mark.parametrize(
    ("clean", "plant", "expected"), [case[1:] for case in PLANTS], ids=[case[0] for case in PLANTS]
)
def test_a_planted_fault_is_found(
    clean: Callable[[Path], Recipe], plant: Plant, expected: dict[str, str], tmp_path: Path
) -> None:
    recipe = clean(tmp_path / "set")
    plant(tmp_path / "set")
    report = check(recipe, WordRuler())
    assert found(report) == expected
    for finding in report.findings:
        for fault in finding.faults:
            assert fault.place
            assert fault.value
            assert fault.remedy
            assert "\n" not in str(fault)


def test_every_check_has_a_planted_fault() -> None:
    assert {name for case in PLANTS for name in case[3]} | {"ids"} == set(CHECKS)


def test_an_id_in_two_sources_is_found(tmp_path: Path) -> None:
    first, second = texts(tmp_path / "a"), tmp_path / "b"
    texts(second)
    both = Recipe.model_validate({**first.model_dump(), "data": [{"path": str(tmp_path / "a")}, {"path": str(second)}]})
    assert found(check(both))["ids"] == "error"


def test_lists_that_split_a_group_are_found(tmp_path: Path) -> None:
    made = texts(tmp_path / "set")
    parted = made.model_copy(
        update={"data": tuple(source.model_copy(update={"group": r"(\d)$"}) for source in made.data)}
    )
    report = check(parted)
    assert found(report)["groups"] == "error"


def test_errors_are_raised_in_one_line(tmp_path: Path) -> None:
    made = photos(tmp_path / "set")
    copied(tmp_path / "set", "train/dent/traindent3.jpg", "test/dent/again.jpg")
    copied(tmp_path / "set", "train/dent/traindent4.jpg", "test/dent/again4.jpg")
    with pytest.raises(DataError, match=r"again.*\.jpg: in test, .*all 2 errors.*--no-check") as error:
        inspect(load(made), made.name).stop_at_errors()
    assert "\n" not in str(error.value)


def test_training_stops_at_errors_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: Console
) -> None:
    made, out = photos(tmp_path / "set"), tmp_path / "run"
    copied(tmp_path / "set", "train/dent/traindent3.jpg", "test/dent/again.jpg")
    with pytest.raises(DataError, match="--no-check"):
        train(made, out, console=quiet)
    assert not out.exists()

    def reached(*_: object, **__: object) -> None:
        raise ModelError("base", "would be loaded now")

    monkeypatch.setattr("vlm_ft.training.prepare.load_base", reached)
    with pytest.raises(ModelError):
        train(made, out, check=False, console=quiet)


def test_a_leak_that_affects_no_reported_figure_is_a_warning(tmp_path: Path) -> None:
    made = photos(tmp_path / "set")
    made = made.model_copy(
        update={"splits": made.splits.model_copy(update={"source": {"train": "train", "test": "tune"}})}
    )
    copied(tmp_path / "set", "train/dent/traindent3.jpg", "test/dent/again.jpg")
    assert found(check(made)) == {"leaks": "warning"}


def test_a_quick_look_finds_what_needs_no_decoding(tmp_path: Path) -> None:
    made = photos(tmp_path / "set")
    assert found(inspect(load(made), made.name)) == {}
    altered(lambda i: i.rotate(90), "test/dent/turned.png")(tmp_path / "set")
    copied(tmp_path / "set", "train/dent/traindent4.jpg", "test/dent/again4.jpg")
    assert found(inspect(load(made), made.name)) == {"leaks": "error"}
    check(made)  # which remembers what the pictures look like
    assert found(inspect(load(made), made.name)) == {"leaks": "error", "near_leaks": "warning"}


def test_roles_are_those_of_the_run(tmp_path: Path) -> None:
    made, file = boxed(tmp_path / "set"), tmp_path / "run" / "splits.jsonl"
    dataset = load(made.model_copy(update={"splits": made.splits.model_copy(update={"seed": 5})}), file)
    kept = file.read_text(encoding="utf-8")
    assert check(made, splits_file=file).roles == dataset.counts
    assert file.read_text(encoding="utf-8") == kept


def test_text_on_the_page_is_escaped_and_pictures_are_inlined(tmp_path: Path) -> None:
    made = photos(tmp_path / "set")
    copied(tmp_path / "set", "train/dent/traindent3.jpg", "test/dent/<img src=x onerror=alert(1)>.jpg")
    report = check(made, WordRuler())
    page = html(report)
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert page.count("data:image/jpeg;base64,") == 2
    assert write(report, tmp_path / "out") == tmp_path / "out" / "check.html"
    kept = json.loads((tmp_path / "out" / "check.json").read_text(encoding="utf-8"))
    assert kept["errors"] == 1
    assert kept["lengths"]["limit"] == 200
    entry = next(entry for entry in kept["checks"] if entry["check"] == "leaks")
    assert set(entry["faults"][0]) >= {"severity", "place", "value", "remedy"}
    with (tmp_path / "output.txt").open("w", encoding="utf-8") as file:
        print_report(report, Console(file=file, width=200))
    assert "1 errors, 0 warnings" in (tmp_path / "output.txt").read_text(encoding="utf-8")


def test_the_exit_code_is_1_if_there_are_errors(tmp_path: Path) -> None:
    made = photos(tmp_path / "set")
    file = tmp_path / "trial.yaml"
    file.write_text(made.model_dump_json(exclude_defaults=True), encoding="utf-8")
    command = ["check", str(file), "--no-base", "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, command).exit_code == 0
    copied(tmp_path / "set", "train/dent/traindent3.jpg", "test/dent/again.jpg")
    assert CliRunner().invoke(app, command).exit_code == 1
    assert json.loads((tmp_path / "out/check.json").read_text(encoding="utf-8"))["errors"] == 1
