"""A short hash of each example's content, so that a resumed run can report what changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets_vision.example import Example, View, path_of

SAMPLE = 4096  # bytes read at the start, in the middle and at the end of a photo's file
SHOWN = 3  # ids in a message


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs between two readings (id -> hash), such as "1 added (c), 2 removed (a, b)"; "" if nothing does."""
    differing = {
        "changed": [name for name in now if name in before and now[name] != before[name]],
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
    }
    return ", ".join(
        f"{len(names)} {kind} ({', '.join(names[:SHOWN])}{' ...' if len(names) > SHOWN else ''})"
        for kind, names in differing.items()
        if names
    )


def contents(cases: Iterable[tuple[Example, Any]]) -> dict[str, str]:
    """Example id -> a hash of its turns, its answers (as JSON) and its pictures, independent of where files are stored.

    Only the size of a photo's file and three samples of its bytes are hashed, so that thousands of large photos take
    only seconds. All unreadable photos have the same hash.
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
