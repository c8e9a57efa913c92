"""A client of one OpenAI-compatible server: chat completions over HTTP, with retries."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets_vision.errors import DataError

_TRIES = 4
_MAX_REPLY = 2_000_000  # bytes
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's address up to /v1, a model name, a key ("" for none). Raises `DataError` for an invalid address."""

    url: str
    model: str
    key: str = ""
    timeout: float = 120.0  # seconds
    pause: float = 1.0  # seconds before the second try, doubled each time

    def __post_init__(self) -> None:
        try:
            usable = re.fullmatch(r"https?://[!-~]+", self.url) and urllib.parse.urlsplit(self.url).port != 0
        except ValueError:  # a malformed IPv6 address, or a port above 65535
            usable = False
        if not usable:
            raise DataError(f"server {self.url!r}", "not an HTTP or HTTPS address", "write http://localhost:8000/v1")

    def complete(self, body: Mapping[str, Any]) -> str:
        """Send a request, with the model's name added, and return the text of the reply; see `choose`."""
        return text_of_choice(self.choose(body))

    def choose(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request, with the model's name added, and return the first choice of the reply.

        Timeouts, temporary errors and malformed replies are retried. Raises `ValueError` if this one request fails for
        good (`RejectedError` if the server rejects it), and `DataError` if the server cannot be reached or rejects the
        key, the model or the address.
        """
        request = json.dumps({"model": self.model, **body}, ensure_ascii=False).encode()
        fault = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                return _choice(self._post(request))
            except _RetryableError as error:
                fault = str(error)
        raise ValueError(f"no usable reply after {_TRIES} tries ({fault})")

    def _post(self, body: bytes) -> bytes:
        url = self.url.rstrip("/") + "/chat/completions"
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = urllib.request.Request(url, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as reply:
                return bytes(reply.read(_MAX_REPLY))
        except urllib.error.HTTPError as error:
            fault = f"{error.code} {error.reason}"
            if error.code in (400, 413, 422):
                raise RejectedError(f"the request was rejected ({fault}); is it too long for the model?") from error
            if error.code not in _RETRIED:
                remedy = f"check the address, the model {self.model!r} and the key"
                raise DataError(f"server {url}", fault, remedy) from error
            raise _RetryableError(fault) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ConnectionRefusedError):
                raise DataError(f"server {url}", "connection refused", "start it, or give another address") from error
            raise _RetryableError(str(reason)) from error


class RejectedError(ValueError):
    """A request that the server will never answer."""


class _RetryableError(Exception):
    """A failure that may not recur on the next try."""


def text_of_choice(choice: Mapping[str, Any]) -> str:
    """The text of a choice."""
    return str(choice["message"]["content"] or "")


def _choice(reply: bytes) -> dict[str, Any]:
    try:
        choice: dict[str, Any] = json.loads(reply)["choices"][0]
        text_of_choice(choice)
        return choice
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise _RetryableError(
            f"the reply is not a chat completion: {excerpt(reply.decode(errors='replace'))}"
        ) from error


def excerpt(text: str) -> str:
    """The beginning of a text, on one line and quoted."""
    words = " ".join(text.split())
    return repr(words if len(words) <= 80 else words[:80] + "…")
