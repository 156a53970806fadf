"""Whether VMs run, by v4."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ntxengine.errors import NotFoundError
from ntxengine.prism.models import Vm
from ntxengine.prism.tasks import Deadline
from ntxengine.prism.v4.api import CentralApi
from ntxengine.prism.v4.etags import until_not_stale, with_etag
from ntxengine.prism.v4.tasks import CentralTasks


class CentralPower:
    """Shuts guests down and lets VMs run."""

    def __init__(self, api: CentralApi, tasks: CentralTasks) -> None:
        self._api = api
        self._tasks = tasks

    async def shut_down(self, vm: Vm) -> None:
        """Ask the guest to shut down."""
        await self._change(vm, self._api.shut_down_vm, f"shutting down the guest of VM {vm.name!r} ({vm.id})")

    async def power_on(self, vm: Vm) -> None:
        """Ask for the VM to run."""
        await self._change(vm, self._api.power_on_vm, f"powering on VM {vm.name!r} ({vm.id})")

    async def _change(self, vm: Vm, act: Callable[[str, str | None], Awaitable[str]], what: str) -> None:
        deadline = Deadline(self._api.session.clock)

        async def changed() -> None:
            etag = (await self._api.get_vm(vm.id)).etag or None
            task_id = await with_etag(lambda tag: act(vm.id, tag), etag, what)
            if task_id is None:
                raise NotFoundError(f"{what}: Prism does not know it")
            await self._tasks.wait(task_id, what=what, deadline=deadline)

        await until_not_stale(changed, what=what, thing="the VM")
