"""All tasks, and a loader for users' own task files."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vlm_ft.answers.task import Task
from vlm_ft.errors import RecipeError, nearest
from vlm_ft.tasks import (
    aviation_maintenance,
    car_damage,
    customer_chatbot,
    industry_language,
    legal_documents,
    medical_conditions,
    object_identification,
    product_defects,
    scan_abnormalities,
    scientific_research,
    technical_diagnosis,
)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        car_damage.TASK,
        product_defects.TASK,
        aviation_maintenance.TASK,
        scan_abnormalities.TASK,
        object_identification.TASK,
        technical_diagnosis.TASK,
        customer_chatbot.TASK,
        industry_language.TASK,
        legal_documents.TASK,
        medical_conditions.TASK,
        scientific_research.TASK,
    )
}


def task_of(name: str, file: Path | None = None) -> Task:
    """A task by its name, or the `TASK` of a user's own Python file (which is run).

    Raises `RecipeError` for an unknown name, a missing file, or a file that defines no `TASK`.
    """
    if file is None:
        if name not in TASKS:
            raise RecipeError("task", f"unknown task {name!r}", nearest(name, TASKS))
        return TASKS[name]
    task = task_in(file)
    if name != task.name:
        raise RecipeError(f"task file {file}", f"defines {task.name!r}, but the recipe says task: {name}")
    return task


def task_in(file: Path) -> Task:
    """The `TASK` of a Python file, which is run. Raises `RecipeError` for a missing file or one without `TASK`."""
    if not file.is_file():
        raise RecipeError(f"task file {file}", "no such file", "give a Python file that defines TASK")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise RecipeError(f"task file {file}", "not a Python file", "give one that defines TASK")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a user's own code can fail in any way
        raise RecipeError(f"task file {file}", f"{type(error).__name__}: {error}") from error
    task = getattr(module, "TASK", None)
    if not isinstance(task, Task):
        raise RecipeError(f"task file {file}", "defines no TASK", "end it with TASK = Task(...)")
    return task
