"""Fixtures: the simulator with a VM on real disk files, a hostile server, and sessions to both."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trustme

from ntxengine.prism.cluster import Prism
from ntxengine.prism.findings import Revisions
from ntxengine.prism.http.endpoint import Endpoint, Secret
from ntxengine.prism.http.retry import RetryPolicy
from ntxengine.prism.http.session import Session, tls_context
from ntxengine.prism.models import Family
from ntxengine.prism.open import open_cluster
from ntxengine.prism.v4.central import CentralPrism
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.config import DiskConfig, GuestToolsConfig, VmConfig
from ntxengine.units import KIB, MIB
from tests.prism.hostile import PASSWORD, HandClock, Hostile, hostile_server

VM_NAME = "../../etc/passwd\n\u00e9"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
async def hostile(authority: trustme.CA) -> AsyncIterator[Hostile]:
    async with hostile_server(authority, "127.0.0.1", "127.0.0.2") as server:
        yield server


@pytest.fixture
async def session(hostile: Hostile, ca_file: str, clock: HandClock) -> AsyncIterator[Session]:
    """A session with an account at the hostile server."""
    endpoint = Endpoint(f"https://127.0.0.1:{hostile.port}", "admin", Secret(PASSWORD), ca_file)
    tls = tls_context(ca_file, insecure=False)
    opened = Session(
        endpoint.host,
        endpoint.port,
        tls,
        account=endpoint,
        timeout_s=30,
        clock=clock.clock,
        retry=RetryPolicy(retries=3),
    )
    yield opened
    await opened.aclose()


@pytest.fixture
async def hostile_central(
    session: Session, hostile: Hostile, ca_file: str, clock: HandClock
) -> AsyncIterator[CentralPrism]:
    """The hostile server as Prism Central on 127.0.0.1 and as Prism Element on 127.0.0.2."""

    async def open_element(host: str) -> Session:
        tls = tls_context(ca_file, insecure=False)
        return Session(
            host, hostile.port, tls, account=None, timeout_s=30, clock=clock.clock, retry=RetryPolicy(retries=2)
        )

    opened = CentralPrism(session, Revisions(), open_element)
    yield opened
    await opened.aclose()


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    """A VM with two disks of one size, a CD-ROM, UEFI variables and a volume group, and another VM."""
    disks = []
    for number in range(2):
        path = tmp_path / f"disk{number}.raw"
        path.write_bytes(bytes([number + 1]) * 64 * KIB)
        os.truncate(path, 1 * MIB)
        disks.append(DiskConfig(path))
    vm = VmConfig(
        VM_NAME,
        disks=disks,
        cdroms=[DiskConfig(tmp_path / "tools.iso", size=1 * MIB, bus="ide")],
        nvram=DiskConfig(tmp_path / "nvram", size=64 * KIB),
        volume_groups=1,
        guest_tools=GuestToolsConfig(),
    )
    return SimConfig(vms=[vm, VmConfig("other", disks=[DiskConfig(tmp_path / "other.raw", size=1 * MIB)])])


@pytest.fixture
async def sim(config: SimConfig, tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator(config, tmp_path / "sim") as running:
        yield running


Connect = Callable[[Family], contextlib.AbstractAsyncContextManager[Prism]]


@pytest.fixture
def connect(sim: Simulator, clock: HandClock) -> Connect:
    """Connect to the simulator: `async with connect("v4") as prism`."""

    @contextlib.asynccontextmanager
    async def opened(family: Family) -> AsyncIterator[Prism]:
        url = sim.central_url if family == "v4" else sim.element_url
        endpoint = Endpoint(url, sim.username, Secret(sim.password), str(sim.ca_file))
        async with await open_cluster(endpoint, endpoint, clock=clock.clock) as cluster:
            assert cluster.findings.family == family
            yield cluster.prism

    return opened


@contextlib.asynccontextmanager
async def central(sim: Simulator, *, real_time: bool = False) -> AsyncIterator[Prism]:
    """Connect to the Prism Central of a simulator."""
    endpoint = Endpoint(sim.central_url, sim.username, Secret(sim.password), str(sim.ca_file))
    async with await open_cluster(endpoint, None, clock=None if real_time else HandClock().clock) as cluster:
        yield cluster.prism
