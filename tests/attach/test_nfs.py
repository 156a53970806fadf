"""NFS against a real server, in a network namespace: the file that was asked for is read, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from ntxengine.attach import Attached, AttachOptions, Locality, NfsExport, nfs
from ntxengine.attach.nfs import export_problem, own_address
from ntxengine.errors import AttachError, OptionsError, ToolError
from ntxengine.prism.cluster import Prism
from ntxengine.prism.findings import Findings, Revisions
from ntxengine.prism.models import ClusterFacts, Disk, DiskPoint, Host, Vm
from ntxengine.sim.daemon import Daemon
from ntxengine.sim.nfs import NfsContainer, NfsServer
from tests.support.iscsi import silent_server
from tests.support.namespace import SILENT, own_network
from tests.support.processes import Process, children
from tests.support.servers import kill_server

V3 = Findings("v3")
SIZE = 3 * 1024**2 + 512
FOLDER = "/default/.snapshot/21/1-2-21/.acropolis/vmdisk"
SNAPSHOT = f"{FOLDER}/0a"
CVM = "127.0.0.7"


def disk_point(path: str = SNAPSHOT) -> DiskPoint:
    return DiskPoint(id=path, disk_id="disk", recovery_point_id="rp", path=path)


def vm(container: str = "default", host: str | None = "host-a") -> Vm:
    disk = Disk("disk", SIZE, "scsi", 0, "c", container_name=container)
    return Vm("vm", "db01", "on", "cluster", host, disks=(disk,))


@dataclass
class Cluster:
    """A Prism that knows the hosts, and an address of the cluster."""

    known: tuple[Host, ...] = (Host("host-a", "a", cvm_address=CVM), Host("host-b", "b", cvm_address="127.0.0.8"))
    address: str = "127.0.0.9"
    asked: list[str] = field(default_factory=list)

    async def hosts(self, cluster_id: str) -> list[Host]:
        return list(self.known)

    async def cluster(self, cluster_id: str) -> ClusterFacts:
        return ClusterFacts(cluster_id, address=self.address)


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    with own_network():
        yield


@pytest.fixture
def containers(tmp_path: Path) -> Path:
    file = tmp_path / SNAPSHOT.removeprefix("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(os.urandom(SIZE))
    for path in (tmp_path / "closed" / "x", tmp_path / "secret"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(SIZE))
    return tmp_path


@pytest.fixture
async def server(network: None, containers: Path) -> AsyncIterator[Path]:
    """Serve two containers, of which one has an allow-list without us; return the folder of both."""
    nfs = NfsServer(containers / "nfs")
    names = {"default": ["127.0.0.0/255.0.0.0"], "closed": ["10.1.2.3/255.255.255.255"]}
    await nfs.start([NfsContainer(name, containers / name, allowed) for name, allowed in names.items()])
    yield containers
    await nfs.stop()


def attacher(cluster: Cluster | None = None, *, nfs_server: str = "", timeout_s: float = 60) -> NfsExport:
    options = AttachOptions(nfs_server=nfs_server)
    return NfsExport(cast(Prism, cluster or Cluster()), options, look_timeout_s=timeout_s, start_timeout_s=timeout_s)


async def read(nfs: NfsExport, point: DiskPoint, size: int = SIZE) -> tuple[Attached, bytes]:
    async with nfs.attach(point, size) as attached:
        command = ["nbdcopy", attached.location.text, "-"]
        done = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
        return attached, done.stdout


def qemus() -> list[Process]:
    """Return the programs of qemu that this process runs, and that read over NFS."""
    return children('"driver": "nfs"')


async def test_the_server_has_ended_with_all_its_programs_once_it_has_stopped(
    network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nfs, kill, left = NfsServer(tmp_path / "nfs"), Daemon.kill, []

    async def kill_what_is_left(daemon: Daemon) -> None:
        left.append(daemon.pid)
        await kill(daemon)

    monkeypatch.setattr(Daemon, "kill", kill_what_is_left)
    await nfs.start([NfsContainer("default", tmp_path, ["127.0.0.0/255.0.0.0"])])

    await nfs.stop()

    assert left == [None]  # else the rest would end only after what was killed
    for port in (111, 2049):
        socket.create_server(("", port)).close()


async def test_the_file_is_read_from_the_cvm_of_the_vm_s_host(server: Path) -> None:
    nfs = attacher()
    assert await nfs.can_serve(V3)
    assert await nfs.can_serve_vm(vm())

    attached, data = await read(nfs, disk_point())

    assert data == (server / SNAPSHOT.removeprefix("/")).read_bytes()
    assert attached.locality == nfs.locality(vm()) == Locality("local", CVM)
    assert qemus() == []


@pytest.mark.parametrize(
    ("host", "nfs_server", "locality"),
    [
        ("host-a", "127.0.0.8", Locality("remote", "127.0.0.8")),
        ("host-a", "127.0.0.9", Locality("unknown", "127.0.0.9")),
        ("host-a", "localhost", Locality("unknown", "localhost")),
        (None, "", Locality("unknown", "127.0.0.9")),
        ("host-c", "", Locality("unknown", "127.0.0.9")),
    ],
)
async def test_who_is_asked_instead_is_called_local_only_where_that_is_known(
    host: str | None, nfs_server: str, locality: Locality, server: Path
) -> None:
    nfs = attacher(nfs_server=nfs_server)

    assert await nfs.can_serve_vm(vm(host=host))

    attached, _ = await read(nfs, disk_point())
    assert attached.locality == locality


async def test_nothing_can_be_written(server: Path) -> None:
    nfs = attacher()
    assert await nfs.can_serve_vm(vm())

    async with nfs.attach(disk_point(), SIZE) as attached:
        done = await asyncio.to_thread(
            subprocess.run, ["nbdinfo", attached.location.text], check=True, capture_output=True, text=True
        )

    assert "is_read_only: true" in done.stdout


@pytest.mark.parametrize("name", ["a,b&c?d=e", "100%20", "#x", 'quo"te\\', "driver=file", "täöl", "json:{}", "nfs:x"])
async def test_a_name_that_means_something_elsewhere_is_a_name_here(name: str, server: Path) -> None:
    file = server / FOLDER.removeprefix("/") / name
    file.write_bytes(b"this one".ljust(SIZE, b"\0"))
    nfs = attacher()
    assert await nfs.can_serve_vm(vm())

    _, data = await read(nfs, disk_point(f"{FOLDER}/{name}"))

    assert data == file.read_bytes()


@pytest.mark.parametrize("path", ["/default/../secret", "default/x", "//secret/x", "/default/a\0b", "/default", ""])
async def test_a_path_that_is_not_plain_is_not_followed(path: str, server: Path) -> None:
    nfs = attacher()
    assert await nfs.can_serve_vm(vm())

    with pytest.raises(AttachError, match="not followed"):
        await read(nfs, disk_point(path))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (f"{FOLDER}/gone", "there is no such file: was the snapshot deleted meanwhile"),
        (f"{FOLDER}x/gone", "storage container 'default' can be read, and this file cannot"),
        (
            "/closed/x",
            r"export on 127\.0\.0\.7 refuses this machine: add 127\.0\.0\.1/255\.255\.255\.255 to the allow",
        ),
        ("/default/.snapshot/21", "has 4096 bytes, but the disk in the recovery point has"),
    ],
)
async def test_what_cannot_be_read_is_one_clear_line(path: str, says: str, server: Path) -> None:
    nfs = attacher()
    assert await nfs.can_serve_vm(vm())

    with pytest.raises(AttachError, match=says) as caught:
        await read(nfs, disk_point(path))

    assert "\n" not in str(caught.value)
    assert qemus() == []


async def test_another_size_is_refused(server: Path) -> None:
    nfs = attacher()
    assert await nfs.can_serve_vm(vm())

    with pytest.raises(AttachError, match=r"nfs://127\.0\.0\.7/default/.*/0a has \d+ bytes, .*: this is not that disk"):
        await read(nfs, disk_point(), SIZE + 512)


async def test_before_the_freeze_it_is_said_that_a_container_refuses_us(server: Path) -> None:
    verdict = await attacher().can_serve_vm(vm("closed"))

    assert re.search("'closed', which holds disks of VM 'db01' .*refuses this machine: add 127", verdict.reason)
    assert "allow-list" in verdict.reason


@pytest.mark.parametrize("name", ["../closed", "..", "a\0b"])
async def test_a_container_whose_name_is_none_is_not_asked_for(name: str, server: Path) -> None:
    assert "its name cannot be that of an export" in (await attacher().can_serve_vm(vm(name))).reason


async def test_a_server_that_is_silent_is_given_up(network: None) -> None:
    nfs = attacher(nfs_server=SILENT, timeout_s=0.5)

    verdict = await nfs.can_serve_vm(vm())

    assert re.search(f"no answer from {SILENT} in 0.5 s: let TCP 111.*10.9.9.1.*allow-list", verdict.reason)
    with pytest.raises(AttachError, match=f"cannot read nfs://{SILENT}/.*: no answer from {SILENT} in 0.5 s"):
        await read(nfs, disk_point())
    assert qemus() == []


async def test_a_server_that_takes_connections_and_says_nothing_is_given_up(network: None) -> None:
    with silent_server("127.0.0.7", 111):
        assert "no answer from 127.0.0.7 in 0.5 s" in await export_problem("127.0.0.7", "default", timeout_s=0.5)
    assert qemus() == []


@pytest.mark.parametrize("host", ["127.0.0.7", "nowhere.invalid", "10.8.8.8"])
async def test_a_server_that_is_none_is_said(host: str, network: None) -> None:
    problem = await export_problem(host, "default", timeout_s=10)

    open_ports = "TCP 111, 2049 and 20048 to 20050 open"
    assert problem.startswith(f"no NFS from {host}: is it a controller VM, and are {open_ports}? (")
    assert "\n" not in problem


async def test_who_tells_no_address_is_helped_by_the_option(server: Path) -> None:
    cluster = Cluster(known=(), address="")
    assert "--nfs-server" in (await attacher(cluster).can_serve_vm(vm())).reason

    nfs = attacher(cluster, nfs_server="127.0.0.8")
    assert await nfs.can_serve_vm(vm())
    await read(nfs, disk_point())


async def test_where_prism_tells_no_paths_the_way_is_none() -> None:
    v4 = Findings("v4", revisions=Revisions("v4.1", "v4.0", "v4.0"))

    assert "tells no paths" in (await attacher().can_serve(v4)).reason


@pytest.mark.parametrize("host", ["nfs://x", "10.0.0.5:2049", "cvm:", "[::1]:2049", "[cvm]", "a b"])
async def test_a_server_that_is_no_host_is_refused_before_it_is_asked(host: str) -> None:
    with pytest.raises(
        OptionsError, match=f"--nfs-server: {re.escape(repr(host))} is not the name or address of a host"
    ):
        await attacher(nfs_server=host).can_serve(V3)


@pytest.mark.parametrize("words", ["MNT3ERR_NOENT", "MNT3ERR_NOTDIR"])
async def test_a_container_that_the_server_does_not_export_is_said(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: str, **__: object) -> bytes:
        raise ToolError(f"qemu-img: Failed to mount nfs share: mount/mnt call failed: {words}")

    monkeypatch.setattr(nfs.process, "run", refuse)

    verdict = await attacher().can_serve_vm(vm())

    assert verdict.reason.endswith(f": {CVM} does not export it")


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_an_ipv6_address_is_taken_and_told_as_an_allow_list_has_it(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def refuse(*arguments: str, **_: object) -> bytes:
        asked.append(json.loads(arguments[-1].removeprefix("json:"))["file"]["server"]["host"])
        raise ToolError("qemu-img: Failed to mount nfs share: mount/mnt call failed: MNT3ERR_ACCES")

    monkeypatch.setattr(nfs.process, "run", refuse)

    verdict = await attacher(nfs_server=host).can_serve_vm(vm())

    assert asked == ["::1"]
    assert re.search("on ::1 refuses this machine: add (::1|the address of this machine) to the", verdict.reason)


async def test_a_qemu_nbd_that_is_killed_leaves_nothing(server: Path) -> None:
    nfs = attacher()
    assert await nfs.can_serve_vm(vm())

    async with nfs.attach(disk_point(), SIZE) as attached:
        kill_server(attached.location.text)
    assert qemus() == []


async def test_a_server_is_looked_at_once_for_several_vms(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    async def silent(server: str, container: str, **_: object) -> str:
        looked.append(f"{server}/{container}")
        return "no answer"

    monkeypatch.setattr(nfs, "export_problem", silent)
    way = attacher()

    verdicts = [await way.can_serve_vm(vm(container)) for container in ("default", "default", "other", "default")]

    assert not any(verdicts)
    assert looked == [f"{CVM}/default", f"{CVM}/other"]


async def test_our_address_is_the_one_that_a_server_would_see(network: None) -> None:
    assert await own_address(SILENT) == "10.9.9.1"
    assert await own_address("127.0.0.7") == "127.0.0.1"
    assert await own_address("10.8.8.8") == "the address of this machine"


async def test_a_resolver_that_is_silent_does_not_hold_up_the_error(silent_resolver: None) -> None:
    assert await own_address("cvm.example.com", timeout_s=0.05) == "the address of this machine"


async def test_a_disk_that_came_after_the_look_is_refused() -> None:
    attacher = NfsExport(cast(Prism, Cluster()), AttachOptions())

    with pytest.raises(AttachError, match="disk disk was not there when its VM was looked at; try again"):
        async with attacher.attach(disk_point(), SIZE):
            pytest.fail("it was attached")
