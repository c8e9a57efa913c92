"""Back-pressure: how many requests an engine takes in at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vlm_ft.errors import BusyError


class Admission:
    """Counts the requests that are inside, of all threads; at most `most`, or any number.

    One call may always come in when nobody else is inside, whatever its size.
    """

    def __init__(self, most: int | None) -> None:
        self._most, self._inside, self._lock = most, 0, threading.Lock()

    @contextmanager
    def place(self, count: int) -> Iterator[None]:
        """Within, so many requests are inside. Raises `BusyError` where there is no room."""
        with self._lock:
            if self._most is not None and self._inside and self._inside + count > self._most:
                raise BusyError("engine", f"{self._inside} of at most {self._most} requests wait", "ask again later")
            self._inside += count
        try:
            yield
        finally:
            with self._lock:
                self._inside -= count
