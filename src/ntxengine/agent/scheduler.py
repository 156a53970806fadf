"""The loop of the agent: what is due begins when it may, what fails is tried again, what is told to stop stops.

    look     what is due (../schedule/due.py), what failed and is to be tried again (retries.py), what people asked for
    decide   which of it begins, and why the others wait (queue.py)
    start    recorded first (state.py), then run (jobs.Runner), its events in its record (recorder.py)
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
from datetime import datetime, timedelta

from ntxengine.agent import results
from ntxengine.agent.clock import Clock
from ntxengine.agent.jobs import Job, JobVm, Outcome, Runner, Setup
from ntxengine.agent.listing import Listing
from ntxengine.agent.outlook import Outlooks
from ntxengine.agent.queue import Busy, Needs, Waiting, Wanted, decide
from ntxengine.agent.recorder import Recorder
from ntxengine.agent.records import Key, Retry, Run, new_run_id
from ntxengine.agent.retries import PRISM, Holds, RunTimeout, judge, next_try, repository_scope
from ntxengine.agent.state import State
from ntxengine.errors import NotFoundError, NtxError, OptionsError

log = logging.getLogger(__name__)

LONGEST_SLEEP_S = 30.0
SHORTEST_SLEEP_S = 0.01
CLOCK_JUMP_S = 5.0
PRUNE_INTERVAL_S = 6 * 3600.0

ALL = "all"


@dataclasses.dataclass
class _Active:
    """A run that there is."""

    job: Job
    vm: JobVm
    recorder: Recorder
    retry: Retry | None
    busy: Busy
    task: asyncio.Task[None] | None = None


class Scheduler:
    """Runs the jobs of a setup until it is drained."""

    def __init__(
        self,
        state: State,
        setup: Setup,
        *,
        clock: Clock | None = None,
        on_run: Callable[[Run], None] = lambda run: None,
    ) -> None:
        """`on_run` is told of each run when it begins, gets further, ends: in the event loop, so be quick."""
        self._state = state
        self._setup = setup
        self._clock = clock or Clock()
        self._on_run = on_run
        self._wake = asyncio.Event()
        self._active: dict[str, _Active] = {}
        self._waits: tuple[Waiting, ...] = ()
        self._drain_until: float | None = None
        self.holds = Holds()
        self._outlooks = Outlooks(state, self._clock)
        self._listing = Listing(self._clock, self.holds, self._wake.set)
        self._listing.use(setup)
        self._seen: tuple[datetime, float] | None = None
        self._pruned_at: float | None = None

    # ------------------------------------------------------------------------------------------------ what people say

    def apply(self, setup: Setup) -> None:
        """Go by another setup from now on.  What runs goes on as it began."""
        self._setup = setup
        self._listing.use(setup)
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
                f"no job{f' {job!r}' if job else ''} has a VM {vm!r}: `ntx status` lists those that there are"
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
        return [active.recorder.run for active in self._active.values()]

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
        try:
            while not (self.is_draining and not self._active):
                self._wake.clear()
                self._step()
                await self._sleep()
        finally:
            self._listing.close()
            await self._cancel_all()

    def _step(self) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        self._look_at_clock(now, monotonic)
        if self.is_draining:
            assert self._drain_until is not None
            self._waits = ()
            if monotonic >= self._drain_until:
                for active in self._active.values():
                    _cancel(active)
            return
        if self._pruned_at is None or monotonic >= self._pruned_at + PRUNE_INTERVAL_S:
            self._pruned_at = monotonic
            self._state.prune()
        self._listing.keep()
        wanted = {(each.job, each.vm_id): each for each in self._wanted(now)}
        decision = decide(wanted.values(), [each.busy for each in self._active.values()], self._setup.limits, now)
        for each in decision.starts:
            self._start(each, now)
        self._waits = decision.waits

    def _look_at_clock(self, now: datetime, monotonic: float) -> None:
        if self._seen is not None:
            jump_s = (now - self._seen[0]).total_seconds() - (monotonic - self._seen[1])
            if abs(jump_s) > CLOCK_JUMP_S:
                log.warning("the clock was set %s by %.0f s", "forward" if jump_s > 0 else "back", abs(jump_s))
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
        runs = {active.recorder.run.key for active in self._active.values()}
        found = []
        for job in self._setup.jobs:
            vms = self._listing.vms(job.name)
            for vm, due in self._outlooks.due(job, vms, runs, now):
                scopes = (PRISM, repository_scope(job.target))
                obstacle = self._paused(job.name, vm) or due.obstacle or self._held(scopes)
                probes = tuple(scope for scope in scopes if scope in self.holds.all)
                needs = _into(vm.needs, job.target)
                found.append(
                    Wanted(job.name, vm.id, vm.name, due.since, job.priority, needs, due.is_asked_for, obstacle, probes)
                )
        return found

    def _paused(self, job: str, vm: JobVm) -> str:
        """Return what of it is paused, in words, "" if nothing."""
        for subject, words in ((ALL, "all jobs are"), (f"job {job}", f"job {job!r} is"), (f"vm {vm.id}", "the VM is")):
            if (since := self._state.paused.get(subject)) is not None:
                return f"{words} paused since {since:%Y-%m-%d %H:%M}Z"
        return ""

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

    def _start(self, wanted: Wanted, now: datetime) -> None:
        job = next(job for job in self._setup.jobs if job.name == wanted.job)
        vm = next(vm for vm in self._listing.vms(job.name) if vm.id == wanted.vm_id)
        key = (job.name, vm.id)
        begun = self._outlooks.begin(key)
        run = Run(
            id=new_run_id(now),
            job=job.name,
            vm_id=vm.id,
            vm_name=vm.name,
            started_at=now,
            trigger=begun.trigger,
            due_at=begun.due,
            attempt=1 if begun.retry is None else begun.retry.attempt,
        )
        recorder = Recorder(run, self._save, monotonic=self._clock.monotonic, on_past_prism=lambda: self._passed(PRISM))
        active = _Active(job, vm, recorder, begun.retry, Busy(job.name, vm.id, wanted.needs, wanted.probes))
        self._active[run.id] = active
        self._state.begin(run, begun.standing)
        log.info("job %r, VM %r: run %s begins (%s)", job.name, vm.name, run.id, run.trigger)
        self._on_run(run)
        active.task = asyncio.create_task(self._one(active, self._setup.runner), name=f"run {run.id}")

    def _save(self, run: Run) -> None:
        self._state.save(run)
        self._on_run(run)

    async def _one(self, active: _Active, runner: Runner) -> None:
        """Do a run, whatever becomes of it.  Never raises."""
        began = self._clock.monotonic()
        timeout_s = None if active.job.timeout is None else active.job.timeout.total_seconds()
        outcome: Outcome | None = None
        error: BaseException | None = None
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                outcome = await runner.run(active.job.name, active.vm, active.recorder)
        except TimeoutError as exc:
            error = exc
            if limit.expired():
                error = RunTimeout(f"stopped after {active.job.timeout}, the time limit of job {active.job.name!r}")
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001  one VM must not end the agent
            error = exc
        now, seconds = self._clock.now(), round(self._clock.monotonic() - began, 3)
        run = dataclasses.replace(active.recorder.run, ended_at=now, seconds=seconds)
        standing = self._state.standing(run.key)
        if outcome is not None:
            run, standing = results.succeeded(run, standing, outcome)
            self._tell_success(active, run)
        elif isinstance(error, asyncio.CancelledError):
            run, standing = results.stopped(run, standing, now)
        else:
            assert error is not None
            text = results.line_of(error)
            retry = self._judge(active, run, error, text, now)
            run, standing = results.failed(run, standing, error, text, retry)
        del self._active[run.id]
        self._state.end(run, standing)
        self._outlooks.touch(run.key)
        self._wake.set()
        self._on_run(run)

    def _tell_success(self, active: _Active, run: Run) -> None:
        for scope in (PRISM, repository_scope(active.job.target)):
            self._passed(scope)
        for problem in run.problems:
            log.warning("job %r, VM %r: captured, but: %s", run.job, run.vm_name, problem)
        log.info("job %r, VM %r: run %s made point %s", run.job, run.vm_name, run.id, run.point_id)

    def _judge(self, active: _Active, run: Run, error: BaseException, text: str, now: datetime) -> Retry | None:
        """Say what failed, once; hold what it concerns; return when the run is tried again."""
        if not isinstance(error, NtxError | OSError):
            log.debug("run %s", run.id, exc_info=error)
        if isinstance(error, NotFoundError):
            self._listing.expire()
        verdict = judge(error, active.job.target)
        if self.holds.failed(verdict, text, now=now, monotonic=self._clock.monotonic()):
            log.error("%s: held, and tried by one run now and then until it is over: %s", verdict.scope, text)
        retry = next_try(
            verdict,
            active.job.retries,
            attempt=run.attempt,
            earlier=active.retry,
            due=run.due_at,
            now=now,
            chance=self._clock.chance(),
        )
        if verdict.scope not in self.holds.all:
            again = "not again before it is due" if retry is None else f"again at {retry.at:%H:%M:%S}Z"
            log.error("job %r, VM %r: attempt %d failed, %s: %s", run.job, run.vm_name, run.attempt, again, text)
        return retry

    def _passed(self, scope: str) -> None:
        hold = self.holds.passed(scope)
        if hold is not None:
            log.warning(
                "%s: is used again, after %s",
                scope,
                timedelta(seconds=int((self._clock.now() - hold.since).total_seconds())),
            )
            self._wake.set()

    async def _cancel_all(self) -> None:
        tasks = [active.task for active in self._active.values() if active.task is not None]
        for active in self._active.values():
            _cancel(active)
        if tasks:
            await asyncio.wait(tasks)


@functools.lru_cache(maxsize=4096)
def _into(needs: Needs, target: str) -> Needs:
    return dataclasses.replace(needs, target=target)


def _cancel(active: _Active) -> None:
    """Cancel a run, once: a second cancellation would cut its clean-up short."""
    if active.task is not None and not active.task.cancelling():
        active.task.cancel()
