"""What the end of a run makes of its record and of how the VM stands.  No I/O."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from ntxengine.agent.jobs import Outcome
from ntxengine.agent.kinds import kind_named
from ntxengine.agent.records import Anomaly, Figures, Retry, Run, RunState, Standing
from ntxengine.errors import NtxError


def succeeded(run: Run, standing: Standing, outcome: Outcome) -> tuple[Run, Standing]:
    run = dataclasses.replace(
        run,
        state=RunState.SUCCEEDED,
        point_id=outcome.point_id or run.point_id,
        replica_id=outcome.replica_id or run.replica_id,
        generation=outcome.generation or run.generation,
        figures=outcome.figures,
        stages_s=outcome.stages_s,
        kept=outcome.kept,
        problems=outcome.problems,
    )
    # Of one that was killed after it was committed nobody tells the moment: it was no earlier than this.
    point_at = outcome.point_at or run.started_at
    changes = _changes_per_s(run.figures, standing, point_at)
    return run, dataclasses.replace(
        standing, retry=None, succeeded_at=run.ended_at, failures=0, point_at=point_at, changes_per_s=changes
    )


def _changes_per_s(figures: Figures | None, standing: Standing, point_at: datetime) -> float | None:
    """Return how fast a VM changes; what was known, where the new point does not tell."""
    if figures is None or not figures.bytes_tracked or standing.point_at is None or point_at <= standing.point_at:
        return standing.changes_per_s
    return figures.bytes_tracked_changed / (point_at - standing.point_at).total_seconds()


def committed(run: Run, standing: Standing, problem: str) -> tuple[Run, Standing]:
    """There is a point or generation, and what follows it came to nothing: it is not made once more for that."""
    return succeeded(run, standing, Outcome(run.point_id, stages_s=run.stages_s, problems=(problem,)))


def unlike_before(run: Run, standing: Standing, found: tuple[Anomaly, ...]) -> tuple[Run, Standing]:
    """There is something in a run that succeeded which the runs before it did not have."""
    if not found:
        return run, standing
    warnings = tuple(f"unlike before: {each.text}" for each in found)
    run = dataclasses.replace(run, anomalies=found, warnings=(*run.warnings, *warnings))
    return run, dataclasses.replace(standing, anomaly=found[0], anomaly_at=run.ended_at)


def stopped(run: Run, standing: Standing, now: datetime) -> tuple[Run, Standing]:
    """The agent stopped it: it is gone on with, as the same attempt; unless there is a point already."""
    return _interrupted(run, standing, Retry(run.attempt, now, now, run.due_at, was_interrupted=True), "was stopped")


def killed(run: Run, standing: Standing, now: datetime) -> tuple[Run, Standing]:
    """An earlier agent left it running: the same, but as another attempt, for the run itself may be what ended it."""
    retry = Retry(run.attempt + 1, now, now, run.due_at, was_interrupted=True)
    return _interrupted(dataclasses.replace(run, ended_at=now), standing, retry, "ended")


def _interrupted(run: Run, standing: Standing, retry: Retry, agent: str) -> tuple[Run, Standing]:
    """`agent` says what became of the agent."""
    if run.is_committed:
        makes = kind_named(run.kind).makes
        problem = f"the agent {agent} after the {makes} was committed: what follows it was left out"
        return committed(run, standing, problem)
    run = dataclasses.replace(
        run,
        state=RunState.INTERRUPTED,
        error_class="Interrupted",
        error=f"the agent {agent} while it ran; the next run goes on with it",
    )
    return run, dataclasses.replace(standing, retry=retry)


def failed(run: Run, standing: Standing, error: BaseException, text: str, retry: Retry | None) -> tuple[Run, Standing]:
    run = dataclasses.replace(
        run,
        state=RunState.FAILED,
        error_class=type(error).__name__,
        error=text,
        exit_code=error.exit_code if isinstance(error, NtxError) else 1,
    )
    return run, dataclasses.replace(standing, retry=retry, failures=standing.failures + 1)


def line_of(error: BaseException) -> str:
    """Return an error as one line."""
    text = " ".join(str(error).split())
    if isinstance(error, NtxError | OSError) and text:
        return text
    return f"a defect of ntx: unexpected {type(error).__name__}{f': {text}' if text else ''}"
