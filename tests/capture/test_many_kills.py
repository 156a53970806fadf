"""SIGKILL at random moments of captures of two disks, gone on with by the same command: no wrong byte, no leftover.

A few kills in `make test`; `make soak` sets NTX_CAPTURE_KILLS and NTX_SOAK_SEED for hundreds.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from ntxengine.repository import Point
from ntxengine.repository.layout import CATALOG_FILE, UNFINISHED_PREFIX
from ntxengine.sweep import sweep
from tests.capture.lab import MIB, Lab
from tests.capture.resuming import stored_to
from tests.capture.test_interrupted import servers_gone
from tests.capture.test_soak import leftovers, new_points
from tests.copying.interrupting import processes_of, repeated, start, wait_until

SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))
KILLS = int(os.environ.get("NTX_CAPTURE_KILLS", "4"))
BANDWIDTH = 4 * MIB
CHECKPOINT_S = 0.3  # a tenth, and up to two until it is asked for
LONGEST_S = 0.6
ENOUGH_S = 600.0
MOST_JOURNAL = 1024**2
SOON = 0.15
"""Of the kills so many come at any time after the start, the others when something of the point is there."""

WAYS = (["--full"], ["--full"], [], ["--scan"])


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for what the captures need for a while: sockets have short names."""
    with tempfile.TemporaryDirectory(prefix="ntx-test-") as folder:
        yield Path(folder)


class KilledCaptures:
    """Captures of one VM, whose guest goes on meanwhile.  `right` has what the points must hold."""

    def __init__(self, lab: Lab, temporary: Path) -> None:
        self.right: dict[str, list[bytes]] = {}
        self.kills = self.resumed = self.repeated = self.measured = 0
        self._lab = lab
        self._temporary = temporary
        self._chance = random.Random(SEED)

    async def run_to_the_end(self) -> None:
        """Run the same command until a point is there; when there were enough kills, the next run comes to its end."""
        arguments = ["--bandwidth", str(BANDWIDTH), *self._chance.choice(WAYS)]
        held: list[list[bytes]] = []
        before = {point.id for point in self._lab.points(self._lab.vm_id)}
        stored, in_vain = 0, 0
        while not (made := new_points(self._lab, before)):
            self._guest_writes()
            held.append(self._lab.guest())
            code, err = self._run_and_kill(arguments, LONGEST_S * (1 + in_vain))
            was_stored, stored = stored, sum(stored_to(self._lab).values())
            in_vain = 0 if stored > was_stored else in_vain + 1
            assert code in (0, -signal.SIGKILL), err
            assert await servers_gone(self._lab.repository.path)
            if code != 0:
                self.kills += 1
                self._measure(is_full="--full" in arguments)
        (point,) = made
        self._check(point, held)

    def _guest_writes(self) -> None:
        for disk in range(2):
            self._lab.write(disk, self._chance.randrange(2 * MIB), self._chance.randbytes(MIB))
        self._lab.zero(0, self._chance.randrange(4) * MIB, MIB // 2)

    def _run_and_kill(self, arguments: list[str], longest_s: float) -> tuple[int, str]:
        where = ("db01", "--to", self._lab.repository.path)
        was = self._changed_at()
        env = {**self._lab.sim.env, "TMPDIR": str(self._temporary)}
        process = start("capture", *where, *arguments, "--progress", "none", env=env)
        if self._chance.random() > SOON:
            wait_until(lambda: self._changed_at() != was or process.poll() is not None, 60)
        return killed_after(self._chance.uniform(0, longest_s) if self.kills < KILLS else ENOUGH_S, process)

    def _changed_at(self) -> int:
        changed = [0]
        for path in self._unfinished_files():
            try:
                changed.append(path.stat().st_mtime_ns)
            except FileNotFoundError:
                continue
        return max(changed)

    def _unfinished_files(self) -> Iterator[Path]:
        return self._lab.repository.path.glob(f"*/{UNFINISHED_PREFIX}*/*")

    def _measure(self, *, is_full: bool) -> None:
        """Look at the journals, and what of a full point will be copied again."""
        for path in self._unfinished_files():
            if path.suffix != ".journal":
                continue
            assert path.stat().st_size < MOST_JOURNAL
            if is_full:
                self.repeated += repeated(path, path.with_suffix(".manifest"))
                self.measured += 1

    def _check(self, point: Point, held: list[list[bytes]]) -> None:
        """A point holds the VM as it was when the run began that froze it: the last run, if it went on with nothing."""
        stored = self._lab.stored(point)
        assert stored in held
        assert (stored == held[-1]) is (point.report.resumed == 0)
        self._lab.check_images(point)
        self.resumed += point.report.resumed
        self.right[point.id] = stored

    def check_end(self) -> None:
        """Check that little was repeated, and that nothing is left but the points."""
        lab = self._lab
        assert [point.id for point in lab.points(lab.vm_id)] == list(self.right)
        (lab.repository.path / CATALOG_FILE).unlink()
        points = lab.points(lab.vm_id)
        assert {point.id: lab.stored(point) for point in points} == self.right
        lab.assert_clean(points=len(self.right))
        assert leftovers(lab.repository.path) == []
        for each in self._temporary.iterdir():
            # The last one of all may have been killed when its point was there: the next to use the folder removes it.
            assert each.name.startswith("ntx-run-")
            shutil.rmtree(each)
        assert wait_until(lambda: processes_of(self._temporary) == [])
        assert self.resumed >= self.kills // 4
        if self.measured:
            assert self.repeated / self.measured <= 2 * CHECKPOINT_S * BANDWIDTH


def killed_after(seconds: float, process: Popen[bytes]) -> tuple[int, str]:
    """Kill a process after some time, unless it ends before; return its status and what it said."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    _, err = process.communicate()
    return process.returncode, err.decode()


async def test_captures_that_are_killed_at_random_moments_come_to_their_end(v4_lab: Lab, temporary: Path) -> None:
    captures = KilledCaptures(v4_lab, temporary)

    while captures.kills < KILLS:
        await captures.run_to_the_end()

    await sweep(v4_lab.prism, v4_lab.repository, attach=v4_lab.attach_options)
    captures.check_end()
    again = f"{captures.repeated} bytes of data repeated by {captures.measured} disks"
    sys.stdout.write(f"{captures.kills} kills in {len(captures.right)} points, {captures.resumed} resumed, {again}\n")
