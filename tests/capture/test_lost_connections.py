"""What serves a disk, or writes its image, dies while it is copied: the capture goes on, and every byte is right."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from ntxengine.dataplane import checkpoints as due
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import PlaceError
from ntxengine.events import Event, Progressed, Stage
from ntxengine.images.choice import ImageOptions
from ntxengine.images.create import ImageWriter
from tests.capture.lab import MIB, Lab, Witness
from tests.support.processes import processes


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let checkpoints be made often."""
    monkeypatch.setattr(due, "DUE_S", 0.05)
    monkeypatch.setattr(due, "_SELDOMER", 0)


BY_QEMU = ImageOptions(writer="qemu")
"""Only of that one there is a process that can die alone."""


def kill_servers(is_wanted: Callable[[str], bool]) -> int:
    """Kill the qemu-nbd processes of ours whose arguments are wanted; return how many."""
    killed = 0
    for process in processes():
        if process.parent == os.getpid() and process.words[0] == "qemu-nbd" and is_wanted(process.command):
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
    return killed


class Kills(Witness):
    """Kills servers once the copy of a disk, with the options `copy`, has come to each of `moments` (bytes).

    It is slow until the last of them: no moment passes while the loop, on a busy machine, does not look.
    """

    def __init__(self, is_wanted: Callable[[str], bool], moments: list[int], *, label: str = "scsi.0") -> None:
        super().__init__()
        self._is_wanted = is_wanted
        self._moments = moments
        self._label = label
        self.copy = CopyOptions(bandwidth=MIB, connections=1, request_size=256 * 1024)
        self.killed = 0

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        is_copied = isinstance(event, Progressed) and event.stage is Stage.COPY and event.disk_label == self._label
        if is_copied and isinstance(event, Progressed) and self._moments and event.bytes_done >= self._moments[0]:
            del self._moments[0]
            self.killed += kill_servers(self._is_wanted)
            if not self._moments and isinstance(self.copy.bandwidth, Bandwidth):
                self.copy.bandwidth.change("off")


def fill(lab: Lab) -> None:
    lab.write(0, 0, os.urandom(6 * MIB))


def is_writer(command: str) -> bool:
    return ".unfinished-" in command and "--read-only" not in command


async def test_a_capture_goes_on_when_what_writes_the_image_dies(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    killing = Kills(is_writer, [MIB, 3 * MIB])
    lab.make_witness = lambda: killing

    point = await lab.capture(copy=killing.copy, parallel=1, image=BY_QEMU)

    assert killing.killed == 2
    assert lab.stored(point) == lab.guest()
    lab.check_images(point)
    report = point.report.disks[point.disks[0].disk_id]
    assert report.reconnects == 2
    assert report.bytes_repeated is not None
    assert 0 <= report.bytes_repeated <= 6 * MIB
    assert len([text for text in killing.warnings if "trying again" in text]) == 2
    progressed = [event for event in killing.events if isinstance(event, Progressed) and event.stage is Stage.COPY]
    assert all(event.bytes_done <= event.bytes_total for event in progressed)
    lab.assert_clean(points=1)


async def test_an_increment_goes_on_when_what_writes_the_image_dies(v4_lab: Lab) -> None:
    lab = v4_lab
    await lab.capture()
    fill(lab)
    lab.zero(0, MIB, 2 * MIB)
    killing = Kills(is_writer, [MIB, 3 * MIB])
    lab.make_witness = lambda: killing

    point = await lab.capture(copy=killing.copy, parallel=1, image=BY_QEMU)

    assert killing.killed == 2
    assert point.kind == "incremental"
    assert lab.stored(point) == lab.guest()
    lab.check_images(point)
    lab.assert_clean(points=2)


async def test_a_capture_attaches_again_when_what_serves_the_disk_dies(iscsi_lab: Lab) -> None:
    lab = iscsi_lab
    fill(lab)
    killing = Kills(lambda command: "--read-only" in command, [MIB])
    lab.make_witness = lambda: killing

    point = await lab.capture(copy=killing.copy, parallel=1)

    assert killing.killed >= 1
    assert killing.stages.count(Stage.ATTACH) == 3
    assert lab.stored(point) == lab.guest()
    lab.assert_clean(points=1)


async def test_who_does_not_want_to_wait_fails_at_the_first_loss(v4_lab: Lab) -> None:
    lab = v4_lab
    fill(lab)
    killing = Kills(is_writer, [MIB])
    lab.make_witness = lambda: killing

    with pytest.raises(PlaceError):
        await lab.capture(copy=killing.copy, parallel=1, retry_for_s=0, image=BY_QEMU)

    assert lab.points() == []
    lab.make_witness = Witness
    point = await lab.capture(image=BY_QEMU)  # which goes on, if there was a checkpoint
    assert lab.stored(point) == lab.guest()
    lab.assert_clean(points=1)


async def test_a_capture_goes_on_when_what_writes_the_image_dies_once_all_is_copied(
    v4_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = v4_lab
    finish, killed = ImageWriter.finish, []

    async def dies_before(image: ImageWriter) -> None:
        if not killed:
            killed.append(kill_servers(is_writer))
            await asyncio.sleep(0.2)  # the loop learns of its end
        await finish(image)

    monkeypatch.setattr(ImageWriter, "finish", dies_before)

    point = await lab.capture(parallel=1, image=BY_QEMU)

    assert killed == [1]
    assert lab.stored(point) == lab.guest()
    lab.check_images(point)
    lab.assert_clean(points=1)
