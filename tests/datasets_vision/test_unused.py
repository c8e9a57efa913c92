"""Settings of a source that its format or its items do not use are rejected or reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datasets_vision.formats import FORMATS
from datasets_vision.source import Source, read
from tests.datasets_vision.made import photo
from vlm_ft.errors import DataError

ROWS = "text,kind,who\nit leaks,leak,a\nit hums,noise,a\nit is hot,heat,b\n"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    (tmp_path / "rows.csv").write_text(ROWS)
    return tmp_path / "rows.csv"


@pytest.mark.parametrize(
    "option",
    [{"image_folder": "x"}, {"named_by": "x"}, {"record": "x"}, {"frames": "each"}, {"window": "lung"}],
    ids=lambda option: next(iter(option)),
)
def test_an_option_that_the_format_ignores_is_refused(rows: Path, option: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"the format tables does not use {next(iter(option))}; leave it out"):
        read(Source(path=rows, **option))


@pytest.mark.parametrize("option", [{"text": "{kind}"}, {"window": "p1-p99"}], ids=str)
def test_image_folders_accept_no_text_and_no_window(tmp_path: Path, option: dict[str, Any]) -> None:
    for name in ("a/1.png", "b/2.png"):
        photo(tmp_path / name)
    with pytest.raises(DataError, match="the format folders does not use"):
        read(Source(path=tmp_path, **option))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"rename": {"leek": "x"}}, "rename: no label or value matches 'leek'; did you mean 'leak'?"),
        ({"values": {"kinds": {"leak": "x"}}}, "values: no item has a column 'kinds'; did you mean 'kind'?"),
        ({"values": {"who": {"a": "x", "b": "y", "c": "z"}}}, "values: no item has 'c' in who"),
        ({"shorten": {"kinds": 4}}, "shorten: no item has a column 'kinds'; did you mean 'kind'?"),
        (
            {"case_by": "group", "group_by": "who", "columns": {"kind": "kind"}, "worst_first": ["leek"]},
            "worst_first: no label or value matches 'leek'; did you mean 'leak'?",
        ),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_a_name_that_no_item_uses_is_reported(rows: Path, option: dict[str, Any], message: str) -> None:
    found = read(Source(path=rows, **option))
    assert found.examples
    assert any(message in entry.reason for entry in found.set_aside)


def test_used_names_are_not_reported(rows: Path) -> None:
    options = {"columns": {"fault": "kind"}, "values": {"fault": {"leak": "a", "noise": "b", "heat": "c"}}}
    assert read(Source(path=rows, shorten={"fault": 3}, **options)).set_aside == ()


def test_a_class_from_a_photo_name_counts_as_used(tmp_path: Path) -> None:
    for name in ("cat_1.png", "dog_1.png"):
        photo(tmp_path / "mixed" / name)
    found = read(Source(path=tmp_path, image_class="^([a-z]+)_", rename={"cat": "Cat", "cow": "Cow"}))
    assert [example.label.image_class for example in found.examples] == ["Cat", "dog"]
    assert ["'cow'" in entry.reason for entry in found.set_aside] == [True]


def test_worst_first_ranks_renamed_words(rows: Path) -> None:
    options = {"case_by": "group", "group_by": "who", "columns": {"kind": "kind"}}
    values = {"kind": {"leak": "major", "noise": "minor", "heat": "minor"}}
    ranked = read(Source(path=rows, values=values, worst_first=("major", "minor", "leak"), **options))
    (entry,) = ranked.set_aside
    assert entry.reason.startswith("worst_first: no label or value matches 'leak'; ")
    assert read(Source(path=rows, rename={"leak": "a"}, worst_first=("a", "noise"), **options)).set_aside == ()


def test_a_class_from_a_photo_name_needs_a_photo(rows: Path) -> None:
    with pytest.raises(DataError, match="the example has no image; leave image_class out"):
        read(Source(path=rows, image_class="(a)"))


@pytest.mark.parametrize(
    "content",
    [
        '{"text": "\\ud83d"}\n{"text": "fine \\ud83d\\ude00"}\n',
        '[{"text": "\\udc00"}, {"text": "fine"}]',
        '{"\\ud800": {"text": "a"}, "b": {"text": "fine"}}',
    ],
    ids=["lines", "list", "dict"],
)
def test_a_lone_surrogate_sets_its_record_aside(tmp_path: Path, content: str) -> None:
    path = tmp_path / ("a.json" if content[0] == "[" or "b" in content else "a.jsonl")
    path.write_text(content)
    found = read(Source(path=path, format="records"))
    assert [example.text[:4] for example in found.examples] == ["fine"]
    assert "half of a surrogate pair" in found.set_aside[0].reason


@pytest.mark.parametrize("name", FORMATS)
def test_the_options_of_formats_are_fields_of_a_source(name: str) -> None:
    assert FORMATS[name].options <= Source.model_fields.keys()
