"""Random VMs, random faults, cancelled at random requests: a right copy or a clear error, and nothing stays behind.

The seed is in the name of each test.  Ten in `make test`; `make soak` sets NTX_FAULT_ROUNDS and NTX_SOAK_SEED.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from contextlib import aclosing
from pathlib import Path
from random import Random

import pytest

from ntxengine.errors import NtxError
from ntxengine.events import Event, Stage, StageBegan
from ntxengine.prism.http.login import REFUSED_FOR_S
from ntxengine.repository import Point, Repository
from ntxengine.repository.store import PointStore
from ntxengine.restore import restore
from ntxengine.sim import SimConfig, run_in_thread
from ntxengine.sim.config import ContainerConfig, DiskConfig, GuestToolsConfig, VmConfig
from ntxengine.sim.faults import Faults
from ntxengine.sweep import sweep
from tests.capture.conftest import WAYS
from tests.capture.lab import Lab, Witness, fast_clock, open_lab
from tests.capture.troubles import NOT_HERE, TROUBLES, end_trouble, make_trouble
from tests.prism.cancels import Cancels, Moment
from tests.support.servers import require

log = logging.getLogger(__name__)

ROUNDS = int(os.environ.get("NTX_FAULT_ROUNDS", "10"))
FIRST_SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))
SECTOR = 512
MOMENTS: tuple[Moment, Moment] = ("before", "after")
MOST_REQUESTS = 40
"""A capture has about as many."""


def test_every_fault_of_the_simulator_takes_part() -> None:
    every = {field.name for field in dataclasses.fields(Faults)}

    assert every >= TROUBLES.keys()
    assert not every - TROUBLES.keys() - NOT_HERE.keys()


class Guest:
    """Writes at random to disks of random sizes, also while it is being captured."""

    def __init__(self, lab: Lab, chance: Random) -> None:
        self._lab = lab
        self._chance = chance

    def work(self) -> None:
        for _ in range(self._chance.randrange(1, 4)):
            disk = self._chance.randrange(len(self._lab.disk_files))
            size = self._lab.disk_files[disk].stat().st_size
            offset = self._chance.randrange(size)
            length = min(self._chance.choice([1, 512, 4096, 65536, 300_001]), size - offset)
            if self._chance.random() < 0.3:
                self._lab.zero(disk, offset, length)
            else:
                self._lab.write(disk, offset, self._chance.randbytes(length))


class Oracle(Witness):
    """Remembers what the guest's disks held when a point was frozen, and lets the guest go on right after that."""

    def __init__(self, lab: Lab, guest: Guest, frozen: dict[str, list[bytes]]) -> None:
        super().__init__()
        self._lab = lab
        self._guest = guest
        self._frozen = frozen

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageBegan) and event.stage is Stage.FREEZE:
            self._frozen[event.point_id] = self._lab.guest()
        super().__call__(event)

    def began(self, stage: Stage) -> None:
        if stage is Stage.CHANGES:
            self._guest.work()


def random_config(chance: Random, folder: Path) -> SimConfig:
    """A VM with one to three disks of odd sizes in one of two containers."""
    disks = [
        DiskConfig(
            folder / f"{number}.raw",
            size=SECTOR * chance.choice([1, 127, 128, 129, chance.randrange(1, 6000)]),
            container=chance.choice(["default", "fast"]),
        )
        for number in range(chance.randrange(1, 4))
    ]
    folder.mkdir()
    tools = chance.choice([None, GuestToolsConfig(), GuestToolsConfig(reachable=False)])
    config = SimConfig(vms=[VmConfig("db01", disks=disks, guest_tools=tools)])
    config.containers.append(ContainerConfig("fast"))
    config.style = chance.choice(["plain", "recorded"])
    config.disks_in_recovery_point = chance.random() < 0.5
    config.extra_info_as_text = chance.random() < 0.5
    config.limits.regions_per_page = chance.choice([1, 3, 10_000])
    config.limits.session_s = chance.choice([900, 900, 0.3])
    config.limits.task_s = chance.choice([0, 0.01])
    return config


class Case:
    """One VM, one repository, one cluster, and what each point must hold."""

    def __init__(self, lab: Lab, network: Cancels, chance: Random) -> None:
        self.lab = lab
        self.network = network
        self.chance = chance
        self.guest = Guest(lab, chance)
        self.frozen: dict[str, list[bytes]] = {}
        self.right: dict[str, list[bytes]] = {}
        self.log: list[str] = []
        self.errors: list[str] = []

    async def capture(self, cancel_at: int) -> None:
        """Capture, or fail with one line; whatever point there is then, it is known what it must hold."""
        self.guest.work()
        oracle = Oracle(self.lab, self.guest, self.frozen)
        self.lab.make_witness = lambda: oracle
        before = {point.id for point in self.lab.points()}
        try:
            was_cancelled = await self.network.run(self.lab.capture, cancel_at, self.chance.choice(MOMENTS))
            self.log.append(f"cancelled at request {cancel_at}" if was_cancelled else "captured")
        except NtxError as error:
            self.log.append(f"{type(error).__name__}: {error}")
            self.errors.append(str(error))
        for point in self.lab.points():
            if point.id not in before:
                self.right[point.id] = self.frozen[point.id]

    async def prove(self, folder: Path) -> None:
        """Compare every point with what it must hold, restored by us and read by qemu-img."""
        points = self.lab.points()
        assert {point.id for point in points} == self.right.keys()
        for point in points:
            assert self.lab.stored(point) == self.right[point.id], point.id
            assert await self._restored(point, folder / point.id) == self.right[point.id], point.id

    async def _restored(self, point: Point, folder: Path) -> list[bytes]:
        report = await restore(self.lab.repository, point, folder)
        by_label = {restored.disk.label: restored.path for restored in report.disks}
        return [by_label[label].read_bytes() for label in sorted(by_label)]


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + ROUNDS))
async def test_a_capture_among_faults_is_right_or_clearly_refused(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require("qemu-nbd", "qemu-img", "setpriv", "tgtd")
    chance = Random(seed)
    config = random_config(chance, tmp_path / "disks")
    family, attach = WAYS[chance.choice(sorted(WAYS))]
    repository = Repository(PointStore.create(tmp_path / "repository"))
    with run_in_thread(config, tmp_path / "cluster") as sim:
        async with aclosing(Cancels(sim)) as network:
            clock = fast_clock()
            lab = await open_lab(sim, family, repository, attach=attach, clock=clock, transport=network)
            case = Case(lab, network, chance)
            case.log.append(f"seed {seed}: {family} {attach}")
            try:
                for _ in range(2):
                    case.log += make_trouble(chance, config.faults, family)
                    await case.capture(chance.choice([0, 0, 0, chance.randrange(1, MOST_REQUESTS)]))
                    end_trouble(config)
                await case.capture(0)
                if case.log[-1].startswith("CredentialsError"):  # a login that was refused is not tried again at once
                    await clock.sleep(8 * REFUSED_FOR_S)
                    await case.capture(0)
                assert case.log[-1] == "captured"
                assert all(len(error.splitlines()) == 1 for error in case.errors)
                await case.prove(tmp_path / "restored")
                said = caplog.text
                swept = await sweep(lab.prism, lab.repository, attach=lab.attach_options)
                assert not swept.removed or "ntx sweep" in said, swept
                lab.assert_clean(points=len(case.right))
            finally:
                log.warning("%s", "\n".join(case.log))
                await lab.prism.aclose()
