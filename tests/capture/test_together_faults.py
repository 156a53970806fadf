"""Random faults while several VMs are captured together: each has a right copy or a clear error, nothing stays behind.

The seed is in the name of each test.  Three in `make test`; `make soak` sets NTX_FAULT_ROUNDS and NTX_SOAK_SEED.
"""

from __future__ import annotations

import logging
import os
from contextlib import aclosing
from pathlib import Path
from random import Random

import pytest

from ntxengine.capture import Outcome
from ntxengine.errors import CredentialsError, NtxError
from ntxengine.prism.http.login import REFUSED_FOR_S
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.sim import SimConfig, run_in_thread
from ntxengine.sim.config import DiskConfig, GroupConfig, GuestToolsConfig, VmConfig
from ntxengine.sweep import sweep
from tests.capture.lab import fast_clock, open_lab
from tests.capture.test_random_faults import MOMENTS, MOST_REQUESTS
from tests.capture.test_together import NAMES, Several
from tests.capture.troubles import end_trouble, make_trouble
from tests.prism.cancels import Cancels
from tests.support.servers import require

log = logging.getLogger(__name__)

ROUNDS = int(os.environ.get("NTX_FAULT_ROUNDS", "3"))
FIRST_SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))


def random_config(chance: Random, folder: Path) -> SimConfig:
    """Three VMs with a small disk, and a group that one or two of them have."""
    folder.mkdir()

    def disk(name: str) -> DiskConfig:
        path = folder / f"{name}.raw"
        path.write_bytes(bytes(512 * chance.randrange(1, 2000)))
        return DiskConfig(path)

    vms = [VmConfig(name, disks=[disk(name)], guest_tools=GuestToolsConfig()) for name in ("db01", *NAMES)]
    group = GroupConfig("data", disks=[disk("group")], vms=list(NAMES[: chance.randrange(1, 3)]), is_shared=True)
    config = SimConfig(vms=vms, volume_groups=[group])
    config.style = chance.choice(["plain", "recorded"])
    return config


class Case:
    """What each point must hold."""

    def __init__(self, several: Several, network: Cancels, chance: Random) -> None:
        self.several = several
        self.network = network
        self.chance = chance
        self.right: dict[str, dict[str, bytes]] = {}
        self.log: list[str] = []

    def write(self) -> None:
        """Let the guests write."""
        config = self.several.lab.sim.config
        for disk in [*(vm.disks[0] for vm in config.vms), config.volume_groups[0].disks[0]]:
            with disk.path.open("r+b") as file:
                file.seek(self.chance.randrange(disk.path.stat().st_size))
                file.write(self.chance.randbytes(1))

    def guest(self, name: str) -> dict[str, bytes]:
        group = self.several.lab.sim.config.volume_groups[0]
        disks = {"scsi.0": self.several.path(name)}
        disks |= {"vg:data.0": group.disks[0].path} if name in group.vms else {}
        return {label: path.read_bytes() for label, path in disks.items()}

    async def capture(self, cancel_at: int) -> list[Outcome]:
        self.write()
        before = {point.id for point in self.several.lab.points()}
        outcomes: list[Outcome] = []

        async def work() -> None:
            outcomes.extend(await self.several.together())

        try:
            cancelled = await self.network.run(work, cancel_at, self.chance.choice(MOMENTS))
            told = [f"{type(one.error).__name__}: {one.error}" if one.error else "captured" for one in outcomes]
            self.log.append(f"cancelled at request {cancel_at}" if cancelled else "; ".join(told))
        except NtxError as error:
            self.log.append(f"{type(error).__name__}: {error}")
        for point in self.several.lab.points():
            if point.id not in before:
                self.right[point.id] = self.guest(point.vm_name)
        return outcomes

    def prove(self) -> None:
        points = self.several.lab.points()
        assert {point.id for point in points} == self.right.keys()
        for point in points:
            held = self.several.stored(point)
            assert "scsi.0" in held
            assert held == {label: self.right[point.id][label] for label in held}, point.id

    def check_cluster(self) -> None:
        lab = self.several.lab
        newest = [points[-1] for name in NAMES if (points := lab.points(lab.sim.vm_id(name)))]
        assert set(lab.sim.world.state.points) == {point.recovery_point_id for point in newest}
        assert (lab.hot_added(), lab.unfinished()) == ([], [])


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + ROUNDS))
async def test_captures_together_among_faults_are_right_or_clearly_refused(seed: int, tmp_path: Path) -> None:
    require("qemu-nbd", "qemu-img", "setpriv")
    chance = Random(seed)
    config = random_config(chance, tmp_path / "disks")
    repository = Repository(PointStore.create(tmp_path / "repository"))
    with run_in_thread(config, tmp_path / "cluster") as sim:
        async with aclosing(Cancels(sim)) as network:
            clock = fast_clock()
            lab = await open_lab(sim, "v4", repository, attach="hot-add", clock=clock, transport=network)
            case = Case(Several(lab), network, chance)
            try:
                for _ in range(2):
                    case.log += make_trouble(chance, config.faults, "v4")
                    outcomes = await case.capture(chance.choice([0, 0, 0, chance.randrange(1, 2 * MOST_REQUESTS)]))
                    end_trouble(config)
                    assert all(len(str(outcome.error).splitlines()) <= 1 for outcome in outcomes)
                outcomes = await case.capture(0)
                if any(isinstance(outcome.error, CredentialsError) for outcome in outcomes):
                    await clock.sleep(8 * REFUSED_FOR_S)  # a login that was refused is not tried again at once
                    outcomes = await case.capture(0)
                assert [outcome.error for outcome in outcomes] == [None] * 3
                case.prove()
                await sweep(lab.prism, lab.repository, attach=lab.attach_options)
                case.check_cluster()
            finally:
                log.warning("%s", "\n".join(case.log))
                await lab.prism.aclose()
