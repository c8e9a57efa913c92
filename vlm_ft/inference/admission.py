"""Back-pressure: a limit on the requests that an engine has in progress."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vlm_ft.errors import BusyError


class Admission:
    """Counts the requests in progress in all threads, and refuses more than `most`; None: no limit.

    If nothing is in progress, a call of any size is admitted.
    """

    def __init__(self, most: int | None) -> None:
        self._most, self._inside, self._lock = most, 0, threading.Lock()

    @contextmanager
    def place(self, count: int) -> Iterator[None]:
        """Counts these requests until the block ends. Raises `BusyError` if there is no room for them."""
        with self._lock:
            if self._most is not None and self._inside and self._inside + count > self._most:
                raise BusyError("engine", f"{self._inside} of at most {self._most} requests in progress", "retry later")
            self._inside += count
        try:
            yield
        finally:
            with self._lock:
                self._inside -= count
