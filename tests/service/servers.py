"""Real servers on free ports of this machine, and the photos that are sent to them."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI
from PIL import Image

import vlm_ft

HERE = "http://127.0.0.1"
SOURCE = str(Path(vlm_ft.__file__).parents[1])
GPS = "SECRETGPS"


def photo(red: int = 200, form: str = "JPEG") -> bytes:
    """A picture with a location in its EXIF data."""
    image, out = Image.new("RGB", (80, 60), (red, 40, 30)), io.BytesIO()
    exif = image.getexif()
    exif[0x010E] = GPS
    image.save(out, form, exif=exif)
    return out.getvalue()


@contextmanager
def running(api: FastAPI) -> Iterator[tuple[str, int]]:
    """Serve in a thread of this process, and yield the host and port."""
    server = uvicorn.Server(uvicorn.Config(api, port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (listening,) = server.servers[0].sockets
    yield listening.getsockname()
    server.should_exit = True
    thread.join(30)


@contextmanager
def served(*options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of a running `vlm-ft serve` with these options, and its process, which is killed at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vlm_ft", "serve", "--port", str(port), *options]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": SOURCE}, stderr=subprocess.PIPE)
    address, deadline = f"{HERE}:{port}", time.monotonic() + 240
    try:
        while True:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            assert time.monotonic() < deadline
            try:
                if httpx.get(f"{address}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address, process
    finally:
        process.kill()
        process.wait()
