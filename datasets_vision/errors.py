"""Errors that a user can cause and correct: place, problem, remedy. `str(error)` is one line.

UserError
  DataError       files or labels that cannot be read (here)
  RecipeError, FormError, ModelError, AdapterError    (vlm_ft.errors)
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath, PureWindowsPath
from typing import Any, ClassVar, Literal, Self

_MAX_LENGTH = 1000  # characters of a message
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ABSOLUTE_PATH = re.compile(r"(?<![\w.:/\\])(?:file://|[A-Za-z]:[/\\]|~?/)[^\s'\"()<>;,]+")


class UserError(Exception):
    """A mistake that the user can correct.

    `place` says where (a file, a key, a field), `problem` what is wrong with which value, `remedy` what to do.
    Show users `str(error)`; read the attributes for its parts.

    >>> str(UserError("photos/door.jpg", "0 bytes", "copy it again"))
    'photos/door.jpg: 0 bytes; copy it again'
    """

    def __init__(self, place: object, problem: str, remedy: str = "") -> None:
        super().__init__(place, problem, remedy)
        self.place = str(place)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return one_line(f"{self.place}: {self.reason}" if self.place else self.reason)

    @property
    def reason(self) -> str:
        """The problem with its remedy, without the place."""
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem

    def at(self, place: object) -> Self:
        """The same error at `place`; a more specific place is kept, an unrelated one becomes part of the problem."""
        if f"{self.place}:".startswith(f"{place}:"):
            return self
        known = not self.place or f"{place}:".startswith(f"{self.place}:")
        return type(self)(place, self.problem if known else f"{self.place}: {self.problem}", self.remedy)

    def public(self) -> str:
        """The message for a remote user: absolute paths, and any path in `place`, are cut to their last part."""
        place = _last_name(self.place) if "/" in self.place or "\\" in self.place else self.place
        folder = str(PurePath(self.place).parent)
        reason = self.reason.replace(f"{folder}/", "") if folder not in (".", "/") else self.reason
        reason = without_folders(reason)
        return one_line(f"{place}: {reason}" if place else reason)


class DataError(UserError):
    """Files or labels that cannot be read; `about` says whether a picture or a box is at fault."""

    about: ClassVar[Literal["", "image", "box"]] = ""


class ImageError(DataError):
    """A picture that is missing or cannot be read."""

    about = "image"


class BoxError(DataError):
    """A box, polygon or mask that cannot be used."""

    about = "box"


def one_line(text: str) -> str:
    """`text` with control characters escaped; the middle of a very long text is left out."""
    if len(text) > _MAX_LENGTH:
        text = f"{text[: _MAX_LENGTH // 2]} ... {text[-_MAX_LENGTH // 2 :]}"
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def cause(error: BaseException) -> str:
    """Another library's error message in one line of at most 200 characters; the exception's type if it is empty."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def problem_of(fault: Mapping[str, Any]) -> str:
    """What is wrong, from one of pydantic's error details: the message of our own validator, or else pydantic's."""
    raised = fault.get("ctx", {}).get("error")
    return str(raised if isinstance(raised, ValueError) else fault["msg"])


def nearest(name: str, known: Iterable[str], count: int = 1) -> str:
    """The remedy for an unknown name: up to `count` close matches, or all known names."""
    names = sorted(known)
    close = [repr(word) for word in difflib.get_close_matches(name, names, n=count, cutoff=0.5)]
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names) or 'none'}"


def without_folders(text: str) -> str:
    """The text with absolute paths cut to their last part, for a remote reader."""
    return _ABSOLUTE_PATH.sub(lambda path: _last_name(path[0]), text)


def _last_name(path: str) -> str:
    return PureWindowsPath(path).name or "a folder"  # splits at both kinds of slash
