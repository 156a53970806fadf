"""How an agent is, as it tells it (answers.Status): from what its scheduler and its state know.  No I/O."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from ntxengine.agent.answers import Asked, BandwidthStatus, Held, JobStatus, Paused, VmStatus, Wait
from ntxengine.agent.documents import run_document
from ntxengine.agent.health import findings
from ntxengine.agent.levels import Finding, Level
from ntxengine.agent.records import Key
from ntxengine.agent.scheduler import ALL, Scheduler
from ntxengine.agent.state import State
from ntxengine.agent.watch import Watch
from ntxengine.dataplane.bandwidth import Bandwidth

MOST_WAITING = 1000
"""Of those that wait, so many are listed: the first to begin."""

MOST_VMS = 20_000
"""VMs that are listed, where that is asked for."""


def status_of(
    scheduler: Scheduler, state: State, watch: Watch, now: datetime, monotonic: float, *, with_vms: bool = False
) -> dict[str, Any]:
    """Return a Status, as JSON has it, as far as a scheduler, its state and what is watched know it."""
    found = findings(scheduler, state, watch, now)
    waits = scheduler.waiting
    return {
        "is_stopping": scheduler.is_draining,
        "level": level_of(found),
        "findings": found,
        "jobs": _jobs(scheduler, state),
        "vm_count": len({vm.id for job in scheduler.jobs for vm in scheduler.listing.vms(job)}),
        "running": [run_document(run) for run in scheduler.running],
        "waiting": [
            Wait(
                job=each.wanted.job,
                vm_id=each.wanted.vm_id,
                vm_name=each.wanted.vm_name,
                since=_whole(each.wanted.due),
                reason=each.reason,
                is_asked_for=each.wanted.is_asked_for,
            )
            for each in waits[:MOST_WAITING]
        ],
        "waiting_count": len(waits),
        "held": [
            Held(
                scope=scope,
                reason=hold.reason,
                since=_whole(hold.since),
                seconds_left=round(max(0.0, hold.until - monotonic), 1),
            )
            for scope, hold in scheduler.holds.all.items()
        ],
        "paused": paused_of(scheduler, state),
        "asked": [Asked(job=job, vm_id=vm_id, since=_whole(at)) for (job, vm_id), at in state.asked.items()],
        "vms": _vms(scheduler, state) if with_vms else None,
    }


def paused_of(scheduler: Scheduler, state: State) -> list[Paused]:
    """Return what is paused."""
    names = {f"vm {vm.id}": vm.name for job in scheduler.jobs for vm in scheduler.listing.vms(job)}
    return [
        Paused(subject=subject, vm_name=names.get(subject, ""), since=since) for subject, since in state.paused.items()
    ]


def level_of(found: list[Finding]) -> str:
    """Return the worst level, `ok` if nothing was found."""
    if not found:
        return "ok"
    return "critical" if any(each.level is Level.CRITICAL for each in found) else "warning"


def bandwidth_status(bandwidth: Bandwidth, configured: str) -> BandwidthStatus:
    """Return how the limit is; `configured` is what the file says."""
    bandwidth.keep()
    said = str(bandwidth.timetable)
    return BandwidthStatus(
        rate=bandwidth.rate,
        timetable=said,
        is_changed=said != configured,
        cpu_limit=bandwidth.cpu_limit,
    )


def _jobs(scheduler: Scheduler, state: State) -> list[JobStatus]:
    running = Counter(run.job for run in scheduler.running)
    waiting = Counter(each.wanted.job for each in scheduler.waiting)
    next_starts = _next_starts(scheduler)
    found = []
    for job in scheduler.jobs:
        vms = scheduler.listing.vms(job)
        starts = [next_starts[job, vm.id] for vm in vms if (job, vm.id) in next_starts]
        found.append(
            JobStatus(
                job=job,
                vms=len(vms),
                running=running[job],
                waiting=waiting[job],
                failing=sum(state.standing((job, vm.id)).failures > 0 for vm in vms),
                is_paused=f"job {job}" in state.paused or ALL in state.paused,
                next_start_at=min(starts, default=None),
            )
        )
    return found


def _vms(scheduler: Scheduler, state: State) -> list[VmStatus]:
    running = {run.key for run in scheduler.running}
    next_starts = _next_starts(scheduler)
    every = [(job, vm) for job in scheduler.jobs for vm in scheduler.listing.vms(job)]
    found = []
    for job, vm in every[:MOST_VMS]:
        standing = state.standing((job, vm.id))
        found.append(
            VmStatus(
                job=job,
                vm_id=vm.id,
                vm_name=vm.name,
                is_running=(job, vm.id) in running,
                captured_at=None if standing.succeeded_at is None else _whole(standing.succeeded_at),
                failures=standing.failures,
                next_start_at=next_starts.get((job, vm.id)),
            )
        )
    return found


def _next_starts(scheduler: Scheduler) -> dict[Key, datetime]:
    return {key: _whole(at) for key, at in scheduler.next_starts().items()}


def _whole(when: datetime) -> datetime:
    return when.astimezone(UTC).replace(microsecond=0)
