"""What the scheduler is told: jobs, limits, and who knows the VMs and does the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from ntxengine.agent.hooks import Hooks
from ntxengine.agent.kinds import CAPTURE, Kind
from ntxengine.agent.pings import Pings
from ntxengine.agent.queue import Limits, Needs
from ntxengine.agent.records import Figures, Kept
from ntxengine.agent.retries import Retries
from ntxengine.errors import OptionsError
from ntxengine.events import OnEvent
from ntxengine.schedule.due import Schedule
from ntxengine.schedule.rules import MAX_PRIORITY


@dataclass(frozen=True)
class Job:
    """VMs that are captured, or replicated, alike.

    `target` is the repository, or where replicas are kept, as people name it; `timeout` the longest that a run may
    take; `objective` how old the newest point or generation of a VM may be.  Which VMs it has, the inventory knows.
    Errors: OptionsError.
    """

    name: str
    schedule: Schedule
    target: str = ""
    priority: int = 0
    timeout: timedelta | None = None
    retries: Retries = field(default_factory=Retries)
    hooks: Hooks = field(default_factory=Hooks)
    pings: Pings = field(default_factory=Pings)
    objective: timedelta | None = None
    kind: Kind = CAPTURE

    @property
    def scope(self) -> str:
        """What is held for an error of its place."""
        return f"{self.kind.place} {self.target}"

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable():
            raise OptionsError(f"job {self.name!r}: a job needs a name of one line")
        if abs(self.priority) > MAX_PRIORITY:
            raise OptionsError(
                f"job {self.name!r}: priority {self.priority} is not from -{MAX_PRIORITY} to {MAX_PRIORITY}"
            )
        if self.timeout is not None and self.timeout <= timedelta(0):
            raise OptionsError(f"job {self.name!r}: timeout {self.timeout} is no time")


@dataclass(frozen=True)
class JobVm:
    """A VM of a job.  `needs` is what limits may hold for, without the target."""

    id: str
    name: str
    needs: Needs = field(default_factory=Needs)


@dataclass(frozen=True)
class Outcome:
    """What a run came to: its point or generation, of which moment, and what followed.

    `problems` are of what followed.
    """

    point_id: str = ""
    point_at: datetime | None = None
    figures: Figures | None = None
    stages_s: dict[str, float] = field(default_factory=dict)
    kept: Kept | None = None
    problems: tuple[str, ...] = ()
    replica_id: str = ""
    generation: int = 0


class Inventory(Protocol):
    """Who knows which VMs the jobs have."""

    async def vms(self) -> Mapping[str, Sequence[JobVm]]:
        """Return the VMs of each job, by its name.  Few calls, however many there are.  Errors: NtxError."""
        ...


class Runner(Protocol):
    """Who does a run."""

    async def run(self, job: str, vm: JobVm, on_event: OnEvent) -> Outcome:
        """Do one run.  A cancellation ends it in a way that the next can go on with.  Errors: whatever it met first."""
        ...


@dataclass(frozen=True)
class Setup:
    """Everything that a reload replaces.  Errors: OptionsError (two jobs of one name)."""

    jobs: tuple[Job, ...]
    inventory: Inventory
    runner: Runner
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        names = [job.name for job in self.jobs]
        if twice := {name for name in names if names.count(name) > 1}:
            raise OptionsError(f"two jobs are called {min(twice)!r}: give each a name of its own")
