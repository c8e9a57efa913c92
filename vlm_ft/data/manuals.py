"""`vlm-ft data documents`: a chatbot's training rows from manuals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from datasets_vision.documents.build import write_messages
from datasets_vision.documents.server import Server
from vlm_ft.errors import DataError


def chatbot_rows(
    manuals: Path, out: Path, server: str | None, model: str, key_env: str | None, passage: int, answer: int
) -> Iterator[str]:
    """Write the rows, and yield lines that report on them.

    `passage` and `answer` limit the characters of a passage and of an answer. Raises `DataError` for a server without a
    model or the reverse, and for manuals that yield no usable row.
    """
    client = None
    if server is None and model:
        raise DataError(f"model {model!r}", "needs a server", "add --server")
    if server is None and key_env:
        raise DataError(f"key in {key_env}", "needs a server", "add --server, or leave out --key-env")
    if server is not None:
        if not model:
            raise DataError(f"server {server}", "no model is named", "add --model")
        replies = out.with_name(out.name + ".replies")
        client = Server(server, model, os.environ.get(key_env or "OPENAI_API_KEY", ""), kept=replies)
    built = write_messages(manuals, out, server=client, max_passage=passage, max_answer=answer)
    kinds = ", ".join(f"{count} by {kind}" for kind, count in built.kinds.most_common())
    yield f"{out}: {built.rows} rows ({kinds}) from {built.passages} passages of {built.documents} documents"
    for entry in built.set_aside:
        yield f"set aside {entry.place}: {entry.reason}"
