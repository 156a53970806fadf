"""Long-running operations: they really run in the background, and may fail after the work is done, or never end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ntxengine.errors import PortableError
from ntxengine.sim import ids
from ntxengine.sim.config import SimConfig
from ntxengine.sim.faults import TaskKind
from ntxengine.sim.model import Entity, State, Task

_log = logging.getLogger(__name__)

_WORK_DONE = 90
"""The progress of a task whose work is done."""

Work = Callable[[Task], Awaitable[None]]


class TaskFailure(PortableError):
    """The work of a task could not be done; becomes the task's error."""

    def __init__(self, message: str, *, code: str = "DP-10000") -> None:
        super().__init__(message)
        self.code = code


class Tasks:
    """Starts, runs and remembers tasks."""

    def __init__(self, config: SimConfig, state: State, clock: Callable[[], float], save: Callable[[], None]) -> None:
        self._config = config
        self._state = state
        self._clock = clock
        self._save = save
        self._running: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def start(self, kind: TaskKind, operation: str, work: Work, entities: list[Entity] | None = None) -> Task:
        """Begin `work` in the background and return its task, still QUEUED."""
        now = self._clock()
        task = Task(ids.fresh(), kind, operation, now, updated=now, entities=entities or [])
        self._state.tasks[task.id] = task
        self._save()
        runner = asyncio.create_task(self._run(task, work))
        self._running.add(runner)
        runner.add_done_callback(self._running.discard)
        return task

    async def _run(self, task: Task, work: Work) -> None:
        fails, sticks = self._config.faults.fails(task.kind), self._config.faults.sticks(task.kind)
        task.status, task.started = "RUNNING", self._clock()
        self._touch(task, 10)
        try:
            await work(task)
        except TaskFailure as exc:
            self._finish(task, error=str(exc), code=exc.code)
            return
        except OSError as exc:
            _log.warning("simulated task %s failed: %s", task.operation, exc)
            self._finish(task, error=f"Internal error: {exc.strerror}", code="DP-10000")
            return
        if task.is_canceling:
            self._canceled(task)
            return
        self._touch(task, _WORK_DONE)
        if sticks:
            return
        if self._config.limits.task_s > 0:
            await asyncio.sleep(self._config.limits.task_s)
        if task.is_done:
            return
        if fails:
            task.details.clear()
            self._finish(task, error="Simulated failure after the work was done", code="DP-10000")
            return
        self._finish(task)

    def later(self, delay_s: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do something that no task tells of, after a while."""

        async def wait() -> None:
            await asyncio.sleep(delay_s)
            try:
                await work()
            except TaskFailure as exc:
                _log.warning("simulated work without a task failed: %s", exc)

        runner = asyncio.create_task(wait())
        self._running.add(runner)
        runner.add_done_callback(self._running.discard)

    def cancel(self, task: Task) -> None:
        """End a task: when its work is done, which stays done."""
        if task.is_done:
            return
        if task.progress < _WORK_DONE:
            task.status = "CANCELING"
        else:
            self._canceled(task)

    def _canceled(self, task: Task) -> None:
        task.status, task.completed = "CANCELED", self._clock()
        task.details.clear()
        self._touch(task, 100)
        self._save()

    def _finish(self, task: Task, *, error: str = "", code: str = "") -> None:
        task.error, task.error_code = error, code
        task.status = "FAILED" if error else "SUCCEEDED"
        task.completed = self._clock()
        self._touch(task, 100)
        self._save()

    def _touch(self, task: Task, progress: int) -> None:
        task.progress, task.updated = progress, self._clock()
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, task_ids: list[str], timeout_s: float) -> bool:
        """Return True when all of these are done, False when the time is over first."""
        try:
            async with asyncio.timeout(timeout_s):
                while not all(self._state.tasks[task_id].is_done for task_id in task_ids):
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop what still runs; it is found interrupted at the next start."""
        for runner in self._running:
            runner.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
