"""A run as other programs are told of it: JSON with the words that all commands use (docs/schema/run.json)."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from ntxengine.agent.records import Run
from ntxengine.units import format_time


def run_document(run: Run) -> dict[str, object]:
    """Return a run as JSON has it: times in RFC 3339 (UTC), bytes as integers, null for what is not known."""
    return {
        "run_id": run.id,
        "job": run.job,
        "work": run.kind,
        "vm_id": run.vm_id,
        "vm_name": run.vm_name,
        "trigger": run.trigger.value,
        "attempt": run.attempt,
        "state": run.state.value,
        "stage": run.stage,
        "due_at": _time(run.due_at),
        "started_at": _time(run.started_at),
        "ended_at": _time(run.ended_at),
        "seconds": run.seconds,
        "stages_s": dict(run.stages_s),
        "parent_id": run.parent_id or None,
        "point_id": run.point_id or None,
        "replica_id": run.replica_id or None,
        "generation": run.generation or None,
        "bytes_done": run.bytes_done,
        "bytes_total": run.bytes_total,
        "bottleneck": run.bottleneck,
        "figures": None if run.figures is None else dataclasses.asdict(run.figures),
        "kept": None if run.kept is None else dataclasses.asdict(run.kept),
        "warnings": list(run.warnings),
        "anomalies": [dataclasses.asdict(each) for each in run.anomalies],
        "problems": list(run.problems),
        "error": _error(run),
    }


def _error(run: Run) -> dict[str, object] | None:
    if not run.error:
        return None
    return {"class": run.error_class, "message": run.error, "exit_code": run.exit_code or 1}


def _time(when: datetime | None) -> str | None:
    return None if when is None else format_time(when)
