"""A server that is asked for far more than it can answer, and one that is told to stop with requests in progress."""

from __future__ import annotations

import asyncio
import io
import math
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from urllib.parse import urlsplit

import httpx
import psutil
from PIL import Image

from vlm_ft.experiments.sheet import Sheet

LARGE = (4, 4800)  # photos of a request and pixels of their sides: few answers a second, which are easy to overload
SMALL = (1, 64)
HELD = 100  # bytes of a request that are sent last
SAMPLES = 60  # of the server's memory

Outcome = tuple[int, float]
"""The status of a response, 0 without one, and the seconds that it took."""


async def overload(
    address: str,
    process: subprocess.Popen[bytes],
    adapter: str,
    sheet: Sheet,
    *,
    places: int,
    seconds: float,
    factor: float,
    photos: tuple[int, int] = LARGE,
) -> None:
    """Send `factor` times as many requests as the server can answer, spread evenly over so many seconds.

    `places`: the maximum number of requests in progress; the server refuses others. `photos`: as in `LARGE`.
    """
    body, headers = _form(adapter, *photos)
    unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=unlimited) as client:
        send = partial(_sent, client, body, headers)
        capacity = await _capacity(send, places, seconds / 6)
        memory = list[int]()
        sampling = asyncio.create_task(_sample(psutil.Process(process.pid), seconds / SAMPLES, memory))
        started = time.perf_counter()
        outcomes = await _spread(send, factor * capacity, seconds)
        taken = time.perf_counter() - started
        sampling.cancel()
    refused = [waited for status, waited in outcomes if status == 429]
    answered = sum(status == 200 for status, _ in outcomes)
    sheet.add("requests sent for each one answered", len(outcomes) / max(1, answered), None, "higher", "")
    sheet.add(
        "requests neither answered nor refused under overload",
        len(outcomes) - answered - len(refused),
        0,
        "lower",
        "requests",
    )
    share = answered / taken / capacity
    sheet.add("answers per second under overload, of those without it", share, 0.5, "higher", "")
    sheet.add("the slowest refusal under overload", 1000 * max(refused, default=math.inf), 100, "lower", "ms")
    sheet.add("growth of the server's memory under overload", 100 * _growth(memory), 5, "lower", "%")


def drain(address: str, process: subprocess.Popen[bytes], adapter: str, sheet: Sheet, count: int) -> None:
    """Tell the server to stop while it computes half of the answers, and still receives the other requests."""
    body, headers = _form(adapter, *SMALL)
    parts = urlsplit(address)
    lines = {"Host": parts.netloc, "Content-Length": str(len(body)), "Connection": "close", **headers}
    head = "POST /v1/assess HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    clients = [socket.create_connection((parts.hostname, parts.port), timeout=60) for _ in range(count)]
    for client in clients:
        client.sendall(head.encode() + body[:-HELD])
    deadline = time.monotonic() + 60
    while f"vlm_ft_in_progress {count}.0" not in httpx.get(f"{address}/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for client in clients[: count // 2]:
        client.sendall(body[-HELD:])
    process.send_signal(signal.SIGTERM)
    for client in clients[count // 2 :]:
        client.sendall(body[-HELD:])
    with ThreadPoolExecutor(count) as pool:
        answered = sum(pool.map(_is_answered, clients))
    sheet.add(f"of {count} requests in progress at SIGTERM, answered", answered, count, "higher", "requests")
    sheet.add("exit code after SIGTERM, without its sign", abs(process.wait(60)), 0, "lower", "")


def _is_answered(client: socket.socket) -> bool:
    """Whether the response is complete and not an error."""
    with client, client.makefile("rb") as response:
        received = response.read()
    head, _, content = received.partition(b"\r\n\r\n")
    length = f"\r\ncontent-length: {len(content)}\r\n".encode()
    return head.startswith(b"HTTP/1.1 200") and length in head.lower() + b"\r\n"


def _form(adapter: str, photos: int, side: int) -> tuple[bytes, dict[str, str]]:
    """The body of a request for an assessment, and its headers."""
    picture = io.BytesIO()
    Image.new("RGB", (side, side), (180, 30, 30)).save(picture, "PNG")
    files = [("photos", (f"{number}.png", picture.getvalue())) for number in range(photos)]
    request = httpx.Request("POST", "http://localhost", data={"adapter": adapter}, files=files)
    return request.read(), {"Content-Type": request.headers["Content-Type"]}


async def _sent(client: httpx.AsyncClient, body: bytes, headers: dict[str, str]) -> Outcome:
    started = time.perf_counter()
    try:
        status = (await client.post("/v1/assess", content=body, headers=headers)).status_code
    except httpx.HTTPError:
        status = 0
    return status, time.perf_counter() - started


async def _capacity(send: Callable[[], Awaitable[Outcome]], places: int, seconds: float) -> float:
    """The answers per second that the server gives while `places` requests are in progress."""
    started, answered = time.perf_counter(), 0

    async def one_after_the_other() -> None:
        nonlocal answered
        while time.perf_counter() < started + seconds:
            status, _ = await send()
            answered += status == 200

    await asyncio.gather(*(one_after_the_other() for _ in range(places)))
    assert answered, "the server answers nothing, even without overload"
    return answered / (time.perf_counter() - started)


async def _spread(send: Callable[[], Awaitable[Outcome]], rate: float, seconds: float) -> list[Outcome]:
    """Send this many requests per second, whether or not earlier ones are answered, and wait for all responses."""
    started, sent = time.perf_counter(), list[asyncio.Task[Outcome]]()
    while (now := time.perf_counter()) < started + seconds:
        for _ in range(len(sent), round(rate * (now - started))):
            sent.append(asyncio.ensure_future(send()))
        await asyncio.sleep(0.005)
    return await asyncio.gather(*sent)


async def _sample(server: psutil.Process, seconds: float, memory: list[int]) -> None:
    """Append the resident bytes of the server and its decoders, again and again."""
    while True:
        with suppress(psutil.NoSuchProcess):
            memory.append(sum(process.memory_info().rss for process in (server, *server.children(recursive=True))))
        await asyncio.sleep(seconds)


def _growth(samples: Sequence[int]) -> float:
    """By how much the median of the last third exceeds that of the first third, as a share."""
    third = len(samples) // 3
    return statistics.median(samples[-third:]) / statistics.median(samples[:third]) - 1
