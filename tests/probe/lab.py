"""A simulated cluster that one thing is broken of, and a probe that is to name it."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
import uuid
from pathlib import Path

import pytest

from ntxengine.attach import AttachOptions
from ntxengine.prism import Endpoint, Secret
from ntxengine.probe import Line, Probe, ProbeOptions, probe, workflow
from ntxengine.probe.check import Check
from ntxengine.probe.machine import Machine, Route
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.config import ContainerConfig, DiskConfig, GuestToolsConfig, LimitsConfig, VmConfig
from ntxengine.sim.faults import Faults
from ntxengine.sim.model import Point, VmPoint
from ntxengine.units import MIB

VM = "db01"
WORKER = "ntx-worker"
PATIENT_S = 60.0
"""Longer than a simulator on a busy machine takes for an answer: all checks ask it at the same time."""


def config_in(folder: Path) -> SimConfig:
    """One VM with two disks and Guest Tools that can quiesce, two that are called twin, one that is elsewhere."""
    disks = [DiskConfig(folder / "a.raw", size=2 * MIB), DiskConfig(folder / "b.raw", size=MIB, container="fast")]
    twins = [
        VmConfig("twin", disks=[DiskConfig(folder / f"twin{number}.raw", size=MIB)], guest_tools=GuestToolsConfig())
        for number in (1, 2)
    ]
    limits = LimitsConfig(api_rates={}, api_requests_per_s=500, requests_per_s=1000)
    return SimConfig(
        vms=[VmConfig(VM, disks=disks, guest_tools=GuestToolsConfig()), *twins],
        containers=[ContainerConfig(), ContainerConfig("fast", compression=True, dedup=True)],
        limits=limits,
    )


class ToldMachine(Machine):
    """This machine, but for what a test says of it."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.id = ""
        self.routes: dict[int, Route] = {}
        self.unknown_names = False

    async def addresses(self, host: str) -> list[str]:
        if self.unknown_names:
            raise OSError(-2, "Name or service not known")
        return await super().addresses(host)

    async def connect(self, address: str, port: int) -> Route:
        return self.routes[port] if port in self.routes else await super().connect(address, port)

    def program(self, name: str) -> str | None:
        return None if name in self.missing else super().program(name)

    def vm_id(self) -> str:
        return self.id


class Lab:
    """What a case changes: the simulator, this machine, what a person gives."""

    def __init__(self, sim: Simulator, patch: pytest.MonkeyPatch, folder: Path) -> None:
        patch.setattr(sim.config, "faults", Faults())
        patch.setattr(workflow, "PATIENCE_S", PATIENT_S)
        patch.setattr(Check, "limit_s", 2 * PATIENT_S)
        self.sim = sim
        self.patch = patch
        self.folder = folder
        self.machine = ToldMachine()
        self.told: list[Line] = []
        self.opened: list[socket.socket] = []
        attach = AttachOptions(device_dir=sim.world.layout.devices, containers=sim.world.layout.containers)
        self.options = ProbeOptions(None, None, vm=VM, worker=WORKER, attach=attach, repository=folder / "repository")
        self.central()

    # -- what a person gives

    def endpoint(self, url: str, **changes: object) -> Endpoint:
        values = {
            "url": url,
            "username": self.sim.username,
            "password": Secret(self.sim.password),
            "ca_file": str(self.sim.ca_file),
            "timeout_s": PATIENT_S,
        }
        return Endpoint(**{**values, **changes})  # type: ignore[arg-type]

    def give(self, **changes: object) -> None:
        self.options = dataclasses.replace(self.options, **changes)  # type: ignore[arg-type]

    def give_attach(self, **changes: object) -> None:
        self.give(attach=dataclasses.replace(self.options.attach, **changes))  # type: ignore[arg-type]

    def central(self, url: str = "", **changes: object) -> None:
        """Give the address of Prism Central, or another one, as one of which nobody knows what it is."""
        endpoint = self.endpoint(url or self.sim.central_url, **changes)
        self.give(central=endpoint, element=endpoint)

    def element(self, **changes: object) -> None:
        """Give the address of the Prism Element alone."""
        endpoint = self.endpoint(self.sim.element_url, **changes)
        self.give(central=None, element=endpoint)

    def both(self, **changes: object) -> None:
        """Give Prism Central, and an account of its own for the Prism Element."""
        central = self.endpoint(self.sim.central_url)
        self.give(
            central=central,
            element=self.endpoint(self.sim.element_url, is_element=True, elements=central.trust, **changes),
        )

    # -- what is broken

    def lacks(self, *rights: str) -> None:
        self.sim.faults.lacking_rights += rights

    def silent_server(self) -> str:
        """Return the address of a server that takes connections and says nothing."""
        server = socket.create_server(("127.0.0.1", 0))
        self.opened.append(server)
        return f"https://127.0.0.1:{server.getsockname()[1]}"

    def closed_port(self) -> int:
        """Return a port of 127.0.0.1 that nobody listens at, nor will."""
        held = socket.socket()
        self.opened.append(held)
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])

    def serve_iscsi(self) -> None:
        """Let somebody listen where the data services of the cluster are, if no tgtd does."""
        with contextlib.suppress(OSError):
            self.opened.append(socket.create_server((self.sim.world.data_services, 3260)))

    def leave_a_point(self, name: str) -> None:
        """Let the cluster have a recovery point of this name."""
        vm_id = self.sim.vm_id(VM)
        now = time.time()
        point = Point(
            str(uuid.uuid4()), "v4", name, "CRASH_CONSISTENT", "CRASH_CONSISTENT", now, now + 3600, "1-2-3", ""
        )
        point.vms, point.is_frozen = [VmPoint(str(uuid.uuid4()), vm_id)], True
        self.sim.world.state.points[point.id] = point

    def change_vm(self, name: str, **changes: object) -> None:
        config = self.sim.world.vms[self.sim.vm_id(name)].config
        for field, value in changes.items():
            self.patch.setattr(config, field, value)

    def change_guest_tools(self, name: str, **changes: object) -> None:
        tools = self.sim.world.vms[self.sim.vm_id(name)].config.guest_tools
        for field, value in changes.items():
            self.patch.setattr(tools, field, value)

    # -- what is found

    async def probe(self) -> Probe:
        return await probe(self.options, self.told.append, machine=self.machine)

    async def not_ok(self) -> dict[str, str]:
        """Return what was not as it should be: which checks failed, or warned."""
        found = await self.probe()
        return {line.key: line.result.status for line in found.lines if line.result.status in ("failed", "warning")}
