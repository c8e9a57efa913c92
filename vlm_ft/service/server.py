"""Run a service until it is asked to stop."""

from __future__ import annotations

import signal
import socket
import sys
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI
from starlette.routing import Mount

from vlm_ft.errors import RecipeError

GRACE = 25
"""Seconds for requests in progress once the service is asked to stop; Kubernetes kills after 30."""


FIRST_PORT, PORTS = 7860, 100
"""The first port that is tried if none is given, and how many are."""


def listen(host: str, port: int | None = None) -> socket.socket:
    """A socket that listens; without a port, on the first free one. Raises `RecipeError` if there is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for tried in range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else (port,):
        with suppress(OSError):
            return socket.create_server((host, tried), family=family)
    place = f"--host {host}" if port is None else f"--port {port}"
    raise RecipeError(place, "in use, or not an address of this machine", "choose another")


def run(api: FastAPI, listening: socket.socket) -> None:
    """Serve until SIGINT, which is raised again, or SIGTERM, which exits; requests in progress are answered."""
    # uvicorn raises the signal again once all are answered; by default, it would end the process without any clean-up
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config = uvicorn.Config(api, log_level="warning", timeout_graceful_shutdown=GRACE)
    _Server(config, api).run([listening])


class _Server(uvicorn.Server):
    """A server that also ends open streams, which would otherwise last as long as a job, or the browser's tab."""

    def __init__(self, config: uvicorn.Config, api: FastAPI) -> None:
        super().__init__(config)
        self._api = api

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See `uvicorn.Server.handle_exit`."""
        self._api.state.stopping.set()
        for route in self._api.routes:
            stop = getattr(route.app, "stop_event", None) if isinstance(route, Mount) else None
            if stop is not None:
                stop.set()
        super().handle_exit(sig, frame)
