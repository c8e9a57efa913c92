"""A real HTTP server on this machine that speaks the part of the Hub's protocol that writes repositories."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.local_server import Quiet, listening


class Hub:
    """Repositories by name: whether they are private, and their files. `refuses`: answers everything with 403."""

    def __init__(self) -> None:
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.tokens: set[str | None] = set()
        self.refuses = False
        self.url = ""

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        """The status and content of the answer to one request."""
        if self.refuses:
            return 403, {"error": "Forbidden"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization'] or 'me'}/{asked['name']}"
            if name in self.private:
                return 409, {"error": "exists", "url": f"{self.url}/{name}"}
            self.private[name] = asked["visibility"] == "private"
            return 200, {"url": f"{self.url}/{name}"}
        if not path.startswith("/api/models/"):
            return 404, {"error": "not found"}
        owner, name, *rest = path.removeprefix("/api/models/").split("/")
        repository = f"{owner}/{name}"
        if rest[:1] == ["preupload"]:
            files = json.loads(body)["files"]
            return 200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        if rest[:1] == ["commit"]:
            lines = [json.loads(line) for line in body.splitlines()]
            added = [line["value"] for line in lines if line["key"] == "file"]
            self.files[repository] = {file["path"]: base64.b64decode(file["content"]) for file in added}
            return 200, {"commitUrl": f"{self.url}/{repository}/commit/{'0' * 40}", "commitOid": "0" * 40}
        return 200, {"id": repository, "private": self.private[repository], "tags": [], "siblings": []}


@contextmanager
def serving() -> Iterator[Hub]:
    """Run the server, and yield its content."""
    hub = Hub()

    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hub.tokens.add(self.headers.get("Authorization"))
            self.do_GET()

        def do_GET(self) -> None:
            status, content = hub.answer(self.path, self.rfile.read(int(self.headers["Content-Length"] or 0)))
            answer = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    with listening(Handler) as address:
        hub.url = address
        yield hub
