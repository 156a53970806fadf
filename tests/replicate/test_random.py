"""Random cycles of `ntx replicate`, killed at random moments and at each durable step: what is whole is right.

A few cycles in `make test`; `make soak` sets NTX_REPLICA_CYCLES and NTX_SOAK_SEED.  Foreign tools compare.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ntxengine.concurrency.signals import send
from ntxengine.sim.config import DiskConfig
from ntxengine.sweep import sweep
from tests.capture.lab import MIB, Lab
from tests.capture.test_interrupted import ROOT
from tests.replicate.conftest import FOLLOWING, MOST_DISKS
from tests.replicate.replicating import Replicating

pytestmark = pytest.mark.slow

CYCLES = int(os.environ.get("NTX_REPLICA_CYCLES", "5"))
SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))

LONGEST_S = 2.0
"""Most cycles of the lab's VM are over by then."""
MOST_STEPS = 60
"""Durable steps of a cycle, and a few more."""
FEW_STEPS = 10
"""Every cycle has more."""
MOST_KILLS = 2
"""In a row: then a cycle comes to its end."""
WAYS = [[], [], [], [], ["--scan"], ["--full"], ["--on-lost-tracking", "full"]]

DYING = "from tests.capture.dying import main; main()"
NTX = "import sys; from ntxengine.cli.main import main; sys.exit(main())"


class Cycles:
    """`held` is what the guest's disks were when the process began that may have made a generation.

    The first process of all is killed, whatever chance and the machine say.
    """

    def __init__(self, following: Replicating, name: str, folder: Path) -> None:
        self._following = following
        self._lab: Lab = following.lab
        self._folder = folder
        self._chance = random.Random(f"{SEED} {name}")
        self._held: dict[int, list[bytes]] = {}
        self.kills = 0

    async def run_one(self) -> None:
        """Let the guest do something, and bring the replica to the next generation, whatever kills it meanwhile."""
        start = self._generation
        for attempt in range(MOST_KILLS + 1):
            await self._something_happens()
            self._held[self._generation + 1] = self._lab.guest()
            is_last = attempt == MOST_KILLS
            code, said = await self._process(is_last or (self.kills > 0 and self._chance.random() < 0.3))
            assert code in (0, -signal.SIGKILL), said
            self._check_kept()
            if code == 0:
                break
            self.kills += 1
        assert self._generation > start
        assert self._following.dead is None
        self._following.assert_equal(self._held[self._generation])

    @property
    def _generation(self) -> int:
        found = self._following.state.replica()
        return 0 if found is None else found.generation

    def _check_kept(self) -> None:
        """Compare what the target has, unless it is between two generations, or has not got its names yet."""
        following = self._following
        if following.state.replica() is None or (following.dead is not None and not following.dead.keeps):
            return
        if following.path is not None:
            folder = following.folder()
            if any((folder / old).exists() for old, _ in following.replica.renames):
                return
        following.assert_equal(self._held[self._generation])

    async def _something_happens(self) -> None:
        lab, chance = self._lab, self._chance
        disks = lab.sim.config.vms[0].disks
        for _ in range(chance.randrange(4)):
            disk = chance.randrange(len(disks))
            size = lab.disk_files[disk].stat().st_size
            offset = chance.randrange(0, size - 512)
            length = min(size - offset, chance.choice([1, 512, 4096, 65536, 300_000]))
            match chance.randrange(6):
                case 0 | 1 | 2:
                    lab.write(disk, offset, chance.randbytes(length))
                case 3:
                    lab.write(disk, offset, bytes(length))
                case 4:
                    lab.zero(disk, offset // 65536 * 65536, 256 * 1024)
                    os.truncate(lab.disk_files[disk], size)
                case 5:
                    lab.resize(disk, max(MIB, size + chance.choice([-1, 1, 1]) * chance.choice([512, 65536, MIB])))
        if chance.random() < 0.15 and self._following.state.replica() is not None:
            with suppress(Exception):
                await lab.prism.delete_recovery_point(self._following.replica.recovery_point_id)
        if chance.random() < 0.2:
            if len(disks) == MOST_DISKS:
                disks.pop()
            else:
                added = self._folder / f"added-{chance.randrange(2**32)}.raw"
                added.write_bytes(chance.randbytes(MIB))
                disks.append(DiskConfig(added))
            lab.reconfigure()

    async def _process(self, comes_to_its_end: bool) -> tuple[int | None, str]:
        following = self._following
        to = [word for text in following.text.split() for word in ("--to", text)]
        words = ["replicate", "db01", *to, "--state", str(self._lab.repository.path), "--progress", "none"]
        words += ["--source", "hotadd", *self._chance.choice(WAYS)]
        words += ["--format", following.form] if following.form else ["--overwrite"]
        at_a_step = not comes_to_its_end and (self.kills == 0 or self._chance.random() < 0.6)
        steps = MOST_STEPS if self.kills else FEW_STEPS
        command = [DYING, str(self._chance.randrange(steps))] if at_a_step else [NTX]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NTX_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", *command, *words),
            env={**kept, **self._lab.sim.env, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        said = asyncio.create_task(process.communicate())
        if not comes_to_its_end and not at_a_step:
            await asyncio.sleep(self._chance.uniform(0.3, LONGEST_S))
            send(process, signal.SIGKILL)
        _, err = await said
        return process.returncode, err.decode()


@pytest.fixture(params=FOLLOWING)
def following(request: pytest.FixtureRequest) -> Replicating:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Replicating)
    return found


async def test_every_whole_generation_is_the_disks(
    following: Replicating, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    cycles = Cycles(following, request.node.callspec.id, tmp_path)

    for _ in range(CYCLES):
        await cycles.run_one()

    assert cycles.kills
    lab = following.lab
    await sweep(lab.prism, lab.repository, gives_up=True)
    assert lab.hot_added() == []
    assert len(lab.recovery_points()) <= 1
