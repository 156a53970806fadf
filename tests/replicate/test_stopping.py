"""A guest that is shut down for its cutover: it stays off once that is done, and runs again if it fails."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from ntxengine.errors import LockedError, NtxError, PrismError, PrismTimeout, TaskFailed
from ntxengine.events import Stage
from ntxengine.replicate import stopping
from ntxengine.replicate.cutover import CutOver, cut_over
from ntxengine.sim.faults import HttpFault
from tests.capture.lab import MIB, Lab, Witness
from tests.replicate.replicating import Killed, KillsAt, Replicating
from tests.replicate.test_command import at, ntx


async def over(following: Replicating, *, shutdown_s: float | None = 60.0, may_run: bool = False) -> CutOver:
    lab = following.lab
    following.witness = following.make_witness()
    return await cut_over(
        lab.prism,
        lab.repository,
        await lab.prism.vm(lab.vm_id),
        following.target,
        attacher=lab.attacher,
        shutdown_s=shutdown_s,
        may_run=may_run,
        on_event=following.witness,
    )


def power(following: Replicating) -> str:
    return following.lab.sim.config.vms[0].power


class WritesWhenAsked(Witness):
    """The guest writes what it has in memory when it is asked to shut down."""

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self._lab = lab

    def began(self, stage: Stage) -> None:
        if stage is Stage.SHUT_DOWN:
            self._lab.write(1, 0, os.urandom(4096))


async def test_guest_is_shut_down_after_a_cycle_and_stays_off(raw: Replicating) -> None:
    await raw.run()
    raw.lab.write(0, MIB, os.urandom(MIB))
    raw.make_witness = lambda: WritesWhenAsked(raw.lab)

    done = await over(raw)

    assert power(raw) == "off"
    assert (done.was_running, done.was_shut_down) == (True, True)
    assert done.replica.generation == 3
    assert done.replica.cut_over_at is not None
    assert done.replica.figures.bytes_changed < MIB
    raw.assert_equal()
    stages = [stage for stage in raw.witness.stages if stage in (Stage.FREEZE, Stage.SHUT_DOWN, Stage.POWER_ON)]
    assert stages == [Stage.FREEZE, Stage.SHUT_DOWN, Stage.FREEZE]


@pytest.mark.parametrize("stage", [Stage.FREEZE, Stage.CHANGES, Stage.COMMIT])
async def test_guest_runs_again_if_the_last_cycle_fails(raw: Replicating, stage: Stage) -> None:
    await raw.run()
    nth = {Stage.FREEZE: 2, Stage.CHANGES: 3, Stage.COMMIT: 2}[stage]
    raw.make_witness = lambda: KillsAt(stage, nth)

    with pytest.raises(Killed):
        await over(raw)

    assert Stage.SHUT_DOWN in raw.witness.stages
    assert power(raw) == "on"
    raw.make_witness = Witness
    cycle = await raw.run()
    assert cycle.replica.cut_over_at is None
    raw.assert_equal()


async def test_guest_runs_again_if_the_cutover_is_cancelled(raw: Replicating, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "GRACE_S", 5.0)  # it was not asked yet, which nobody can know
    await raw.run()
    cutting = asyncio.create_task(over(raw))

    class Cancels(Witness):
        def began(self, stage: Stage) -> None:
            if stage is Stage.SHUT_DOWN:
                asyncio.get_running_loop().call_soon(cutting.cancel)

    raw.make_witness = Cancels
    with pytest.raises(asyncio.CancelledError):
        await cutting

    assert power(raw) == "on"
    assert raw.replica.cut_over_at is None


async def test_no_loop_begins_a_cycle_while_the_guest_is_shut_down(raw: Replicating) -> None:
    await raw.run()
    loop = Replicating(raw.lab, raw.text, "raw")
    begun: list[asyncio.Task[Any]] = []

    class Loops(Witness):
        def began(self, stage: Stage) -> None:
            if stage is Stage.SHUT_DOWN:
                begun.append(asyncio.create_task(loop.run()))

    raw.make_witness = Loops

    await over(raw)

    assert raw.replica.cut_over_at is not None
    assert isinstance(begun[0].exception(), LockedError)


async def test_guest_that_ignores_acpi_is_left_running_and_the_replica_follows(raw: Replicating) -> None:
    raw.lab.sim.config.vms[0].ignores_shutdown = True
    await raw.run()

    with pytest.raises(PrismTimeout, match=r"was asked to shut down, and runs after 1s: shut it down by hand"):
        await over(raw, shutdown_s=1.0)

    assert power(raw) == "on"
    await raw.run()
    raw.assert_equal()


async def test_guest_that_may_not_be_asked_is_left_alone(raw: Replicating) -> None:
    raw.lab.sim.faults.http.append(HttpFault("shutdown", method="POST", status=403, count=-1))
    await raw.run()

    with pytest.raises(PrismError, match="403"):
        await over(raw)

    assert power(raw) == "on"
    assert Stage.POWER_ON not in raw.witness.stages


async def test_guest_that_shut_down_though_prism_says_that_it_failed_runs_again(raw: Replicating) -> None:
    raw.lab.sim.faults.fail_tasks["power"] = 1
    await raw.run()

    with pytest.raises(TaskFailed, match="shutting down the guest"):
        await over(raw)

    assert power(raw) == "on"


async def test_guest_runs_again_though_nobody_can_be_told(raw: Replicating) -> None:
    await raw.run()

    class Breaks(Witness):
        """A reader that is gone: whatever it is told from then on fails."""

        def began(self, stage: Stage) -> None:
            if Stage.SHUT_DOWN in self.stages and stage is not Stage.SHUT_DOWN:
                raise BrokenPipeError

    raw.make_witness = Breaks
    with pytest.raises(BrokenPipeError):
        await over(raw)

    assert power(raw) == "on"


async def test_vm_that_cannot_be_powered_on_again_is_told(raw: Replicating, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "GRACE_S", 5.0)
    await raw.run()

    class Fails(KillsAt):
        def began(self, stage: Stage) -> None:
            if stage is Stage.POWER_ON:
                raw.lab.sim.faults.fail_tasks["power"] = 1
            super().began(stage)

    raw.make_witness = lambda: Fails(Stage.COMMIT, 2)
    with pytest.raises(Killed):
        await over(raw)

    assert any("cannot be powered on again, do it in Prism" in text for text in raw.witness.warnings)


async def test_failure_after_the_commit_leaves_it_off(raw: Replicating) -> None:
    """The replica was cut over to by then: a machine may run from it."""
    await raw.run()
    raw.make_witness = lambda: KillsAt(Stage.RELEASE, 2)

    with pytest.raises(Killed):
        await over(raw)

    assert raw.replica.cut_over_at is not None
    assert power(raw) == "off"


async def test_paused_vm_is_not_asked(raw: Replicating) -> None:
    await raw.run()
    raw.lab.sim.config.vms[0].power = "paused"

    with pytest.raises(NtxError, match="is paused: no guest can be shut down in it"):
        await over(raw)

    assert raw.replica.generation == 1


async def test_command_says_how_long_each_part_took(raw: Replicating) -> None:
    await raw.run()
    words = ("cutover", "db01", "--to", raw.text, "--format", "raw", *at(raw), "--source", "hotadd", "--shutdown")

    told, _ = await ntx(raw, *words, "--shutdown-timeout", "1m", "--json")

    assert told["was_shut_down"]
    assert told["seconds_before"] > 0
    assert told["seconds_shutting_down"] > 0
    assert told["seconds_stopped"] > 0
    assert power(raw) == "off"
    _, said = await ntx(raw, *words, "--running", code=2)
    assert "--shutdown and --running contradict each other" in said
