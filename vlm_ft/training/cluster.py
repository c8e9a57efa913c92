"""Run training processes on a Ray cluster, one in each worker, as `accelerate launch` does on one machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vlm_ft.cluster import connected, cpus, gpus
from vlm_ft.errors import RecipeError, UserError


def on_workers(work: Callable[[], object], workers: int | None = None) -> None:
    """Call `work` in every worker of the cluster that RAY_ADDRESS names, or of a local one, under torch.distributed.

    `workers` is their number, by default one per GPU. Each has one GPU if the cluster has any. They run in the current
    folder of this process, which all must reach under the same path. Raises a worker's `UserError`, or `RecipeError` if
    the cluster has too few GPUs or CPUs.
    """
    ray = connected(output=True)
    found = gpus(ray)
    count = _count(workers, found, cpus(ray))
    with TemporaryDirectory() as unused:  # Ray keeps a folder for checkpoints; the trainer writes its own
        trainer = ray.train.torch.TorchTrainer(
            _work,
            train_loop_config={"folder": Path.cwd(), "work": work},
            scaling_config=ray.train.ScalingConfig(num_workers=count, use_gpu=found > 0),
            run_config=ray.train.RunConfig(
                storage_path=unused,
                logging_config=ray.train.LoggingConfig("CRITICAL"),  # errors are raised here
            ),
        )
        try:
            trainer.fit()
        except ray.train.WorkerGroupError as error:
            for failure in error.worker_failures.values():
                if isinstance(failure, UserError):
                    raise failure from error
            raise
        except SystemExit:  # raised by Ray after Ctrl-C, once it has stopped the workers
            raise KeyboardInterrupt from None


def _count(workers: int | None, gpus: int, cpus: int) -> int:
    if workers is None and not gpus:
        raise RecipeError("--workers", "the cluster has no GPU", "say how many processes train on its CPUs")
    count, most = workers or gpus, gpus or cpus
    if count > most:
        what = "GPUs" if gpus else "CPUs"
        raise RecipeError("--workers", f"{count} is more than the cluster's {most} {what}", "use fewer")
    return count


def _work(settings: dict[str, Any]) -> None:
    """Do a worker's share of the work. Ray starts each worker in a separate folder."""
    try:
        os.chdir(settings["folder"])
    except OSError as error:
        problem = f"a worker cannot reach {settings['folder']} ({error.strerror})"
        raise RecipeError("--cluster", problem, "start it in a folder that all workers share") from error
    settings["work"]()
