"""What is remembered: runs, and how a VM of a job stands.  Stored as JSON: a field that is missing has its default."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from ntxengine.agent.kinds import CAPTURE

MAX_WARNINGS = 50
"""Warnings that are kept of one run; the point has all of them."""


class RunState(StrEnum):
    """What became of a run.  INTERRUPTED: the agent was stopped or killed, and the next run goes on with it."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Trigger(StrEnum):
    """Why a run began: it was due, a person asked, one before failed, or was interrupted."""

    SCHEDULE = "schedule"
    PERSON = "person"
    RETRY = "retry"
    RESUME = "resume"


@dataclass(frozen=True)
class Figures:
    """What a captured point, or a generation of a replica, says of itself.

    Units: bytes; percent of the disks' size that did not have to be sent.

    `bytes_tracked` is the size of the disks whose changes since the point before are known, `bytes_tracked_changed`
    what of them changed.  `bytes_to_pack` was sent for disks that are stored compressed, `bytes_packed` is what is
    stored of it.
    """

    kind: str = ""
    tracking: str = ""
    consistency: str = ""
    bytes_size: int = 0
    bytes_changed: int = 0
    bytes_read: int = 0
    bytes_sent: int = 0
    bytes_stored: int = 0
    reduction_percent: float = 0.0
    bottleneck: str = ""
    resumed: int = 0
    bytes_tracked: int = 0
    bytes_tracked_changed: int = 0
    bytes_to_pack: int = 0
    bytes_packed: int = 0


@dataclass(frozen=True)
class Anomaly:
    """What of a run is unlike those before it: of which `kind` (anomalies.Kind), in words, and as numbers.

    Units: bytes of a `change`; what was left of what was sent, 0..1, of a `compression`.
    """

    kind: str
    text: str
    value: float = 0.0
    usual: float = 0.0


@dataclass(frozen=True)
class Kept:
    """What became of the points of the VM after the capture: points forgotten, removed, bytes given back."""

    forgotten: int = 0
    removed: int = 0
    bytes_freed: int = 0


@dataclass(frozen=True)
class Run:
    """One run: a capture of a VM and what follows it, or a cycle of a replica (`kind`, see kinds.KINDS).

    `stage` is where it is, or was last; `stages_s` are seconds by events.Stage.  `parent_id` is the point that it goes
    on top of, "" for none or not known yet; `is_committed`: there is a point, whatever comes after.  `bytes_done` of
    `bytes_total` are how far it is.  `problems` are what went wrong after the capture.  `error` is one line, with its
    class and the exit code that a command would end with.  `attempt` is 1 for the first.  `replica_id` and
    `generation` are of a cycle, "" and 0 before it is committed.
    """

    id: str
    job: str
    vm_id: str
    vm_name: str
    started_at: datetime
    trigger: Trigger = Trigger.SCHEDULE
    due_at: datetime | None = None
    attempt: int = 1
    state: RunState = RunState.RUNNING
    ended_at: datetime | None = None
    seconds: float = 0.0
    stage: str = ""
    stages_s: dict[str, float] = field(default_factory=dict)
    parent_id: str = ""
    consistency: str = ""
    consistency_reason: str = ""
    point_id: str = ""
    is_committed: bool = False
    bytes_done: int = 0
    bytes_total: int = 0
    bottleneck: str = ""
    figures: Figures | None = None
    kept: Kept | None = None
    warnings: tuple[str, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    problems: tuple[str, ...] = ()
    error_class: str = ""
    error: str = ""
    exit_code: int = 0
    kind: str = CAPTURE.name
    replica_id: str = ""
    generation: int = 0

    @property
    def key(self) -> Key:
        return self.job, self.vm_id

    @property
    def made(self) -> str:
        """What a run made, as people are told of it: the id of the point, the number of the generation."""
        return str(self.generation) if self.generation else self.point_id


BEING_MADE = "-"
"""In the place of the id of a repository that is there in a moment."""

Key = tuple[str, str]
"""Job and VM id."""


@dataclass(frozen=True)
class Retry:
    """A run that is to be tried again: as number `attempt`, not before `at`; `since` is when it failed first.

    `was_interrupted`: not for an error, but because the agent ended.
    """

    attempt: int
    at: datetime
    since: datetime
    due: datetime | None = None
    was_interrupted: bool = False


@dataclass(frozen=True)
class Standing:
    """How a VM of a job stands.

    `handled` is the newest due time for which nothing is left to do, None for a VM that was never looked at.
    `failures` are runs that failed since the last that did not.  `point_at` is when the VM was frozen for its newest
    point; `seen_at` when a job was last seen to have it, to the day, and `first_seen_at` since when.  `anomaly` is
    the last that there was, of the run that ended at `anomaly_at`.  `changes_per_s` are the bytes that changed in a
    second between its last two points, None if nobody knows.
    """

    handled: datetime | None = None
    retry: Retry | None = None
    succeeded_at: datetime | None = None
    failures: int = 0
    seen_at: datetime | None = None
    first_seen_at: datetime | None = None
    point_at: datetime | None = None
    anomaly: Anomaly | None = None
    anomaly_at: datetime | None = None
    changes_per_s: float | None = None


def new_run_id(now: datetime) -> str:
    """Return an id that no other run has: `20261130T041500Z-8f3a2c`, sorted by time."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
