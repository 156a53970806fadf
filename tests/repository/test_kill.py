"""SIGKILL at any moment: a point is whole or it does not exist, and the next capture works."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ntxengine.dataplane.manifest import Manifest
from ntxengine.repository.store import PointStore
from tests.repository.builders import DISK, OTHER_DISK, VM, ModelDisk, Write, capture, read_image
from tests.repository.killed_capture import CHANGES, OTHER_CHANGES, SIZE, capture_and_die


def run_and_kill(path: Path, before: bytes, steps: int) -> int:
    """Return the status of a process that captured until step `steps`: 0 once there are not as many."""
    child = os.fork()
    if child == 0:
        try:
            capture_and_die(path, before, steps)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_capture_killed_at_any_step_leaves_a_whole_point_or_none(repository: PointStore) -> None:
    model = ModelDisk(SIZE)
    capture(repository, model, [Write(0, SIZE, 1)])
    before = bytes(model.data)
    expected = {
        DISK: ModelDisk(SIZE, before).apply(CHANGES).data,
        OTHER_DISK: ModelDisk(SIZE).apply(OTHER_CHANGES).data,
    }
    outcomes = []

    for steps in range(200):
        status = run_and_kill(repository.path, before, steps)

        assert status in (0, -signal.SIGKILL)
        fresh = PointStore.open(repository.path)
        points = fresh.points(VM)
        outcomes.append(len(points))
        for point in points[1:]:
            for disk in point.disks:
                image, *_ = fresh.images(point, disk)
                subprocess.run(["qemu-img", "check", "-q", image], check=True)
                assert read_image(image, disk.size) == expected[disk.disk_id]
                Manifest.open(point.manifest_path(disk)).close()
            shutil.rmtree(point.path)  # what follows builds on the first point again
        if status == 0:
            break

    assert status == 0
    assert len(outcomes) > 30
    assert set(outcomes) == {1, 2}
    assert outcomes == sorted(outcomes)
    capture(repository, model)
    assert list(repository.path.glob("*/.unfinished-*")) == []


@pytest.mark.parametrize("program", ["qemu-nbd"])
def test_what_we_started_dies_with_us(repository: PointStore, program: str) -> None:
    point = capture(repository, ModelDisk(512))
    script = (
        "import asyncio, pathlib, sys\n"
        "from ntxengine.images.qemu_nbd import QemuNbd\n"
        "from ntxengine.images.served import ImageFile\n"
        "async def main():\n"
        "    async with QemuNbd(ImageFile(pathlib.Path(sys.argv[1])), read_only=True) as server:\n"
        "        print(server.pid, flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, point.image_path(point.disks[0])],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        watch = os.pidfd_open(pid)
        name = Path(f"/proc/{pid}/comm").read_text().strip()

        process.kill()
        process.wait()

    assert name == program
    try:
        assert select.select([watch], [], [], 60)[0] == [watch]
    finally:
        os.close(watch)
