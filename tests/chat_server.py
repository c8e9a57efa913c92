"""A real HTTP server on this machine that speaks the OpenAI protocol and gives prepared answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.local_server import Quiet, listening


class Stub:
    """Answers each request with the next of `replies`, and repeats the last one.

    A reply is a text, a status, the bytes of a body, or None for what is not HTTP. `logprobs`, if they are asked for,
    come with each text; a server without them rejects such a request.
    """

    def __init__(self) -> None:
        self.replies: list[str | int | bytes | None] = []
        self.asked: list[tuple[dict[str, Any], str | None]] = []
        self.logprobs: dict[str, Any] | None = {"content": []}
        self.url = ""

    def next(self) -> str | int | bytes | None:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@contextmanager
def serving() -> Iterator[Stub]:
    """Run the server, and yield its stub."""
    stub = Stub()

    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            stub.asked.append((json.loads(body), self.headers.get("Authorization")))
            asks = stub.asked[-1][0].get("logprobs")
            reply = 400 if asks and stub.logprobs is None else stub.next()
            if reply is None:
                self.wfile.write(b"SSH-2.0\r\n\r\n")
                return
            self.send_response(reply if isinstance(reply, int) else 200)
            self.end_headers()
            if isinstance(reply, str):
                choice = {"message": {"content": reply}, "logprobs": stub.logprobs if asks else None}
                self.wfile.write(json.dumps({"choices": [choice]}).encode())
            elif isinstance(reply, bytes):
                self.wfile.write(reply)

    with listening(Handler) as address:
        stub.url = f"{address}/v1"
        yield stub
