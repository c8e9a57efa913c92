"""Uploaded photos lose their metadata before anything else is done with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from datasets_vision.metadata import remove_metadata

ROUTE = "/gradio_api/upload"


class WithoutMetadata:
    """Removes the metadata of uploaded photos before Gradio's response, which says where it has put them, is sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._one_at_a_time: anyio.CapacityLimiter | None = None  # bound to the event loop; a file can be large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; hold the response to an upload back until its photos are clean."""
        if scope["type"] != "http" or not scope["path"].endswith(ROUTE):
            await self._app(scope, receive, send)
            return
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        await self._app(scope, receive, hold)  # with what Gradio does after its response: it moves the files
        self._one_at_a_time = self._one_at_a_time or anyio.CapacityLimiter(1)
        for file in _uploaded(held):
            await anyio.to_thread.run_sync(remove_metadata, file, limiter=self._one_at_a_time)
        for message in held:
            await send(message)


def _uploaded(response: Sequence[Message]) -> list[Path]:
    """The files that a response to an upload lists; none if it was refused."""
    if not any(message.get("status") == 200 for message in response):
        return []
    return [Path(file) for file in json.loads(b"".join(message.get("body", b"") for message in response))]
