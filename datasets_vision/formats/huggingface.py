"""A Hugging Face data set: a folder written by `save_to_disk`, or a name on the Hub.

The path `owner/name` (or `owner/name/configuration`) with `format: huggingface` is streamed from the Hub. Rows are
read as for Parquet, photos included.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_vision.errors import DataError, cause
from datasets_vision.example import Example
from datasets_vision.formats.columnar import Columns
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.formats.drafts import Draft, examples_of
from datasets_vision.formats.json_files import read_json

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


@dataclass(frozen=True, slots=True)
class _Part:
    """A split: its name (None if the data set has no splits), features and rows."""

    role: str | None
    features: Mapping[str, Any]
    rows: Iterable[Mapping[str, Any]]


def matches(path: Path) -> bool:
    """A folder written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return (path / _SPLITS).is_file() or ((path / _STATE).is_file() and (path / _INFO).is_file())


def read(source: Source) -> Iterator[Example | SetAside]:
    """Read rows by the types of their columns: photos, class labels by name, text by the template.

    The role is the split's name. Raises DataError if the folder is not such a data set, if the Hub has none of that
    name or cannot be reached, or if a split lacks a column that the source needs.
    """
    path = source.path
    if not path.exists():
        parts = _from_hub(path)
    elif matches(path):
        parts = _from_folder(path)
    else:
        raise DataError(path, f"has neither {_SPLITS} nor {_STATE}", "give a folder that save_to_disk wrote")
    for part in parts:
        file = path / part.role / _STATE if part.role and path.exists() else path / _STATE
        columns = Columns.of(source, file, tuple(part.features), part.features)
        name, photos = part.role or "all", bool(columns.photos)
        drafts = _drafts(columns, part.rows, f"{path}:{name}")
        yield from examples_of(source, file, drafts, columns.names, has_photos=photos, stem=name, role=part.role)


def _drafts(columns: Columns, rows: Iterable[Mapping[str, Any]], place: str) -> Iterator[Draft | SetAside]:
    try:
        for number, values in enumerate(rows, 1):
            yield columns.draft(values, str(number), f"{place}:{number}")
    except DataError as error:
        yield SetAside.of(place, error)


def _from_folder(path: Path) -> Iterator[_Part]:
    if not (path / _SPLITS).is_file():
        yield _saved(path, None)
        return
    splits = _json(path / _SPLITS).get("splits")
    if not isinstance(splits, list) or not all(map(_is_folder_name, splits)):
        raise DataError(path / _SPLITS, "has no list of splits", "save the data set again")
    for split in splits:
        yield _saved(path / split, split)


def _is_folder_name(split: Any) -> bool:
    """Whether a split's name is that of a direct subfolder, not a longer path."""
    return isinstance(split, str) and split.isprintable() and Path(split).name == split


def _saved(folder: Path, role: str | None) -> _Part:
    """One split on disk; the Arrow files are read as streams, not memory-mapped, so that memory does not grow."""
    for name in (_STATE, _INFO):
        if not os.path.isfile(folder / name):
            raise DataError(folder / name, "cannot be read (no such file)", "save the data set again")
    state, info = _json(folder / _STATE), _json(folder / _INFO)
    files, features = state.get("_data_files"), info.get("features")
    if not isinstance(files, list) or not isinstance(features, Mapping):
        raise DataError(folder, "does not list its files or features", "save the data set again")
    if state.get("_indices_data_files"):
        raise DataError(folder, "saved by an old `datasets` with a list of indices", "save it again with a newer one")
    names = [str(entry.get("filename", "")) for entry in files if isinstance(entry, Mapping)]
    return _Part(role, features, _rows([folder / Path(name).name for name in names]))


def _json(path: Path) -> Mapping[str, Any]:
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise DataError(path, "not a JSON object", "save the data set again")
    return content


def _rows(files: list[Path]) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa

    for path in files:
        try:
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as batches:
                for batch in batches:
                    for place in range(batch.num_rows):  # one by one, since a batch of photos is large
                        yield batch.slice(place, 1).to_pylist()[0]
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(path, f"not a readable Arrow stream ({cause(error)})", "save it again") from error


def _from_hub(path: Path) -> Iterator[_Part]:
    """The splits of `owner/name` or `owner/name/configuration`, streamed: nothing is downloaded as a whole."""
    from datasets import load_dataset

    words = path.parts
    if path.is_absolute() or len(words) > 3:
        raise DataError(path, "neither a folder nor a name on the Hub", "write owner/name")
    with _hub_errors(path):
        splits = load_dataset("/".join(words[:2]), words[2] if len(words) == 3 else None, streaming=True)
    for role, rows in splits.items():
        with _hub_errors(path):
            features = _features(rows)
        yield _Part(str(role), features, _streamed(path, rows))


def _features(rows: Any) -> Mapping[str, Any]:
    """The features that a stream states, else the columns of its first row."""
    if rows.features is not None:
        return dict(rows.features.to_dict())
    return dict.fromkeys(next(iter(rows), {}))


def _streamed(path: Path, rows: Any) -> Iterator[Mapping[str, Any]]:
    """Rows with photos as undecoded bytes."""
    with _hub_errors(path):
        yield from rows if rows.features is None else rows.decode(False)


@contextmanager
def _hub_errors(path: Path) -> Iterator[None]:
    from datasets.exceptions import DatasetsError
    from httpx2 import HTTPError  # the HTTP client of huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except (DatasetsError, HfHubHTTPError, HFValidationError, HTTPError, OSError, ValueError) as error:
        line = f"{type(error).__name__}: {cause(error)}"
        raise DataError(path, f"cannot be loaded from the Hub ({line})", "check the name and the network") from error
