"""The loop of the agent: what is due begins when it may, what fails is tried again, what is told to stop stops.

    look     what is due (../schedule/due.py), what failed and is to be tried again (retries.py), what people asked for
    decide   which of it begins, and why the others wait (queue.py)
    start    each in a task of its own, recorded (running.py)
    sleep    until something ends, somebody says something, or the next start; never for long: clocks are set

One task, and one for each run.  Draining starts nothing more; runs that are not done in time are cancelled, which
leaves them to be gone on with.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Callable
from datetime import datetime

from ntxengine.agent.clock import Clock
from ntxengine.agent.holding import Holding
from ntxengine.agent.jobs import JobVm, Setup
from ntxengine.agent.listing import Listing
from ntxengine.agent.outlook import Outlooks
from ntxengine.agent.queue import Needs, Waiting, Wanted, decide
from ntxengine.agent.records import Key, Run
from ntxengine.agent.retries import scopes_of
from ntxengine.agent.running import Runs
from ntxengine.agent.state import State
from ntxengine.agent.telling import Telling
from ntxengine.errors import NotFoundError, OptionsError
from ntxengine.schedule.due import CLOCK_TOLERANCE

log = logging.getLogger(__name__)

LONGEST_SLEEP_S = 30.0
SHORTEST_SLEEP_S = 0.01
CLOCK_JUMP_S = 5.0
PRUNE_INTERVAL_S = 6 * 3600.0

ALL = "all"


class Scheduler:
    """Runs the jobs of a setup until it is drained."""

    def __init__(
        self,
        state: State,
        setup: Setup,
        *,
        clock: Clock | None = None,
        telling: Telling | None = None,
        on_run: Callable[[Run], None] = lambda run: None,
    ) -> None:
        """`on_run` is told of each run when it begins, gets further, ends: in the event loop, so be quick."""
        self._state = state
        self._setup = setup
        self._clock = clock or Clock()
        self._wake = asyncio.Event()
        self._waits: tuple[Waiting, ...] = ()
        self._drain_until: float | None = None
        self.holds = Holding(self._clock, self._wake.set)
        self._outlooks = Outlooks(state, self._clock)
        self._listing = Listing(self._clock, self.holds, self._wake.set)
        self._listing.use(setup)
        self._on_run = _unharmed(on_run)
        self._runs = Runs(
            state,
            self._clock,
            self.holds,
            telling or Telling(),
            on_run=self._on_run,
            on_end=self._ended,
            on_not_found=self._listing.expire,
        )
        self._seen: tuple[datetime, float] | None = None
        self._pruned_at: float | None = None

    # ------------------------------------------------------------------------------------------------ what people say

    def apply(self, setup: Setup) -> None:
        """Go by another setup from now on.  What runs goes on as it began."""
        self._setup = setup
        self._listing.use(setup)
        self._outlooks.keep_jobs(self.jobs)
        self._outlooks.forget()
        self.holds.clear()
        self._wake.set()

    def pause(self, subject: str) -> None:
        """Begin nothing of a subject: `all`, `job NAME`, `vm UUID`.  What runs goes on.  Errors: NotFoundError."""
        self._check_subject(subject)
        self._state.pause(subject)
        self._wake.set()

    def resume(self, subject: str) -> bool:
        """Begin what is due again; return whether the subject was paused."""
        self._wake.set()
        return self._state.resume(subject)

    def ask(self, vm: str, job: str = "") -> Key:
        """Run a VM, named by name or UUID, as soon as there is a place; in `job`, or the first that has it.

        Windows and waits for a retry do not hold for it.
        Errors: NotFoundError; OptionsError (several VMs have the name; it is paused).
        """
        found = [
            (each.name, one)
            for each in self._setup.jobs
            if job in ("", each.name)
            for one in self._listing.vms(each.name)
            if vm in (one.id, one.name)
        ]
        if not found:
            raise NotFoundError(
                f"no job{f' {job!r}' if job else ''} has a VM {vm!r}: `ntx status --vms` lists those that there are"
            )
        if len({one.id for _, one in found}) > 1:
            raise OptionsError(f"several VMs are called {vm!r}: name one by its UUID")
        name, one = found[0]
        if paused := self._paused(name, one):
            raise OptionsError(f"VM {one.name!r} is not run: {paused}; `ntx agent resume` ends that")
        self._state.ask((name, one.id))
        self._wake.set()
        return name, one.id

    def refresh(self) -> None:
        """List the VMs anew."""
        self._listing.expire()
        self._wake.set()

    def drain(self, limit_s: float) -> None:
        """Begin nothing more; cancel what still runs after `limit_s` seconds; then `run` returns.

        A second time the shorter limit holds.
        """
        until = self._clock.monotonic() + limit_s
        self._drain_until = until if self._drain_until is None else min(until, self._drain_until)
        self._wake.set()

    # ----------------------------------------------------------------------------------------------- what there is

    @property
    def running(self) -> list[Run]:
        return self._runs.records

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """What is due and does not run, and why, as of the last decision."""
        return self._waits

    @property
    def is_draining(self) -> bool:
        return self._drain_until is not None

    @property
    def jobs(self) -> list[str]:
        return [job.name for job in self._setup.jobs]

    @property
    def setup(self) -> Setup:
        return self._setup

    @property
    def listing(self) -> Listing:
        return self._listing

    def next_starts(self) -> dict[Key, datetime]:
        """Return when each VM of each job begins next, if it is not due now."""
        return self._outlooks.next_starts()

    # -------------------------------------------------------------------------------------------------------- the loop

    async def run(self) -> None:
        """Run jobs until `drain` was called and nothing runs any more.  Cancelled, it cancels what runs, and waits."""
        for run in self._state.recover():
            log.warning(
                "job %r, VM %r: run %s was interrupted: %s", run.job, run.vm_name, run.id, run.error or run.problems[-1]
            )
            self._on_run(run)
        self._look_at_records(self._clock.now())
        try:
            while not (self.is_draining and not self._runs):
                self._wake.clear()
                self._step()
                await self._sleep()
        finally:
            self._listing.close()
            await self._runs.cancel_all()

    def _step(self) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        self._look_at_clock(now, monotonic)
        self._state.flush()
        if self.is_draining:
            assert self._drain_until is not None
            self._waits = ()
            if monotonic >= self._drain_until:
                self._runs.cancel()
            return
        if self._pruned_at is None or monotonic >= self._pruned_at + PRUNE_INTERVAL_S:
            self._pruned_at = monotonic
            self._state.prune(in_use=self._keys() if self._listing.is_of_setup else None)
        self._listing.keep()
        wanted = {(each.job, each.vm_id): each for each in self._wanted(now)}
        decision = decide(wanted.values(), self._runs.busy, self._setup.limits, now)
        for each in decision.starts:
            self._start(each, now)
        self._waits = decision.waits

    def _look_at_records(self, now: datetime) -> None:
        """Say it where an earlier agent had another time: nobody sees a clock that is set while no agent runs."""
        newest = max((each.succeeded_at for each in self._state.standings.values() if each.succeeded_at), default=now)
        if newest > now + CLOCK_TOLERANCE:
            log.warning(
                "the clock says %s, and a run has succeeded at %s: it is wrong now, or was then; runs go by it",
                f"{now:%Y-%m-%d %H:%M}Z",
                f"{newest:%Y-%m-%d %H:%M}Z",
            )

    def _look_at_clock(self, now: datetime, monotonic: float) -> None:
        if self._seen is not None:
            jump_s = (now - self._seen[0]).total_seconds() - (monotonic - self._seen[1])
            if abs(jump_s) > CLOCK_JUMP_S:
                how = "forward by %.0f s, or this machine was suspended" if jump_s > 0 else "back by %.0f s"
                log.warning(f"the clock was set {how}", abs(jump_s))
                self._outlooks.forget()
        self._seen = now, monotonic

    async def _sleep(self) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        wakes = [LONGEST_SLEEP_S]
        if self._drain_until is not None and monotonic < self._drain_until:
            wakes.append(self._drain_until - monotonic)
        elif self._drain_until is None:
            next_at = self._outlooks.wakes_at(now)
            wakes += [(next_at - now).total_seconds()] if next_at is not None else []
            wakes += [hold.until - monotonic for hold in self.holds.all.values() if hold.until > monotonic]
            wakes += [self._listing.due_in_s()]
        await self._clock.wait(self._wake, max(SHORTEST_SLEEP_S, min(wakes)))

    # ------------------------------------------------------------------------------------------------------ what is due

    def _wanted(self, now: datetime) -> list[Wanted]:
        runs = self._runs.keys
        found = []
        for job in self._setup.jobs:
            vms = self._listing.vms(job.name)
            for vm, due in self._outlooks.due(job, vms, runs, now):
                scopes = scopes_of(job.scope, vm.needs.cluster)
                obstacle = self._paused(job.name, vm) or due.obstacle or self._held(scopes) or self._unlisted()
                probes = tuple(scope for scope in scopes if scope in self.holds.all)
                needs = _into(vm.needs, job.target)
                found.append(
                    Wanted(job.name, vm.id, vm.name, due.since, job.priority, needs, due.is_asked_for, obstacle, probes)
                )
        return found

    def _keys(self) -> set[Key]:
        return {(job, vm.id) for job in self.jobs for vm in self._listing.vms(job)}

    def _paused(self, job: str, vm: JobVm) -> str:
        """Return what of it is paused, in words, "" if nothing."""
        for subject, words in ((ALL, "all jobs are"), (f"job {job}", f"job {job!r} is"), (f"vm {vm.id}", "the VM is")):
            if (since := self._state.paused.get(subject)) is not None:
                return f"{words} paused since {since:%Y-%m-%d %H:%M}Z"
        return ""

    def _unlisted(self) -> str:
        return "" if self._listing.is_of_setup else "which VMs the new configuration has is not known yet"

    def _held(self, scopes: tuple[str, ...]) -> str:
        monotonic = self._clock.monotonic()
        for scope in scopes:
            hold = self.holds.all.get(scope)
            if hold is not None and hold.until > monotonic:
                return f"{scope} is not used for {hold.until - monotonic:.0f} s more: {hold.reason}"
        return ""

    def _check_subject(self, subject: str) -> None:
        kind, _, name = subject.partition(" ")
        known = {
            ALL: [""],
            "job": [job.name for job in self._setup.jobs],
            "vm": [vm.id for job in self._setup.jobs for vm in self._listing.vms(job.name)],
        }
        if name not in known.get(kind, ()):
            raise NotFoundError(f"{subject!r}: there is no such job or VM to pause")

    # ------------------------------------------------------------------------------------------------------------ runs

    def _ended(self, key: Key) -> None:
        self._outlooks.touch(key)
        self._wake.set()

    def _start(self, wanted: Wanted, now: datetime) -> None:
        job = next(job for job in self._setup.jobs if job.name == wanted.job)
        vm = next(vm for vm in self._listing.vms(job.name) if vm.id == wanted.vm_id)
        begun = self._outlooks.begin((job.name, vm.id))
        self._runs.start(job, vm, wanted, begun, self._setup.runner, now)


def _unharmed(on_run: Callable[[Run], None]) -> Callable[[Run], None]:
    """Return what tells of a run, and does no harm to it whatever becomes of that."""

    def tell(run: Run) -> None:
        try:
            on_run(run)
        except Exception as error:
            log.error("a defect of ntx: what is told of runs: %s: %s", type(error).__name__, error, exc_info=error)

    return tell


@functools.lru_cache(maxsize=4096)
def _into(needs: Needs, target: str) -> Needs:
    return dataclasses.replace(needs, target=target)
