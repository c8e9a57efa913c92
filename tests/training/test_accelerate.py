"""The settings for `accelerate launch` are valid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from transformers import TrainingArguments

from tests.training.processes import environment
from vlm_ft.errors import RecipeError
from vlm_ft.recipe import RECIPES, Recipe, Training
from vlm_ft.training.plan import Plan
from vlm_ft.training.prepare import prepare
from vlm_ft.training.rehearse import OFFLOAD, moment_bytes
from vlm_ft.training.trainer import _arguments

SETTINGS = {path.stem: path for path in sorted((RECIPES / "accelerate").glob("*.yaml"))}


@pytest.mark.parametrize("name", SETTINGS)
def test_accelerate_reads_the_settings(name: str) -> None:
    config = ClusterConfig.from_yaml_file(str(SETTINGS[name]))
    assert config.distributed_type == DistributedType(name.upper())
    known = vars(launch_command_parser().parse_args(["script.py"]))
    nested = [*config.fsdp_config, *config.deepspeed_config]
    assert nested
    assert set(nested) <= set(known)  # accelerate ignores other keys


def test_fsdp_is_set_up_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment("fsdp").items():
        monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.cpu_ram_efficient_loading) == (2, True, False)


def test_the_recipe_sets_the_precision() -> None:
    """Otherwise the trainer would compute in the precision of the settings."""
    assert environment("fsdp")["ACCELERATE_MIXED_PRECISION"] == "no"


@pytest.mark.parametrize(
    ("variable", "value", "setting", "message"),
    [
        ("ACCELERATE_USE_FSDP", "true", {"method": "grpo"}, "method: .*FSDP does not"),
        ("ACCELERATE_USE_FSDP", "true", {"quantize": "nf4"}, "quantize: FSDP does not"),
        ("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3", {}, "zero_stage: 3 .* use 2, or FSDP"),
    ],
)
def test_what_cannot_be_trained_in_shards_is_refused(
    variable: str,
    value: str,
    setting: dict[str, str],
    message: str,
    recipe_of: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The processes would wait for each other forever, or fail in the end."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(RecipeError, match=message):
        prepare(recipe_of("qwen3_vl", **setting))


def test_an_optimizer_that_is_offloaded_takes_no_memory_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = torch.nn.Linear(3, 1)
    assert moment_bytes(layer) == 2 * 4 * (3 + 1)
    monkeypatch.setenv(OFFLOAD, "cpu")
    assert moment_bytes(layer) == 0


def test_a_process_trains_on_one_of_several_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a launcher, the trainer would draw a batch for each GPU, and cut its tensors into as many parts."""

    def two_gpus(arguments: TrainingArguments) -> torch.device:
        vars(arguments).setdefault("_n_gpu", 2)
        return torch.device("cpu")

    monkeypatch.setattr(TrainingArguments, "_setup_devices", property(two_gpus))
    schedule = Plan(steps=1, rows=8, every=1, step=1.0, look=0.0)
    found = _arguments(Training(batch_size=8, precision="fp32"), schedule, tmp_path, watched=False, workers=0)
    assert (found.n_gpu, found.train_batch_size) == (1, 8)
