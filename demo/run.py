"""Serve the app from the command line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from datasets_vision.images import find_images, open_image
from vlm_ft.bases.precision import Precision
from vlm_ft.errors import DataError
from vlm_ft.inference.engine import Engine

from .app import build_app, launch
from .assess_tab import Examples

MAX_EXAMPLES = 6


def serve(
    folders: Sequence[Path],
    *,
    base: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    examples: Path | Examples | None = None,
    memory: int | None = None,
    waiting: int = 64,
    precision: Precision = "fp32",
    console: Console,
) -> None:
    """Load the adapters, print the app's address, and serve until interrupted.

    `examples`: a folder of photos to try with every adapter, or what to try with each.
    `memory`: bytes of adapters that stay loaded, None for all; `waiting`: the maximum number of requests in progress.
    """
    named = ", ".join(folder.as_posix() for folder in folders)
    console.print(f"loading {named or base} …", markup=False, highlight=False)
    engine = Engine.open(folders, base=base, memory=memory, waiting=waiting, precision=precision)
    if isinstance(examples, Path):
        examples = dict.fromkeys(engine.cards, _examples(examples, console))
    blocks = build_app(engine, examples)
    try:
        address = launch(blocks, host, port)
    except OSError as error:
        where = f"--port {port}" if port is not None else f"--host {host}"
        raise DataError(
            where, "in use, or not an address of this machine", "choose another, or omit the option"
        ) from error
    console.print(f"the app: {address}  (Ctrl-C stops it)")
    try:
        while True:  # Gradio's own wait prints another message on Ctrl-C
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("\nstopped")
    finally:
        blocks.close(verbose=False)


def _examples(folder: Path, console: Console) -> list[Path]:
    """The first readable images of a folder; unreadable ones are reported."""
    found: list[Path] = []
    for path in find_images(folder):
        try:
            open_image(path)
        except DataError as error:
            console.print(f"not used as an example: {error}", markup=False)
            continue
        found.append(path)
        if len(found) == MAX_EXAMPLES:
            break
    if not found:
        console.print(f"{folder}: contains no image to show as an example", markup=False)
    return found
