"""The rivals that need other versions of our libraries: each trains in a virtual environment of its own.

The environments are kept beside the assembled bases. They share the packages of this one, above all torch, except where
the rival needs another version.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from vlm_ft.bases.compact import home
from vlm_ft.bases.load import load_base
from vlm_ft.bases.precision import uses_bf16
from vlm_ft.errors import ModelError
from vlm_ft.experiments.training_contestants import Course, Times, apart, rows_of, tokenized, trainer_settings
from vlm_ft.recipe import Recipe
from vlm_ft.training.prepare import prepare

RIVALS = {"LLaMA-Factory": "llamafactory==0.9.5", "ms-swift": "ms-swift==4.6.0"}
SCRIPT = Path(__file__).with_name("rival_script.py")


def interpreter(name: str) -> Path:
    """The interpreter of a rival's environment, which pip fills at the first call. Raises `ModelError` if it cannot."""
    folder = home() / "rivals" / RIVALS[name]
    python, ready = folder / "bin" / "python", folder / ".ready"
    if ready.exists():
        return python
    venv.create(folder, clear=True, with_pip=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pinned = f"torch=={torch.__version__.split('+')[0]}"
    _run(name, [python, "-m", "pip", "install", "--quiet", RIVALS[name], pinned], "cannot be installed")
    ready.touch()
    return python


def train_rival(name: str, recipe: Recipe, work: Path, course: Course) -> Times:
    """Let a rival train in its environment. Raises `ModelError` if it fails."""
    work.mkdir(parents=True, exist_ok=True)
    job, times = work / "job.json", work / "times.json"
    job.write_text(json.dumps(apart(_job, RIVALS[name], recipe, work, course)), encoding="utf-8")
    _run(name, [interpreter(name), SCRIPT, job, times], "cannot train")
    found, half = json.loads(times.read_text(encoding="utf-8")), course.steps // 2
    seconds = found["ends"][-1] - found["ends"][half - 1]
    return Times(seconds, statistics.mean(found["losses"][:half]), peak=found["peak"])


@contextmanager
def language_alone(base: str) -> Iterator[str]:
    """Yield a folder with a base's language model alone, since the rivals do not know `compact`'s class (FastVLM)."""
    with TemporaryDirectory() as folder:
        yield apart(_write_language, base, folder)


def _write_language(name: str, folder: str) -> str:
    base = load_base(name)
    if not base.reader.sees:
        return base.reader.place
    language = AutoModelForCausalLM.from_config(base.model.config.get_text_config())
    language.base_model.load_state_dict(base.model.base_model.language_model.state_dict())
    language.get_output_embeddings().load_state_dict(base.model.get_output_embeddings().state_dict())
    language.save_pretrained(folder)
    base.reader.tokenizer.chat_template = base.reader.processor.chat_template
    base.reader.tokenizer.save_pretrained(folder)
    return folder


def _job(requirement: str, recipe: Recipe, work: Path, course: Course) -> dict[str, Any]:
    """What the script needs. In a process of its own, so that no base stays in memory while the rival trains."""
    prepared, adapter = prepare(recipe), recipe.adapter
    return {
        "package": requirement.split("==")[0],
        "base": recipe.base,
        "out": str(work),
        "rows": tokenized(prepared, rows_of(prepared, recipe, course)),
        "training": {**trainer_settings(recipe, course), "bf16": uses_bf16(recipe.training.precision)},
        "lora": {"lora_rank": adapter.rank, "lora_alpha": adapter.alpha, "lora_dropout": adapter.dropout},
    }


def _run(name: str, command: list[Any], problem: str) -> None:
    settings = {"HF_HUB_OFFLINE": "1", "USE_HF": "1", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    words = list(map(str, command))
    done = subprocess.run(words, env={**os.environ, **settings}, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise ModelError(name, f"{problem} ({last})", "leave it out, or install what it needs")
