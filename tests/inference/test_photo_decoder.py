"""A photo that hangs or crashes its decoder fails its own request, and no other."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from datasets_vision.images import open_image
from tests.hostile_decoder import hostile
from tests.service.servers import SOURCE
from vlm_ft.errors import BusyError, DataError
from vlm_ft.inference.photo_decoder import DIGEST, PhotoDecoder


@pytest.fixture
def decoder() -> Iterator[PhotoDecoder]:
    found = PhotoDecoder(seconds=5, open_photo=hostile)
    yield found
    found.close()


def test_bad_photos_leave_the_others_alone(decoder: PhotoDecoder, tmp_path: Path) -> None:
    for name in ("good.png", "hangs.png", "dies.png"):
        Image.new("RGB", (30, 20), (1, 2, 3)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    good = tmp_path / "good.png"
    for name, says in (
        ("dies.png", "its decoder crashed"),
        ("hangs.png", "takes more than 5 s to decode"),
        ("broken.png", "not a readable image"),
    ):
        with pytest.raises(DataError, match=says):
            decoder.decoded([good, tmp_path / name])
        (image,) = decoder.decoded([good])
        assert image.size == (30, 20)
    assert image.tobytes() == open_image(good).tobytes()
    assert image.info[DIGEST] == hashlib.sha256(good.read_bytes()).hexdigest()


def test_a_check_finds_only_what_hangs_or_crashes(decoder: PhotoDecoder, tmp_path: Path) -> None:
    for name in ("good.png", "dies.png", "hangs.png"):
        Image.new("RGB", (30, 20)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    passing = [tmp_path / "good.png", tmp_path / "broken.png"]
    decoder.check(passing * 50)
    for name, says in (("dies.png", "its decoder crashed"), ("hangs.png", "takes more than 5 s to decode")):
        with pytest.raises(DataError, match=rf"{name}: .*{says}"):
            decoder.check([*passing, tmp_path / name])


def test_a_hanging_decoder_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "hangs.png")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys; from pathlib import Path; from tests.hostile_decoder import hostile\n"
        "from vlm_ft.inference.photo_decoder import PhotoDecoder\n"
        "if __name__ == '__main__':\n"
        "    PhotoDecoder(open_photo=hostile).decoded([Path(sys.argv[1])])\n"
    )
    killed = subprocess.Popen(
        [sys.executable, program, tmp_path / "hangs.png"], env={**os.environ, "PYTHONPATH": SOURCE}
    )
    deadline, decoders = time.monotonic() + 60, list[psutil.Process]()
    while not any(decoder.num_threads() > 1 for decoder in decoders):  # one watches for the parent's end
        assert time.monotonic() < deadline
        time.sleep(0.1)
        decoders = psutil.Process(killed.pid).children()
    killed.kill()
    killed.wait()
    assert psutil.wait_procs(decoders, timeout=20)[1] == []


def test_processes_that_cannot_run_are_replaced_once_they_can(
    decoder: PhotoDecoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "good.png"
    Image.new("RGB", (30, 20)).save(photo)
    (image,) = decoder.decoded([photo])
    with monkeypatch.context() as patched:
        patched.setattr("multiprocessing.spawn._python_exe", b"/bin/false")  # processes cannot start
        for process in multiprocessing.active_children():
            process.kill()  # as the kernel does when memory runs out
            process.join()
        for _ in range(2):
            with pytest.raises(BusyError, match="no process is available to decode them"):
                decoder.decoded([photo])
    assert decoder.decoded([photo])[0].tobytes() == image.tobytes()
