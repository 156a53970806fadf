"""What is not as it should be with an agent, by what it knows: for its status.  No I/O.

What is watched beside the runs (watch.py) finds for itself; here is what the scheduler and the state tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from ntxengine.agent.levels import Finding, Level, named
from ntxengine.agent.scheduler import Scheduler
from ntxengine.agent.state import State
from ntxengine.agent.watch import Watch

HELD_TOO_LONG = timedelta(minutes=15)
"""What is held for longer than this does not end by itself, perhaps."""

FAILED_TOO_OFTEN = 3
"""Runs of a VM that failed, one after the other."""


def findings(scheduler: Scheduler, state: State, watch: Watch, now: datetime) -> list[Finding]:
    """Return all that is found, the worst first."""
    found = [
        *_of_state(state),
        *_of_list(scheduler),
        *_held(scheduler, now),
        *watch.findings(),
        *_failing(scheduler, state),
        *_paused(scheduler, state),
    ]
    if scheduler.is_draining:
        found.append(Finding(Level.WARNING, "agent", "is stopping, and begins nothing more"))
    return sorted(found, key=lambda each: each.level is not Level.CRITICAL)


def _of_state(state: State) -> Iterator[Finding]:
    if state.problem:
        yield Finding(Level.CRITICAL, "history", f"cannot be written: {state.problem}")


def _of_list(scheduler: Scheduler) -> Iterator[Finding]:
    listing = scheduler.listing
    if listing.problem:
        level = Level.WARNING if listing.is_known else Level.CRITICAL
        yield Finding(level, "VMs", f"cannot be listed: {listing.problem}")
    elif listing.is_known:
        for job in scheduler.jobs:
            if not listing.vms(job):
                yield Finding(Level.WARNING, f"job {job}", "has no VMs: none of the cluster is as it says")


def _held(scheduler: Scheduler, now: datetime) -> Iterator[Finding]:
    for scope, hold in scheduler.holds.all.items():
        level = Level.CRITICAL if now - hold.since > HELD_TOO_LONG else Level.WARNING
        yield Finding(level, scope, f"is held since {hold.since:%Y-%m-%d %H:%M}Z: {hold.reason}")


def _failing(scheduler: Scheduler, state: State) -> Iterator[Finding]:
    for job in scheduler.jobs:
        failures = {vm.name: state.standing((job, vm.id)).failures for vm in scheduler.listing.vms(job)}
        failing = sorted((name for name, count in failures.items() if count), key=lambda name: (-failures[name], name))
        if failing:
            often = failures[failing[0]] >= FAILED_TOO_OFTEN
            names = named([f"{name!r} ({failures[name]})" for name in failing])
            count = f"{len(failing)} of {len(failures)} VMs"
            text = f"the last runs of {count} failed: {names}: ntx runs --failed"
            yield Finding(Level.CRITICAL if often else Level.WARNING, f"job {job}", text)


def _paused(scheduler: Scheduler, state: State) -> Iterator[Finding]:
    names = {vm.id: vm.name for job in scheduler.jobs for vm in scheduler.listing.vms(job)}
    for subject, since in state.paused.items():
        kind, _, name = subject.partition(" ")
        words = f"{'VM' if kind == 'vm' else kind} {names.get(name, name)}" if name else "all jobs"
        command = f"ntx agent resume {subject}" if name else "ntx agent resume"
        yield Finding(Level.WARNING, words, f"paused since {since:%Y-%m-%d %H:%M}Z: {command}")
