"""`Registry`: a folder of adapters with their versions, and which version of each is current."""

from __future__ import annotations

import filecmp
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from datasets_vision.placing import new_folder, whole_file
from vlm_ft.adapters import CARD, Card, adapter_folder, read_card
from vlm_ft.answers.kinds import Strict
from vlm_ft.data.splits import SPLITS
from vlm_ft.errors import AdapterError, nearest
from vlm_ft.recipe import with_absolute_paths
from vlm_ft.runs import EVALUATION, RECIPE, Run
from vlm_ft.settings import write_settings

HISTORY = "history.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Change(Strict):
    """One change of the current version: when, to which one, by whom and why."""

    time: str
    version: int
    by: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Version:
    """A version of an adapter."""

    name: str
    number: int
    folder: Path

    @property
    def card(self) -> Card:
        return read_card(self.folder)

    @property
    def evaluation(self) -> Path:
        """The file of its evaluation, if its run was evaluated before it was added."""
        return self.folder / EVALUATION


_CHANGES = TypeAdapter(list[Change])


class Registry:
    """Adapters by name.

    NAME/1/            the first version: an adapter folder, with the recipe, splits and evaluation of its run
    NAME/history.json  the changes of the current version, oldest first
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """The adapters that have a current version; folders whose names are not plain words are ignored."""
        found = (file.parent.name for file in self.folder.glob(f"*/{HISTORY}"))
        return sorted(name for name in found if NAME.fullmatch(name))

    def versions(self, name: str) -> list[Version]:
        """All versions of an adapter, oldest first. Raises `AdapterError` for an unknown name."""
        place = self._place(name)
        numbers = sorted(int(card.parent.name) for card in place.glob(f"*/{CARD}") if card.parent.name.isdecimal())
        return [Version(name, number, place / str(number)) for number in numbers]

    def version(self, name: str, number: int) -> Version:
        """One version. Raises `AdapterError` for an unknown number."""
        found = {version.number: version for version in self.versions(name)}
        if number not in found:
            raise AdapterError(f"adapter {name}", f"has no version {number}", f"versions: {', '.join(map(str, found))}")
        return found[number]

    def current(self, name: str) -> Version:
        """The version that is served."""
        return self.version(name, self.history(name)[-1].version)

    def history(self, name: str) -> list[Change]:
        """The changes of the current version, oldest first. Raises `AdapterError` if they cannot be read."""
        file = self._place(name) / HISTORY
        try:
            return _CHANGES.validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            raise AdapterError(file, "cannot be read", "restore it, or add the adapter again") from error

    def changed(self, name: str) -> tuple[int, int]:
        """A stamp of the history, which differs whenever the current version may have changed."""
        found = (self._place(name) / HISTORY).stat()
        return found.st_mtime_ns, found.st_size  # two changes may fall into one tick of the file system's clock

    def add(self, name: str, place: Path, *, by: str | None = None) -> Version:
        """Copy an adapter, given by its adapter or run folder, as the next version; the first one becomes current.

        Raises `AdapterError` for a folder that is not an adapter, and `DataError` if it cannot be copied.
        """
        if not NAME.fullmatch(name):
            raise AdapterError(f"name {name[:80]!r}", "is not a plain word", "use letters, digits, dots and hyphens")
        folder, known = adapter_folder(place), self.folder / name
        with self._claimed():
            number = max((version.number for version in self.versions(name)), default=0) + 1 if known.exists() else 1
            shutil.rmtree(known / f"{number}.part", ignore_errors=True)  # left by an interrupted copy
            with new_folder(known / str(number)) as part:
                shutil.copytree(folder, part, dirs_exist_ok=True)
                for file in (place / SPLITS, Run(place).evaluated):
                    if file.is_file():
                        shutil.copy(file, part)
                if (place / RECIPE).is_file():
                    content = yaml.safe_load((place / RECIPE).read_text(encoding="utf-8"))
                    write_settings(part / RECIPE, with_absolute_paths(content))
            if not (known / HISTORY).is_file():
                self._write(name, [_change(number, by, "first version")])
        return Version(name, number, known / str(number))

    def find(self, name: str, place: Path) -> Version | None:
        """The newest version that answers like this adapter or run folder, if there is one: only figures may differ."""
        folder = adapter_folder(place)
        return next((version for version in self.versions(name)[::-1] if _same(folder, version.folder)), None)

    def promote(
        self, name: str, number: int, *, by: str | None = None, reason: str = "", over: int | None = None
    ) -> Version:
        """Make a version the current one. `over`: the version that it was compared with.

        Raises `AdapterError` if a different one is current by now.
        """
        with self._claimed():
            version, history = self.version(name, number), self.history(name)
            now = history[-1].version
            if over not in (None, now):
                raise AdapterError(f"adapter {name}", f"version {now} has since become current", "compare again")
            if now != number:
                self._write(name, [*history, _change(number, by, reason)])
        return version

    def roll_back(self, name: str, *, by: str | None = None, over: int | None = None) -> Version:
        """Make the previously current version current again.

        `over`: the one to go back from. Raises `AdapterError` if another one is current, or if there was none before.
        """
        history = self.history(name)
        now = history[-1].version
        if over not in (None, now):
            raise AdapterError(f"adapter {name}", f"version {now} has since become current", "look at it first")
        before = [change.version for change in history if change.version != now]
        if not before:
            raise AdapterError(f"adapter {name}", "has no earlier version to go back to", "promote one first")
        return self.promote(name, before[-1], by=by, reason=f"rolled back from {now}", over=now)

    def _claimed(self) -> FileLock:
        """The lock that any process holds while it changes the registry."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock")

    def _place(self, name: str) -> Path:
        if not NAME.fullmatch(name) or not (self.folder / name).is_dir():
            raise AdapterError("", f"adapter {name[:80]!r} is not in {self.folder}", nearest(name[:80], self.names()))
        return self.folder / name

    def _write(self, name: str, history: Sequence[Change]) -> None:
        with whole_file(self.folder / name / HISTORY) as part:
            part.write_bytes(_CHANGES.dump_json(list(history), indent=1) + b"\n")


def _same(folder: Path, version: Path) -> bool:
    """Whether two adapter folders have the same tensors, and cards that differ only in figures."""
    files = [file.name for file in folder.iterdir() if file.suffix == ".safetensors"]
    if filecmp.cmpfiles(folder, version, files, shallow=False)[0] != files:
        return False
    one, other = (read_card(place).model_dump_json(exclude={"metrics"}) for place in (folder, version))
    return one == other


def _change(number: int, by: str | None, reason: str) -> Change:
    return Change(time=datetime.now(UTC).isoformat(timespec="seconds"), version=number, by=by, reason=reason)
