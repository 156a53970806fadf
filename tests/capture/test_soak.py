"""Captures that are stopped at random moments, in whatever order: no listed point ever holds a wrong byte.

A few rounds in `make test`; `make soak` sets NTX_SOAK_ROUNDS and NTX_SOAK_SEED for hundreds.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

from ntxengine.concurrency.signals import send
from ntxengine.repository import Point
from ntxengine.sweep import sweep
from tests.capture.lab import DATA_SIZE, MIB, SYSTEM_SIZE, Lab
from tests.capture.test_interrupted import ROOT, servers_gone
from tests.support.servers import require

ROUNDS = int(os.environ.get("NTX_SOAK_ROUNDS", "6"))
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))

SIGNALS = [signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, None]
"""What ends a capture; None lets it run to its end."""

WAYS = [[], [], [], ["--full"], ["--scan"], ["--max-chain", "3"], ["--no-verify"], ["--consistency", "crash"]]
SOURCES = ["auto", "hotadd", "iscsi"]
LONGEST_S = 2.5
"""Most captures of the lab's VM are done by then, so that a signal may come at any moment of one."""


async def run_and_stop(
    lab: Lab, arguments: list[str], after_s: float, by: signal.Signals | None
) -> tuple[int | None, str]:
    """Run `ntx capture`, and stop it by a signal after some time.  Return its exit code, and what it said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NTX_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ntxengine.cli.main", "capture", "db01", "--to", str(lab.repository.path), *arguments),
        env={**kept, **lab.sim.env, "PYTHONPATH": str(ROOT / "src")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    said = asyncio.create_task(process.communicate())
    if by is not None:
        await asyncio.sleep(after_s)
        send(process, by)
    _, err = await said
    return process.returncode, err.decode()


class Guest:
    """A guest that writes, trims and zeroes at random."""

    def __init__(self, lab: Lab, chance: random.Random) -> None:
        self._lab = lab
        self._chance = chance

    def work(self) -> None:
        for _ in range(self._chance.randrange(4)):
            disk = self._chance.randrange(2)
            size = (SYSTEM_SIZE, DATA_SIZE)[disk]
            offset = self._chance.randrange(size)
            length = min(self._chance.choice([1, 512, 4096, 65536, 100_001, MIB]), size - offset)
            if self._chance.random() < 0.3:
                self._lab.zero(disk, offset, length)
            else:
                self._lab.write(disk, offset, self._chance.randbytes(length))


async def test_no_point_is_wrong_whatever_stops_a_capture(v4_lab: Lab) -> None:
    require("tgtd")
    lab = v4_lab
    chance = random.Random(SEED)
    guest = Guest(lab, chance)
    right: dict[str, list[bytes]] = {}
    frozen: dict[str, list[bytes]] = {}

    for _ in range(ROUNDS):
        guest.work()
        before = {point.id for point in lab.points(lab.vm_id)}
        arguments = [*chance.choice(WAYS), "--source", chance.choice(SOURCES)]
        by = chance.choice(SIGNALS)
        code, err = await run_and_stop(lab, arguments, chance.uniform(0, LONGEST_S), by)
        assert await servers_gone(lab.repository.path)
        for point in new_points(lab, before):
            right[point.id] = frozen.get(point.id) or lab.guest()
        # One that is gone on with later holds what there was now.
        for unfinished in lab.unfinished():
            frozen.setdefault(unfinished.name.removeprefix(".unfinished-"), lab.guest())
        assert code in expected_codes(by) or ended_in_the_start_of_python(code, by, err), (code, by, arguments, err)
        if chance.random() < 0.2:
            await sweep(lab.prism, lab.repository, attach=lab.attach_options)

    last = await lab.capture()
    right[last.id] = frozen.get(last.id) or lab.guest()
    await sweep(lab.prism, lab.repository, attach=lab.attach_options)
    found = lab.points(lab.vm_id)
    assert [point.id for point in found] == list(right)
    for point in found:
        assert lab.stored(point) == right[point.id], point.id
        lab.check_images(point)
    lab.assert_clean(points=len(right))
    assert leftovers(lab.repository.path) == []


def expected_codes(by: signal.Signals | None) -> tuple[int, ...]:
    """Before ntx listens to signals, the kernel ends it."""
    return (0,) if by is None else (0, 128 + by, -by)


def ended_in_the_start_of_python(code: int | None, by: signal.Signals | None, err: str) -> bool:
    """Python that is interrupted before our first line ends with 1, and a traceback that has nothing of ours."""
    return (code, by) == (1, signal.SIGINT) and "KeyboardInterrupt" in err and "/ntxengine/" not in err


def new_points(lab: Lab, before: set[str]) -> list[Point]:
    return [point for point in lab.points(lab.vm_id) if point.id not in before]


def leftovers(repository: Path) -> list[Path]:
    """Return the unfinished points and temporary names in a repository.

    Records of what was asked of the cluster stay until no late answer to them can come.
    """
    return [path for path in repository.rglob(".*") if not path.name.startswith((".lock", ".cluster-"))]
