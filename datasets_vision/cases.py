"""Join several photos of one claim, aircraft or patient into one example.

The labels of the photos determine the label of the case:

- objects: all of them, each with `photo`, the number of its photo (from 1); unlabelled if any photo's objects are.
- image class: the one that all photos share. If they differ, the first of `worst_first` that occurs; the case is
  set aside unless `worst_first` lists all of them.
- columns: like the image class, over the photos that have them.
- turns: the shared ones, else one user turn with all distinct texts.
- role: the shared one, else the case is set aside. Group: the shared one, else the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from datasets_vision.errors import DataError
from datasets_vision.example import Example, Label, LabelledObject, Turn, path_of, photo_of
from datasets_vision.formats.contract import SetAside
from datasets_vision.walk import natural_key

CaseBy = Literal["folder", "group"]


def joined(examples: Iterable[Example], by: CaseBy, worst_first: Sequence[str] = ()) -> Iterator[Example | SetAside]:
    """One example per case, with its photos in natural order; an example without photos is a case of its own.

    `by` says whether a case is a folder of photos or a group of examples. A case that cannot be joined is set aside.
    """
    cases: dict[str, list[Example]] = {}
    for example in examples:
        cases.setdefault(_key(example, by), []).append(example)
    for key, members in cases.items():
        if len(members) == 1:
            yield replace(members[0], group=members[0].group if by == "group" else key)
            continue
        members.sort(key=lambda member: natural_key(path_of(member.images[0])) if member.images else [])
        try:
            yield _joined(key, members, by, worst_first)
        except DataError as error:
            yield SetAside(members[0].source, f"case {key!r} of {len(members)} photos: {error}")


def _key(example: Example, by: CaseBy) -> str:
    if by == "group" or not example.images:
        return example.group or example.id
    return path_of(example.images[0]).parent.as_posix()


def _joined(key: str, members: Sequence[Example], by: CaseBy, worst_first: Sequence[str]) -> Example:
    classes = [member.label.image_class for member in members if member.label.image_class is not None]
    names = {name: None for member in members for name in member.label.columns}
    columns = {
        name: _merged(name, [m.label.columns[name] for m in members if name in m.label.columns], worst_first)
        for name in names
    }
    roles = {member.role for member in members}
    if len(roles) > 1:
        raise DataError("", f"its photos are in the splits {', '.join(sorted(map(str, roles)))}", "put them into one")
    groups = {member.group or member.id for member in members}
    return Example(
        id=key if by == "group" else _shared_folder(members, key),
        turns=_turns(members),
        images=tuple(image for member in members for image in member.images),
        label=Label(_merged("image class", classes, worst_first) if classes else None, _objects(members), columns),
        group=groups.pop() if len(groups) == 1 else key,
        source=members[0].source,
        role=roles.pop(),
    )


def _shared_folder(members: Sequence[Example], key: str) -> str:
    """The folder that the examples' ids share: "claims/17" for "claims/17/a" and "claims/17/b"."""
    parts = {member.id.rpartition("/")[0] for member in members}
    return parts.pop() if len(parts) == 1 and parts != {""} else key


def _merged(name: str, values: Sequence[Any], worst_first: Sequence[str]) -> Any:
    if all(value == values[0] for value in values):
        return values[0]
    worst = next((word for word in worst_first if word in values), None)
    if worst is None or any(value not in worst_first for value in values):
        values_seen = ", ".join(sorted({repr(value) for value in values})[:4])
        raise DataError(name, f"its photos differ: {values_seen}", "give worst_first, or correct the labels")
    return worst


def _objects(members: Sequence[Example]) -> tuple[LabelledObject, ...] | None:
    if any(member.label.objects is None for member in members):
        return None
    found: list[LabelledObject] = []
    before = 0
    for member in members:
        for obj in member.label.objects or ():
            place = {"photo": before + photo_of(obj, len(member.images)) + 1} if member.images else {}
            found.append(replace(obj, attributes={**obj.attributes, **place}))
        before += len(member.images)
    return tuple(found)


def _turns(members: Sequence[Example]) -> tuple[Turn, ...]:
    """The turns that all share, else one user turn with all distinct texts."""
    if all(member.turns == members[0].turns for member in members):
        return members[0].turns
    texts = dict.fromkeys(member.text for member in members if member.text)
    return (Turn("user", "\n".join(texts)),)
