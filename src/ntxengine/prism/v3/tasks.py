"""v2 tasks: wait for the end, and tell success from failure."""

from __future__ import annotations

from ntxengine.errors import TaskFailed
from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.tasks import Deadline, poll
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

    async def wait(self, task_id: str, what: str, deadline: Deadline) -> None:
        """Wait until the task has succeeded.

        Errors: TaskFailed with what Prism says; PrismTimeout if it does not end.
        """
        task = await self.ended(task_id, what, deadline)
        if task.state != "succeeded":
            detail = one_line((task.meta_response.error_detail if task.meta_response else None) or "no reason given")
            raise TaskFailed(f"{what}: the Prism task ended as {task.state}: {detail}")
