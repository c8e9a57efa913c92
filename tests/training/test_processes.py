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

out, written = pathlib.Path(sys.argv[1]), []

def note(event, details):
    if event == "open" and str(details[0]).startswith(str(out)):
        mode, flags = details[1] or "", details[2] or 0
        if set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR):
            written.append(details[0])

sys.addaudithook(note)
from vlm_ft.recipe import load_recipe
from vlm_ft.training.run import train

for recipe in sys.argv[2:]:
    train(load_recipe(pathlib.Path(recipe)), out / pathlib.Path(recipe).stem)
print("WROTE", os.environ["RANK"], len(written), *written, flush=True)
"""


@pytest.mark.timeout(240)
def test_only_the_first_process_writes(recipe_of: Callable[..., Recipe], tmp_path: Path) -> None:
    training = {"workers": 1, "batch_size": 2}
    pairs = {"path": str(write_set("industry_language", tmp_path / "pairs", 16, 3))}
    own = {"task": "industry_language", "fields": ["reply"], "method": "dpo", "data": [pairs]}
    recipes = {"sft": recipe_of("qwen3_vl", training=training), "dpo": recipe_of("llama", training=training, **own)}
    files, script, out = [tmp_path / f"{name}.yaml" for name in recipes], tmp_path / "train.py", tmp_path / "runs"
    for file, recipe in zip(files, recipes.values(), strict=True):
        file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    script.write_text(TRAIN)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1"]
    done = subprocess.run(
        [*launch, "--master_port=0", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0", str(script), out, *files],
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
    for name in recipes:
        assert read_card(out / name / ADAPTER).training["steps"] == 2
        written = {path.name for path in (out / name).iterdir()}
        assert written >= {"recipe.yaml", "splits.jsonl", "plan.json", "checkpoints", ADAPTER}
