"""Decodes untrusted photos and reads untrusted PDFs in separate processes, within a time limit.

A file that makes a decoder crash or hang fails its own request, and nothing else.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import TimeoutError as TooSlowError
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache, partial
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool
from PIL.Image import Image

from datasets_vision.documents.build import read_passages
from datasets_vision.documents.passages import Passage
from datasets_vision.images import image_size, open_image
from vlm_ft.errors import BusyError, DataError

SECONDS = 20.0
"""For one photo: twenty times what a JPEG of the largest accepted size takes."""

PROCESSES = 2
AT_ONCE = 64  # photos that are queued for a check
DIGEST: Any = ("vlm-ft", "sha256")
"""The key in a decoded image's `info` with the SHA-256 of its file; no file can set it: keys from files are strings."""

Out = TypeVar("Out")

log = logging.getLogger(__name__)


class PhotoDecoder:
    """A pool of processes that open photos; a process that takes too long is killed and replaced.

    Pebble gives up a pool whose processes cannot start, or end without a photo; the next photos then get a new pool.
    """

    def __init__(self, seconds: float = SECONDS, open_photo: Callable[[Path], Image] = open_image) -> None:
        self._seconds, self._open = seconds, open_photo
        self._pool = _new_pool()
        self._replacing = threading.Lock()

    def decoded(self, photos: Sequence[Path]) -> tuple[Image, ...]:
        """The photos as upright RGB images.

        Raises `DataError` for one that cannot be decoded, or not in time, and `BusyError` if no process could start.
        """
        return self._map(partial(_decoded, self._open), photos)

    def sizes(self, photos: Sequence[Path]) -> tuple[tuple[int, int], ...]:
        """(width, height) of each photo from its header, which may be compressed. Raises as `decoded` does."""
        return self._map(image_size, photos)

    def check(self, photos: Iterable[Path]) -> None:
        """Raise `DataError` for a photo whose decoder hangs or crashes, and `BusyError` as `decoded` does.

        Other photos that cannot be decoded pass.
        """
        remaining = iter(photos)
        while some := list(islice(remaining, AT_ONCE)):
            self._map(partial(_tried, self._open), some)

    def passages(self, pdf: Path) -> tuple[list[Passage], list[int]]:
        """The passages of a PDF, and its pages without text. Raises as `decoded` does."""
        return self._map(read_passages, [pdf], "print or save it to PDF again, or split it")[0]

    def _map(
        self, work: Callable[[Path], Out], photos: Sequence[Path], remedy: str = "send it as a plain JPEG"
    ) -> tuple[Out, ...]:
        waiting: list[ProcessFuture] = []
        try:
            pool = self._working()
            waiting += [pool.schedule(work, [photo], timeout=self._seconds) for photo in photos]
            each = zip(photos, waiting, strict=True)
            return tuple(self._result(pool, photo, future, remedy) for photo, future in each)
        except BrokenProcessPool as error:
            log.warning("the processes that decode photos cannot run: %s", error.__cause__ or error)
            raise BusyError("photos", "no process is available to decode them", "retry later") from error
        finally:
            for future in waiting:
                future.cancel()

    def _working(self) -> ProcessPool:
        """The pool, or a new one if pebble gave it up. Raises `BrokenProcessPool`."""
        with self._replacing:
            if not self._pool.active:
                self._pool.join()
                self._pool = _new_pool()
            return self._pool

    def _result(self, pool: ProcessPool, photo: Path, future: ProcessFuture, remedy: str) -> Any:
        while not wait([future], timeout=1).done:
            if not pool.active and not future.done():  # pebble forgets a task that was queued while it gave up the pool
                raise BrokenProcessPool("the pool was given up")
        try:
            return future.result()
        except TooSlowError as error:
            problem = f"takes more than {self._seconds:g} s to decode"
            raise DataError(photo, problem, remedy) from error
        except ProcessExpired as error:
            raise DataError(photo, "cannot be decoded: its decoder crashed", remedy) from error

    def close(self) -> None:
        """End the processes."""
        self._pool.stop()
        self._pool.join()


def _new_pool() -> ProcessPool:
    return ProcessPool(PROCESSES, initializer=_end_with_parent, context=get_context("spawn"))


def _end_with_parent() -> None:
    """End this process when its parent is killed, even while a decoder hangs."""

    def watch(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    if (parent := parent_process()) is not None:
        threading.Thread(target=watch, args=[parent], daemon=True).start()


@cache
def shared() -> PhotoDecoder:
    """The pool that the service and the app share."""
    decoder = PhotoDecoder()
    atexit.register(decoder.close)
    return decoder


def _tried(open_photo: Callable[[Path], Image], photo: Path) -> None:
    with suppress(DataError):
        open_photo(photo)


def _decoded(open_photo: Callable[[Path], Image], photo: Path) -> Image:
    image = open_photo(photo)
    image.info = {DIGEST: hashlib.sha256(photo.read_bytes()).hexdigest()}
    return image
