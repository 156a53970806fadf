"""The power goes at any step of a capture: what was committed is there and whole, and all else is as if it never was.

A few cuts in `make test`; `make soak` sets NTX_CUT_ROUNDS and NTX_SOAK_SEED for more.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from ntxengine.dataplane.manifest import Manifest
from ntxengine.repository.store import PointStore
from tests.repository.builders import DISK, OTHER_DISK, VM, ModelDisk, Write, capture, read_image
from tests.repository.killed_capture import CHANGES, OTHER_CHANGES, SIZE
from tests.support.power import PoweredDisk
from tests.support.servers import require

ROUNDS = int(os.environ.get("NTX_CUT_ROUNDS", "5"))
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))
ROOT = Path(__file__).resolve().parents[2]

STEPS = 70
"""More than a capture has: then it comes to its end, and the cut is right behind it."""


def capture_until(disk: PoweredDisk, steps: int, *, by: tuple[str, ...] = ()) -> int:
    """Make a second point, in a process that kills itself at a step; return its status."""
    script = (
        "import sys; from pathlib import Path; from tests.repository.killed_capture import capture_and_die; "
        "capture_and_die(Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), int(sys.argv[3]))"
    )
    before = disk.path.parent / "before"
    return subprocess.run(
        [*by, sys.executable, "-c", script, disk.path / "repo", before, str(steps)],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    ).returncode


def make_first(disk: PoweredDisk) -> dict[str, bytes]:
    """Make a point, synced, and return what the second one will hold."""
    repository = PointStore.create(disk.path / "repo")
    model = ModelDisk(SIZE)
    capture(repository, model, [Write(0, SIZE, 1)])
    (disk.path.parent / "before").write_bytes(bytes(model.data))
    return {
        DISK: bytes(ModelDisk(SIZE, bytes(model.data)).apply(CHANGES).data),
        OTHER_DISK: bytes(ModelDisk(SIZE).apply(OTHER_CHANGES).data),
    }


def check_whole(store: PointStore, number: int, expected: dict[str, bytes]) -> None:
    point = store.points(VM)[number]
    for disk in point.disks:
        image, *_ = store.images(point, disk)
        subprocess.run(["qemu-img", "check", "-q", image], check=True)
        assert read_image(image, disk.size) == expected[disk.disk_id]
        Manifest.open(point.manifest_path(disk)).close()


def test_what_was_committed_is_there_after_a_cut_at_any_step(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    ended: list[int] = []
    for number, steps in enumerate([STEPS, *(chance.randrange(STEPS) for _ in range(ROUNDS - 1))]):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk = PoweredDisk(folder)
        try:
            expected = make_first(disk)
            status = capture_until(disk, steps)
            assert status in (0, -signal.SIGKILL)

            disk.cut()

            store = PointStore.open(disk.path / "repo")
            points = store.points(VM)
            ended.append(len(points))
            assert len(points) >= (2 if status == 0 else 1), steps
            check_whole(store, 0, {DISK: (folder / "before").read_bytes()})
            if len(points) == 2:
                check_whole(store, 1, expected)
            # What is left of it is in nobody's way.
            assert capture_until(disk, STEPS) == 0
        finally:
            disk.close()
    assert ended[0] == 2


def test_a_cut_can_be_seen(powered_disk: PoweredDisk) -> None:
    """The control: a capture whose syncs do nothing loses its point."""
    require("eatmydata")
    make_first(powered_disk)
    powered_disk.sync()
    assert capture_until(powered_disk, STEPS, by=("eatmydata",)) == 0

    powered_disk.cut()

    assert len(PointStore.open(powered_disk.path / "repo").points(VM)) == 1
