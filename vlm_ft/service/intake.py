"""Request bodies: sizes are checked before decoding, and files get generated names."""

from __future__ import annotations

import base64
import errno
import lzma
import math
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any, BinaryIO, Literal

import psutil
from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, model_validator

from datasets_vision.dicom import MAX_PIXELS
from datasets_vision.example import Turn
from datasets_vision.images import image_size
from datasets_vision.walk import IMAGE_SUFFIXES
from vlm_ft.errors import DataError, cause

MAX_BYTES = 50_000_000
"""Of a request's body."""

MAX_PHOTOS = 8
MAX_TEXT = 100_000  # characters of a request's texts
MAX_MESSAGES = 100
MAX_FILES = 100_000  # in a zip file
EXPANSION, SPARE = 20, 50_000_000  # a zip file unpacks to at most 20 times its size, and 50 MB more
RED_SQUARE = (  # for the examples in the OpenAPI document
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAKklEQVR42mPYIidHU8QwasGoBaMWjFowasGoBaMWjFow"
    "asGoBaMWDBULALlRwC7AEuowAAAAAElFTkSuQmCC"
)
FOLDER = re.compile(r"vlm-ft-(\d+)-.+")


class Body(BaseModel):
    """What a request carries; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


def example(**content: Any) -> ConfigDict:
    """The settings of a body with an example, which the OpenAPI document shows."""
    return ConfigDict(json_schema_extra={"examples": [content]})


class AssessForm(Body):
    """The fields of a form: an adapter, and the photos of one case, a text, or both."""

    model_config = example(adapter="mine", photos=["door.jpg"])

    adapter: Annotated[str, Field(max_length=200, description="one of /v1/adapters")]
    text: Annotated[str, Field(description="for adapters that read text")] = ""
    photos: Annotated[list[UploadFile], Field(description="the photos of one case")] = []


class ImageUrl(Body):
    """The address of a picture; only data URIs are accepted. `detail` makes no difference."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class TextPart(Body):
    """A text within a message."""

    type: Literal["text"]
    text: str


class ImagePart(Body):
    """A picture within a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ChatMessage(Body):
    """A message, as OpenAI's API has it."""

    role: Literal["user", "assistant"]
    content: str | Annotated[list[Part], Field(max_length=MAX_MESSAGES)]
    name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_instruction(cls, message: Any) -> Any:
        if isinstance(message, dict) and message.get("role") in ("system", "developer"):
            raise ValueError("the adapter has its own instruction; leave system messages out")
        return message


class ChatRequest(Body):
    """A request for a chat completion. `model` is the name of an adapter, whose own form the answer follows.

    Settings are accepted if they are true of every answer: the most probable one, a single one, and always the same.
    """

    model_config = example(
        model="mine",
        messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": RED_SQUARE}}]}],
    )

    model: Annotated[str, Field(max_length=200)]
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool = False
    stream_options: dict[str, bool] | None = None
    temperature: Literal[0] | None = None
    n: Literal[1] | None = None
    seed: int | None = None
    user: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _few_keys(cls, body: Any) -> Any:
        """Null means absent; clients send it for whatever is not set."""
        if isinstance(body, dict):
            if len(body) > MAX_MESSAGES:
                raise ValueError("too many keys")
            return {key: value for key, value in body.items() if value is not None}
        return body


def unpacked_photos(archive: BinaryIO, folder: Path) -> None:
    """Write the images of a zip file into a folder; other files are left out.

    Files keep their folders, but nothing is written outside `folder`. Raises `DataError` as `_unpacked` does.
    """
    if not _unpacked(archive, folder, _image_place):
        raise DataError("zip", "contains no image", "send photos")


def unpacked_data(archive: BinaryIO, folder: Path) -> Path:
    """Write the files of a zip file into a new folder, and return the folder of the data set.

    That is `folder`, or the only folder in it. Raises `DataError` as `_unpacked` does, and for links and for names that
    lead out of the folder.
    """
    folder.mkdir()
    if not _unpacked(archive, folder, _data_place):
        raise DataError("zip", "contains no file", "send a data set")
    while len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir():
        folder = inside[0]
    return folder


def _unpacked(archive: BinaryIO, folder: Path, place_of: Callable[[zipfile.ZipInfo, Path], Path | None]) -> int:
    """Write those files of a zip file that have a place, and return their number.

    Raises `DataError` for a file that cannot be unpacked, for two files of one name, for more than `MAX_FILES`, and for
    more bytes than photos take, counted as they are written.
    """
    most = EXPANSION * archive.seek(0, os.SEEK_END) + SPARE
    places = set[Path]()
    try:
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                place = place_of(entry, folder)
                if place is None:
                    continue
                if place in places or len(places) == MAX_FILES:
                    problem = "occurs twice" if place in places else f"is one of more than {MAX_FILES} files"
                    raise DataError(place.name, problem, "send several zip files")
                places.add(place)
                place.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, place.open("wb") as file:
                    most -= _copied(source, file, most)
    except (zipfile.BadZipFile, lzma.LZMAError, zlib.error, RuntimeError, ValueError, EOFError, OSError) as error:
        if isinstance(error, DataError) or getattr(error, "errno", None) == errno.ENOSPC:
            raise
        raise DataError("zip", f"cannot be unpacked ({cause(error)})", "send a plain zip file") from error
    return len(places)


def _image_place(entry: zipfile.ZipInfo, folder: Path) -> Path | None:
    """Where an entry is written; None if it is not an image."""
    parts = [part for part in PurePosixPath(entry.filename.replace("\\", "/")).parts if part not in ("/", "..")]
    if entry.is_dir() or not parts or Path(parts[-1]).suffix.lower() not in IMAGE_SUFFIXES:
        return None
    return folder.joinpath(*parts)


def _data_place(entry: zipfile.ZipInfo, folder: Path) -> Path | None:
    """Where an entry is written; None if it is a folder or hidden. Raises `DataError` for a link and a path outside."""
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if stat.S_ISLNK(entry.external_attr >> 16):  # the upper half holds the mode on Unix
        raise DataError("zip", f"{path.name!r} is a link", "pack the file itself")
    if path.is_absolute() or ".." in path.parts:
        raise DataError("zip", f"{str(path)[:80]!r} leads out of the data set's folder", "pack the folder as it is")
    hidden = any(part[0] == "." or part == "__MACOSX" for part in path.parts)
    return None if entry.is_dir() or hidden or not path.parts else folder.joinpath(*path.parts)


def _copied(source: IO[bytes], file: IO[bytes], most: int) -> int:
    """Copy a file of at most `most` bytes, and return its size."""
    size = 0
    while piece := source.read(1 << 20):
        size += len(piece)
        if size > most:
            raise DataError("zip", "unpacks to many times its size", "send photos, each compressed by itself")
        file.write(piece)
    return size


def below(root: Path | None, name: str) -> Path:
    """The folder of that name below `root`. Raises `DataError` if there is none, or it leads elsewhere."""
    if root is None:
        raise DataError("folder", "this service has no --root", "send a zip file")
    place = (root / name.replace("\0", "")).resolve()
    try:
        found = place.is_relative_to(root.resolve()) and place.is_dir()
    except OSError:  # such as a name that is too long
        found = False
    if not found:
        raise DataError("folder", f"no folder {name[:80]!r} below the service's root", "give another name")
    return place


@dataclass(frozen=True)
class Case:
    """The photos of a request as files of our own, in a folder that is removed afterwards, and its turns."""

    photos: tuple[Path, ...]
    turns: tuple[Turn, ...]


@contextmanager
def received(photos: Sequence[BinaryIO], turns: Sequence[Turn]) -> Iterator[Case]:
    """The photos and turns of a request.

    Raises `DataError` for too many photos, pixels or characters, judged by the photos' headers.
    """
    if len(photos) > MAX_PHOTOS:
        raise DataError("photos", f"{len(photos)} are more than {MAX_PHOTOS}", "send those that show the case best")
    if sum(len(turn.text) for turn in turns) > MAX_TEXT:
        raise DataError("text", f"is longer than {MAX_TEXT} characters", "shorten it")
    with tempfile.TemporaryDirectory(prefix=f"vlm-ft-{os.getpid()}-") as place:
        folder = Path(place)
        paths = tuple(folder / f"photo {number}" for number in range(1, len(photos) + 1))
        pixels = 0
        for photo, path in zip(photos, paths, strict=True):
            with path.open("wb") as file:
                shutil.copyfileobj(photo, file)
            pixels += math.prod(image_size(path))
        if pixels > MAX_PIXELS:
            raise DataError("photos", f"{pixels} pixels are more than {MAX_PIXELS}", "send fewer or smaller ones")
        yield Case(paths, tuple(turns))


def remove_leftovers() -> None:
    """Remove the folders of services that were killed."""
    for folder in Path(tempfile.gettempdir()).glob("vlm-ft-*"):
        found = FOLDER.fullmatch(folder.name)
        if found and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(folder, ignore_errors=True)


def chat_contents(request: ChatRequest) -> tuple[list[bytes], list[Turn]]:
    """The pictures and the turns of a chat. Raises `DataError` for a picture that is not a data URI."""
    pictures: list[bytes] = []
    turns: list[Turn] = []
    for message in request.messages:
        parts = [TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
        pictures += [_decoded(part.image_url.url) for part in parts if isinstance(part, ImagePart)]
        text = "\n".join(part.text for part in parts if isinstance(part, TextPart))
        if text:
            turns.append(Turn(message.role, text))
    return pictures, turns


def _decoded(url: str) -> bytes:
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise DataError("image_url", "is not a data URI (data:image/...;base64,...)", "send the picture itself")
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as error:
        raise DataError("image_url", "is not base64", "encode the picture again") from error
