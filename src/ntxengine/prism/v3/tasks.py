"""v2 tasks: wait for the end, and tell success from failure."""

from __future__ import annotations

from ntxengine.errors import NtxError, TaskFailed
from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.tasks import SETTLE_TIMEOUT_S, Deadline, log, poll
from ntxengine.prism.v3.api import ElementApi
from ntxengine.prism.v3.schema_v2 import V2Task

_ENDED = frozenset({"succeeded", "failed", "aborted"})


class ElementTasks:
    """Waits for tasks of a Prism Element."""

    def __init__(self, api: ElementApi) -> None:
        self._api = api

    async def ended(self, task_id: str, what: str, deadline: Deadline) -> V2Task:
        """Return the task when it has ended, well or not."""

        async def ask() -> V2Task | None:
            task = await self._api.get_task_v2(task_id)
            return task if task.state in _ENDED else None

        return await poll(ask, what=f"the Prism task of {what}", deadline=deadline)

    async def wait(self, task_id: str, what: str, deadline: Deadline) -> V2Task:
        """Return the task when it has succeeded.

        Errors: TaskFailed with what Prism says; PrismTimeout if it does not end.
        """
        task = await self.ended(task_id, what, deadline)
        if task.state != "succeeded":
            detail = one_line((task.meta_response.error_detail if task.meta_response else None) or "no reason given")
            raise TaskFailed(f"{what}: the Prism task ended as {task.state}: {detail}")
        return task

    async def settle(self, task_id: str, what: str) -> V2Task | None:
        """Wait a little for the end of a task, good or bad; return it as it was last seen, None if it never was."""
        last: V2Task | None = None

        async def ask() -> V2Task | None:
            nonlocal last
            last = await self._api.get_task_v2(task_id)
            return last if last.state in _ENDED else None

        try:
            deadline = Deadline(self._api.session.clock, SETTLE_TIMEOUT_S)
            await poll(ask, what=f"the Prism task of {what}", deadline=deadline)
        except NtxError as exc:
            log.debug("%s", exc)
        return last
