"""What each process does in tests of distributed training: ``python -m tests.training.processes OUT RECIPE ...``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate import PartialState
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from datasets_vision.synthetic import write_set
from vlm_ft.adapters import ADAPTER, TENSORS, read_card
from vlm_ft.errors import DataError
from vlm_ft.recipe import RECIPES, Recipe, load_recipe
from vlm_ft.runs import Run
from vlm_ft.training.run import train

PROCESSES = 2
ROOT = str(Path(__file__).parents[2])
SHARDED = ("fsdp", "deepspeed")
"""The names of shipped settings, and of recipes to train with them."""

TOLERANCE = 1e-5
"""Relative: sums in fp32 have another order, and AdamW's first step magnifies the difference of tiny gradients."""


def launch(out: Path, files: Sequence[Path]) -> None:
    """Train these recipes with a torch launcher, and check that it succeeded."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={PROCESSES}"]
    command += ["--master_addr=127.0.0.1", "--master_port=0", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0"]
    done = subprocess.run(
        [*command, "-m", "tests.training.processes", out, *files],
        env={
            **os.environ,
            "ACCELERATE_USE_CPU": "true",
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")])),
        },
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def train_noting_writes(out: Path, recipes: Sequence[Path]) -> None:
    """Train these recipes in folders below `out`, and list the files there that this process opens for writing."""
    written: list[str] = []

    def note(event: str, details: tuple[Any, ...]) -> None:
        if event == "open" and str(details[0]).startswith(str(out)):
            mode, flags = details[1] or "", details[2] or 0
            if set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR):
                written.append(str(details[0]))

    sys.addaudithook(note)
    for recipe in recipes:
        if recipe.stem in SHARDED:
            with sharded(recipe.stem):
                train_in_parts(load_recipe(recipe), Run(out / recipe.stem))
        else:
            train(load_recipe(recipe), out / recipe.stem)
    _written(out, int(os.environ["RANK"])).write_text(json.dumps(written))


def train_in_parts(recipe: Recipe, run: Run) -> None:
    """Train, return to the first checkpoint, and resume: the losses and the adapter are the same."""
    train(recipe, run.folder)
    if not PartialState().is_main_process:
        train(recipe, run.folder, resume=True)
        return
    before = losses(run.folder), tensors(run)
    assert run.checkpoint
    shutil.rmtree(run.checkpoint)
    shutil.rmtree(run.adapter)
    train(recipe, run.folder, resume=True)  # where the other process waits for this one
    assert (losses(run.folder), tensors(run)) == before


@contextmanager
def sharded(settings: str) -> Iterator[None]:
    """Train as with these shipped settings.

    Accelerate ignores them on CPUs, although they can shard there too, so this makes it treat CPUs as GPUs.
    """
    begin, shared = AcceleratorState.__init__, PartialState._shared_state

    def begin_on_gpus(self: AcceleratorState, *args: Any, **options: Any) -> None:
        if shared.get("distributed_type") == DistributedType.MULTI_CPU:
            shared["distributed_type"] = DistributedType.MULTI_GPU
        begin(self, *args, **{**options, "cpu": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AcceleratorState, "__init__", begin_on_gpus)
        patch.delenv("ACCELERATE_USE_CPU", raising=False)
        for key, value in environment(settings).items():
            patch.setenv(key, value)
        yield


def environment(settings: str) -> dict[str, str]:
    """The variables by which `accelerate launch` hands these shipped settings to its processes."""
    file = RECIPES / "accelerate" / f"{settings}.yaml"
    options, given, _ = _validate_launch_command(
        launch_command_parser().parse_args(["--config_file", str(file), "-m", "x"])
    )
    options.deepspeed_fields_from_accelerate_config = ",".join(given.deepspeed_config)  # as `accelerate launch` does
    found = prepare_deepspeed_cmd_env(options)[1] if options.use_deepspeed else prepare_multi_gpu_env(options)
    return {key: value for key, value in found.items() if key.startswith(("ACCELERATE_", "FSDP_"))}


def fail_in_the_second() -> None:
    """Fail in one process while the other is still busy."""
    if os.environ["RANK"] == "1":
        raise DataError("photo.png", "0 bytes", "copy it again")
    time.sleep(600)


def sharded_recipe(recipe_of: Callable[..., Recipe], accumulate: int) -> Recipe:
    """A recipe for two steps, with a checkpoint after each."""
    return recipe_of("qwen3_vl", training={"workers": 1, "batch_size": 2, "accumulate": accumulate, "evaluations": 2})


def recipes_of(recipe_of: Callable[..., Recipe], folder: Path, accumulate: int) -> dict[str, Recipe]:
    """Recipes for two steps: one with a mean loss over tokens, one with a mean over pairs, and one for `sharded`."""
    training = {"workers": 1, "batch_size": 2, "accumulate": accumulate}
    pairs = {"path": str(write_set("industry_language", folder / f"pairs-{accumulate}", 16, 3))}
    own = {"task": "industry_language", "fields": ["reply"], "method": "dpo", "data": [pairs]}
    return {
        "sft": recipe_of("qwen3_vl", training=training),
        "dpo": recipe_of("llama", training=training, **own),
        "fsdp": sharded_recipe(recipe_of, accumulate),
    }


def written_files(recipes: Mapping[str, Recipe], folder: Path) -> list[Path]:
    """Write the recipes to files."""
    files = [folder / f"{name}.yaml" for name in recipes]
    for file, recipe in zip(files, recipes.values(), strict=True):
        file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return files


def check(alike: Mapping[str, Recipe], out: Path) -> None:
    """Only the first process wrote, and the losses are those of one process with recipes of as many rows per step."""
    wrote = [json.loads(_written(out, rank).read_text()) for rank in range(PROCESSES)]
    assert wrote[0]
    assert not wrote[1]
    for name, recipe in alike.items():
        assert read_card(out / name / ADAPTER).training["steps"] == 2
        assert {path.name for path in (out / name).iterdir()} >= {"recipe.yaml", "splits.jsonl", "plan.json", ADAPTER}
        train(recipe, alone := out.parent / f"{name}-alone")
        assert losses(out / name) == pytest.approx(losses(alone), rel=TOLERANCE)


def losses(folder: Path) -> list[float]:
    """The training loss of each step of a run."""
    checkpoint = Run(folder).checkpoint
    assert checkpoint
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def tensors(run: Run) -> bytes:
    """The adapter's file of tensors."""
    return (run.adapter / TENSORS).read_bytes()


def _written(out: Path, rank: int) -> Path:
    return out.parent / f"written-{rank}.json"


if __name__ == "__main__":
    train_noting_writes(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
