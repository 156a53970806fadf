"""What the tasks of v4 leave out, or say in another way.

| kind           | the task                                                                       |
|----------------|--------------------------------------------------------------------------------|
| `wordless`     | has neither `completionDetails` nor `entitiesAffected` (both null)             |
| `affected`     | names what it made in `entitiesAffected` only                                  |
| `listed`       | has lists as the values of its `completionDetails`                             |
| `legacy_error` | that fails says TSKS-20801, and why only in `legacyErrorMessage`               |
| `suspended`    | is SUSPENDED as long as it runs                                                |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ntxengine.errors import OptionsError

Json = dict[str, Any]
TaskFault = str
"""One of TASK_FAULTS, or "" for none."""

TASK_FAULTS: dict[TaskFault, Callable[[Json], Json]] = {}


def task_fault(name: str) -> Callable[[Callable[[Json], Json]], Callable[[Json], Json]]:
    """Enter a fault into the registry."""

    def enter(change: Callable[[Json], Json]) -> Callable[[Json], Json]:
        TASK_FAULTS[name] = change
        return change

    return enter


def check(fault: TaskFault) -> None:
    """Raise OptionsError if there is no such fault."""
    if fault and fault not in TASK_FAULTS:
        known = ", ".join(sorted(TASK_FAULTS))
        raise OptionsError(f"simulator: faults.tasks: {fault!r} is not known; known are {known}")


def spoil(task: Json, fault: TaskFault) -> Json:
    """Return the task with the fault in it."""
    check(fault)
    return TASK_FAULTS[fault](task) if fault else task


@task_fault("wordless")
def _wordless(task: Json) -> Json:
    return {**task, "completionDetails": None, "entitiesAffected": None}


@task_fault("affected")
def _affected(task: Json) -> Json:
    return {**task, "completionDetails": None}


@task_fault("listed")
def _listed(task: Json) -> Json:
    details = [{**detail, "value": [detail["value"]]} for detail in task.get("completionDetails") or ()]
    return {**task, "completionDetails": details or None}


@task_fault("legacy_error")
def _legacy_error(task: Json) -> Json:
    messages = task.get("errorMessages") or ()
    bare = [{**message, "code": "TSKS-20801", "message": "LEGACY_ERROR"} for message in messages]
    return {**task, "errorMessages": bare or None, "completionDetails": None, "entitiesAffected": None}


@task_fault("suspended")
def _suspended(task: Json) -> Json:
    return {**task, "status": "SUSPENDED"} if task["status"] == "RUNNING" else task
