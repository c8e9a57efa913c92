"""Forms for tests: of some fields, or of a whole task."""

from __future__ import annotations

from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, FieldSpec, Items, Kind
from vlm_ft.answers.task import Task


def form_of(**kinds: Kind) -> Form:
    """A form with these fields."""
    fields = tuple(FieldSpec(name=name, kind=kind) for name, kind in kinds.items())
    return Form(task="made", title="Made", instruction="Look at the part and say what is wrong.", fields=fields)


def whole_form(task: Task, other: str = "another") -> Form:
    """The task's form with all fields; an open choice has the sample's names and `other`."""
    values = task.sample.model_dump(mode="json")
    options: dict[str, list[str]] = {}
    for field in task.fields:
        listed = isinstance(field.kind, Items)
        for part in field.kind.fields if listed else (field,):
            if part.kind == Choice(options=()):
                used = {row[part.name] for row in (values[field.name] if listed else [values])}
                options[f"{field.name}.{part.name}" if listed else part.name] = sorted(used | {other})
    return Form.of(task, options)
