"""How a recipe describes one data set, and what a format must provide to read it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from datasets_vision.errors import DataError, nearest, one_line
from datasets_vision.example import Example, Window
from datasets_vision.windows import checked

if TYPE_CHECKING:
    from datasets_vision.formats.drafts import Drafts

T = TypeVar("T")

FOLDER = "{folder}"
"""The placeholder for the name of the folder that contains a table."""

_SENTENCE_END = re.compile(r"(?<!\d)[.!?][\"')\]]?(?=\s)|\S(?=\s*\n)")
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class SetAside:
    """An item that cannot be used: where it is, what is wrong, and what to do about it.

    `about` says whether a picture or a box is at fault. Each part is one line that is safe to print, whatever it
    quotes.
    """

    place: str
    problem: str
    remedy: str = ""
    about: Literal["", "image", "box"] = ""

    def __post_init__(self) -> None:
        for part in ("place", "problem", "remedy"):
            object.__setattr__(self, part, one_line(getattr(self, part)))

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"

    @property
    def reason(self) -> str:
        """The problem with its remedy."""
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem

    @classmethod
    def of(cls, place: object, error: DataError) -> Self:
        """Make one from an error at `place`, or at a position inside it."""
        found = error.at(place)
        return cls(found.place, found.problem, found.remedy, found.about)


def or_set_aside(place: object, items: Iterator[T]) -> Iterator[T | SetAside]:
    """What a generator yields; if it raises DataError, the rest is set aside at `place`."""
    try:
        yield from items
    except DataError as error:
        yield SetAside.of(place, error)


class Source(BaseModel):
    """One data set, as a recipe describes it; a mistake raises a ValidationError, which the recipe reports.

    `format`: None detects it from the files. `image_class`: a regex searched in an image's stem; its first
    group is the image's class. `rename`: the source's word -> ours, for objects, image classes and cells;
    a word that ends with * matches every word with that prefix.
    `text`: the template for the text of a table's row, with {column} by name and {folder} for the table's folder.
    `image`: the column of a table or record with its photo's path, relative to the file.
    `columns`: answer field -> column, or "{folder}"; if empty, every column that the text does not show.
    `values`: for an answer field, the source's value -> ours; a row with any other value is set aside.
    `group`: a regex searched in an example's id; examples for which its groups match the same text stay together;
    with `group_block`, its last group is a number, and blocks of that many numbers stay together.
    `group_by`: instead of `group`, a column; examples with the same value stay together; one without a value is set
    aside, since its group could be in several roles.
    `case_by`: photos of one folder, or of one group, become one example; if they differ in a class or column, the
    case takes the first of `worst_first` that occurs.
    `record`: the XML element that is one item; None takes the most frequent one.
    `shorten`: for an answer field, the maximum number of characters; the first sentences that fit are kept.
    `named_by`: the attribute of a region that names the object, for formats that leave it open (VIA).
    `image_folder`: where the images are, if they are neither beside the annotations nor in a folder below.
    `frames`: which frames of a DICOM file are read: the first, the middle one, or each as its own example.
    `window`: which values of a grey DICOM file are shown: a preset (lung), two percentiles (p1-p99), tag, or
    [centre, width]; None takes the window in the file's tag, or percentiles if there is none.
    `limit`: the maximum number of examples, evenly spaced over the set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    path: Path
    format: str | None = None
    image_class: str | None = None
    rename: dict[str, str] = Field(default_factory=dict)
    text: str = "{text}"
    image: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    values: dict[str, dict[str, Any]] = Field(default_factory=dict)
    group: str | None = None
    group_block: int | None = Field(default=None, ge=1)
    group_by: str | None = None
    case_by: Literal["folder", "group"] | None = None
    worst_first: tuple[str, ...] = ()
    record: str | None = None
    shorten: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    named_by: str | None = None
    image_folder: Path | None = None
    frames: Literal["first", "middle", "each"] = "first"
    window: Window | None = None
    limit: int | None = Field(default=None, ge=1)

    @field_validator("path", mode="before")
    @classmethod
    def _not_empty(cls, given: Any) -> Any:
        if given == "":
            raise ValueError("the path is empty; give the folder or file, '.' for the current folder")
        return given

    @field_validator("rename", "columns", "values", mode="before")
    @classmethod
    def _words_not_booleans(cls, given: Any) -> Any:
        for key in _keys(given):
            if isinstance(key, bool):
                raise ValueError(
                    f"the key {key} is a boolean, since YAML reads Yes, No, on and off as booleans; put it in quotes"
                )
        return given

    @field_validator("window")
    @classmethod
    def _known_window(cls, window: Window | None) -> Window | None:
        try:
            return None if window is None else checked(window)
        except DataError as error:
            raise ValueError(str(error)) from None

    @field_validator("image_class", "group")
    @classmethod
    def _regex_with_group(cls, regex: str | None) -> str | None:
        if regex is None:
            return None
        try:
            groups = re.compile(regex).groups
        except re.error as error:
            raise ValueError(f"the regex does not compile ({error}); correct it") from error
        if groups == 0:
            raise ValueError("the regex has no group; put the part to extract in ( )")
        return regex

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.group_block is not None and self.group is None:
            raise ValueError("group_block without group; give a regex whose last group is the number")
        if self.group is not None and self.group_by is not None:
            raise ValueError("group and group_by both name what stays together; leave one out")
        if self.worst_first and self.case_by is None:
            raise ValueError("worst_first without case_by; give case_by, or leave it out")
        for key in ("values", "shorten") if self.columns else ():
            for field in getattr(self, key):
                if field not in self.columns:
                    raise ValueError(f"{key}: no column for {field!r}; {nearest(field, self.columns)}")
        return self

    @property
    def root(self) -> Path:
        """The folder that its file names are relative to."""
        return self.path.parent if self.path.is_file() else self.path

    def shown(self) -> set[str]:
        """The names in the template `text`, with FOLDER for the folder."""
        return {FOLDER if f"{{{name}}}" == FOLDER else name for name in _PLACEHOLDER.findall(self.text)}

    def render(self, row: Mapping[str, Any]) -> str:
        """The template `text`, filled from a row's columns (and FOLDER)."""
        return _PLACEHOLDER.sub(lambda name: plain(row.get(name[1], row.get(name[0], ""))), self.text).strip()

    @staticmethod
    def require_columns(path: Path, wanted: Iterable[str], present: Iterable[str]) -> None:
        """Raise DataError at `path` for a wanted column that is not present."""
        known = set(present)
        for column in sorted(set(wanted) - known):
            remedy = nearest(column, known - {FOLDER}) if known else "it has none; leave columns out"
            raise DataError(path, f"no column {column!r}", remedy)


@dataclass(frozen=True, slots=True)
class Format:
    """An annotation format: how to recognise it, and how to read it.

    `read` yields examples with the source's own names, or drafts of them; it raises DataError if the whole source
    is unusable.
    `options`: the options of a source that this format uses and some others do not.
    `named`: the path may be a name on a server instead of local files. `folder`: the path must be a folder.
    """

    matches: Callable[[Path], bool]
    read: Callable[[Source], Iterator[Example | Drafts | SetAside]]
    options: frozenset[str] = frozenset()
    named: bool = False
    folder: bool = False


def plain(value: Any) -> str:
    """A column's value as text: strings unchanged, `true`, `false` and numbers as JSON writes them."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def shortened(text: str, limit: int) -> str:
    """The first whole sentences within `limit` characters; whole words if the first sentence is longer."""
    if len(text) <= limit:
        return text
    ends = [found.end() for found in _SENTENCE_END.finditer(text, 0, limit + 1) if found.end() <= limit]
    if ends:
        return text[: ends[-1]]
    words = text[: limit + 1].rsplit(None, 1)[0]
    return words if len(words) <= limit else text[:limit]


def _keys(given: Any) -> Iterator[Any]:
    if isinstance(given, dict):
        for key, value in given.items():
            yield key
            yield from _keys(value)
