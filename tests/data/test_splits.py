"""Roles are seeded and stratified and keep groups whole, folds partition the data, and a stored role never changes."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from datasets_vision.example import Example
from vlm_ft.data.splits import assign
from vlm_ft.errors import DataError
from vlm_ft.recipe import ROLES, Role, Splits

STRATA = ("pit", "crack", "none")
EVERY_SPLIT = pytest.mark.parametrize(
    "splits", [Splits(), Splits(seed=3), Splits(folds=3, fold=1), Splits(train=1, tune=1, calibrate=1, test=1)], ids=str
)


def examples(count: int, size: int = 3, start: int = 0) -> list[Example]:
    """This many examples, in groups of `size`."""
    return [Example(id=f"{index}", group=f"g{index // size}") for index in range(start, start + count)]


def strata(given: Sequence[Example]) -> list[str]:
    """The stratum of each example, by its group's number."""
    return [STRATA[int(example.group[1:]) % 3] for example in given]


def shared(given: Sequence[Example], splits: Splits, file: Path | None = None) -> dict[str, Role]:
    """Example id -> role."""
    roles = assign(given, strata(given), splits, file)
    return dict(zip((example.id for example in given), roles, strict=True))


def test_a_run_on_other_data_gives_no_roles(tmp_path: Path) -> None:
    shared(examples(30), Splits(), tmp_path / "splits.jsonl")
    with pytest.raises(
        DataError, match=r"shares no example with these data; set splits\.like to a run on the same data"
    ):
        shared(examples(30, start=60), Splits(like=tmp_path))


@EVERY_SPLIT
def test_a_group_has_one_role(splits: Splits) -> None:
    given = examples(200)
    by_group = defaultdict(set)
    for example, role in zip(given, assign(given, strata(given), splits), strict=True):
        by_group[example.group].add(role)
    assert {len(roles) for roles in by_group.values()} == {1}


@EVERY_SPLIT
def test_the_seed_alone_decides(splits: Splits) -> None:
    given = examples(200)
    roles = shared(given, splits)
    assert shared(list(reversed(given)), splits) == roles
    assert shared(given, splits.model_copy(update={"seed": 99})) != roles


@EVERY_SPLIT
def test_every_stratum_is_split_by_the_same_shares(splits: Splits) -> None:
    given = examples(900, size=1)
    roles = assign(given, strata(given), splits)
    test = 1 / splits.folds if splits.folds else splits.test / _total(splits)
    rest = (1 - test) / (_total(splits) - splits.test) if splits.folds else 1 / _total(splits)
    wanted = {"train": splits.train * rest, "tune": splits.tune * rest, "calibrate": splits.calibrate * rest}
    counts = Counter(zip(strata(given), roles, strict=True))
    for stratum in STRATA:
        for role, share in {**wanted, "test": test}.items():
            # cuts fall between examples: each of a role's two edges is off by less than one
            assert abs(counts[stratum, role] - 300 * share) < 2, (stratum, role)


def _total(splits: Splits) -> float:
    return splits.train + splits.tune + splits.calibrate + splits.test


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_partition_the_data(folds: int) -> None:
    given = examples(200)
    tested = Counter(
        name
        for fold in range(folds)
        for name, role in shared(given, Splits(folds=folds, fold=fold)).items()
        if role == "test"
    )
    assert tested == Counter(example.id for example in given)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_folds_share_small_classes(size: int) -> None:
    """30 classes of this many examples each, in 5 folds."""
    given = [Example(id=str(index)) for index in range(30 * size)]
    strata = [f"class {index // size}" for index in range(30 * size)]
    tested = [assign(given, strata, Splits(folds=5, fold=fold)).count("test") for fold in range(5)]
    assert tested == [6 * size] * 5


def test_a_tenth_is_set_aside_for_calibration_by_default() -> None:
    roles = Counter(assign(examples(1000, size=1), [""] * 1000, Splits()))
    assert roles == {"train": 650, "tune": 100, "calibrate": 100, "test": 150}


@EVERY_SPLIT
def test_roles_in_the_file_never_change(splits: Splits, tmp_path: Path) -> None:
    file = tmp_path / "splits.jsonl"
    first = shared(examples(60), splits, file)
    kept = file.read_text(encoding="utf-8")
    more = shared(examples(200), splits.model_copy(update={"seed": 5}), file)
    assert {name: more[name] for name in first} == first
    assert file.read_text(encoding="utf-8").startswith(kept)
    again = shared(examples(40, start=20), splits, file)
    assert again == {name: more[name] for name in again}
    grown = file.read_text(encoding="utf-8").splitlines()
    assert len(grown) == len({json.loads(line)["group"] for line in grown}) == 67


def test_small_additions_follow_the_shares(tmp_path: Path) -> None:
    """Groups added one at a time, as from a review queue, do not all get one role."""
    file, splits = tmp_path / "splits.jsonl", Splits()
    shared(examples(60, size=1), splits, file)
    for count in range(61, 361):
        roles = shared(examples(count, size=1), splits, file)
    counts = Counter((strata([example])[0], roles[example.id]) for example in examples(360, size=1))
    for stratum in STRATA:
        for role in ROLES:
            assert abs(counts[stratum, role] - 120 * getattr(splits, role)) < 2, (stratum, role)


@EVERY_SPLIT
def test_a_group_that_grows_stays_whole(splits: Splits, tmp_path: Path) -> None:
    file = tmp_path / "splits.jsonl"
    first = shared(examples(100, size=10), splits, file)
    more = [*examples(100, size=10), Example(id="late", group="g3")]
    assert shared(more, splits, file)["late"] == first["30"]


def test_the_file_overrides_the_lists_of_the_source(tmp_path: Path) -> None:
    file = tmp_path / "splits.jsonl"
    file.write_text('{"group": "one", "role": "train"}\n', encoding="utf-8")
    given = [Example(id="1", group="one", role="val")]
    assert assign(given, [""], Splits(source={"val": "test"}), file) == ["train"]


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(DataError, match="not UTF-8; rename the file"):
        assign([Example(id="a\udcff.jpg", source="a\udcff.jpg")], [""], Splits())


def stored(file: Path) -> dict[str, str]:
    """Group -> role, as stored in the file."""
    entries = [json.loads(line) for line in file.read_bytes().splitlines()]
    return {entry["group"]: entry["role"] for entry in entries}


def test_a_last_line_without_a_newline_is_not_joined_to_the_next(tmp_path: Path) -> None:
    file = tmp_path / "splits.jsonl"
    shared(examples(9), Splits(), file)
    file.write_text(file.read_text(encoding="utf-8").rstrip("\n"), encoding="utf-8")  # as some editors save
    shared(examples(30), Splits(), file)
    assert len(stored(file)) == 10


@pytest.mark.parametrize("group", ["a\nb", "a\u2028b", "a\x85b", "a\rb", 'a"b', "é", "{}", " "])
def test_any_group_name_is_kept(group: str, tmp_path: Path) -> None:
    file = tmp_path / "splits.jsonl"
    roles = assign([Example(id="1", group=group)], [""], Splits(), file)
    assert list(stored(file).items()) == [(group, roles[0])]


def test_the_lists_of_the_source_are_kept() -> None:
    given = [
        Example(id=f"{index}", role={0: "val", 1: "train"}.get(index % 3), group=f"g{index}") for index in range(60)
    ]
    roles = assign(given, [""] * 60, Splits(source={"val": "test"}, tune=0.5, calibrate=0))
    for example, role in zip(given, roles, strict=True):
        assert (role == "test") == (example.role == "val")
    assert set(roles) == {"train", "tune", "test"}


def test_lists_that_split_a_group_are_refused() -> None:
    given = [Example(id=f"{index}", group="one", role=role, source="f") for index, role in enumerate(("train", "val"))]
    with pytest.raises(DataError, match="group 'one' is in the lists of two roles"):
        assign(given, ["", ""], Splits(source={"train": "train", "val": "test"}))


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "3", '{"group": "a"}', '{"group": "a", "role": "exam"}', '{"group": "a", "role": []}']
)
def test_a_malformed_line_is_reported_with_its_number(line: str, tmp_path: Path) -> None:
    file = tmp_path / "splits.jsonl"
    file.write_text('{"group": "g0", "role": "train"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        shared(examples(6), Splits(), file)
    assert str(error.value).startswith(f"{file}:2: ")
    assert "\n" not in str(error.value)


def test_every_role_is_assigned() -> None:
    assert set(assign(examples(300, size=1), [""] * 300, Splits(calibrate=0.05))) == set(ROLES)
