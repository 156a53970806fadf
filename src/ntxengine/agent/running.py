"""The runs that there are: each is recorded, done in a task of its own, and judged when it has ended.

start     recorded first (state.py), then run (jobs.Runner), its events in its record (recorder.py)
end       what it came to (results.py); what an error leaves to do, and what is held for it (retries.py)
tell      whoever the job wants to be told, before and after (telling.py)
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial

from ntxengine.agent import results
from ntxengine.agent.anomalies import LOOKED_AT, anomalies
from ntxengine.agent.clock import Clock
from ntxengine.agent.holding import Holding
from ntxengine.agent.jobs import Job, JobVm, Outcome, Runner
from ntxengine.agent.once import Once
from ntxengine.agent.outlook import Begun
from ntxengine.agent.queue import Busy, Wanted
from ntxengine.agent.recorder import Recorder
from ntxengine.agent.records import Key, Retry, Run, RunState, Standing, new_run_id
from ntxengine.agent.retries import RunTimeout, judge, next_try, scopes_of
from ntxengine.agent.run_context import within
from ntxengine.agent.state import State
from ntxengine.agent.telling import Telling
from ntxengine.errors import NotFoundError, NtxError
from ntxengine.events import Event

log = logging.getLogger(__name__)

HOOK = "hook"
"""The stage of a run while a hook of its job runs."""


@dataclasses.dataclass
class _Active:
    """A run that there is."""

    job: Job
    vm: JobVm
    recorder: Recorder
    retry: Retry | None
    busy: Busy
    epoch: int
    task: asyncio.Task[None] | None = None

    @property
    def scopes(self) -> tuple[str, ...]:
        """What it needs that may be held."""
        return scopes_of(self.job.scope, self.vm.needs.cluster)


class Runs:
    """Begins runs, keeps them until they have ended, and writes down what became of them."""

    def __init__(
        self,
        state: State,
        clock: Clock,
        holds: Holding,
        telling: Telling,
        *,
        on_run: Callable[[Run], None],
        on_end: Callable[[Key], None],
        on_not_found: Callable[[], None],
    ) -> None:
        """`on_run` is told of each run when it begins, gets further, ends.

        `on_end`, that one has ended; `on_not_found`, that a VM is gone.
        """
        self._state = state
        self._clock = clock
        self._holds = holds
        self._telling = telling
        self._on_run = on_run
        self._on_end = on_end
        self._on_not_found = on_not_found
        self._once = Once()
        self._active: dict[str, _Active] = {}

    def __len__(self) -> int:
        return len(self._active)

    @property
    def records(self) -> list[Run]:
        """How far each is."""
        return [active.recorder.run for active in self._active.values()]

    @property
    def busy(self) -> list[Busy]:
        """What they take of what is limited."""
        return [active.busy for active in self._active.values()]

    @property
    def keys(self) -> set[Key]:
        return {active.recorder.run.key for active in self._active.values()}

    def start(self, job: Job, vm: JobVm, wanted: Wanted, begun: Begun, runner: Runner, now: datetime) -> None:
        """Begin a run: recorded, and then done."""
        run = Run(
            id=new_run_id(now),
            job=job.name,
            vm_id=vm.id,
            vm_name=vm.name,
            started_at=now,
            trigger=begun.trigger,
            due_at=begun.due,
            attempt=1 if begun.retry is None else begun.retry.attempt,
            kind=job.kind.name,
        )
        recorder = Recorder(
            run, self._save, monotonic=self._clock.monotonic, on_past_prism=lambda: self._copies(active)
        )
        busy = Busy(job.name, vm.id, wanted.needs, wanted.probes)
        active = _Active(job, vm, recorder, begun.retry, busy, self._holds.epoch)
        self._active[run.id] = active
        self._state.begin(run, begun.standing)
        with within(run):
            log.info("job %r, VM %r: run %s begins (%s)", job.name, vm.name, run.id, run.trigger)
            self._on_run(run)
            active.task = asyncio.create_task(self._one(active, runner), name=f"run {run.id}")

    def cancel(self) -> None:
        """Cancel all that there are, once: a second cancellation would cut their clean-up short."""
        for active in self._active.values():
            if active.task is not None and not active.task.cancelling():
                active.task.cancel()

    async def cancel_all(self) -> None:
        """Cancel all that there are, and wait for their ends."""
        tasks = [active.task for active in self._active.values() if active.task is not None]
        self.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _save(self, run: Run) -> None:
        self._state.save(run)
        self._on_run(run)

    async def _one(self, active: _Active, runner: Runner) -> None:
        """Do a run, whatever becomes of it.  Never raises."""
        began = self._clock.monotonic()
        outcome, error = await self._attempt(active, runner)
        now, seconds = self._clock.now(), round(self._clock.monotonic() - began, 3)
        run = dataclasses.replace(active.recorder.run, ended_at=now, seconds=seconds)
        standing = self._state.standing(run.key)
        if outcome is not None:
            run, standing = results.succeeded(run, standing, outcome)
            run, standing = self._compared(run, standing)
            self._tell_success(active, run)
        elif isinstance(error, asyncio.CancelledError):
            run, standing = results.stopped(run, standing, now)
        elif run.is_committed:
            assert error is not None
            run, standing = results.committed(run, standing, f"after it was committed: {results.line_of(error)}")
            self._tell_success(active, run)
        else:
            assert error is not None
            text = results.line_of(error)
            retry = self._judge(active, run, error, text, now)
            run, standing = results.failed(run, standing, error, text, retry)
        self._state.end(run, standing)
        run = await self._tell_end(active, run, is_final=standing.retry is None)
        del self._active[run.id]
        self._on_end(run.key)
        self._on_run(run)

    async def _attempt(self, active: _Active, runner: Runner) -> tuple[Outcome | None, BaseException | None]:
        """Return what a run came to, or what ended it."""
        timeout_s = None if active.job.timeout is None else active.job.timeout.total_seconds()
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                await self._telling.begins(active.job, active.recorder.run, lambda: self._at_hook(active))
                return await runner.run(active.job.name, active.vm, partial(self._event, active.recorder)), None
        except TimeoutError as exc:
            if limit.expired():
                return None, RunTimeout(
                    f"stopped after {active.job.timeout}, the time limit of job {active.job.name!r}"
                )
            return None, exc
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001  one VM must not end the agent
            return None, exc

    def _event(self, recorder: Recorder, event: Event) -> None:
        self._telling.event(recorder.run, event, self._clock.now())
        recorder(event)

    def _at_hook(self, active: _Active) -> None:
        active.recorder.change(stage=HOOK)

    async def _tell_end(self, active: _Active, run: Run, *, is_final: bool) -> Run:
        """Tell that a run has ended: it is written down already.  Return it with what went wrong there.

        The VM is busy until that is done, and a drain waits for it.
        """
        recorder = active.recorder
        recorder.run = dataclasses.replace(recorder.run, stage=HOOK)
        try:
            problem = await self._telling.ended(active.job, run, is_final=is_final)
        except asyncio.CancelledError:
            problem = "the agent was stopped, and its hook with it"
        except Exception as exc:  # whatever it is, the run has its end
            problem = results.line_of(exc)
            log.debug("run %s", run.id, exc_info=exc)
        if not problem:
            return run
        log.warning("job %r, VM %r: run %s has %s, but: %s", run.job, run.vm_name, run.id, run.state.value, problem)
        run = dataclasses.replace(run, problems=(*run.problems, problem))
        self._state.amend(run)
        return run

    def _compared(self, run: Run, standing: Standing) -> tuple[Run, Standing]:
        """Return a run that succeeded, and how its VM stands, with what is unlike the runs before it."""
        try:
            history = self._state.runs(vm_id=run.vm_id, job=run.job, state=RunState.SUCCEEDED, limit=LOOKED_AT)
        except NtxError as error:
            log.debug("run %s is not compared with those before: %s", run.id, error)
            return run, standing
        found = anomalies(run, history)
        for each in found:
            log.warning("job %r, VM %r: unlike before: %s", run.job, run.vm_name, each.text)
        return results.unlike_before(run, standing, found)

    def _tell_success(self, active: _Active, run: Run) -> None:
        for scope in active.scopes:
            self._holds.release(scope)
        if self._once.is_over(run.key):
            log.warning("job %r, VM %r: is %s again", run.job, run.vm_name, active.job.kind.done)
        problems, subject = "; ".join(run.problems), ("after it", *run.key)
        if not problems:
            self._once.is_over(subject)
        elif self._once.is_new(subject, problems):
            log.warning("job %r, VM %r: %s, but: %s", run.job, run.vm_name, active.job.kind.done, problems)
        log.info("job %r, VM %r: run %s made %s %s", run.job, run.vm_name, run.id, active.job.kind.makes, run.made)

    def _judge(self, active: _Active, run: Run, error: BaseException, text: str, now: datetime) -> Retry | None:
        """Say what failed, once; hold what it concerns; return when the run is tried again."""
        if not isinstance(error, NtxError | OSError):
            log.debug("run %s", run.id, exc_info=error)
        if isinstance(error, NotFoundError):
            self._on_not_found()
        verdict = judge(error, active.job.scope, active.vm.needs.cluster)
        if active.epoch == self._holds.epoch:  # else it is of a setup that holds no more
            self._holds.fail(verdict, text)
        is_held = verdict.scope in self._holds.all
        retry = next_try(
            verdict,
            active.job.retries,
            attempt=run.attempt,
            earlier=active.retry,
            due=run.due_at,
            now=now,
            chance=self._clock.chance(),
        )
        if not is_held:
            again = "not again before it is due" if retry is None else f"again at {retry.at:%H:%M:%S}Z"
            level = logging.ERROR if self._once.is_new(run.key, text) else logging.INFO
            log.log(level, "job %r, VM %r: attempt %d failed, %s: %s", run.job, run.vm_name, run.attempt, again, text)
        return retry

    def _copies(self, active: _Active) -> None:
        """It has begun to copy: others need not wait until all of a large VM is there."""
        for scope in active.scopes:
            hold = self._holds.all.get(scope)
            if hold is not None and hold.ends_with_copy:
                self._holds.release(scope)
