"""Time the service as its users see it: `vlm-ft serve` in a separate process, queried in the app and over HTTP."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import httpx
import psutil
from gradio_client import Client, handle_file
from PIL import Image
from rich.console import Console

from datasets_vision.synthetic.writing import write_set
from vlm_ft.adapters import adapter_folder, read_card
from vlm_ft.bases.compact import COMPACT
from vlm_ft.errors import AdapterError
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.recipe import RECIPES, load_recipe
from vlm_ft.training.run import train

DRAWINGS = 60  # to train on
PHOTOS, SIZE = 20, (2048, 1536)  # to ask about, enlarged to camera size
IN_PROGRESS = 8
ROUNDS = 15  # of requests, each about every photo
WARM_UP = 5  # requests
PATIENCE = 300  # seconds for the service to start


def benchmark_service(base: str, adapter: Path | None, out: Path, command: str, console: Console) -> None:
    """Time the first answer, single requests and several at once, and write the figures to `out`.

    Without the folder of a photo adapter, one is trained for a single step on drawings.
    """
    sheet = Sheet(command, console)
    with TemporaryDirectory() as work:
        drawings = write_set("product_defects", Path(work, "set"), DRAWINGS, 0) / "JPEGImages"
        photos = [_enlarged(drawing, Path(work)) for drawing in sorted(drawings.iterdir())[:PHOTOS]]
        folder = adapter_folder(adapter) if adapter is not None else _trained(base, Path(work), console)
        base = read_card(folder).base.name  # an adapter may have another base than the one that is trained by default
        first, one = (15.0, 1.0) if base == COMPACT else (None, None)
        started = time.perf_counter()
        with _served(folder) as (address, process), httpx.Client(base_url=address, timeout=60) as client:
            name = client.get("/v1/models").json()["data"][0]["id"]
            _answer_in_the_app(address, name, photos[0])
            seconds = time.perf_counter() - started
            sheet.add(f"{base}: from the command to the app's first answer", seconds, first, "lower", "s")
            ask = partial(_seconds, client, name)
            taken = statistics.median([ask(photo) for photo in photos][WARM_UP:])
            sheet.add(f"{base}: one photo over HTTP, once warm", taken, one, "lower", "s")
            started, memory = time.perf_counter(), list[int]()
            for _ in range(ROUNDS):
                with ThreadPoolExecutor(IN_PROGRESS) as pool:
                    list(pool.map(ask, photos))
                memory.append(_resident(process))
            rate = ROUNDS * len(photos) / (time.perf_counter() - started)
    sheet.add(f"{base}: requests per second with {IN_PROGRESS} in progress", rate, None, "higher", "/s")
    growth = 100 * (memory[-1] / memory[0] - 1)
    requests = (ROUNDS - 1) * len(photos)
    sheet.add(f"{base}: growth of the service's memory in {requests} requests", growth, 5.0, "lower", "%")
    sheet.write(out)


def _enlarged(drawing: Path, folder: Path) -> Path:
    photo = folder / f"{drawing.stem}.jpg"
    with Image.open(drawing) as image:
        image.convert("RGB").resize(SIZE).save(photo, quality=90)
    return photo


def _trained(base: str, work: Path, console: Console) -> Path:
    """The folder of an adapter trained for one step on the drawings."""
    settings = [f"base={base}", f"data.0.path={work / 'set'}", "training.max_steps=1", "training.report_to=[]"]
    return train(load_recipe(RECIPES / "quickstart_surfaces.yaml", settings), work / "run", console=console)


@contextmanager
def _served(adapter: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a service with an adapter, once it is ready, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vlm_ft", "serve", "--adapter", str(adapter), "--port", str(port)]
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    with TemporaryFile() as errors, subprocess.Popen(command, stderr=errors) as process, httpx.Client() as client:
        try:
            while not _is_ready(client, address):
                if process.poll() is not None or time.monotonic() > deadline:
                    errors.seek(0)
                    *_, last = errors.read().decode(errors="replace").splitlines() or ["no output"]
                    problem = f"its service did not start: {last}"
                    raise AdapterError(f"adapter {adapter}", problem, "run vlm-ft serve --adapter with it to see why")
                time.sleep(0.05)
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()


def _is_ready(client: httpx.Client, address: str) -> bool:
    try:
        return client.get(f"{address}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _answer_in_the_app(address: str, adapter: str, photo: Path) -> None:
    """Upload a photo to the app, and wait for its answer."""
    app = Client(f"{address}/app", verbose=False)
    _, message, answer, *_ = app.predict(adapter, [handle_file(photo)], "", api_name="/assess")
    if not answer or json.loads(answer)["error"] is not None:
        raise AdapterError(f"adapter {adapter}", f"the app gave no answer: {message}", "give a photo adapter")


def _seconds(client: httpx.Client, adapter: str, photo: Path) -> float:
    """The time that an answer about a photo takes."""
    started = time.perf_counter()
    files = {"photos": (photo.name, photo.read_bytes())}
    client.post("/v1/assess", data={"adapter": adapter}, files=files).raise_for_status()
    return time.perf_counter() - started


def _resident(server: psutil.Process) -> int:
    """The resident memory of the server and its decoders, in bytes."""
    resident = 0
    for process in (server, *server.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # a decoder that has just ended
            resident += int(process.memory_info().rss)
    return resident
