"""Run a service until it is told to stop."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI
from starlette.routing import Mount

from vlm_ft.errors import RecipeError

GRACE = 25
"""Seconds for requests in progress once the service is told to stop; Kubernetes kills after 30."""


def run(api: FastAPI, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; requests in progress are answered. Raises `RecipeError` if the port is taken."""
    # uvicorn raises the signal again once all are answered; by default, it would end the process without any clean-up
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config = uvicorn.Config(api, host=host, port=port, log_level="warning", timeout_graceful_shutdown=GRACE)
    server = _Server(config, api)
    try:
        server.run()
    except SystemExit as error:  # uvicorn has logged why
        if not server.started:
            raise RecipeError(
                f"--port {port}", "in use, or not an address of this machine", "choose another"
            ) from error
        raise


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
