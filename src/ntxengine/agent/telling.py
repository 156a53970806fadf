"""Who is told of a run: the hooks of its job, which are part of it, and the pings, which are not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ntxengine.agent.hooks import run_hook
from ntxengine.agent.jobs import Job
from ntxengine.agent.pings import Pinger
from ntxengine.agent.records import Run, RunState
from ntxengine.agent.traces import Observer
from ntxengine.errors import NtxError
from ntxengine.events import Event
from ntxengine.prism import Secret

START, SUCCESS, FAILURE = "start", "success", "failure"


class Telling:
    """Tells of runs as their jobs say.  Without a pinger, nothing is pinged; `observer` sees all that happens."""

    def __init__(self, pinger: Pinger | None = None, observer: Observer | None = None) -> None:
        self._pinger = pinger
        self._observer = observer

    def event(self, run: Run, event: Event, now: datetime) -> None:
        """Something happens in a run."""
        if self._observer is not None:
            self._observer.event(run, event, now)

    async def begins(self, job: Job, run: Run, on_hook: Callable[[], None]) -> None:
        """A run begins; `on_hook` is called if a hook is started.  Errors: HookFailed; it must not go on then."""
        self._ping(job, START, job.pings.start)
        if job.hooks.start:
            on_hook()
            await run_hook(START, job.hooks.start, run, job.hooks.timeout_s)

    async def ended(self, job: Job, run: Run, *, is_final: bool) -> str:
        """A run has ended, and is tried again unless `is_final`.  Return what went wrong with telling, "" for nothing.

        What is tried again, or gone on with, is not told: it is not over.
        """
        if self._observer is not None:
            self._observer.ended(run)
        if run.state is RunState.SUCCEEDED:
            event, url, argv = SUCCESS, job.pings.success, job.hooks.success
        elif run.state is RunState.FAILED and is_final:
            event, url, argv = FAILURE, job.pings.failure, job.hooks.failure
        else:
            return ""
        self._ping(job, event, url)
        if not argv:
            return ""
        try:
            await run_hook(event, argv, run, job.hooks.timeout_s)
        except NtxError as error:
            return str(error)
        return ""

    def _ping(self, job: Job, event: str, url: Secret | None) -> None:
        if url is not None and self._pinger is not None:
            self._pinger.ping(job.name, event, url)
