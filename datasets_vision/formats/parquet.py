"""Parquet files, alone or in a tree of folders; each row is a text, photos, or both.

Photos are paths relative to the file (`Source.image` names the column), or are embedded in it as `datasets`
writes them. Rows are read in small batches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_vision.errors import DataError, cause
from datasets_vision.formats.columnar import Columns
from datasets_vision.formats.contract import SetAside, Source, or_set_aside
from datasets_vision.formats.drafts import Draft, Drafts
from datasets_vision.walk import walk

if TYPE_CHECKING:
    from pyarrow import Schema
    from pyarrow.parquet import ParquetFile

_SUFFIXES = (".parquet",)
_BUFFER = 1 << 16  # bytes per column
_ROWS, _ROWS_WITH_PHOTOS = 1000, 16  # per batch
_PHOTO_PARTS = frozenset({"bytes", "path"})


def matches(path: Path) -> bool:
    """A Parquet file, or a folder with one somewhere below."""
    return next(walk(path, _SUFFIXES), None) is not None


def read(source: Source) -> Iterator[Drafts | SetAside]:
    """Read rows with their columns in `Label.columns`; the role is the split that a file's name or folders state.

    A file that cannot be read, or lacks a column that the source needs, is set aside as a whole, as is the rest of a
    truncated file.
    """
    for path in walk(source.path, _SUFFIXES):
        yield from or_set_aside(path, _file(source, path))


def features_of(path: Path, schema: Schema) -> dict[str, Any]:
    """The features that `datasets` stores in a schema; without them, structs of bytes and path are photos.

    Raises DataError if the stored features cannot be read.
    """
    import pyarrow as pa

    stored = (schema.metadata or {}).get(b"huggingface")
    if stored is None:
        structs = (column for column in schema if pa.types.is_struct(column.type))
        return {
            column.name: {"_type": "Image"} for column in structs if {part.name for part in column.type} == _PHOTO_PARTS
        }
    try:
        return dict(json.loads(stored)["info"]["features"])
    except (KeyError, TypeError, ValueError) as error:
        problem = f"its `huggingface` metadata states no features ({cause(error)})"
        raise DataError(path, problem, "save it again with `datasets`, or without this metadata") from error


def _file(source: Source, path: Path) -> Iterator[Drafts]:
    with _data_errors(path):
        file = _open(path)
        names = file.schema_arrow.names
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise DataError(path, f"two columns named {twice!r}", "rename one")
        columns = Columns.of(source, path, tuple(names), features_of(path, file.schema_arrow))
    drafts = or_set_aside(path, _drafts(file, columns))
    yield Drafts(path, drafts, columns.names, has_photos=bool(columns.photos))


def _drafts(file: ParquetFile, columns: Columns) -> Iterator[Draft | SetAside]:
    with _data_errors(columns.file), file:
        batches = file.iter_batches(_ROWS_WITH_PHOTOS if columns.photos else _ROWS, use_threads=False)
        for number, values in enumerate((values for batch in batches for values in batch.to_pylist()), 1):
            yield columns.draft(values, str(number), f"{columns.file}:{number}")


@contextmanager
def _data_errors(path: Path) -> Iterator[None]:
    """Turn what Arrow raises for a file that is not Parquet, or is damaged, into a DataError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"not a readable Parquet file ({cause(error)})", "write it again") from error


def _open(path: Path) -> ParquetFile:
    """Open a file with the system's allocator: Arrow's own does not return memory, so it grows with the rows read.

    A reader keeps the allocator that was the default when it was opened.
    """
    import pyarrow as pa
    from pyarrow import parquet

    default_pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        return parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
    finally:
        pa.set_memory_pool(default_pool)
