"""Every way to the bytes gives the same, and leaves nothing: real servers, in a network namespace of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from ntxengine.attach import AttachOptions, Iscsi, NfsExport
from ntxengine.attach.initiator import Waiting
from ntxengine.concurrency.signals import send
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import NtxError, TransferTimeout
from ntxengine.events import Stage
from ntxengine.prism import Family
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.sim import SimConfig, Simulator, run_in_thread
from ntxengine.sweep import sweep
from tests.capture.lab import Lab, Witness, fast_clock, make_config, open_lab
from tests.capture.test_interrupted import ROOT
from tests.capture.test_workflow import change, manifests
from tests.support.namespace import own_network
from tests.support.processes import processes
from tests.support.servers import kill_server

WAYS: tuple[tuple[Family, str], ...] = (
    ("v3", "mount"),
    ("v4", "hot-add"),
    ("v3", "hot-add"),
    ("v3", "nfs"),
    ("v4", "iscsi"),
    ("v3", "iscsi"),
)
OVER_THE_NETWORK = WAYS[3:]


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    config = make_config(tmp_path / "disks")
    config.nfs = True
    config.nfs_allowed = ["127.0.0.0/255.0.0.0"]
    return config


@pytest.fixture
def simulator(config: SimConfig, tmp_path: Path) -> Iterator[Simulator]:
    with own_network(), run_in_thread(config, tmp_path / "cluster") as sim:
        yield sim


@pytest.fixture(params=OVER_THE_NETWORK, ids="-".join)
async def network_lab(request: pytest.FixtureRequest, simulator: Simulator, repository: Repository) -> Lab:
    family, attach = request.param
    return await open_lab(simulator, family, repository, attach=attach)


async def test_all_ways_give_the_same_increment_bit_for_bit(simulator: Simulator, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        labs = []
        for family, attach in WAYS:
            repository = Repository(PointStore.create(tmp_path / f"{family}-{attach}"))
            labs.append(await open_lab(simulator, family, repository, attach=attach))
            stack.push_async_callback(labs[-1].prism.aclose)
        full = [await lab.capture() for lab in labs]
        change(labs[0])

        increments = [await lab.capture() for lab in labs]

        assert {point.kind for point in increments} == {"incremental"}
        for points in (full, increments):
            assert all(manifests(point) == manifests(points[0]) for point in points)
        for lab, point in zip(labs, increments, strict=True):
            assert lab.stored(point) == lab.guest()
            assert point.report.source == lab.attacher.name
            assert {disk.bytes_read for disk in point.report.disks.values()} == {
                disk.bytes_read for disk in increments[0].report.disks.values()
            }
    assert simulator.world.state.made_groups == {}
    assert simulator.world.state.clones == {}


def served(network_lab: Lab) -> list[str]:
    """Return the sockets of the qemu-nbd processes that read over the network for us: in the namespace of this test."""
    found, ours = [], os.readlink("/proc/thread-self/ns/net")
    for process in processes():
        words = process.words
        with suppress(OSError):
            if not words[0].endswith("qemu-nbd") or os.readlink(process.folder / "ns" / "net") != ours:
                continue
            if '"driver": "iscsi"' in words[-1] or '"driver": "nfs"' in words[-1]:
                found += [word.removeprefix("--socket=") for word in words if word.startswith("--socket=")]
    return found


class KillsServers(Witness):
    """Kills what reads over the network as soon as the first disk is copied."""

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self._lab = lab

    def began(self, stage: Stage) -> None:
        if stage is Stage.COPY:
            for path in served(self._lab):
                kill_server(f"nbd+unix:///?socket={path}")


async def test_what_reads_is_killed_and_nothing_is_left(network_lab: Lab) -> None:
    lab = network_lab
    await lab.capture()
    change(lab)
    lab.make_witness = lambda: KillsServers(lab)

    with pytest.raises(NtxError):
        await lab.capture()

    lab.assert_clean(points=1)
    assert served(lab) == []
    assert lab.sim.world.state.made_groups == {}
    lab.make_witness = Witness
    assert lab.stored(await lab.capture()) == lab.guest()


async def test_a_capture_that_is_cancelled_leaves_nothing(network_lab: Lab) -> None:
    lab = network_lab
    copying = asyncio.Event()

    class Tells(Witness):
        def began(self, stage: Stage) -> None:
            if stage is Stage.COPY:
                copying.set()

    lab.make_witness = Tells
    task = asyncio.create_task(lab.capture())
    await copying.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    lab.assert_clean(points=0)
    assert served(lab) == []
    assert lab.sim.world.state.made_groups == {}


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("no_data_services", "has no data services address"),
        ("unreachable_data_services", r"no connection to 127\.0\.0\.250:3260"),
        ("no_target_name", "Prism does not tell the name of its iSCSI target"),
        ("wrong_secret", "the target refuses the CHAP secret"),
    ],
)
async def test_a_fault_of_volume_groups_is_one_line_and_leaves_nothing(
    fault: str, says: str, simulator: Simulator, repository: Repository
) -> None:
    lab = await open_lab(simulator, "v4", repository, attach="iscsi", clock=fast_clock())
    lab.attacher = Iscsi(lab.prism, AttachOptions(), waiting=Waiting(appear_s=1, poll_s=0.1))
    simulator.config.faults.volumes = [fault]

    with pytest.raises(NtxError, match=says) as caught:
        await lab.capture()

    assert "\n" not in str(caught.value)
    lab.assert_clean(points=0)
    assert simulator.world.state.made_groups == {}


async def test_a_volume_group_that_is_served_late_is_waited_for(simulator: Simulator, repository: Repository) -> None:
    lab = await open_lab(simulator, "v4", repository, attach="iscsi")
    simulator.config.faults.volumes = ["late"]

    assert lab.stored(await lab.capture()) == lab.guest()

    assert simulator.world.state.made_groups == {}


async def test_no_list_of_all_recovery_points_is_asked_for(simulator: Simulator, repository: Repository) -> None:
    """It has thousands, and may not know yet of the one that was made a moment ago."""
    lab = await open_lab(simulator, "v4", repository, attach="iscsi")

    await lab.capture()

    asked = [(each.method, each.path.rpartition("/")[2]) for each in simulator.requests]
    made = asked.index(("POST", "recovery-points"))
    assert ("GET", "recovery-points") not in asked[made:]


async def test_a_container_that_refuses_us_is_said_before_anything_is_frozen(
    simulator: Simulator, repository: Repository
) -> None:
    lab = await open_lab(simulator, "v3", repository, attach="nfs")
    lab.attacher = NfsExport(lab.prism, AttachOptions(nfs_server="10.9.9.1"))  # our own address, which is not allowed

    with pytest.raises(NtxError, match=r"storage container 'default'.*refuses this machine: add 10\.9\.9\.1/255"):
        await lab.capture()

    lab.assert_clean(points=0)
    assert not any(each.path.endswith("/vm_snapshots") for each in simulator.requests)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder in which a socket has a short enough path."""
    with tempfile.TemporaryDirectory(prefix="ntx-test-") as folder:
        yield Path(folder)


async def test_a_capture_that_is_killed_leaves_no_process_and_no_secret(
    network_lab: Lab, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = network_lab
    monkeypatch.setenv("TMPDIR", str(short_folder))
    monkeypatch.setattr(tempfile, "tempdir", str(short_folder))
    place = (
        ("--api", "v3", "--prism", lab.sim.element_url)
        if lab.prism.family == "v3"
        else ("--prism", lab.sim.central_url)
    )
    arguments = ("capture", "db01", "--to", str(lab.repository.path), "--source", lab.attacher.name, *place)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NTX_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ntxengine.cli.main", *arguments, "--bandwidth", "1M"),
        env={**kept, **lab.sim.env, "PYTHONPATH": str(ROOT / "src")},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        while process.returncode is None and not _is_copying(lab):
            await asyncio.sleep(0.02)
    finally:
        send(process, signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL

    async with asyncio.timeout(60):
        while served(lab):
            await asyncio.sleep(0.02)
    assert list(short_folder.glob("ntx-run-*")) != []  # for the next one to remove
    assert not any(path.is_file() and path.name != "lock" for path in short_folder.rglob("*"))
    assert lab.stored(await lab.capture()) == lab.guest()
    await sweep(lab.prism, lab.repository)
    lab.assert_clean(points=1)
    assert list(short_folder.glob("ntx-run-*")) == []
    assert lab.sim.world.state.made_groups == {}


def _is_copying(lab: Lab) -> bool:
    """Say whether something of the disk has arrived: what reads it has long answered then."""
    sockets = served(lab)
    images = list(lab.repository.path.glob("*/.unfinished-*/*.qcow2*"))
    return bool(sockets) and any(path.stat().st_blocks > 1024 for path in images)


class StopsNfs(Witness):
    """Lets the NFS server of the cluster fall silent as soon as a disk is copied."""

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self._lab = lab

    def began(self, stage: Stage) -> None:
        if stage is Stage.COPY:
            signal_nfs(self._lab, signal.SIGSTOP)


def signal_nfs(lab: Lab, what: signal.Signals) -> None:
    for process in processes():
        if process.words[0].endswith("ganesha.nfsd") and str(lab.sim.state_dir / "nfs" / "log") in process.words:
            os.kill(process.pid, what)


async def test_a_server_that_falls_silent_while_it_is_read_is_given_up(
    simulator: Simulator, repository: Repository
) -> None:
    lab = await open_lab(simulator, "v3", repository, attach="nfs")
    lab.make_witness = lambda: StopsNfs(lab)
    try:
        with pytest.raises(TransferTimeout):
            await lab.capture(copy=CopyOptions(timeout_s=1), parallel=1, retry_for_s=0)
    finally:
        signal_nfs(lab, signal.SIGCONT)

    assert served(lab) == []
    lab.assert_clean(points=0)
