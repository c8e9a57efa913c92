"""Tokens, and the gate that every request passes. Only digests of tokens are stored."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from datasets_vision.placing import whole_file
from vlm_ft.answers.kinds import Strict
from vlm_ft.errors import RecipeError

Right = Literal["read", "assess"]
"""read: what is served, and how busy it is. assess: ask for answers, in the app, too."""

RIGHTS: tuple[Right, ...] = get_args(Right)
OPEN = ("/healthz", "/readyz")
"""Paths that need no token."""

ASKING = ("/v1/assess", "/v1/chat/completions", "/app")
"""Paths that need the right to assess; all others need the right to read."""


class Token(Strict):
    """The SHA-256 of a token, in hexadecimal, and what it allows."""

    sha256: str
    rights: tuple[Right, ...]


_FILE = TypeAdapter(dict[str, Token])


def read_tokens(file: Path) -> dict[str, Token]:
    """The tokens in a file, by the name of their owner. Raises `RecipeError` if it cannot be read."""
    try:
        return _FILE.validate_json(file.read_bytes())
    except OSError as error:
        raise RecipeError(file, f"cannot be read ({error.strerror})", "vlm-ft token makes one") from error
    except ValidationError as error:
        raise RecipeError(file, error.errors(include_url=False)[0]["msg"], "restore it, or make a new one") from error


def add_token(file: Path, name: str, rights: tuple[Right, ...]) -> str:
    """Make a token, store its digest under the name, replacing an older one, and return the token itself."""
    token = secrets.token_urlsafe(32)
    tokens = read_tokens(file) if file.exists() else {}
    tokens[name] = Token(sha256=hashlib.sha256(token.encode()).hexdigest(), rights=rights)
    with whole_file(file) as part:
        part.touch(mode=0o600)
        part.write_bytes(_FILE.dump_json(tokens, indent=1) + b"\n")
    return token


class Gate:
    """ASGI middleware: a request or websocket without the right that its path needs is refused.

    A token comes as ``Authorization: Bearer TOKEN`` or, from a browser, as the password of Basic authentication.
    """

    def __init__(self, app: ASGIApp, tokens: Mapping[str, Token]) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401 or 403."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        token = self._token(scope)
        if token is not None and _needed(scope["path"]) in token.rights:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refusal(token)(scope, receive, send)

    def _token(self, scope: Scope) -> Token | None:
        """The token that a request carries; every stored digest is compared, in constant time each."""
        given = hashlib.sha256(_carried(dict(scope["headers"]).get(b"authorization", b""))).hexdigest()
        found = None
        for token in self._tokens.values():
            if hmac.compare_digest(token.sha256, given):
                found = token
        return found


def _needed(path: str) -> Right:
    return "assess" if any(path == place or path.startswith(f"{place}/") for place in ASKING) else "read"


def _carried(header: bytes) -> bytes:
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


def _refusal(token: Token | None) -> Any:
    if token is None:
        body = {"error": {"message": "a token is needed: Authorization: Bearer TOKEN", "type": "unauthorized"}}
        return JSONResponse(body, 401, {"WWW-Authenticate": 'Basic realm="vlm-ft", charset="UTF-8"'})
    return JSONResponse({"error": {"message": "this token does not allow that", "type": "forbidden"}}, 403)
