"""The place, the problem and the remedy of an error are treated as data, whatever they quote."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from pydantic import BaseModel, ValidationError, field_validator

from datasets_vision.errors import BoxError, DataError, nearest, one_line, problem_of
from datasets_vision.source import SetAside, Source, read


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("/srv/tenant 7/photos/a b.jpg", "0 bytes"),
        ("/srv/tenant 7/photos/a b.jpg:3", "'x' is ambiguous: /srv/tenant 7/photos/x.jpg or /srv/tenant/other/y.jpg"),
        ("C:\\tenant\\photos\\a b.jpg", "not readable (C:\\tenant\\photos\\a.jpg)"),
        ("runs/tenant/adapter", "its base lies in ~/tenant/base"),
        ("id 'a'", "is already used by file:///srv/tenant/photos.csv:12"),
    ],
)
def test_a_public_message_names_files_without_their_folders(place: str, problem: str) -> None:
    message = DataError(place, problem, "see /srv/tenant/README.md").public()
    assert "tenant" not in message
    assert message.endswith("README.md")
    assert "tenant" in str(DataError(place, problem))


def test_the_remedy_for_an_unknown_name_may_be_that_there_are_none() -> None:
    assert nearest("steel", []) == "known: none"


def test_a_public_message_keeps_what_is_not_a_path() -> None:
    error = DataError("kind", "'dent/scratch' is 3 / 4 of https://example.org/set, 1/2", "choose 'dent'")
    assert error.public() == str(error)


@pytest.mark.parametrize(
    ("own", "caller", "place", "problem"),
    [
        ("", "a.csv:2", "a.csv:2", "odd"),
        ("a.csv", "a.csv:2", "a.csv:2", "odd"),
        ("a.csv:2", "a.csv", "a.csv:2", "odd"),
        ("a.csv", "a", "a", "a.csv: odd"),
        ("values", "a.csv:2", "a.csv:2", "values: odd"),
    ],
)
def test_an_error_takes_the_place_that_its_caller_knows(own: str, caller: str, place: str, problem: str) -> None:
    entry = SetAside.of(caller, DataError(own, "odd", "even it; or drop it"))
    assert (entry.place, entry.problem, entry.remedy) == (place, problem, "even it; or drop it")


def test_a_semicolon_in_a_file_name_stays_in_the_place() -> None:
    entry = SetAside.of("a; b.jpg: c", DataError("a; b.jpg: c", "0 bytes; none", "copy it"))
    assert (entry.place, entry.problem, entry.remedy) == ("a; b.jpg: c", "0 bytes; none", "copy it")


def test_every_message_is_one_line() -> None:
    assert "\n" not in str(DataError("a\nb", "c\r\nd", "e\u2028f"))
    assert one_line("a  b") == "a  b"


def test_about_does_not_depend_on_the_wording(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.jsonl").write_text('{"photo": "a.png"}\n{"photo": "outside the box.png"}\nbox of a damaged image\n')
    found = read(Source(path=tmp_path, image="photo", format="records", text="{photo}"))
    assert [entry.about for entry in found.set_aside] == ["image", ""]
    assert SetAside.of("a.txt:1", BoxError("", "the damaged image lies outside")).about == "box"


def test_a_validator_speaks_for_itself() -> None:
    class Pair(BaseModel):
        even: int

        @field_validator("even")
        @classmethod
        def _is_even(cls, given: int) -> int:
            if given % 2:
                raise ValueError("is odd")
            return given

    for given, says in ((3, "is odd"), ("x", "Input should be a valid integer")):
        with pytest.raises(ValidationError) as found:
            Pair.model_validate({"even": given})
        assert problem_of(found.value.errors()[0]).startswith(says)
