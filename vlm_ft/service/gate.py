"""The checks of every request before its body is read: its token, its origin, and whether there is room for it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import time
from contextvars import ContextVar
from functools import partial

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm_ft.errors import one_line
from vlm_ft.service.meter import Meter
from vlm_ft.work.tokens import Right, Tokens

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that need no token."""

RIGHTS: tuple[tuple[str, Right], ...] = (
    (r"/metrics|/v1/models|/v1/adapters|/docs|/docs/oauth2-redirect|/redoc|/openapi.json", "read"),
    (r"/v1/adapters/[^/]+/versions", "read"),
    (r"/v1/adapters/[^/]+/roll-back|/v1/jobs/promote", "admin"),
    (r"/v1/jobs/(preflight|train)|/v1/jobs/[^/]+/(preflight|checks|events|log|stop|resume)", "train"),
    (r"/v1/reviews", "review"),
    (r"/v1/assess|/v1/chat/completions|/v1/batches|/v1/jobs|/v1/jobs/[^/]+(/result|/review)?", "assess"),
    (r"/v1/.*", "admin"),
)
"""The right that a path needs, by the first pattern that matches; other paths belong to the app, and need `assess`."""

CONTROL = re.compile(r"[\x00-\x1f\x7f]")

UPLOAD_SECONDS = 120.0
"""For a request's body to arrive; the app's uploads have no limit."""

HEADERS = {
    401: {"WWW-Authenticate": 'Basic realm="vlm-ft", charset="UTF-8"'},
    429: {"Retry-After": "2"},
}

OWNER: ContextVar[str | None] = ContextVar("OWNER", default=None)
"""Whose token the current request carries."""


class Gate:
    """ASGI middleware that refuses a request or websocket before its body is read.

    401 and 403: without a token whose rights suffice (``Authorization: Bearer TOKEN`` or, from a browser, the password
    of Basic authentication). 403: sent by a page of another site. 429: `limit` requests for answers are in progress.
    Without `tokens`, every request is allowed.
    """

    def __init__(
        self, app: ASGIApp, tokens: Tokens | None, limit: int, meter: Meter, seconds: float = UPLOAD_SECONDS
    ) -> None:
        self._app, self._tokens, self._limit, self._seconds = app, tokens, limit, seconds
        self._refused = partial(refusal, meter)
        self._inside = 0  # touched only by the event loop
        meter.inside.set_function(lambda: self._inside)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] in OPEN):
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope, dict(scope["headers"]))
        if refused is None:
            await self._admitted(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refused(scope, receive, send)

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        asks = _asks(scope)
        self._inside += asks
        try:
            await self._app(scope, _in_time(receive, self._seconds) if asks else receive, send)
        finally:
            self._inside -= asks

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> Response | None:
        if CONTROL.search(scope["path"]):  # routes ignore a line break at the end, and patterns do not
            return self._refused(404, "not found", "not_found")
        if self._tokens is not None:
            needed = right_of(scope["path"])
            owner, allowed = self._tokens.owner(_token_in(headers.get(b"authorization", b"")), needed)
            if owner is None:
                return self._refused(401, "a token is needed: Authorization: Bearer TOKEN", "unauthorized")
            if not allowed:
                return self._refused(403, "this token does not allow that", "forbidden")
            OWNER.set(owner)
        if scope.get("method") not in ("GET", "HEAD") and _from_another_site(headers):
            return self._refused(403, "requests from the pages of other sites are refused", "cross_site")
        if _asks(scope) and self._inside >= self._limit:
            return self._refused(429, f"{self._limit} requests are in progress; retry later", "busy")
        return None


def _in_time(receive: Receive, seconds: float) -> Receive:
    """Receive a body within so many seconds, since a slow sender occupies a place. Raises `HTTPException` if late."""
    ends, arrived = time.monotonic() + seconds, False

    async def received() -> Message:
        nonlocal arrived
        if arrived:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, ends - time.monotonic()))
        except TimeoutError as error:
            raise HTTPException(408, f"the request did not arrive within {seconds:g} s") from error
        arrived = not message.get("more_body", False)
        return message

    return received


def refusal(meter: Meter, status: int, message: str, kind: str) -> Response:
    """The response to a request that is refused or fails, counted by its kind: all errors have this shape."""
    meter.refused.labels(kind).inc()
    return JSONResponse({"error": {"message": one_line(message), "type": kind}}, status, HEADERS.get(status))


def right_of(path: str) -> Right:
    """The right that a path needs."""
    return next((right for pattern, right in RIGHTS if re.fullmatch(pattern, path)), "assess")


def _from_another_site(headers: dict[bytes, bytes]) -> bool:
    """Whether a page of another site sent the request; over plain HTTP, browsers say so only in `Origin`."""
    if b"sec-fetch-site" in headers:
        return headers[b"sec-fetch-site"] == b"cross-site"
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


def _asks(scope: Scope) -> bool:
    """Whether the request's body can take up memory or the model; the app has its own queue."""
    return scope.get("method") == "POST" and scope["path"].startswith("/v1/")


def _token_in(header: bytes) -> bytes:
    """The token in an Authorization header; b"" if there is none."""
    scheme, _, value = header.partition(b" ")
    if scheme.lower() == b"bearer":
        return value.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
