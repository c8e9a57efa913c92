"""The deployment files name things that exist, and a command that the command line accepts."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from vlm_ft.cli import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "demo" / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
UNIT = (DEPLOY / "vlm-ft.service").read_text()


def served() -> list[list[str]]:
    """The arguments of each file's command."""
    (command,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.M)
    (start,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.M)
    return [json.loads(command), shlex.split(start)[1:]]


@pytest.mark.parametrize("arguments", served(), ids=["container", "unit"])
def test_the_command_is_accepted(arguments: list[str]) -> None:
    name, *rest = arguments
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    found = command.make_context(name, rest).params
    assert found["registry"] is not None
    assert found["tokens"] is not None


def test_what_is_copied_exists() -> None:
    lines = re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.M)
    assert len(lines) == DOCKERFILE.count("COPY") > 0
    for name in " ".join(lines).split():
        assert (ROOT / name).exists(), name


def test_the_compose_file_uses_them() -> None:
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["service"]
    build = service["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    assert service["ports"][0].startswith("127.0.0.1:")
    (volume,) = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.M)
    assert service["volumes"] == [f"data:{volume}"]


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not installed")
def test_docker_accepts_the_compose_file() -> None:
    checked = subprocess.run(
        ["docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"], capture_output=True, text=True
    )
    if "is not a docker command" in checked.stderr or "unknown" in checked.stderr:
        pytest.skip("docker compose is not installed")
    assert checked.returncode == 0, checked.stderr
