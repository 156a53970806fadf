"""The tgtd of a simulator: it lives as long as the simulator, and no longer."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ntxengine.sim import SimConfig, Simulator, daemon, target
from tests.sim.iscsi import GROUPS, attach, body, delete, detach, make, needs_tgtd, read
from tests.sim.lab import Clock, Lab, small_config


@needs_tgtd
async def test_a_restart_serves_the_groups_again(tmp_path: Path) -> None:
    async with Simulator(small_config(tmp_path / "disks"), tmp_path / "state") as sim:
        lab = Lab(sim)
        group = await make(lab, (await lab.disk())[2])
        await attach(lab, group)
        first, address = sim.world.target.pid, sim.world.target.address
        await lab.aclose()
    assert first is not None
    assert not os.path.exists(f"/proc/{first}")

    async with Simulator(small_config(tmp_path / "disks"), tmp_path / "state") as sim:
        lab = Lab(sim)
        complaint = await read(lab, group, tmp_path / "out")
        [listed] = (await lab.central.get(GROUPS)).json()["data"]
        await lab.aclose()

    assert complaint == ""
    assert sim.world.target.address == address
    assert listed["extId"] == group


KILLED = """
import asyncio, sys
from pathlib import Path
from ntxengine.sim import Simulator
from tests.sim.lab import Lab, small_config
from tests.sim.iscsi import make

async def main(folder):
    async with Simulator(small_config(folder / "disks"), folder / "state") as sim:
        lab = Lab(sim)
        await make(lab, (await lab.disk())[2])
        print(sim.world.target.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


@needs_tgtd
def test_the_target_of_a_killed_simulator_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as running:
        assert running.stdout is not None
        pid = int(running.stdout.readline())
        process = os.pidfd_open(pid)
        running.kill()

    ended, _, _ = select.select([process], [], [], 60)
    os.close(process)

    assert ended


@needs_tgtd
async def test_a_target_that_hangs_does_not_hang_the_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "_STOP_TIMEOUT_S", 0.1)
    async with Simulator(small_config(tmp_path / "disks"), tmp_path / "state") as sim:
        lab = Lab(sim)
        await make(lab, (await lab.disk())[2])
        pid = sim.world.target.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await lab.aclose()

    assert not os.path.exists(f"/proc/{pid}")


async def test_without_tgtd_the_api_answers_and_one_line_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(daemon, "PATH", "/nowhere")
    async with Simulator(small_config(tmp_path / "disks"), tmp_path / "state") as sim:
        lab = Lab(sim)
        point = await lab.disk()
        groups = [await make(lab, point[2], name=f"g{number}") for number in range(2)]
        await attach(lab, groups[0])
        await detach(lab, groups[0])
        for group in groups:
            await lab.task(await delete(lab, group))
        await lab.aclose()

    said = [record.message for record in caplog.records if record.name == target.__name__]
    assert said == ["volume groups are not served over iSCSI: install the packages: tgt and util-linux"]
    assert sim.world.target.pid is None


@needs_tgtd
async def test_a_group_may_be_served_late(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntxengine.sim.faults.volumes._LATE_S", 0.3)
    lab.sim.faults.volumes = ["late"]
    group = await make(lab, (await lab.disk())[2])
    await attach(lab, group)

    early = await read(lab, group, tmp_path / "early")

    assert early != ""
    async with asyncio.timeout(30):
        while await read(lab, group, tmp_path / "out") != "":
            await asyncio.sleep(0.1)


async def test_what_a_killed_simulator_left_of_a_group_is_swept(
    config: SimConfig, clock: Clock, tmp_path: Path
) -> None:
    stray = tmp_path / "state" / "volume-groups" / "a" / "b"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")

    async with Simulator(config, tmp_path / "state", clock=clock):
        pass

    assert not stray.exists()


@needs_tgtd
async def test_the_address_can_be_reached_before_there_is_a_group(tmp_path: Path) -> None:
    async with Simulator(small_config(tmp_path / "disks"), tmp_path / "state") as sim:
        _, writer = await asyncio.open_connection(sim.world.target.address, target.PORT)
        writer.close()
        assert sim.world.target.pid is None
        lab = Lab(sim)
        group = await make(lab, (await lab.disk())[2])
        await attach(lab, group)

        assert await read(lab, group, tmp_path / "out") == ""
        await lab.aclose()

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(sim.world.target.address, target.PORT)


@needs_tgtd
async def test_a_program_that_is_just_beginning_does_not_keep_the_address(tmp_path: Path) -> None:
    async with Simulator(small_config(tmp_path / "disks"), tmp_path / "state") as sim:
        waiting = sim.world.target._waiting
        assert waiting is not None
        forked = [os.dup(each.fileno()) for each in waiting.sockets]  # as it has them until it is executed
        lab = Lab(sim)
        try:
            group = await make(lab, (await lab.disk())[2])
            await attach(lab, group)

            assert await read(lab, group, tmp_path / "out") == ""
        finally:
            await lab.aclose()
            for each in forked:
                os.close(each)


@needs_tgtd
async def test_an_address_that_is_taken_fails_the_task_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sim = Simulator(small_config(tmp_path / "disks"), tmp_path / "state")
    address = target.Target(tmp_path / "state").address
    taken = await asyncio.start_server(lambda _, writer: writer.close(), address, target.PORT)
    async with taken:
        async with sim:
            lab = Lab(sim)
            task = await lab.task(await lab.central.post(GROUPS, json=body(lab, (await lab.disk())[2])))
            await lab.aclose()
        async with Simulator(small_config(tmp_path / "disks"), tmp_path / "state"):
            assert "is not served: tgtd does not start" in caplog.text
    assert task["status"] == "FAILED"
    assert f"tgtd does not start at {address}:3260" in task["legacyErrorMessage"]
