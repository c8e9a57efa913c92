"""`Draft`: a record by its columns, before the recipe's template turns it into an example."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path, PureWindowsPath
from typing import Any, Self

from datasets_vision.errors import DataError, ImageError
from datasets_vision.example import Example, Label, LabelledObject, Turn
from datasets_vision.formats.contract import FOLDER, SetAside, Source, or_set_aside
from datasets_vision.formats.flat import flatten, leaves
from datasets_vision.formats.json_files import Entry, entries, json_files
from datasets_vision.formats.roles import role_of_file
from datasets_vision.images import image_size
from datasets_vision.walk import found_as

HEAD = 1000
"""The number of records read to find a file's columns; a column that a record lacks is empty."""

TEXT = "text"
"""The column that the default template shows; a format puts the item's own text there."""

_WEB = ("http:", "https:", "data:", "ftp:", "s3:", "gs:")


@dataclass(frozen=True, slots=True)
class Draft:
    """One record. `name` is unique in its file; `place` is file:line.

    `cells`: column -> value. `more`: columns that are used only if the source names them. `before`: the turns that
    precede the text. `images`: paths as the record writes them, besides the column that the recipe names. `photos`: all
    images, if they were found already.
    """

    name: str
    place: str
    cells: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[Turn, ...] = ()
    images: tuple[str, ...] = ()
    photos: tuple[Path, ...] | None = None
    image_class: str | None = None
    objects: tuple[LabelledObject, ...] | None = None
    group: str = ""

    @classmethod
    def of(cls, entry: Entry, cells: Mapping[str, Any], used: Collection[str] = (), **facts: Any) -> Self:
        """The draft of a JSON record with these cells, and with one for every value whose key is not in `used`."""
        left = {key: value for key, value in entry.value.items() if key not in used}
        others, more = flatten(leaves(left)) if left else ({}, {})
        return cls(entry.name, entry.place, {**others, **cells}, more, **facts)


Drafting = Callable[[Source, Entry, dict[str, Any]], Draft]
"""Turns a record into a draft; raises DataError if the record cannot be used."""


@dataclass(frozen=True, slots=True)
class Drafts:
    """The records of one file, before a source's template and columns turn them into examples.

    `columns`: all columns of the file; None takes those of its first records. `has_photos`: whether the drafts have
    `photos`. `stem` and `role` replace those of the file; ids begin with the stem.
    """

    path: Path
    items: Iterable[Draft | SetAside]
    columns: Sequence[str] | None = None
    has_photos: bool = False
    stem: str = ""
    role: str | None = None

    def kept(self) -> Self:
        """The same, read once and held in memory."""
        return replace(self, items=tuple(self.items))

    def examples(self, source: Source) -> Iterator[Example | SetAside]:
        """The examples; raises DataError for a file without a column that the source needs."""
        items = iter(self.items)
        head = list(islice(items, HEAD)) if self.columns is None else []
        found = [draft for draft in head if isinstance(draft, Draft)]
        names = self.columns or tuple(dict.fromkeys(name for draft in found for name in draft.cells))
        if names:
            _require(source, self.path, names, found, self.has_photos or source.image is not None)
        shown = source.shown()
        asked = {*shown, *source.columns.values(), *filter(None, [source.group_by])}
        # The columns that labels leave out.
        hidden: set[str | None] = set() if source.columns else {*shown, source.image} - {source.group_by}
        folder = self.path.resolve().parent.name
        file = replace(
            self,
            stem=self.stem or self.path.relative_to(source.root).with_suffix("").as_posix(),
            role=self.role or role_of_file(self.path, source.root),
        )
        for item in chain(head, items):
            if isinstance(item, SetAside):
                yield item
                continue
            more = {name: item.more[name] for name in asked if name in item.more}
            cells = {**item.cells, FOLDER: folder, **more}
            yield from or_set_aside(item.place, file._example(source, item, cells, hidden))

    def _example(
        self, source: Source, draft: Draft, cells: Mapping[str, Any], hidden: Collection[str | None]
    ) -> Iterator[Example]:
        text, images = source.render(cells), draft.photos
        if images is None:
            column = () if source.image is None else (str(cells.get(source.image) or ""),)
            images = tuple(named_image(self.path, name) for name in (*draft.images, *column))
        if not text and not images:
            raise DataError(draft.place, f"no text in {source.text!r}", "fill its columns")
        yield Example(
            id=f"{self.stem}:{draft.name}",
            turns=(*draft.before, Turn("user", text)) if text or draft.before else (),
            images=images,
            label=Label(draft.image_class, draft.objects, {k: v for k, v in cells.items() if k not in hidden}),
            group=draft.group,
            source=draft.place,
            role=self.role,
        )


def json_drafts(source: Source, draft: Drafting) -> Iterator[Drafts]:
    """The drafts of all JSON and JSON-lines files of a source; `draft` turns a record into a draft.

    A record for which `draft` raises DataError is set aside. Raises DataError if there is no such file.
    """
    files = json_files(source.path)
    first = next(files, None)
    if first is None:
        raise DataError(source.path, "no JSON or JSON-lines file", "give a file, or a folder of files")
    for path in chain([first], files):
        yield Drafts(path, _drafts(source, path, draft))


def named_image(path: Path, written: str) -> Path:
    """The image that a label file names, beside it or in its folder `images`; absolute paths are used as they are.

    If no file has exactly this name, one that differs only in case or in the encoding of accents is used. Raises
    DataError for a web address, a missing file or a file that is not an image; only the last error names its place.
    Only the image's header is read.
    """
    name = written.strip().removeprefix("file://")
    if not name:
        raise DataError("", "no photo path", "add it, or remove the row")
    if name.lower().startswith(_WEB):
        raise DataError(
            "", f"image {name[:60]!r} is not a local file", f"save it beside {path.name} and write its path"
        )
    relative = Path(PureWindowsPath(name).as_posix())
    for folder in (path.parent, path.parent / "images"):
        if (found := found_as(folder / relative)) is not None:
            image_size(found)
            return found
    raise ImageError("", f"image {name[:120]!r} is missing", f"put it beside {path.name} or into its folder images")


def _drafts(source: Source, path: Path, draft: Drafting) -> Iterator[Draft | SetAside]:
    for entry in entries(path):
        if isinstance(entry, SetAside):
            yield entry
            continue
        try:
            if not isinstance(entry.value, dict) or not entry.value:
                raise DataError(
                    "",
                    f"a record must be an object with keys, not {str(entry.value)[:40]!r}",
                    "write one object per record",
                )
            yield draft(source, entry, entry.value)
        except DataError as error:
            yield SetAside.of(entry.place, error)
        except RecursionError:
            yield SetAside(entry.place, "values are nested too deeply", "flatten them")


def _require(source: Source, path: Path, cells: Sequence[str], drafts: Sequence[Draft], has_photos: bool) -> None:
    """Check the columns that a source needs; with photos, a text that the source does not mention is optional."""
    wanted = source.shown() | set(source.columns.values()) | set(filter(None, (source.image, source.group_by)))
    if has_photos and "text" not in source.model_fields_set and TEXT not in cells:
        wanted.discard(TEXT)
    if not has_photos and not source.shown():
        raise DataError(path, f"text {source.text!r} shows no column", f"put one in braces: {{{cells[0]}}}")
    if TEXT in wanted and TEXT not in cells:
        listed = ", ".join(cells) or "none"
        raise DataError(path, f"no column {TEXT!r}", f"give text, a template over its columns: {listed}")
    asked = wanted - set(cells)  # the many positional columns are considered only if one is missing
    more = {name for draft in drafts for name in draft.more} if asked else set()
    source.require_columns(path, wanted, {*cells, FOLDER, *(asked & more)})
