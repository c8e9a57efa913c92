"""Who may use an engine now: the requests in progress are limited, and changes wait until there are none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vlm_ft.errors import BusyError


class Admission:
    """Counts the requests in progress in all threads, and refuses more than `limit` (None: no limit).

    If nothing is in progress, a call of any size is admitted.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit, self._inside, self._closed = limit, 0, False
        self._changed = threading.Condition()

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Counts these requests until the block ends. Raises `BusyError` if there is no room for them."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            if self._limit is not None and self._inside and self._inside + count > self._limit:
                problem = f"{self._inside} of at most {self._limit} requests in progress"
                raise BusyError("engine", problem, "retry later")
            self._inside += count
        try:
            yield
        finally:
            with self._changed:
                self._inside -= count
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until no request is in progress, and lets none begin until the block ends."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._closed = True
            self._changed.wait_for(lambda: not self._inside)
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()
