"""One OpenAI-compatible server: chat completions over HTTP, tried again where that may help."""

from __future__ import annotations

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
    """An address up to /v1, a model's name, a key ("" for none). Raises `DataError` for what is no address."""

    url: str
    model: str
    key: str = ""
    timeout: float = 120.0  # seconds
    pause: float = 1.0  # seconds before the second try, doubled each time

    def __post_init__(self) -> None:
        try:
            usable = re.fullmatch(r"https?://[!-~]+", self.url) and urllib.parse.urlsplit(self.url).port != 0
        except ValueError:  # brackets that are not an address, a port past 65535
            usable = False
        if not usable:
            raise DataError(f"server {self.url!r}", "no http:// or https:// address", "write http://localhost:8000/v1")

    def complete(self, body: Mapping[str, Any]) -> str:
        """The text of the reply to a request; the model's name is added.

        A reply that hangs, is refused for a while or is no chat completion is asked for again. Raises `ValueError`
        where this one request fails for good, `DataError` where the server cannot be reached, or refuses the key, the
        model or the address.
        """
        request = json.dumps({"model": self.model, **body}, ensure_ascii=False).encode()
        fault = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                return _content(self._posted(request))
            except _AgainError as error:
                fault = str(error)
        raise ValueError(f"no usable reply after {_TRIES} tries ({fault})")

    def _posted(self, body: bytes) -> bytes:
        url = self.url.rstrip("/") + "/chat/completions"
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = urllib.request.Request(url, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as reply:
                return bytes(reply.read(_MAX_REPLY))
        except urllib.error.HTTPError as error:
            fault = f"{error.code} {error.reason}"
            if error.code in (400, 413, 422):
                raise ValueError(f"refused the request ({fault}); is it too long for the model?") from error
            if error.code not in _RETRIED:
                remedy = f"check the address, the model {self.model!r}, the key"
                raise DataError(f"server {url}", fault, remedy) from error
            raise _AgainError(fault) from error
        except (OSError, urllib.error.URLError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ConnectionRefusedError):
                raise DataError(f"server {url}", "nothing answers there", "start it, or give another one") from error
            raise _AgainError(str(reason)) from error


class _AgainError(Exception):
    """A fault that may have gone by the next try."""


def _content(reply: bytes) -> str:
    try:
        return str(json.loads(reply)["choices"][0]["message"]["content"] or "")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise _AgainError(f"the reply is not a chat completion: {shown(reply.decode(errors='replace'))}") from error


def shown(text: str) -> str:
    """The beginning of a text, on one line and in quotation marks."""
    words = " ".join(text.split())
    return repr(words if len(words) <= 80 else words[:80] + "…")
