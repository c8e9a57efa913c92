"""Aviation maintenance: findings on an aircraft, from a photo, a log entry, or both.

Their priority comes from a table, never from a model, since no data set labels it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vlm_ft.answers.derivations.priority import read_priorities
from vlm_ft.answers.kinds import Answer, Box, Item, OneOf
from vlm_ft.answers.task import Headline, Task

PRIORITIES = read_priorities(Path(__file__).with_name("aviation_priorities.csv"))


class Finding(Item):
    """One finding; `photo` is the number of its photo, from 1, stated if there are several."""

    kind: OneOf
    severity: Literal["minor", "moderate", "severe"]
    box: Box
    photo: int = Field(default=1, ge=1, le=8)


class AviationMaintenance(Answer):
    """The assessment of one aircraft or log entry. `event`, `phase` and `cause` are for occurrence reports."""

    kind: OneOf = Field(description="main finding")
    findings: Annotated[list[Finding], Field(max_length=8)]
    problem_part: OneOf = Field(description="part at fault")
    location: OneOf = Field(description="where on the aircraft")
    event: Literal["accident", "incident"]
    phase: OneOf = Field(description="phase of flight")
    cause: OneOf
    action: str = Field(max_length=200, description="maintenance action")


TASK = Task(
    name="aviation_maintenance",
    title="Aviation maintenance",
    answer=AviationMaintenance,
    instruction="Inspect the aircraft, by photo or log entry, for what needs maintenance.",
    class_field="kind",
    list_field="findings",
    augment="aircraft",
    follows={"kind": "largest"},
    headline=Headline(fields=("event", "kind")),
    sample=AviationMaintenance(
        kind="crack",
        findings=[
            Finding(kind="crack", severity="severe", box=(400, 210, 620, 260)),
            Finding(kind="missing_fastener", severity="moderate", box=(700, 500, 730, 530)),
        ],
        problem_part="skin panel",
        location="left wing",
        event="incident",
        phase="climb",
        cause="fatigue",
        action="Stop-drilled the crack, fitted a doubler.",
    ),
    notice="An aid to inspection; an authorised person decides on airworthiness.",
    derivations=(PRIORITIES,),
)
