"""Checks before training: a clean set raises nothing, and every kind of fault that is planted in it is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from datasets_vision.example import Turn
from vlm_ft.answers.form import Form
from vlm_ft.cli.data import app
from vlm_ft.conversation import Conversation, Row
from vlm_ft.data.cases import load
from vlm_ft.data.checks import CHECKS, Report, check, inspect
from vlm_ft.data.checks.gather import Witnesses
from vlm_ft.data.checks.near import BANDS, band_keys
from vlm_ft.data.checks.pictures import ORIENTATIONS, Memory, likeness, look, orientations, outline
from vlm_ft.data.checks.report import html, tell, write
from vlm_ft.errors import DataError, FormError, ModelError
from vlm_ft.models.load import load_base
from vlm_ft.recipe import Recipe
from vlm_ft.tasks import TASKS
from vlm_ft.training.ruler import BaseRuler
from vlm_ft.training.run import train

SIDE = 64
Plant = Callable[[Path], None]


class WordRuler:
    """A base that counts words, takes 200 of them, and sees 64x64 pixels of an image as one word each 8x8."""

    limit = 200
    most_pixels = SIDE * SIDE

    def lengths(
        self, form: Form, turns: Sequence[Turn], sizes: Sequence[tuple[int, int]], target: str
    ) -> tuple[int, int]:
        """Words of the turns and of the answer."""
        return sum(len(turn.text.split()) for turn in turns) + len(target.split()) + 64 * len(sizes), 64 * len(sizes)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def drawn(seed: int, side: int = SIDE) -> Image.Image:
    """Smooth blobs, others for every seed, the same at every size."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


# Three clean sets, and what can be wrong in each.


def photos(folder: Path) -> Recipe:
    """Image folders with the roles that they come with: 2 classes of 12 in train, 6 in test."""
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
    """Two tables: 30 passages in train, 12 in test, of two kinds; the patients of the one are not of the other."""
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
    """A picture of train as a copy of it that was saved anew."""

    def plant(folder: Path) -> None:
        image = Image.open(folder / "train/dent/traindent3.jpg")
        alter(image).save(folder / target, **save)

    return plant


def truncated(folder: Path) -> None:
    file = folder / "train/dent/traindent3.jpg"
    file.write_bytes(file.read_bytes()[:700])


def rows(name: str, *lines: str) -> Plant:
    """More lines for a table."""

    def plant(folder: Path) -> None:
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    return plant


def one_photo(*objects: tuple[Any, ...], **save: Any) -> Plant:
    return lambda folder: photo(folder, "planted", drawn(777), [*objects, ("dent", 4, 4, 30, 30)], **save)


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


def found(report: Report) -> dict[str, str]:
    """Check -> its gravest severity, of the checks that found something."""
    return {f.check: "error" if f.errors else "warning" for f in report.findings if f.total}


@pytest.mark.parametrize("clean", [photos, boxed, texts])
def test_a_clean_set_raises_nothing(clean: Callable[[Path], Recipe], tmp_path: Path) -> None:
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


def test_every_check_is_planted() -> None:
    assert {name for case in PLANTS for name in case[3]} | {"ids"} == set(CHECKS)


def test_an_id_in_two_sources_is_found(tmp_path: Path) -> None:
    first, second = texts(tmp_path / "a"), tmp_path / "b"
    texts(second)
    both = Recipe.model_validate({**first.model_dump(), "data": [{"path": str(tmp_path / "a")}, {"path": str(second)}]})
    assert found(check(both))["ids"] == "error"


def test_lists_that_part_a_group_are_found(tmp_path: Path) -> None:
    made = texts(tmp_path / "set")
    parted = made.model_copy(
        update={"data": tuple(source.model_copy(update={"group": r"(\d)$"}) for source in made.data)}
    )
    report = check(parted)
    assert found(report)["groups"] == "error"


def test_errors_stop_in_one_line(tmp_path: Path) -> None:
    made = photos(tmp_path / "set")
    copied(tmp_path / "set", "train/dent/traindent3.jpg", "test/dent/again.jpg")
    copied(tmp_path / "set", "train/dent/traindent4.jpg", "test/dent/again4.jpg")
    with pytest.raises(DataError, match=r"again.*\.jpg: in test, .*1 more errors.*--no-check") as error:
        inspect(load(made), made).stop_at_errors()
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
        raise ModelError("the base would be loaded now")

    monkeypatch.setattr("vlm_ft.training.run.load_base", reached)
    with pytest.raises(ModelError):
        train(made, out, check=False, console=quiet)


def test_a_leak_that_no_figure_is_told_of_is_a_warning(tmp_path: Path) -> None:
    made = photos(tmp_path / "set")
    made = made.model_copy(
        update={"splits": made.splits.model_copy(update={"source": {"train": "train", "test": "tune"}})}
    )
    copied(tmp_path / "set", "train/dent/traindent3.jpg", "test/dent/again.jpg")
    assert found(check(made)) == {"leaks": "warning"}


def test_a_quick_look_finds_what_needs_no_decoding(tmp_path: Path) -> None:
    made = photos(tmp_path / "set")
    assert found(inspect(load(made), made)) == {}
    altered(lambda i: i.rotate(90), "test/dent/turned.png")(tmp_path / "set")
    copied(tmp_path / "set", "train/dent/traindent4.jpg", "test/dent/again4.jpg")
    assert found(inspect(load(made), made)) == {"leaks": "error"}
    check(made)  # which remembers what the pictures look like
    assert found(inspect(load(made), made)) == {"leaks": "error", "near_leaks": "warning"}


def test_roles_are_those_of_the_run(tmp_path: Path) -> None:
    made, file = boxed(tmp_path / "set"), tmp_path / "run" / "splits.jsonl"
    dataset = load(made.model_copy(update={"splits": made.splits.model_copy(update={"seed": 5})}), file)
    kept = file.read_text(encoding="utf-8")
    assert check(made, splits_file=file).roles == dataset.counts
    assert file.read_text(encoding="utf-8") == kept


def test_a_pages_text_is_escaped_and_its_pictures_inlined(tmp_path: Path) -> None:
    made = photos(tmp_path / "set")
    copied(tmp_path / "set", "train/dent/traindent3.jpg", "test/dent/<img src=x onerror=alert(1)>.jpg")
    report = check(made, WordRuler())
    page = html(report)
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert page.count("data:image/jpeg;base64,") == 2
    write(report, tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "check.json").read_text(encoding="utf-8"))
    assert kept["errors"] == 1
    assert kept["lengths"]["limit"] == 200
    told = next(entry for entry in kept["checks"] if entry["check"] == "leaks")
    assert set(told["faults"][0]) >= {"severity", "place", "value", "remedy"}
    with (tmp_path / "told.txt").open("w", encoding="utf-8") as file:
        tell(report, Console(file=file, width=200))
    assert "1 errors, 0 warnings" in (tmp_path / "told.txt").read_text(encoding="utf-8")


def test_orientations_are_the_eight(tmp_path: Path) -> None:
    image = drawn(5, 48)
    image.save(tmp_path / "a.png")
    facts = look(tmp_path / "a.png")
    assert len(ORIENTATIONS) == len(set(facts.hashes)) == 8
    wanted = [image, *(image.transpose(method) for method in Image.Transpose)]
    hashes = {int(str(imagehash.phash(seen)), 16) for seen in wanted}
    for own in facts.hashes:  # scaling before or after a turn rounds differently
        assert min((own ^ other).bit_count() for other in hashes) <= 2
    levels = outline(facts.grey)
    turned = orientations(levels)
    assert likeness(turned[0], levels) == pytest.approx(1)
    assert max(likeness(seen, levels) for seen in turned[1:]) < 0.9


def test_a_fixed_camera_s_pictures_are_no_duplicates_and_its_copies_are(tmp_path: Path) -> None:
    """The same scene 40 times, each time with its own small things in it; then one of them saved anew."""
    made, scene = photos(tmp_path / "set"), np.asarray(drawn(9), np.float64)
    shutil.rmtree(tmp_path / "set")
    for index in range(40):
        place = tmp_path / "set" / ("test", "train", "train")[index % 3] / ("dent", "scratch")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        own = 0.9 * scene + 0.1 * np.asarray(drawn(100 + index), np.float64)
        Image.fromarray(own.astype(np.uint8)).save(place / f"p{index}.jpg", quality=92)
    assert found(check(made)) == {}
    Image.open(tmp_path / "set/train/dent/p4.jpg").save(tmp_path / "set/test/dent/x.jpg", quality=60)
    assert found(check(made)) == {"near_leaks": "warning"}


def test_hashes_of_four_differing_bits_share_a_band() -> None:
    random = np.random.default_rng(0)
    assert BANDS[-1] == 64
    for _ in range(200):
        one = int(random.integers(0, 1 << 63)) * 2 + 1
        other = one
        for bit in random.choice(64, 4, replace=False):
            other ^= 1 << int(bit)
        assert set(band_keys(one)) & set(band_keys(other))


def test_what_is_remembered_is_what_was_seen(tmp_path: Path) -> None:
    drawn(3).save(tmp_path / "a.jpg")
    memory = Memory(tmp_path / "memory.sqlite")
    seen = look(tmp_path / "a.jpg", memory=memory)
    assert look(tmp_path / "a.jpg", decode=False, memory=memory) == seen
    assert not look(tmp_path / "a.jpg", decode=False).decoded
    drawn(4).save(tmp_path / "a.jpg")
    assert not look(tmp_path / "a.jpg", decode=False, memory=memory).decoded
    (tmp_path / "broken.sqlite").write_text("no database " * 100)
    assert look(tmp_path / "a.jpg", memory=Memory(tmp_path / "broken.sqlite")).decoded


def values_of() -> Iterator[list[dict[str, Any]]]:
    random = np.random.default_rng(1)
    for _ in range(40):
        answers: list[dict[str, Any]] = []
        for _ in range(30):
            values: dict[str, Any] = {}
            if random.random() < 0.7:
                values["kind"] = f"k{random.integers(4)}"
            if random.random() < 0.2:
                values["passed"] = bool(random.integers(2))
            if random.random() < 0.5:
                row = {"kind": f"f{random.integers(5)}", "severity": "minor", "box": [1, 2, 3, 4]}
                for name in ("severity", "box"):
                    if random.random() < 0.05:
                        del row[name]
                values["findings"] = [row] * int(random.integers(3))
            answers.append(values)
        yield answers


def test_the_form_of_the_witnesses_is_the_form_of_all() -> None:
    task = TASKS["product_defects"]
    for answers in values_of():
        witnesses = Witnesses(task)
        for values in answers:
            witnesses.add(values, "here")
        assert Form.observed(task, witnesses.values) == Form.observed(task, answers)
        assert len(witnesses.values) < len(answers)


def test_a_column_of_free_text_is_no_choice(tmp_path: Path) -> None:
    made = texts(tmp_path / "set")
    rows("train.csv", *(f"Text {n}.,clause {n},q" for n in range(3000)))(tmp_path / "set")
    with pytest.raises(DataError, match="clause_type has more than 2000 names") as error:
        check(made)
    assert "\n" not in str(error.value)


def test_labels_that_answer_nothing_are_told(tmp_path: Path) -> None:
    made = photos(tmp_path / "set").model_copy(update={"task": "legal_documents", "fields": ("risk",)})
    with pytest.raises(FormError, match="risk"):
        check(made)


def test_the_command_s_exit_code_tells_errors(tmp_path: Path) -> None:
    made = photos(tmp_path / "set")
    file = tmp_path / "trial.yaml"
    file.write_text(made.model_dump_json(exclude_defaults=True), encoding="utf-8")
    command = ["check", str(file), "--no-base", "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, command).exit_code == 0
    copied(tmp_path / "set", "train/dent/traindent3.jpg", "test/dent/again.jpg")
    assert CliRunner().invoke(app, command).exit_code == 1
    assert json.loads((tmp_path / "out/check.json").read_text(encoding="utf-8"))["errors"] == 1


@pytest.mark.parametrize("text", ["Look at <image> this.", ""])
@pytest.mark.parametrize("name", ["qwen3_vl", "smolvlm", "internvl", "llava_onevision", "llama"])
def test_a_row_is_as_long_as_training_will_find_it(
    name: str, text: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Without the weights, and with blank pictures of the same size."""
    made = boxed(tmp_path / "set").model_copy(update={"base": str(tiny_folder(name))})
    ruler, base = BaseRuler(made), load_base(made.base)
    case = load(made).cases["train"][0]
    form = load(made).form.narrow(case.values)
    turns, target = (Turn("user", text),) if text else (), form.target(case.values)
    images = case.example.images if base.vision else ()
    expected = Conversation(base).lengths(Row(form, turns, images, target))
    assert ruler.lengths(form, turns, [(SIDE, SIDE)], target) == (expected if base.vision else (expected[0], 0))
    assert ruler.limit == base.max_length
    assert (ruler.most_pixels is None) == (not base.vision)
