"""`Recorded`: a predictor whose answers are counted and written to a decision log."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from itertools import islice
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from PIL.Image import Image

from datasets_vision.example import Picture, digest_of, path_of, text_of
from datasets_vision.placing import end_line
from vlm_ft.adapters import Card
from vlm_ft.errors import DataError
from vlm_ft.inference.photo_decoder import DIGEST
from vlm_ft.inference.request import Attributed, Predictor, Request
from vlm_ft.service.gate import OWNER
from vlm_ft.service.meter import Meter

ROTATE = 50_000_000  # bytes of a file
KEPT = 1000  # older files


class Recorded:
    """Asks another predictor. An answer that cannot be logged is not given; if it is being streamed, it breaks off."""

    def __init__(self, predictor: Predictor, meter: Meter, log: DecisionLog | None = None) -> None:
        self._predictor, self._meter, self._log = predictor, meter, log

    @property
    def cards(self) -> Mapping[str, Card]:
        """See `Predictor.cards`."""
        return self._predictor.cards

    def predict(self, requests: Sequence[Request]) -> list[Attributed]:
        """Like `Predictor.predict`. Raises `OSError` if the log cannot be written."""
        with self._meter.seconds.time():
            answers = self._predictor.predict(requests)
        for request, answer in zip(requests, answers, strict=True):
            self._meter.answers.labels(request.adapter, "error" if answer.error else answer.decision).inc()
            if self._log is not None:
                self._log.add(request, answer)
        return answers


class _Handler(RotatingFileHandler):
    """Raises write errors instead of printing them, and ends a line that was cut off before writing the next one."""

    def _open(self) -> TextIOWrapper:
        if os.path.isfile(self.baseFilename):
            with open(self.baseFilename, "a+b") as file:
                end_line(file)
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        stream, self.stream = self.stream, None  # reopened for the next line
        if stream is not None:
            with suppress(OSError):
                stream.close()
        raise


class DecisionLog:
    """A file of JSON lines, one per answer, appended and rotated.

    A line has the time, the owner of the token, the case number of the answer, the adapter with
    `Attributed.origin`, the SHA-256 of each photo and of the text, and the answer in full. Raises `DataError` if the
    file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._handler = _Handler(path, maxBytes=ROTATE, backupCount=KEPT, encoding="utf-8")
        except OSError as error:
            raise DataError(path, f"cannot be written ({error.strerror})", "choose another --log") from error

    def add(self, request: Request, answer: Attributed) -> None:
        """Append one answer; callable from any thread. Raises `OSError`."""
        entry: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "by": request.by or OWNER.get(),
            "case": request.case,
            "adapter": request.adapter,
            **answer.origin,
            "photos": [_digest(image) for image in request.images],
            "text": digest_of(text_of(request.turns)) if request.turns else None,
            "answer": answer.values,
            "decision": answer.decision,
            "error": answer.error is not None,
        }
        line = json.dumps(entry, ensure_ascii=True)
        self._handler.handle(logging.LogRecord("decisions", logging.INFO, "", 0, line, None, None))

    def search(self, words: str, limit: int) -> list[dict[str, Any]]:
        """The newest entries, at most `limit`, that contain every word in upper or lower case; newest first.

        A line that cannot be read is left out.
        """
        wanted, found = words.lower().split(), list[dict[str, Any]]()
        older = (self._path.with_name(f"{self._path.name}.{number}") for number in range(1, KEPT + 1))
        for file in (self._path, *older):
            if len(found) >= limit or not file.is_file():
                break
            lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
            entries = (_entry(line) for line in lines[::-1])
            matching = (entry for entry in entries if entry is not None and _has(entry, wanted))
            found += islice(matching, limit - len(found))
        return found


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _has(entry: dict[str, Any], words: Sequence[str]) -> bool:
    values = json.dumps(list(entry.values()), ensure_ascii=False).lower()
    return all(word in values for word in words)


def _digest(image: Picture | Image) -> dict[str, str]:
    """The SHA-256 of a photo's file or, if it comes decoded without one, of its pixels."""
    if isinstance(image, Image) and DIGEST in image.info:
        return {"file": str(image.info[DIGEST])}
    if isinstance(image, Image):
        return {"pixels": hashlib.sha256(image.tobytes()).hexdigest()}
    return {"file": hashlib.sha256(path_of(image).read_bytes()).hexdigest()}
