"""A guest is shut down by ACPI, and runs again; by v4 and by v2."""

from __future__ import annotations

import pytest

from ntxengine.errors import NotFoundError, PrismStatusError, PrismTimeout, TaskFailed
from ntxengine.prism import power
from ntxengine.prism.models import Vm
from ntxengine.sim import actions
from ntxengine.sim.config import Power
from ntxengine.sim.faults import HttpFault
from ntxengine.sim.model import Task
from ntxengine.sim.model import Vm as SimVm
from ntxengine.sim.world import World
from tests.capture.conftest import config, lab, no_lab_stays_open, repository, simulator
from tests.capture.lab import Lab

__all__ = ["config", "lab", "no_lab_stays_open", "repository", "simulator"]


@pytest.fixture
async def vm(lab: Lab) -> Vm:
    return await lab.prism.vm(lab.vm_id)


async def test_guest_that_is_asked_is_off_and_runs_again(lab: Lab, vm: Vm) -> None:
    await lab.prism.shut_down_guest(vm)
    assert await lab.prism.becomes(vm, "off", within_s=60)

    await lab.prism.power_on(vm)

    assert (await lab.prism.vm(vm.id)).power_state == "on"
    assert lab.sim.config.vms[0].power == "on"


async def test_guest_that_does_not_listen_stays_on(lab: Lab, vm: Vm) -> None:
    lab.sim.config.vms[0].ignores_shutdown = True

    await lab.prism.shut_down_guest(vm)

    assert not await lab.prism.becomes(vm, "off", within_s=1)
    assert (await lab.prism.vm(vm.id)).power_state == "on"


async def test_vm_that_runs_is_not_powered_on(lab: Lab, vm: Vm) -> None:
    lab.sim.faults.http.append(HttpFault("power", method="POST", status=400, count=-1))

    await lab.prism.power_on(vm)


async def test_task_that_fails_is_told(lab: Lab, vm: Vm) -> None:
    lab.sim.faults.fail_tasks["power"] = 1

    with pytest.raises(TaskFailed, match="shutting down the guest of VM 'db01'"):
        await lab.prism.shut_down_guest(vm)


async def test_vm_that_does_not_come_up_is_told(lab: Lab, vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.sim.config.vms[0].power = "off"

    def set_power(world: World, vm: SimVm, wanted: Power) -> Task:
        return world.tasks.start("power", "VmChangePowerState", done)

    monkeypatch.setattr(actions, "set_power", set_power)
    monkeypatch.setattr(power, "ON_TIMEOUT_S", 1.0)

    with pytest.raises(PrismTimeout, match="was powered on, and does not run"):
        await lab.prism.power_on(vm)


async def done(_: object) -> None:
    """Do nothing."""


async def test_vm_that_is_gone_is_not_found(lab: Lab, vm: Vm) -> None:
    lab.sim.config.vms.clear()
    lab.reconfigure()

    with pytest.raises((NotFoundError, PrismStatusError)):
        await lab.prism.shut_down_guest(vm)
