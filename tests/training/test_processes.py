"""Under a launcher, every process trains, and only the first one writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import vlm_ft
from datasets_vision.synthetic import write_set
from vlm_ft.adapters import ADAPTER, read_card
from vlm_ft.recipe import Recipe

SOURCE = str(Path(vlm_ft.__file__).parents[1])
TRAIN = """
import os, pathlib, sys

out, written = pathlib.Path(sys.argv[2]), []

def note(event, details):
    if event == "open" and str(details[0]).startswith(str(out)):
        mode, flags = details[1] or "", details[2] or 0
        if set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR):
            written.append(details[0])

sys.addaudithook(note)
from vlm_ft.recipe import load_recipe
from vlm_ft.training.run import train

train(load_recipe(pathlib.Path(sys.argv[1])), out)
print("WROTE", os.environ["RANK"], len(written), *written, flush=True)
"""


PAIRS = {"task": "industry_language", "fields": ["reply"]}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_only_the_first_process_writes(method: str, recipe_of: Callable[..., Recipe], tmp_path: Path) -> None:
    training = {"workers": 1, "batch_size": 2}
    recipe = recipe_of("qwen3_vl", training=training)
    if method == "dpo":
        pairs = {"path": str(write_set("industry_language", tmp_path / "pairs", 16, 3))}
        recipe = recipe_of("llama", training=training, method=method, data=[pairs], **PAIRS)
    file, script, out = tmp_path / "recipe.yaml", tmp_path / "train.py", tmp_path / "run"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    script.write_text(TRAIN)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1"]
    done = subprocess.run(
        [*launch, "--master_port=0", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0", str(script), file, out],
        env={
            **os.environ,
            "ACCELERATE_USE_CPU": "true",
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": SOURCE,
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    wrote = dict(line.split()[1:3] for line in done.stdout.splitlines() if line.startswith("WROTE"))
    assert int(wrote["0"]) > 0
    assert wrote["1"] == "0", done.stdout
    card = read_card(out / ADAPTER)
    assert card.training["steps"] == 2
    assert {path.name for path in out.iterdir()} >= {"recipe.yaml", "splits.jsonl", "plan.json", "checkpoints", ADAPTER}
