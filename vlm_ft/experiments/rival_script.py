"""Train with LLaMA-Factory or ms-swift, in an environment of its own: ``python rival_script.py job.json times.json``.

vlm_ft is not imported here: these packages need other versions of its libraries. Both get the tokens and labels of our
rows and the settings of transformers' `Trainer`, without recomputing activations. What they do otherwise is their own:
how they load the model, attach LoRA, batch rows and compute the loss.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback


class Clock(TrainerCallback):  # type: ignore[misc]
    """Notes when each step ends, and the losses."""

    def __init__(self) -> None:
        self.ends, self.losses = list[float](), list[float]()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.losses = [float(entry["loss"]) for entry in state.log_history if "loss" in entry]


def llamafactory(job: dict[str, Any], clock: Clock) -> None:
    """Its `run_exp` reads tokenized rows from a folder; a data set's name is required, but not used."""
    from datasets import Dataset, DatasetDict
    from llamafactory.train.tuner import run_exp

    rows = str(Path(job["out"]) / "rows")
    DatasetDict({"train": Dataset.from_list(job["rows"])}).save_to_disk(rows)
    settings = {
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "model_name_or_path": job["base"],
        "template": "empty",
        "dataset": "rows",
        "tokenized_path": rows,
        "output_dir": str(Path(job["out"]) / "run"),
        "lora_target": "all",
        "disable_gradient_checkpointing": True,
    }
    run_exp({**settings, **job["lora"], **job["training"]}, callbacks=[clock])


def swift(job: dict[str, Any], clock: Clock) -> None:
    """Its pipeline, except for the data set, which is already tokenized; a name is required, but not used."""
    from datasets import Dataset
    from swift.arguments import SftArguments
    from swift.pipelines.train.sft import SwiftSft

    class Timed(SwiftSft):  # type: ignore[misc]
        def _prepare_dataset(self) -> list[Any]:
            return [Dataset.from_list([{**row, "lengths": len(row["input_ids"])} for row in job["rows"]]), None]

        def train(self, trainer: Any) -> Any:
            trainer.add_callback(clock)
            return super().train(trainer)

    settings = {
        "tuner_type": "lora",
        "model": job["base"],
        "model_type": json.loads((Path(job["base"]) / "config.json").read_text())["model_type"],
        "template": "chatml",
        "torch_dtype": "bfloat16" if job["training"]["bf16"] else "float32",
        "dataset": ["rows"],
        "output_dir": str(Path(job["out"]) / "run"),
        "target_modules": ["all-linear"],
        "gradient_checkpointing": False,
    }
    Timed(SftArguments(**settings, **job["lora"], **job["training"])).main()


if __name__ == "__main__":
    job, clock = json.loads(Path(sys.argv[1]).read_text()), Clock()
    {"llamafactory": llamafactory, "ms-swift": swift}[job["package"]](job, clock)
    on_gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if on_gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Path(sys.argv[2]).write_text(json.dumps({"ends": clock.ends, "losses": clock.losses, "peak": peak}))
