"""Jobs that replicate: a run is a cycle, from one generation of a replica to the next."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.agent.jobs import JobVm, Outcome
from ntxengine.agent.kinds import REPLICATE
from ntxengine.agent.records import Figures
from ntxengine.agent.retries import RepositoryUnusable
from ntxengine.agent.work import Site, Work, vm_of
from ntxengine.attach import AttachOptions
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.config import meaning
from ntxengine.config.file import Config
from ntxengine.config.jobs import Job
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.errors import OptionsError
from ntxengine.events import Event, OnEvent, StageBegan
from ntxengine.replicate.cycle import Cycle, replicate
from ntxengine.replicate.options import ReplicateOptions
from ntxengine.replicate.plan import already
from ntxengine.replicate.state import ReplicaState
from ntxengine.replicate.targets import Target

_WHOLE = frozenset({"full", "allocated"})
"""How disks were tracked that were taken as a whole."""


@dataclass(frozen=True)
class ReplicateJob(Work):
    """How the VMs of a job are replicated: to `to`, with their state in `state`."""

    kind = REPLICATE

    to: Target
    state: Path
    options: ReplicateOptions = field(default_factory=ReplicateOptions)
    attach: AttachOptions = field(default_factory=AttachOptions)
    worker: str = ""

    @classmethod
    def of(cls, config: Config, job: Job, limit: Bandwidth) -> ReplicateJob:
        """Return what a job of the configuration means; it keeps to `limit`.  Errors: OptionsError."""
        assert job.replicate is not None
        backup = config.backup_of(job)
        state = meaning.replica_state(job.replicate)
        if state is None:
            raise OptionsError(f"job {job.name!r}: nothing says where the state of replicas is: give replicate.state")
        return cls(
            meaning.replica_target(job.replicate),
            state,
            meaning.replicate_options(backup, job.replicate, limit, at_once=config.performance.max_concurrent_vms),
            meaning.attach_options(backup),
            worker=backup.worker or "",
        )

    @property
    def folder(self) -> Path:
        """As Work.folder."""
        return self.state

    @property
    def target(self) -> str:
        """As Work.target."""
        return self.to.text

    @property
    def replica_id(self) -> str:
        """As Work.replica_id."""
        return self.to.id

    @property
    def holds(self) -> str:
        """As Work.holds."""
        return "state of replicas"

    async def check_place(self) -> None:
        """As Work.check_place."""
        try:
            await self.to.check_place()
        except OptionsError as exc:  # not mounted, perhaps: that concerns all runs into it, and passes
            raise RepositoryUnusable(str(exc)) from exc

    async def run(self, site: Site, vm: JobVm, on_event: OnEvent) -> Outcome:
        """As Work.run.  Errors: as replicate."""
        await self._check_follows(site, vm)
        stages = _Stages(on_event)
        options = dataclasses.replace(
            self.options, capture=dataclasses.replace(self.options.capture, captures_at_once=site.at_once)
        )
        cycle = await replicate(
            site.prism,
            site.repository,
            vm_of(vm),
            self.to,
            options=options,
            attacher=site.attacher,
            on_event=stages,
        )
        replica = cycle.replica
        return Outcome(
            "",
            replica.frozen_at,
            figures_of(cycle),
            stages.ended(),
            replica_id=replica.id,
            generation=replica.generation,
        )

    async def _check_follows(self, site: Site, vm: JobVm) -> None:
        """Refuse a VM that was cut over.  Errors: OptionsError, RepositoryError (its state is damaged)."""
        state = ReplicaState(site.repository.path / vm.id.lower(), self.to.id)
        replica = await to_thread_joined(state.replica)
        if replica is not None and replica.cut_over_at is not None:
            raise OptionsError(f"{already(replica)}; or take the VM out of the job")


class _Stages:
    """Tells events, and how long the stages of a cycle took; of those of disks, from the first of them."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._stage = ""
        self._began_s = 0.0
        self._spent_s: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageBegan) and event.stage.value != self._stage:
            self._end()
            self._stage, self._began_s = event.stage.value, time.monotonic()
        self._on_event(event)

    def _end(self) -> None:
        if self._stage:
            spent_s = time.monotonic() - self._began_s
            self._spent_s[self._stage] = round(self._spent_s.get(self._stage, 0.0) + spent_s, 3)

    def ended(self) -> dict[str, float]:
        """Return the seconds of each stage."""
        self._end()
        self._stage = ""
        return self._spent_s


def figures_of(cycle: Cycle) -> Figures:
    """Return what the history keeps of a cycle."""
    replica, figures = cycle.replica, cycle.replica.figures
    ways = figures.tracking
    tracked = [disk for disk in replica.disks if ways.get(disk.label, "full") not in _WHOLE]
    size, written = sum(disk.size for disk in replica.disks), figures.bytes_written
    return Figures(
        kind="incremental" if tracked else "full",
        tracking=", ".join(dict.fromkeys(ways.values())),
        consistency=replica.consistency,
        bytes_size=size,
        bytes_changed=figures.bytes_changed,
        bytes_read=figures.bytes_read,
        bytes_sent=written,
        bytes_stored=written,
        reduction_percent=round(max(0.0, 100.0 * (1 - written / size)), 2) if size else 0.0,
        bytes_tracked=size if len(tracked) == len(replica.disks) else 0,
        bytes_tracked_changed=figures.bytes_changed if len(tracked) == len(replica.disks) else 0,
    )
