"""Request bodies: sizes are checked before decoding, and files get generated names."""

from __future__ import annotations

import base64
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Self

import psutil
from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, model_validator

from datasets_vision.dicom import MAX_PIXELS
from datasets_vision.example import Turn
from vlm_ft.errors import DataError
from vlm_ft.inference import photo_decoder

MAX_BYTES = 50_000_000
"""Of a request's body."""

MAX_PHOTOS = 8
MAX_TEXT = 100_000  # characters of a request's texts
MAX_MESSAGES = 100
RED_SQUARE = (  # for the examples in the OpenAPI document
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAKklEQVR42mPYIidHU8QwasGoBaMWjFowasGoBaMWjFow"
    "asGoBaMWDBULALlRwC7AEuowAAAAAElFTkSuQmCC"
)
EXAMPLE_ANSWER = {  # likewise
    "fields": {"passed": {"value": False, "distribution": {"true": 0.07, "false": 0.93}, "legal": 0.99}},
    "decision": "answer",
    "reason": "",
    "derived": {},
    "case": "20260101-090000-1a2b3c",
    "time": "2026-01-01T09:00:00+00:00",
    "adapter": "mine",
    "version": 2,
    "card": "5f0c" * 16,
    "calibration": "9b1d" * 16,
    "form": "e23a" * 4,
    "decoder": "vlm-ft 0.2.0",
    "precision": "fp32",
    "notice": "",
}
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
    """The address of a picture; only data URIs are accepted. `detail` is ignored."""

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
    """A message, as in OpenAI's API."""

    role: Literal["user", "assistant"]
    content: str | Annotated[list[Part], Field(max_length=MAX_MESSAGES)]
    name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_instruction(cls, message: Any) -> Any:
        if isinstance(message, dict) and message.get("role") in ("system", "developer"):
            raise ValueError("the adapter has its own instruction; leave system messages out")
        return message


class FormName(Body):
    """The name of a form, which is its task's. Its schema is the adapter's own, and is not taken from requests."""

    name: Annotated[str, Field(max_length=200)]
    strict: Literal[True] | None = None


class ResponseFormat(Body):
    """Asks for an answer in a form, by name."""

    type: Literal["json_schema"]
    json_schema: FormName


class ChatRequest(Body):
    """A request for a chat completion. `model` is the name of an adapter, whose own form the answer follows.

    `response_format` may name the adapter's task; any other is an error. With `logprobs`, there is one entry per closed
    value of the answer, in its order (choices, flags, numbers; also those in the items of lists). Its `logprob` is the
    logarithm of the value's calibrated probability among the options that the form allows, given the answer before it;
    `top_logprobs` lists the most probable options. Texts and boxes have none.

    Settings are accepted only if they hold for every answer: a single one, the most probable, and always the same.
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
    response_format: ResponseFormat | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
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

    @model_validator(mode="after")
    def _probabilities_asked_for(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs has no effect alone; set logprobs, too")
        return self


@contextmanager
def received(photos: Sequence[BinaryIO], texts: Iterable[str]) -> Iterator[tuple[Path, ...]]:
    """The photos of a request as files with generated names, in a folder that is removed afterwards.

    Raises `DataError` for too many photos, pixels (by the photos' headers) or characters of `texts`.
    """
    if len(photos) > MAX_PHOTOS:
        raise DataError("photos", f"{len(photos)} exceed the limit of {MAX_PHOTOS}", "send the most informative ones")
    if sum(map(len, texts)) > MAX_TEXT:
        raise DataError("text", f"is longer than {MAX_TEXT} characters", "shorten it")
    with tempfile.TemporaryDirectory(prefix=f"vlm-ft-{os.getpid()}-") as place:
        folder = Path(place)
        paths = tuple(folder / f"photo {number}" for number in range(1, len(photos) + 1))
        for photo, path in zip(photos, paths, strict=True):
            with path.open("wb") as file:
                shutil.copyfileobj(photo, file)
        pixels = sum(map(math.prod, photo_decoder.shared().sizes(paths)))
        if pixels > MAX_PIXELS:
            raise DataError("photos", f"{pixels} pixels exceed the limit of {MAX_PIXELS}", "send fewer or smaller ones")
        yield paths


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
