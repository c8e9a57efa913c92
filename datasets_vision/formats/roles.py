"""The role that a data set itself gives an item, from the words in the names of its folders and files."""

from __future__ import annotations

import re
from pathlib import Path

SPLIT_NAMES = frozenset(
    [
        "train",
        "training",
        "trainval",
        "tune",
        "val",
        "valid",
        "validation",
        "dev",
        "eval",
        "calibrate",
        "test",
        "testing",
    ]
)
"""Words that state a role, in lower case; `Example.role` keeps the word as the source writes it."""

IMAGE_FOLDERS = frozenset({"images", "imgs", "image", "img", "photos", "jpegimages"})
"""Names of folders, in lower case, that only say that they contain images."""

_SHARD = re.compile(r"-\d{5}-of-\d{5}(-[0-9a-f]{8,})?$")
_PLAIN_WORDS = frozenset(["image", "images", "img", "imgs", "label", "labels", "annotations", "set", "data"])


def role_of_folder(name: str) -> str | None:
    """The word in a folder's name that states a role ("val2017", "test_images"); others must be in _PLAIN_WORDS."""
    words = [word for word in _words(name) if word.lower() not in _PLAIN_WORDS]
    return words[0] if len(words) == 1 and words[0].lower() in SPLIT_NAMES else None


def role_of_folders(path: Path) -> str | None:
    """The role stated by the outermost folder that states one."""
    return next(filter(None, map(role_of_folder, path.parts)), None)


def role_of_stem(stem: str) -> str | None:
    """The last or first word of a file's name, if it states a role, as in "instances_val2017" or "train-coco".

    The number of a shard ("-00000-of-00002") does not count.
    """
    words = _words(_SHARD.sub("", stem))
    return next((word for word in (*words[-1:], *words[:1]) if word.lower() in SPLIT_NAMES), None)


def role_of_file(path: Path, root: Path) -> str | None:
    """The role that the name of a file of records states, else its folders below `root`."""
    return role_of_stem(path.stem) or role_of_folders(path.parent.relative_to(root))


def role_and_folders(folder: Path) -> tuple[str | None, tuple[str, ...]]:
    """The role that the outermost folder states, if any, and the other folders, the first of which names a class."""
    role = role_of_folder(folder.parts[0]) if folder.parts else None
    return role, folder.parts[1:] if role else folder.parts


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", name)
