"""A Hugging Face data set: a folder written by `save_to_disk`, or a name on the Hub.

The path `owner/name` (or `owner/name/configuration`) with `format: huggingface` is streamed from the Hub. Rows are
read as for Parquet, photos included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_vision.errors import DataError, cause
from datasets_vision.formats.columnar import Columns
from datasets_vision.formats.contract import SetAside, Source, or_set_aside
from datasets_vision.formats.drafts import Draft, Drafts

if TYPE_CHECKING:
    from datasets import IterableDataset

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


def matches(path: Path) -> bool:
    """A folder written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return (path / _SPLITS).is_file() or ((path / _STATE).is_file() and (path / _INFO).is_file())


def read(source: Source) -> Iterator[Drafts]:
    """Read rows by the types of their columns: photos, class labels by name, text by the template.

    The role is the split's name. Raises DataError if the folder is not such a data set or is damaged, and if the Hub
    has none of that name or cannot be reached.
    """
    path = source.path
    if path.exists() and not matches(path):
        raise DataError(path, f"has neither {_SPLITS} nor {_STATE}", "give a folder that save_to_disk wrote")
    with _data_errors(path):
        splits = _saved(path) if path.exists() else _on_hub(path)
    for role, rows in splits.items():
        file = path / role / _STATE if role and path.exists() else path / _STATE
        with _data_errors(path):
            # a stream without features has the columns of its first row
            features = rows.features.to_dict() if rows.features is not None else dict.fromkeys(next(iter(rows), {}))
        columns, name = Columns.of(source, file, tuple(features), features), role or "all"
        place = f"{path}:{name}"
        drafts = or_set_aside(place, _drafts(columns, path, rows, place))
        yield Drafts(file, drafts, columns.names, bool(columns.photos), stem=name, role=role or None)


def _drafts(columns: Columns, path: Path, rows: IterableDataset, place: str) -> Iterator[Draft | SetAside]:
    for number, values in enumerate(_undecoded(path, rows), 1):
        yield columns.draft(values, str(number), f"{place}:{number}")


def _undecoded(path: Path, rows: IterableDataset) -> Iterator[dict[str, Any]]:
    """The rows with their photos as bytes."""
    with _data_errors(path):
        yield from rows if rows.features is None else rows.decode(False)


def _saved(path: Path) -> Mapping[str, IterableDataset]:
    """The splits of a data set on disk, which is memory-mapped; a single one has the name ""."""
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(path).with_format(None)  # one that was saved, such as "numpy", changes the cells' types
    splits = saved if isinstance(saved, DatasetDict) else {"": saved}
    return {role: rows.to_iterable_dataset() for role, rows in splits.items()}


def _on_hub(path: Path) -> Mapping[str, IterableDataset]:
    """The splits of `owner/name` or `owner/name/configuration`, streamed: nothing is downloaded as a whole."""
    from datasets import load_dataset

    words = path.parts
    if path.is_absolute() or len(words) > 3:
        raise DataError(path, "neither a folder nor a name on the Hub", "write owner/name")
    splits = load_dataset("/".join(words[:2]), words[2] if len(words) == 3 else None, streaming=True)
    return {str(role): rows for role, rows in splits.items()}


@contextmanager
def _data_errors(path: Path) -> Iterator[None]:
    """Turn what `datasets` raises for a damaged folder, or for a name that it cannot load, into a DataError."""
    from datasets.exceptions import DatasetsError
    from httpx2 import HTTPError  # the HTTP client of huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    broken = (ValueError, LookupError, TypeError, AttributeError)
    try:
        yield
    except (DatasetsError, HfHubHTTPError, HFValidationError, HTTPError, OSError, *broken) as error:
        line = f"{type(error).__name__}: {cause(error)}"
        if path.exists():
            raise DataError(path, f"cannot be loaded ({line})", "save the data set again") from error
        raise DataError(path, f"cannot be loaded from the Hub ({line})", "check the name and the network") from error
