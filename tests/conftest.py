"""Shared by all tests: a closed network, one thread, tiny bases, a drawn set, and runs trained on it.

Fixtures import the models' libraries, so that the process that only distributes the tests does not.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "OMP_NUM_THREADS": "1",  # tiny models spend longer waiting for a busy second core than computing; torch reads it
    "TOKENIZERS_PARALLELISM": "false",
}

import pytest
from filelock import FileLock
from rich.console import Console

if TYPE_CHECKING:
    from vlm_ft.answers.form import Form
    from vlm_ft.bases.load import Base
    from vlm_ft.inference.engine import Engine
    from vlm_ft.recipe import Recipe

OWN_TASK = """
from typing import Literal
from vlm_ft.answers.kinds import Answer
from vlm_ft.answers.task import Task

class Verdict(Answer):
    verdict: Literal["good", "bad"]

def read(label):
    return {} if label.objects is None else {"verdict": "bad" if label.objects else "good"}

TASK = Task(
    name="my_task",
    title="My task",
    answer=Verdict,
    instruction="Judge the part.",
    read=read,
    sample=Verdict(verdict="bad"),
)
"""


class NetworkClosedError(RuntimeError):
    """A test tried to reach an address outside this machine; not an `OSError`, so that nothing retries it silently."""


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket's path
    if address[0] in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(address[0].split("%")[0]).is_loopback
    except ValueError:
        return False


def _guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
    def connect_locally(self: socket.socket, address: Any) -> Any:
        if not _is_local(address):
            raise NetworkClosedError(f"tests run without a network; something connects to {address}")
        return connect(self, address)

    return connect_locally


socket.socket.connect = _guarded(socket.socket.connect)  # type: ignore[method-assign]
socket.socket.connect_ex = _guarded(socket.socket.connect_ex)  # type: ignore[method-assign]


def pytest_collection_finish() -> None:
    """Exempt the imported libraries from garbage collection, and leave it to the interpreter.

    Every training asks for three collections, which take a sixth of its time on a tiny base.
    """
    gc.collect()
    gc.freeze()
    gc.collect = lambda generation=2: 0


def pytest_unconfigure() -> None:
    """Let the interpreter free the libraries at its end; some of them complain otherwise."""
    gc.unfreeze()


MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """``made_once(name, make)``: a folder that ``make(folder)`` fills at the first call, for all of xdist's workers."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "made-once"
    shared.mkdir(exist_ok=True)

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        place, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                place.mkdir(exist_ok=True)
                make(place)
                done.touch()
        return place

    return folder


@pytest.fixture(scope="session")
def tiny_folder(made_once: MadeOnce) -> Callable[[str], Path]:
    """The folder of a tiny model by its name."""
    from vlm_ft.bases.tiny import save_tiny

    return lambda name: made_once(name, lambda folder: save_tiny(name, folder))


@pytest.fixture(scope="session")
def tiny_base(tiny_folder: Callable[[str], Path]) -> Callable[[str], Base]:
    """A tiny base by its name, read once; every call gives a copy of the model, which is faster than reading it."""
    from vlm_ft.bases.load import load_base

    bases: dict[str, Base] = {}

    def of(name: str) -> Base:
        if name not in bases:
            bases[name] = load_base(str(tiny_folder(name)))
        return replace(bases[name], model=copy.deepcopy(bases[name].model))

    return of


@pytest.fixture(scope="session")
def drawings(made_once: MadeOnce) -> Path:
    """Twenty small drawn surfaces with boxes, four of each of four kinds of defects and four good ones."""
    from datasets_vision.synthetic import write_set

    return made_once("drawn", lambda folder: write_set("product_defects", folder / "set", 20, 7, size=64)) / "set"


@pytest.fixture(scope="session")
def clauses(made_once: MadeOnce) -> Path:
    """A table of twelve short passages, each of one of two kinds of clause."""
    kinds = ("audit", "notice")
    rows = [f"Passage {index} grants {kinds[index % 2]}.\t{kinds[index % 2]}" for index in range(12)]
    table = "\n".join(["text\tclause_type", *rows]) + "\n"
    return made_once("clauses", lambda folder: (folder / "rows.tsv").write_text(table, encoding="utf-8"))


@pytest.fixture
def own_task(tmp_path: Path) -> Path:
    """A user's own task file, with the task my_task."""
    file = tmp_path / "my_task.py"
    file.write_text(OWN_TASK, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def recipe_of(tiny_folder: Callable[[str], Path], drawings: Path) -> Callable[..., Recipe]:
    """A recipe for a few steps of a tiny base on the drawings: ``recipe_of("qwen3_vl", training={"max_steps": 4})``.

    A mapping overrides keys of the default mapping; anything else replaces the default.
    """
    from vlm_ft.recipe import Recipe

    small = {
        "name": "trial",
        "task": "product_defects",
        "data": [{"path": str(drawings)}],
        "fields": ["passed", "kind"],
        "splits": {"train": 0.5, "tune": 0.25, "calibrate": 0.0, "test": 0.25},
        "adapter": {"rank": 4, "alpha": 8},
        "training": {
            "max_steps": 2,
            "batch_size": 4,
            "evaluations": 1,
            "learning_rate": 5e-3,
            "precision": "fp32",
            "workers": 0,
            "report_to": [],
        },
    }

    def recipe(base: str, **settings: Any) -> Recipe:
        content: dict[str, Any] = {**small, "base": str(tiny_folder(base))}
        for key, value in settings.items():
            content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
        return Recipe.model_validate(content)

    return recipe


@pytest.fixture(scope="session")
def photos(drawings: Path) -> list[Path]:
    """Two of the drawings."""
    return sorted((drawings / "JPEGImages").glob("*.png"))[:2]


@pytest.fixture(scope="session")
def form() -> Form:
    """What `recipe_of` asks by default, with made-up names of kinds."""
    from tests.forms import whole_form
    from vlm_ft.tasks import TASKS

    return whole_form(TASKS["product_defects"]).narrow(("passed", "kind"))


@pytest.fixture(scope="session")
def bare(tiny_folder: Callable[[str], Path]) -> Callable[[str], Engine]:
    """The engine of a tiny base without adapters, opened at the first call."""
    from vlm_ft.bases.load import load_base
    from vlm_ft.inference.engine import Engine

    return cache(lambda name: Engine(load_base(str(tiny_folder(name)))))


@pytest.fixture(scope="module")
def terse() -> Iterator[None]:
    """Answers have short texts, and lists of one item: a random model fills each to its limit, one pass per token."""
    from vlm_ft.decoding import writing

    text, threshold = writing._text, writing._threshold
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_text", lambda most, *rest: text(min(most, 12), *rest))
        none_follows = lambda step: step.kind == "item" and step.path[-1] > 0  # noqa: E731
        patch.setattr(writing, "_threshold", lambda form, step: 2.0 if none_follows(step) else threshold(form, step))
        yield


@pytest.fixture
def one_shape(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let dry runs estimate the memory of one base of the Hub only, since making all shapes takes seconds."""
    from vlm_ft.bases.hub import HUB_BASES

    name = "Qwen/Qwen3-VL-2B-Instruct"
    monkeypatch.setattr("vlm_ft.training.memory.HUB_BASES", {name: HUB_BASES[name]})
    return name


@pytest.fixture
def shipped_tiny(recipe_of: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job on new data gets a recipe of a tiny base, whichever shipped one is chosen."""
    file = tmp_path / "tiny.yaml"
    file.write_text(recipe_of("fast_vlm").model_dump_json(exclude_unset=True))
    monkeypatch.setattr("vlm_ft.work.workplace._shipped", lambda _: str(file))


@pytest.fixture
def no_photo_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes that decode photos cannot start."""
    from multiprocessing import resource_tracker

    from vlm_ft.inference import photo_decoder

    resource_tracker.ensure_running()  # it, too, is started with the interpreter that is replaced
    decoder = photo_decoder.PhotoDecoder()
    monkeypatch.setattr(photo_decoder, "shared", lambda: decoder)
    monkeypatch.setattr("multiprocessing.spawn._python_exe", b"/bin/false")
    yield
    decoder.close()


@pytest.fixture(scope="session")
def fetched() -> Base:
    """The base `compact`, if it is already downloaded; tests download nothing."""
    from vlm_ft.bases import compact
    from vlm_ft.bases.load import load_base

    if not (compact.home() / "bases" / compact.COMPACT / "config.json").is_file():
        pytest.skip(f"the base {compact.COMPACT} is not on this machine: run {compact.GET}")
    return load_base(compact.COMPACT)


@pytest.fixture(scope="session")
def quiet() -> Console:
    """A console whose output is discarded."""
    return Console(file=Path(os.devnull).open("w"), highlight=False)


@pytest.fixture(scope="session")
def run_of(recipe_of: Callable[..., Recipe], quiet: Console, made_once: MadeOnce) -> Callable[..., Path]:
    """The folder of a finished run of `recipe_of`'s recipe, trained once for all tests; they must not write to it."""

    def run(base: str, **settings: Any) -> Path:
        from vlm_ft.training.run import train

        recipe = recipe_of(base, **settings)
        key = f"trained-{_key(recipe)}"
        return made_once(key, lambda folder: train(recipe, folder / recipe.name, console=quiet)) / recipe.name

    return run


@pytest.fixture(scope="session")
def untrained_run_of(recipe_of: Callable[..., Recipe], made_once: MadeOnce) -> Callable[..., Path]:
    """Like `run_of`, but with random weights, for tests to which it does not matter what a run has learned."""

    def run(base: str, **settings: Any) -> Path:
        from tests.untrained import write_run

        recipe = recipe_of(base, **settings)
        key = f"untrained-{_key(recipe)}"
        return made_once(key, lambda folder: write_run(recipe, folder / recipe.name)) / recipe.name

    return run


def _key(recipe: Recipe) -> str:
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()[:16]
