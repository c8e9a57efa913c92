"""Ray, an optional extra: ``pip install 'vlm-ft[ray]'``."""

from __future__ import annotations

from typing import Any

from vlm_ft.errors import RecipeError, cause


def connected(*, output: bool = False) -> Any:
    """The module `ray`, connected to the cluster that RAY_ADDRESS names, or else to a new one on this machine.

    Ray logs only errors. `output`: whether to show here what the workers print. Raises `RecipeError` if Ray is not
    installed, or the cluster cannot be reached or started.
    """
    try:
        import ray
        import ray.data
        import ray.exceptions
        import ray.train.torch
    except ImportError as error:
        raise RecipeError("--cluster", "Ray is not installed", "pip install 'vlm-ft[ray]'") from error
    errors = ray.LoggingConfig(log_level="ERROR")
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=output, logging_config=errors)
    except Exception as error:  # Ray raises nothing more specific if a node does not start
        problem = f"cannot be reached or started ({cause(error)})"
        raise RecipeError("--cluster", problem, "check RAY_ADDRESS; without it, Ray starts on this machine") from error
    return ray


def gpus(ray: Any) -> int:
    return int(ray.cluster_resources().get("GPU", 0))


def cpus(ray: Any) -> int:
    return int(ray.cluster_resources()["CPU"])
