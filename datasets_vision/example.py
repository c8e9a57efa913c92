"""`Example`: one labelled item as its file states it, before any task reads it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

BOX_SCALE = 1000
"""Boxes are stored normalised to 0..BOX_SCALE as (left, top, right, bottom)."""

SYNTHETIC_MARKER = "synthetic.json"
"""The file with which the project's generators mark a synthetic set."""

Box = tuple[int, int, int, int]

Window = str | tuple[float, float]
"""Which values of a scan are shown: a name (`datasets_vision.windows`), or (centre, width)."""

_VIEW = re.compile(r"(.+)#frame=([0-9]+)&window=([^#&]*)&crop=([^#&]*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class View:
    """One picture inside a file: a frame of a scan under a window, or a crop of a large photo.

    `crop` is (left, top, right, bottom) in pixels of the upright image, right and bottom exclusive.
    """

    path: Path
    frame: int = 0
    window: Window | None = None
    crop: tuple[int, int, int, int] | None = None

    def __str__(self) -> str:
        """One line of text that `picture_of` parses."""
        window = self.window or ""
        window_text = window if isinstance(window, str) else ",".join(str(float(value)) for value in window)
        crop = ",".join(str(side) for side in self.crop or ())
        return f"{self.path}#frame={self.frame}&window={window_text}&crop={crop}"


Picture = Path | View
"""A whole file (its first frame), or one picture inside it."""


def path_of(picture: Picture) -> Path:
    """The file that contains a picture."""
    return picture.path if isinstance(picture, View) else picture


def picture_of(line: str) -> Picture:
    """Parse a picture from its `str`."""
    if (found := _VIEW.fullmatch(line)) is None:
        return Path(line)
    path, frame, window_text, sides = found.groups()
    window: Window | None = window_text or None
    if re.fullmatch(r"[-+.e0-9]+,[-+.e0-9]+", window_text):
        centre, width = window_text.split(",")
        window = (float(centre), float(width))
    left, top, right, bottom = (int(side) for side in sides.split(",")) if sides else (0, 0, 0, 0)
    return View(Path(path), int(frame), window, (left, top, right, bottom) if sides else None)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation that precedes the answer."""

    role: Literal["user", "assistant"]
    text: str


def text_of(turns: Iterable[Turn]) -> str:
    """The texts of the turns, joined by line breaks."""
    return "\n".join(turn.text for turn in turns)


def digest_of(text: str) -> str:
    """The SHA-256 of a text, in which an unpaired surrogate counts as a question mark."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class LabelledObject:
    """One annotated object: its name in the source's own words, and where it is."""

    name: str
    box: Box | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Label:
    """What a source says about an item; `None` means that the fact is not labelled.

    `objects == ()` says that there are no objects; `objects is None` says nothing about them.
    """

    image_class: str | None = None
    objects: tuple[LabelledObject, ...] | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """One item: the turns and images shown to the model, and the label.

    `id` is unique within its source; items with the same `group` (one claim, one board) must share a role;
    `source` names the file and place of the label, for errors; `role` is set if the data set comes with its
    own split.
    """

    id: str
    turns: tuple[Turn, ...] = ()
    images: tuple[Picture, ...] = ()
    label: Label = field(default_factory=Label)
    group: str = ""
    source: str = ""
    role: str | None = None

    @classmethod
    def of_photo(cls, photo: Path, root: Path, label: Label, source: object, role: str | None, group: str = "") -> Self:
        """An example of one photo; its id is the photo's path below `root`, without the suffix."""
        name = photo.relative_to(root).with_suffix("").as_posix()
        return cls(name, images=(photo,), label=label, group=group, source=str(source), role=role)

    @property
    def text(self) -> str:
        """The last user turn, which the answer is about; "" if there are only images."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")


def photo_of(obj: LabelledObject, images: int) -> int:
    """The index (from 0) of the image that shows a labelled object, in an example with `images` images.

    The one that the label states, otherwise the last one.
    """
    stated = stated_photo(obj, images)
    return images - 1 if stated is None else stated


def stated_photo(obj: LabelledObject, images: int) -> int | None:
    """The index (from 0) that an object's attribute `photo` (from 1) states; None if missing or out of range."""
    stated = str(obj.attributes.get("photo"))
    return int(stated) - 1 if re.fullmatch("[1-9][0-9]{0,3}", stated) and int(stated) <= images else None


def box_area(box: Sequence[int] | None) -> int:
    """The area of a box (left, top, right, bottom) in its own units; 0 without a box."""
    if box is None:
        return 0
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


def normalised_box(left: float, top: float, right: float, bottom: float, width: int, height: int) -> Box:
    """Scale a box from pixels (right and bottom exclusive) to 0..1000, at least one unit wide and high."""
    scaled = [
        round(BOX_SCALE * value / side)
        for value, side in ((left, width), (top, height), (right, width), (bottom, height))
    ]
    x0, y0, x1, y1 = (min(max(value, 0), BOX_SCALE) for value in scaled)
    x0, y0 = min(x0, BOX_SCALE - 1), min(y0, BOX_SCALE - 1)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)
