"""A short hash of each example's content, so that a resumed run can report what has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_vision.example import Example, View, path_of

SAMPLE = 4096  # bytes read at the start, in the middle and at the end of a photo's file
SHOWN = 3  # ids in a message


@dataclass(frozen=True, slots=True)
class Changes:
    """Ids of the examples that differ from an earlier reading of the data; falsy if there are none."""

    changed: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]

    @classmethod
    def between(cls, earlier: Mapping[str, str], now: Mapping[str, str]) -> Changes:
        """The differences between two readings, each id -> hash."""
        return cls(
            changed=tuple(name for name in now if name in earlier and now[name] != earlier[name]),
            added=tuple(name for name in now if name not in earlier),
            removed=tuple(name for name in earlier if name not in now),
        )

    def __bool__(self) -> bool:
        return bool(self.changed or self.added or self.removed)

    def __str__(self) -> str:
        """A text for messages: "2 changed (a, b), 9 removed (c, d, e ...)"."""
        kinds = {"changed": self.changed, "added": self.added, "removed": self.removed}
        return ", ".join(f"{len(names)} {kind} ({_first_ids(names)})" for kind, names in kinds.items() if names)


def contents(cases: Iterable[tuple[Example, Any]]) -> dict[str, str]:
    """Example id -> a hash of its turns, its answers (as JSON) and its pictures, independent of where files are stored.

    Only the size of a photo's file and three samples of its bytes are hashed, so that thousands of large photos take
    only seconds. All photos that cannot be read have the same hash.
    """
    files: dict[Path, str] = {}
    hashes = {}
    for example, answers in cases:
        pictures = []
        for picture in example.images:
            path = path_of(picture)
            if path not in files:
                files[path] = _sampled(path)
            view = (picture.frame, picture.window, picture.crop) if isinstance(picture, View) else ()
            pictures.append([files[path], *view])
        content = json.dumps([[(turn.role, turn.text) for turn in example.turns], answers, pictures])
        hashes[example.id] = hashlib.sha256(content.encode()).hexdigest()[:16]
    return hashes


def _sampled(path: Path) -> str:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.sha256(str(size).encode())
            for place in (0, size // 2, max(0, size - SAMPLE)):
                file.seek(place)
                digest.update(file.read(SAMPLE))
    except OSError:
        return "unreadable"
    return digest.hexdigest()[:16]


def _first_ids(names: tuple[str, ...]) -> str:
    return ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
