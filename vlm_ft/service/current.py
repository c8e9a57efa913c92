"""`Current`: an engine that serves the current version of every adapter in a registry."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_ft.adapters import Card, read_card
from vlm_ft.card_base import base_of
from vlm_ft.errors import AdapterError
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Attributed, Request
from vlm_ft.registry import Registry

log = logging.getLogger(__name__)


def open_engine(folders: Sequence[Path], registry: Registry | None, base: str | None, **options: Any) -> Engine:
    """An engine with these adapters; without any, it has the base of the registry's first adapter.

    Raises `AdapterError` without an adapter.
    """
    if folders or registry is None:
        return Engine.open(folders, base=base, **options)
    first = next(iter(registry.names()), None)
    if first is None:
        raise AdapterError(registry.folder, "contains no adapter", "add one with vlm-ft promote")
    folder = registry.current(first).folder
    return Engine(base_of(read_card(folder), folder, base), **options)


class Current:
    """Asks an engine, after checking whether another version of an adapter has become current.

    A version that cannot be served is reported in the log, and the previous one keeps answering.
    """

    def __init__(self, engine: Engine, registry: Registry) -> None:
        self._engine, self._registry = engine, registry
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[int, int]] = {}
        self.follow()

    @property
    def cards(self) -> Mapping[str, Card]:
        """See `Predictor.cards`."""
        self.follow()
        return self._engine.cards

    def predict(self, requests: Sequence[Request]) -> list[Attributed]:
        """See `Predictor.predict`."""
        self.follow()
        return self._engine.predict(requests)

    def follow(self) -> None:
        """Serve the versions that are current now."""
        with self._lock:
            for name in self._registry.names():
                try:
                    self._serve(name)
                except Exception as error:  # whatever is wrong with one adapter, the others must answer
                    log.warning("adapter %s: %s", name, error)

    def _serve(self, name: str) -> None:
        changed = self._registry.changed(name)
        if self._seen.get(name) != changed:
            self._seen[name] = changed
            serve = self._engine.replace if name in self._engine.cards else self._engine.add
            version = self._registry.current(name)
            serve(name, version.folder, version.number)
