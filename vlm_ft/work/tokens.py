"""Tokens: who may do what. Only their digests are stored."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from datasets_vision.placing import whole_file
from vlm_ft.answers.kinds import Strict
from vlm_ft.errors import RecipeError

Right = Literal["read", "assess", "review", "train", "admin"]
"""read: list adapters and metrics; assess: request answers, also of whole folders; review: store verdicts on answers;
train: train new versions, and stop jobs; admin: change which version of an adapter is served.
"""

RIGHTS: tuple[Right, ...] = get_args(Right)


class Token(Strict):
    """The SHA-256 of a token, in hexadecimal, and what it allows."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    rights: tuple[Right, ...]


log = logging.getLogger(__name__)

_FILE = TypeAdapter(dict[str, Token])


class Tokens:
    """The tokens in a file, which is read again whenever it changes.

    Raises `RecipeError` if it cannot be read at first; if that happens later, the last tokens stay valid.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known, self._read = _read(file), file.stat().st_mtime_ns

    def owner(self, token: bytes, right: Right) -> tuple[str | None, bool]:
        """The token's owner (None if it is unknown), and whether it grants `right`.

        Every stored digest is compared, each in constant time.
        """
        given, found, allowed = hashlib.sha256(token).hexdigest(), None, False
        for name, known in self._current().items():
            if hmac.compare_digest(known.sha256, given) and token:
                found, allowed = name, right in known.rights
        return found, allowed

    def allows(self, owner: str | None, right: Right) -> bool:
        """Whether this owner's token includes a right."""
        known = None if owner is None else self._current().get(owner)
        return known is not None and right in known.rights

    def _current(self) -> dict[str, Token]:
        changed = self._file.stat().st_mtime_ns if self._file.exists() else 0
        if changed != self._read:
            self._read = changed  # so that a broken file is read, and reported, once
            try:
                self._known = _read(self._file)
            except RecipeError as error:
                log.warning("%s; the tokens read before stay valid", error)
        return self._known


def add_token(file: Path, name: str, rights: tuple[Right, ...]) -> str:
    """Make a token, store its digest under the name in place of an earlier one, and return the token itself.

    Raises `RecipeError` for a name that cannot be printed.
    """
    if not name.strip() or not name.isprintable():
        raise RecipeError(f"name {name[:80]!r}", "is not a printable word", "give the owner's name")
    token = secrets.token_urlsafe(32)
    tokens = _read(file) if file.exists() else {}
    tokens[name] = Token(sha256=hashlib.sha256(token.encode()).hexdigest(), rights=rights)
    with whole_file(file) as part:
        part.touch()
        part.chmod(0o600)
        part.write_bytes(_FILE.dump_json(tokens, indent=1) + b"\n")
    return token


def _read(file: Path) -> dict[str, Token]:
    try:
        return _FILE.validate_json(file.read_bytes())
    except OSError as error:
        raise RecipeError(file, f"cannot be read ({error.strerror})", "make one with vlm-ft token") from error
    except ValidationError as error:
        raise RecipeError(file, error.errors(include_url=False)[0]["msg"], "restore it, or make a new one") from error
