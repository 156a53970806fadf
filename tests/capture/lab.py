"""A simulated cluster with one VM, a repository, and what a capture between the two needs.

What a point holds is read with qemu-img, never with ours; what it must hold is the guest's disk file.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ntxengine.attach import Attacher, AttachOptions, ContainerMount, HotAdd, Iscsi, NfsExport
from ntxengine.capture import CaptureOptions, capture
from ntxengine.events import Event, Stage, StageBegan, Warned
from ntxengine.prism import Endpoint, Family, Prism, Secret
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.retry import RetryPolicy
from ntxengine.prism.http.session import Transport
from ntxengine.prism.http.trust import Trust
from ntxengine.prism.open import open_cluster
from ntxengine.repository import Point, Repository
from ntxengine.repository.store import PointStore
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.config import DiskConfig, GuestToolsConfig, VmConfig
from tests.support.processes import processes
from tests.support.rates import without_rates

MIB = 1024**2
SYSTEM_SIZE = 8 * MIB
DATA_SIZE = 3 * MIB + 512
"""Not a multiple of a block."""


class Witness:
    """Remembers every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, StageBegan):
            self.began(event.stage)

    def began(self, stage: Stage) -> None:
        """For those that do something when a stage begins."""

    @property
    def stages(self) -> list[Stage]:
        return [event.stage for event in self.events if isinstance(event, StageBegan)]

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Warned)]


FASTER = 100


def fast_clock() -> Clock:
    """Time that passes faster for the Prism layer: its limits of ten minutes are over in seconds."""
    return Clock(now=lambda: time.monotonic() * FASTER, sleep=lambda seconds: asyncio.sleep(seconds / FASTER))


def eager_clock() -> Clock:
    """Time as it is, in which the Prism layer asks again a tenth as late: a simulated task is over at once."""
    return Clock(sleep=lambda seconds: asyncio.sleep(seconds / 10))


def make_config(folder: Path) -> SimConfig:
    """One VM `db01`: a system disk, a data disk in another container, a CD-ROM, NVRAM and a volume group."""
    folder.mkdir(parents=True, exist_ok=True)
    system = folder / "system.raw"
    with system.open("wb") as file:
        file.write(os.urandom(MIB))
        file.seek(4 * MIB)
        file.write(os.urandom(2 * MIB))
        file.truncate(SYSTEM_SIZE)
    config = SimConfig(
        vms=[
            VmConfig(
                "db01",
                disks=[DiskConfig(system), DiskConfig(folder / "data.raw", size=DATA_SIZE, container="fast")],
                cdroms=[DiskConfig(folder / "cd.iso", size=65536, bus="ide")],
                nvram=DiskConfig(folder / "nvram", size=65536),
                guest_tools=GuestToolsConfig(),
                volume_groups=1,
            )
        ]
    )
    config.containers.append(type(config.containers[0])("fast"))
    return without_rates(config)


class Lab:
    """Everything a test of a capture needs."""

    def __init__(self, sim: Simulator, prism: Prism, repository: Repository, attacher: Attacher) -> None:
        self.sim = sim
        self.prism = prism
        self.repository = repository
        self.attacher = attacher
        self.vm_id = sim.vm_id("db01")
        self.make_witness: Callable[[], Witness] = Witness
        self.witness = Witness()

    @property
    def disk_files(self) -> list[Path]:
        return [disk.path for disk in self.sim.config.vms[0].disks]

    async def capture(self, **options: Any) -> Point:
        """Capture the VM, with a witness of its own."""
        self.witness = self.make_witness()
        return await capture(
            self.prism,
            self.repository,
            await self.prism.vm(self.vm_id),
            options=CaptureOptions(**options),
            attacher=self.attacher,
            on_event=self.witness,
        )

    @property
    def attach_options(self) -> AttachOptions:
        """What a sweep is told, so that it looks on the worker VM, also where no record names it."""
        assert self.sim.worker_id is not None
        return AttachOptions(self.sim.worker_id)

    def points(self, vm_id: str | None = None) -> list[Point]:
        """Return what the repository holds."""
        return PointStore.open(self.repository.path).points(vm_id)

    def write(self, disk: int, offset: int, data: bytes) -> None:
        """Write to a disk of the running guest."""
        with self.sim.disk_lock, self.disk_files[disk].open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def zero(self, disk: int, offset: int, length: int) -> None:
        """Trim, as a guest does: the range becomes a hole that reads as zero."""
        with self.sim.disk_lock:
            subprocess.run(
                ["fallocate", "--punch-hole", "-o", str(offset), "-l", str(length), self.disk_files[disk]], check=True
            )

    def resize(self, disk: int, size: int) -> None:
        with self.sim.disk_lock:
            os.truncate(self.disk_files[disk], size)

    def reconfigure(self) -> None:
        """Let the cluster have the VMs and disks that its configuration says now."""
        world = self.sim.world
        world.vms = {vm.id: vm for vm in world._make_vms()}

    def guest(self) -> list[bytes]:
        """Return what the guest's disks hold now."""
        return [path.read_bytes() for path in self.disk_files]

    def stored(self, point: Point) -> list[bytes]:
        """Return what a point holds, in the order of the guest's disks, read by qemu-img."""
        by_label = {disk.label: disk for disk in point.disks}
        assert len(by_label) == len(point.disks)
        return [self._read(point, by_label[label].file)[: by_label[label].size] for label in sorted(by_label)]

    def _read(self, point: Point, file: str) -> bytes:
        raw = self.sim.state_dir / "restored.raw"
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", point.path / file, raw], check=True)
        data = raw.read_bytes()
        raw.unlink()
        return data

    def check_images(self, point: Point) -> None:
        for disk in point.disks:
            subprocess.run(["qemu-img", "check", "-q", point.path / disk.file], check=True)

    def unfinished(self) -> list[Path]:
        return list(self.repository.path.glob("*/.unfinished-*"))

    def recovery_points(self) -> list[str]:
        """Return the names of all that the cluster holds."""
        return sorted(point.name for point in self.sim.world.state.points.values())

    def hot_added(self) -> list[str]:
        return sorted(self.sim.world.state.clones)

    def volume_groups(self) -> list[str]:
        """Return the names of those that were made of recovery points."""
        return sorted(group.name for group in self.sim.world.state.made_groups.values())

    def assert_clean(self, *, points: int) -> None:
        """Check that nothing is left but `points` whole points, and the reference of the newest."""
        assert self.unfinished() == []
        assert self.hot_added() == []
        assert self.volume_groups() == []
        found = self.points(self.vm_id)
        assert len(found) == points
        expected = [f"ntx-{self.repository.id}-{found[-1].id}"] if found else []
        assert self.recovery_points() == expected
        assert servers(self.repository.path) == []


def servers(folder: Path) -> list[str]:
    """Return the qemu-nbd processes that serve something in this folder."""
    commands = [process.command for process in processes()]
    return [command for command in commands if "qemu-nbd" in command and str(folder) in command]


ATTACHERS: dict[str, tuple[type[Attacher], Callable[[Simulator], AttachOptions]]] = {
    "mount": (ContainerMount, lambda sim: AttachOptions(containers=sim.world.layout.containers)),
    "hot-add": (HotAdd, lambda sim: AttachOptions(sim.worker_id or "", sim.world.layout.devices)),
    "nfs": (NfsExport, lambda sim: AttachOptions()),
    "iscsi": (Iscsi, lambda sim: AttachOptions()),
}


async def open_lab(
    sim: Simulator,
    family: Family,
    repository: Repository,
    *,
    attach: str,
    retry: RetryPolicy | None = None,
    clock: Clock | None = None,
    transport: Transport | None = None,
    elements: Trust | None = None,
) -> Lab:
    """Connect to the simulator: v4 through Prism Central, v3 to the Prism Element.  Closed by close_labs()."""
    url, password = (sim.central_url, sim.password) if family == "v4" else (sim.element_url, sim.element_password)
    endpoint = Endpoint(url, sim.username, Secret(password), ca_file=str(sim.ca_file), elements=elements)
    central, element = (endpoint, None) if family == "v4" else (None, endpoint)
    opened = await open_cluster(central, element, retry=retry, clock=clock or eager_clock(), transport=transport)
    prism = opened.prism
    _open.append(prism)
    kind, options = ATTACHERS[attach]
    return Lab(sim, prism, repository, kind(prism, options(sim)))


_open: list[Prism] = []


async def close_labs() -> None:
    """Close the connections of all labs, also of those of a test that failed: else the next test is told of them."""
    while _open:
        await _open.pop().aclose()
