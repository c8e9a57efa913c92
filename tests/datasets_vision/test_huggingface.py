"""Data sets that `datasets` saved, and names on the Hub."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from datasets_vision.formats import detect
from datasets_vision.formats.columnar import Columns
from datasets_vision.source import Source, read
from vlm_ft.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VLM_FT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def rows() -> datasets.Dataset:
    photos = [Image.fromarray(np.full((6, 8), level, dtype=np.uint8)) for level in (0, 50, 100)]
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["dent", "scratch"]),
            "text": datasets.Value("string"),
        }
    )
    columns = {"image": photos, "label": [0, 1, -1], "text": ["what?", "what?", None]}
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A data set of two splits on disk."""
    folder = tmp_path_factory.mktemp("hub") / "set"
    datasets.DatasetDict({"train": rows(), "test": rows().select([2, 0])}).save_to_disk(folder)
    return folder


def test_splits_photos_and_classes_are_read_as_saved(saved):
    assert detect(saved) == "huggingface"
    found = read(Source(path=saved))
    assert found.set_aside == ()
    assert [(example.id, example.role, example.label.image_class) for example in found.examples] == [
        ("train:1", "train", "dent"),
        ("train:2", "train", "scratch"),
        ("train:3", "train", None),
        ("test:1", "test", None),
        ("test:2", "test", "dent"),
    ]
    assert [example.text for example in found.examples] == ["what?", "what?", "", "", "what?"]
    assert found.examples[0].images == found.examples[4].images
    with Image.open(found.examples[1].images[0]) as image:
        assert image.getpixel((0, 0)) == 50


def test_one_split_alone_has_no_role(saved):
    found = read(Source(path=saved / "train", rename={"dent": "dimple"}))
    assert [example.role for example in found.examples] == [None] * 3
    assert found.examples[0].label.image_class == "dimple"


@pytest.mark.parametrize("columns", [None, ["label"]])
def test_a_saved_format_makes_no_difference(saved, tmp_path, columns):
    datasets.load_from_disk(saved).with_format("numpy", columns=columns).save_to_disk(tmp_path / "set")
    plain, formatted = read(Source(path=saved)), read(Source(path=tmp_path / "set"))
    assert [(example.id, example.label) for example in formatted.examples] == [
        (example.id, example.label) for example in plain.examples
    ]
    assert formatted.set_aside == ()


def test_a_fault_of_the_reader_is_not_blamed_on_the_data(saved, monkeypatch):
    def fail(*_: Any) -> None:
        raise TypeError

    monkeypatch.setattr(Columns, "draft", fail)
    with pytest.raises(TypeError):
        read(Source(path=saved))


def test_class_labels_of_texts_are_columns_by_name(tmp_path):
    rows().remove_columns("image").save_to_disk(tmp_path / "set")
    found = read(Source(path=tmp_path / "set"))
    assert [dict(example.label.columns) for example in found.examples] == [{"label": "dent"}, {"label": "scratch"}]
    assert "no text" in found.set_aside[0].reason


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("dataset_dict.json", b"{"),
        ("dataset_dict.json", b'{"splits": ["dev"]}'),
        ("dataset_dict.json", b'{"splits": ["a\\u0000b"]}'),
        ("dataset_dict.json", b'{"splits": ["../train"]}'),
        ("dataset_dict.json", b'{"splits": [3]}'),
        ("train/dataset_info.json", b"[]"),
        ("train/dataset_info.json", b'{"features": {"text": {"_type": {"x": []}}}}'),
        ("train/dataset_info.json", b'{"features": {"text": {"_type": "ClassLabel", "names": 1e308}}}'),
        ("train/state.json", b'{"_data_files": []}'),
        ("train/data-00000-of-00001.arrow", b"\xff\xff\xff\xff"),
    ],
)
def test_a_damaged_folder_is_an_error(saved, tmp_path, file, content):
    folder = shutil.copytree(saved, tmp_path / "set")
    assert (folder / file).is_file()
    (folder / file).write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be loaded \(.*save the data set again"):
        read(Source(path=folder))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/no/such/folder", "nor a name on the Hub; write owner/name"),
        ("a/b/c/d", "nor a name on the Hub; write owner/name"),
        ("nobody-here/no-such-set", "cannot be loaded from the Hub"),
    ],
)
def test_a_name_that_cannot_be_loaded_is_reported(path, says):
    with pytest.raises(DataError, match=says):
        read(Source(path=path, format="huggingface"))


def test_a_name_on_the_hub_is_streamed(monkeypatch):
    asked: list[Any] = []

    def load_dataset(name: str, configuration: str | None, *, streaming: bool) -> Any:
        asked.append((name, configuration, streaming))
        return datasets.IterableDatasetDict({"validation": rows().select([0, 1]).to_iterable_dataset()})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = read(Source(path="owner/name/plain", format="huggingface"))
    assert asked == [("owner/name", "plain", True)]
    assert [(example.id, example.role, example.label.image_class) for example in found.examples] == [
        ("validation:1", "validation", "dent"),
        ("validation:2", "validation", "scratch"),
    ]
    assert all(len(example.images) == 1 for example in found.examples)


def test_a_stream_may_lack_features_and_break_off(monkeypatch):
    def texts() -> Iterator[dict[str, str]]:
        yield {"text": "one", "kind": "a"}
        yield {"text": "two", "kind": "b"}
        raise ConnectionError("gone\naway")

    stream = datasets.IterableDataset.from_generator(texts)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.IterableDatasetDict({"train": stream}))
    found = read(Source(path="owner/name", format="huggingface"))
    assert [(example.text, dict(example.label.columns)) for example in found.examples] == [
        ("one", {"kind": "a"}),
        ("two", {"kind": "b"}),
    ]
    assert "cannot be loaded from the Hub (ConnectionError: gone away)" in found.set_aside[0].reason


def test_another_folder_is_refused(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match="give a folder that save_to_disk wrote"):
        read(Source(path=tmp_path, format="huggingface"))
