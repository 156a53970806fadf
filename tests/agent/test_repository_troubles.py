"""The repository, the state folder and the clock: what goes wrong is said once, nothing is lost, and it goes on."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from ntxengine.agent.records import RunState
from ntxengine.agent.repositories import empty_folder_of
from ntxengine.agent.state import State
from ntxengine.errors import NtxError
from ntxengine.files import durable
from ntxengine.repository import marker
from ntxengine.repository.store import PointStore
from ntxengine.sim import Simulator
from tests.agent.lab import NAMES, write
from tests.agent.troubles import Troubled, troubles
from tests.capture.lab import MIB
from tests.support.power import PoweredDisk
from tests.support.servers import require_root

pytestmark = pytest.mark.slow


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Troubled]:
    with troubles(tmp_path, monkeypatch) as found:
        yield found


def guests_write(sim: Simulator) -> None:
    for vm in range(len(NAMES)):
        write(sim, vm, 0, os.urandom(MIB))


def fill(folder: Path) -> Path:
    """Leave no room where the folder is; removing what is returned gives it back."""
    with suppress(OSError), open(folder / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    return folder / "filler"


async def test_a_full_repository_is_said_once_and_written_when_there_is_room(
    lab: Troubled, small_fs: Callable[[str], Path]
) -> None:
    room = small_fs("64m")
    lab.repository = room / "repository"
    async with lab.cluster() as sim, lab.agent():
        await lab.captured()
        filler = fill(room)
        guests_write(sim)
        await lab.pass_time(minutes=40)
        during = lab.said.taken()
        filler.unlink()
        await lab.captured()
        after = lab.said.taken()

    (error,) = [line for line in during if line.startswith("ERROR")]
    assert error.startswith(f"ERROR: repository {lab.repository}: held")
    assert "No space left on device" in error
    assert "; free some space" in error
    assert len(during) == 1, during
    assert after == [line for line in after if "is used again" in line]
    assert len(after) == 1


class MountPoint:
    """A file system on a folder, until it is taken away."""

    def __init__(self, folder: Path) -> None:
        require_root("to mount")
        self.path, self._disk = folder / "mount point", folder / "disk"
        self.path.mkdir()
        self._disk.mkdir()

    def mount(self) -> None:
        subprocess.run(["mount", "--bind", self._disk, self.path], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)

    @property
    def below(self) -> list[Path]:
        return list(self.path.iterdir())


@pytest.fixture
def mount_point(tmp_path: Path) -> Iterator[MountPoint]:
    found = MountPoint(tmp_path)
    found.mount()
    yield found
    while subprocess.run(["mountpoint", "-q", found.path], check=False).returncode == 0:
        found.unmount()


@pytest.mark.parametrize("below", ["", "ntx/repository"])
async def test_a_repository_that_is_unmounted_is_said_once_and_the_mount_point_stays_empty(
    lab: Troubled, mount_point: MountPoint, below: str
) -> None:
    lab.repository = mount_point.path / below
    async with lab.cluster():
        async with lab.agent():
            await lab.captured()
            mount_point.unmount()
            await lab.pass_time(minutes=40)
            during, left = lab.said.taken(), mount_point.below
            mount_point.mount()
            await lab.captured()
            mount_point.unmount()
        lab.said.taken()
        async with lab.agent():
            await lab.pass_time(minutes=20)
            after_restart, left_after_restart = lab.said.taken(), mount_point.below
            mount_point.mount()
            await lab.captured()
        points = {point.vm_name for point in PointStore.open(lab.repository).points()}

    for said in (during, after_restart):
        (error,) = [line for line in said if line.startswith("ERROR")]
        assert "is its file system mounted?" in error
    assert left == left_after_restart == []
    assert points == set(NAMES)


async def test_a_mount_point_that_no_state_knows_stays_empty_too(lab: Troubled, mount_point: MountPoint) -> None:
    lab.repository = mount_point.path
    async with lab.cluster():
        async with lab.agent():
            await lab.captured()
        mount_point.unmount()
        lab.state = lab.folder / "a new state"
        lab.said.taken()

        async with lab.agent():
            await lab.pass_time(minutes=40)
            during, left = lab.said.taken(), mount_point.below
            mount_point.mount()
            await lab.captured()

    (error,) = [line for line in during if line.startswith("ERROR")]
    assert "is an empty folder that nothing is mounted on: if a file system belongs there, mount it" in error
    assert f"ntx repository create {lab.repository}" in error
    assert left == []


def test_a_repository_is_made_below_what_is_mounted_or_has_something_in_it(
    tmp_path: Path, mount_point: MountPoint
) -> None:
    assert empty_folder_of(tmp_path / "a" / "b") is None
    assert empty_folder_of(mount_point.path / "a") is None
    mount_point.unmount()
    assert empty_folder_of(mount_point.path / "a" / "b") == mount_point.path


async def test_a_disk_that_fails_below_the_repository_is_said_once(lab: Troubled, powered_disk: PoweredDisk) -> None:
    lab.repository = powered_disk.path / "repository"
    async with lab.cluster() as sim, lab.agent():
        await lab.captured()
        powered_disk.lose()
        guests_write(sim)
        await lab.pass_time(minutes=40)
        during = lab.said.taken()
        await asyncio.to_thread(powered_disk.come_back)
        await lab.captured()

    (error,) = [line for line in during if line.startswith("ERROR")]
    assert error.startswith(f"ERROR: repository {lab.repository}: held")
    assert "Input/output error" in error


async def test_a_stale_mount_is_said_once(lab: Troubled, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(path: Path) -> str:
        raise durable.read_error(path, OSError(errno.ESTALE, os.strerror(errno.ESTALE)))

    async with lab.cluster(), lab.agent():
        await lab.captured()
        with monkeypatch.context() as broken:
            broken.setattr(marker, "read", stale)
            await lab.pass_time(minutes=40)
        during = lab.said.taken()
        await lab.captured()

    (error,) = [line for line in during if line.startswith("ERROR")]
    assert "Stale file handle" in error


async def test_a_full_state_folder_is_said_once_runs_go_on_and_what_is_missing_is_written(
    lab: Troubled, small_fs: Callable[[str], Path]
) -> None:
    lab.state = small_fs("1m")
    async with lab.cluster(), lab.agent() as service:
        await lab.captured()
        filler = fill(lab.state)
        await lab.captured(2)
        during, missed = lab.said.taken(), {run.id for run in lab.ended}
        filler.unlink()
        await lab.captured()
        after = lab.said.taken()
        assert not service.state.problem

    (error,) = during
    assert "is full" in error
    assert "the history is not written, runs go on" in error
    assert len([line for line in after if "is written again" in line]) == 1
    state = State(lab.state)
    assert missed <= {run.id for run in state.runs()}
    state.close()


async def test_a_state_folder_that_is_read_only_ends_the_start_with_one_line(
    lab: Troubled, small_fs: Callable[[str], Path]
) -> None:
    lab.state = small_fs("1m")
    async with lab.cluster():
        async with lab.agent():
            await lab.captured()
        subprocess.run(["mount", "-o", "remount,ro", lab.state], check=True)
        with pytest.raises(NtxError) as refused:
            async with lab.agent():
                pass

    assert str(lab.state) in str(refused.value)
    assert "Read-only file system" in str(refused.value)


@pytest.mark.parametrize(
    ("jump", "says"),
    [
        (timedelta(days=-1), "back by"),
        (timedelta(days=7), "forward by"),
        (timedelta(days=-365), "back by"),
    ],
    ids=["back-a-day", "forward-a-week", "back-a-year"],
)
async def test_a_clock_that_is_set_is_said_once_and_captures_go_on(lab: Troubled, jump: timedelta, says: str) -> None:
    async with lab.cluster(), lab.agent():
        await lab.captured()
        before = len(lab.ended)
        lab.time.set_by = jump
        await lab.captured(2)
        during = lab.said.taken()
        points = PointStore.open(lab.repository).points()

    assert len([line for line in during if f"the clock was set {says}" in line]) == 1, during
    assert [line for line in during if line.startswith("ERROR")] == []
    assert len(lab.ended) - before <= 8  # no storm of what was missed
    assert {run.state for run in lab.ended} <= {RunState.SUCCEEDED, RunState.INTERRUPTED}
    assert {point.vm_name for point in points} == set(NAMES)
