"""`DecisionLog`: one line per answer, appended and rotated. It holds hashes of what was asked, not the contents."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from datasets_vision.example import Turn, text_of
from vlm_ft.adapters import Card
from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import DataError

ROTATE = 50_000_000  # bytes of a file
KEPT = 1000  # older files


class DecisionLog:
    """JSON lines: time, adapter, its identity, the form, the calibration, the inputs' SHA-256, answer and decision."""

    def __init__(self, path: Path) -> None:
        try:
            self._handler = RotatingFileHandler(path, maxBytes=ROTATE, backupCount=KEPT, encoding="utf-8")
        except OSError as error:
            raise DataError(path, f"cannot be written ({error.strerror})", "choose another --log") from error
        self._handler.setFormatter(logging.Formatter("%(message)s"))

    def add(self, card: Card, photos: Sequence[Path], turns: Sequence[Turn], answer: Prediction) -> None:
        """Append one answer; callable from any thread."""
        hashes = [hashlib.sha256(photo.read_bytes()).hexdigest() for photo in photos]
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "adapter": card.name,
            "identity": _short(card.model_dump_json(exclude={"name", "metrics", "confidence", "familiar"})),
            "form": card.form.fingerprint,
            "calibration": _short(card.confidence.model_dump_json()) if card.confidence else None,
            "photos": hashes,
            "text": hashlib.sha256(text_of(turns).encode("utf-8", "replace")).hexdigest() if turns else None,
            "answer": answer.values,
            "decision": answer.decision,
            "error": answer.error is not None,
        }
        line = json.dumps(entry, ensure_ascii=True)
        self._handler.handle(logging.LogRecord("decisions", logging.INFO, "", 0, line, None, None))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
