"""v4 tasks: wait for the end, and tell success from failure."""

from __future__ import annotations

from ntxengine.errors import NtxError, PrismTimeout, TaskFailed
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.tasks import SETTLE_TIMEOUT_S, Deadline, log, poll
from ntxengine.prism.v4.api import CentralApi
from ntxengine.prism.v4.schema import TaskState

_ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED"})


class CentralTasks:
    """Waits for tasks of Prism Central."""

    def __init__(self, api: CentralApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock

    async def wait(self, task_id: str, *, what: str, deadline: Deadline) -> TaskState:
        """Return the task when it has succeeded.

        Errors: TaskFailed with what Prism says; PrismTimeout if it does not end.
        """

        async def ask() -> TaskState | None:
            task = await self._api.get_task(task_id)
            return task if task.status in _ENDED else None

        task = await poll(ask, what=f"the Prism task of {what}", deadline=deadline)
        if task.status != "SUCCEEDED":
            raise TaskFailed(f"{what}: the Prism task ended as {one_line(task.status)}: {one_line(task.complaint())}")
        for warning in task.warnings or ():
            log.warning("%s: Prism warns: %s", what, one_line(warning.message or warning.code or ""))
        return task

    async def settle(self, task_id: str, *, what: str) -> TaskState | None:
        """Cancel a task that is not wanted any more, where Prism can, and wait a little for its end, good or bad.

        Return the task as it was last seen, None if it never was.
        """
        asked = False
        last: TaskState | None = None

        async def ask() -> TaskState | None:
            nonlocal asked, last
            last = task = await self._api.get_task(task_id)
            if task.status in _ENDED:
                return task
            if task.is_cancelable and not asked:
                asked = True
                await self._cancel(task_id, what)
            return None

        try:
            return await poll(ask, what=f"the Prism task of {what}", deadline=Deadline(self._clock, SETTLE_TIMEOUT_S))
        except PrismTimeout:
            return last
        except NtxError as exc:
            log.debug("%s: its task cannot be read: %s", what, exc)
            return last

    async def _cancel(self, task_id: str, what: str) -> None:
        """Ask for it once; what the task has made by then is removed all the same."""
        try:
            await self._api.cancel_task(task_id)
        except NtxError as exc:
            log.debug("%s: its task is not cancelled: %s", what, exc)
