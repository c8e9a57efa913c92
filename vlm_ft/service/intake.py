"""What strangers send: sizes are bounded before anything is decoded, and files get names of our own."""

from __future__ import annotations

import base64
import binascii
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from datasets_vision.example import Turn
from vlm_ft.errors import DataError

MOST_BYTES = 50_000_000
"""Of a request's body."""

MOST_PHOTOS = 8
MOST_TEXT = 100_000  # characters of a request's texts

Url = Annotated[str, Field(max_length=MOST_BYTES)]


class ImageUrl(BaseModel):
    """The address of a picture; only data URIs are accepted."""

    url: Url


class TextPart(BaseModel):
    """A text within a message."""

    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    """A picture within a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class ChatMessage(BaseModel):
    """A message, as OpenAI's API has it."""

    role: Literal["user", "assistant"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class ChatRequest(BaseModel):
    """A request for a chat completion. `model` is the name of an adapter, whose own form the answer follows."""

    model_config = ConfigDict(extra="forbid")

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    user: str | None = None


@dataclass(frozen=True)
class Case:
    """The photos of a request as files of our own, in a folder that is removed afterwards, and its turns."""

    folder: Path
    photos: tuple[Path, ...]
    turns: tuple[Turn, ...]

    def without_folder(self, message: str) -> str:
        """The message without the folder's name, which says nothing to the client."""
        return message.replace(f"{self.folder}/", "")


@contextmanager
def received(photos: Sequence[BinaryIO], turns: Sequence[Turn]) -> Iterator[Case]:
    """The photos and turns of a request. Raises `DataError` for too many or too much."""
    if len(photos) > MOST_PHOTOS:
        raise DataError("photos", f"{len(photos)} are more than {MOST_PHOTOS}", "send those that show the case best")
    if sum(len(turn.text) for turn in turns) > MOST_TEXT:
        raise DataError("text", f"is longer than {MOST_TEXT} characters", "shorten it")
    with TemporaryDirectory(prefix="vlm-ft-") as place:
        folder = Path(place)
        paths = []
        for number, photo in enumerate(photos, 1):
            paths.append(folder / f"photo {number}")
            with paths[-1].open("wb") as file:
                shutil.copyfileobj(photo, file)
        yield Case(folder, tuple(paths), tuple(turns))


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
    except binascii.Error as error:
        raise DataError("image_url", f"is not base64 ({error})", "encode the picture again") from error


class BodyLimit:
    """ASGI middleware: a body of more than `most` bytes is refused, before it is read if its length is announced."""

    def __init__(self, app: ASGIApp, most: int = MOST_BYTES) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting its bytes."""
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise HTTPException(413, f"the request is larger than {self._most} bytes")
            return message

        announced = dict(scope.get("headers", [])).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._most:
            response: Any = _too_large(self._most)
            await response(scope, receive, send)
            return
        await self._app(scope, counted, send)


def _too_large(most: int) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": {"message": f"the request is larger than {most} bytes", "type": "too_large"}}, 413)
