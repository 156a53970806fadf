"""What is attached is the disk that was asked for, and it is always taken away again."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest

from ntxengine.attach import Attacher, AttachOptions, ContainerMount, HotAdd, Locality
from ntxengine.concurrency.completion import call_with_timeout
from ntxengine.errors import AttachError, PrismError, TaskFailed
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import AttachedDisk, Disk, DiskPoint, Vm
from tests.support.servers import loop_device

SIZE = 65536 + 512
SNAPSHOT = "/default/.snapshot/21/1-2-21/.acropolis/vmdisk/0a"


def disk_point(path: str | None = SNAPSHOT) -> DiskPoint:
    return DiskPoint(id="point", disk_id="disk", recovery_point_id="rp", path=path)


async def read(attacher: Attacher, point: DiskPoint, size: int = SIZE) -> tuple[str, bytes]:
    """Attach, and return the path and the first bytes that were readable there."""
    async with attacher.attach(point, size) as attached:
        assert attached.location.kind == "file"
        return attached.location.path, first_bytes(attached.location.path)


def first_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(4)


@pytest.fixture
def containers(tmp_path: Path) -> Path:
    """A folder of mounted containers, one snapshot file in it, and a secret beside it."""
    root = tmp_path / "containers"
    file = root / SNAPSHOT.removeprefix("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"disk".ljust(SIZE, b"\0"))
    (tmp_path / "secret").write_bytes(b"no!!".ljust(SIZE, b"\0"))
    return root


def mounted(root: Path) -> ContainerMount:
    return ContainerMount(cast(Prism, None), AttachOptions(containers=root))


async def test_a_mounted_container_gives_the_file_of_the_snapshot(containers: Path) -> None:
    path, data = await read(mounted(containers), disk_point())

    assert path == str(containers) + SNAPSHOT
    assert data == b"disk"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/default/../../secret",
        "default/.snapshot/x",
        "../secret",
        "//secret/x",
        "/default/./x",
        "/default",
        "/default/",
        "/",
        "",
        "/default/a\0b",
    ],
)
async def test_a_path_that_is_not_plain_is_not_followed(path: str, containers: Path) -> None:
    with pytest.raises(AttachError, match="not followed"):
        await read(mounted(containers), disk_point(path))


async def test_a_link_that_leads_out_of_the_mount_is_not_followed(containers: Path) -> None:
    (containers / "default/out").symlink_to(containers.parent / "secret")
    (containers / "elsewhere").symlink_to(containers.parent)

    for path in ("/default/out", "/elsewhere/secret"):
        with pytest.raises(AttachError, match="outside"):
            await read(mounted(containers), disk_point(path))


async def test_a_container_that_is_a_link_out_of_the_mounts_is_a_reason(containers: Path) -> None:
    (containers / "elsewhere").symlink_to(containers.parent)
    disk = Disk("disk", SIZE, "scsi", 0, "id", container_name="elsewhere")

    verdict = await mounted(containers).can_serve_vm(Vm("db01", "db01", "on", "cluster", None, (disk,)))

    assert "storage container 'elsewhere'" in verdict.reason
    assert "outside of" in verdict.reason


@pytest.mark.parametrize("name", ["../containers", "..", ".", "a\0b"])
async def test_a_container_whose_name_is_no_folder_s_is_not_looked_at(name: str, containers: Path) -> None:
    disk = Disk("disk", SIZE, "scsi", 0, "id", container_name=name)

    verdict = await mounted(containers).can_serve_vm(Vm("db01", "db01", "on", "cluster", None, (disk,)))

    assert verdict.reason.endswith("its name cannot be that of a folder")


async def test_without_a_directory_of_mounts_nothing_is_looked_at() -> None:
    nowhere = ContainerMount(cast(Prism, None), AttachOptions())

    with pytest.raises(AttachError, match="--containers"):
        await nowhere.can_serve_vm(Vm("db01", "db01", "on", "cluster", None, ()))
    with pytest.raises(AttachError, match="--containers"):
        await read(nowhere, disk_point())


async def test_a_mount_below_a_link_is_followed(containers: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(containers)

    _, data = await read(mounted(tmp_path / "link"), disk_point())

    assert data == b"disk"


async def test_what_is_no_regular_file_is_refused(containers: Path) -> None:
    os.mkfifo(containers / "default/fifo")
    (containers / "default/folder").mkdir()

    for path in ("/default/fifo", "/default/folder", "/default/.snapshot"):
        with pytest.raises(AttachError, match="regular file"):
            await read(mounted(containers), disk_point(path))


async def test_a_container_that_is_not_mounted_is_named(containers: Path) -> None:
    with pytest.raises(AttachError, match="'other' mounted at"):
        await read(mounted(containers), disk_point("/other/.snapshot/x"))


async def test_a_file_of_another_size_is_refused_with_both_sizes(containers: Path) -> None:
    with pytest.raises(AttachError, match=f"{SIZE} bytes.*{SIZE + 512}"):
        await read(mounted(containers), disk_point(), SIZE + 512)


async def test_a_disk_point_without_path_needs_hot_add(containers: Path) -> None:
    with pytest.raises(AttachError, match="--worker"):
        await read(mounted(containers), disk_point(None))


async def test_a_look_that_hangs_is_given_up() -> None:
    read_end, write_end = os.pipe()

    with pytest.raises(TimeoutError):
        await call_with_timeout(lambda: os.read(read_end, 1), 0.01)

    os.write(write_end, b"x")
    os.close(write_end)


class Worker:
    """A Prism that hot-adds by making a link in a device folder, as udev would."""

    no_hot_add = ""

    def __init__(self, device_dir: Path, data: Path) -> None:
        self.device_dir = device_dir
        self.data = data
        self.attached: list[AttachedDisk] = []
        self.makes_device = True
        self.is_told = True
        self.detach_error: PrismError | None = None
        self.vmdisk_id = str(uuid4())

    async def attach_disk(self, worker_id: str, disk: DiskPoint) -> AttachedDisk:
        attached = AttachedDisk(str(len(self.attached)), self.vmdisk_id, worker_id, disk.id, self.is_told)
        self.attached.append(attached)
        if self.makes_device:
            self.link(f"scsi-SNUTANIX_NFS_1_0_1_{self.vmdisk_id.replace('-', '_')}")
        return attached

    async def vm(self, vm_id: str) -> Vm:
        return Vm(vm_id, vm_id, "on", "cluster", "host-1", ())

    async def detach_disk(self, disk: AttachedDisk) -> None:
        if self.detach_error is not None:
            raise self.detach_error
        self.attached.remove(disk)

    def link(self, name: str, target: Path | None = None) -> None:
        (self.device_dir / name).unlink(missing_ok=True)
        (self.device_dir / name).symlink_to(target or self.data)


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    (tmp_path / "by-id").mkdir()
    data = tmp_path / "sdb"
    data.write_bytes(b"disk".ljust(SIZE, b"\0"))
    return Worker(tmp_path / "by-id", data)


def hot_add(worker: Worker, *, appear_timeout_s: float = 5.0) -> HotAdd:
    prism = cast(Prism, worker)
    return HotAdd(prism, AttachOptions("w", worker.device_dir), appear_timeout_s=appear_timeout_s, poll_s=0.01)


async def test_a_hot_added_disk_is_found_by_the_end_of_its_name_and_removed(worker: Worker) -> None:
    worker.link("scsi-SNUTANIX_NFS_9_0_9_" + str(uuid4()).replace("-", "_"))
    worker.link(f"scsi-SNUTANIX_NFS_1_0_1_{worker.vmdisk_id.replace('-', '_')}-part1")

    path, data = await read(hot_add(worker), disk_point())

    assert (path, data) == (str(worker.data), b"disk")
    assert worker.attached == []


@pytest.mark.parametrize(("host", "kind"), [("host-1", "local"), ("host-2", "remote"), (None, "unknown")])
async def test_a_hot_added_disk_is_local_on_the_host_of_its_vm(host: str | None, kind: str, worker: Worker) -> None:
    attacher = hot_add(worker)
    disk = Disk("disk", SIZE, "scsi", 0, "container")

    assert await attacher.can_serve_vm(Vm("db01", "db01", "on", "cluster", host, (disk,)))

    async with attacher.attach(disk_point(), SIZE) as attached:
        assert attached.locality == Locality(kind, "host-1")  # type: ignore[arg-type]


async def test_a_device_that_comes_late_is_waited_for(worker: Worker) -> None:
    worker.makes_device = False
    late = asyncio.get_running_loop().call_later(
        0.05, worker.link, f"wwn-0x{worker.vmdisk_id.replace('-', '_').upper()}"
    )

    _, data = await read(hot_add(worker), disk_point())

    assert data == b"disk"
    assert not late.cancelled()


async def test_a_folder_that_is_made_for_the_first_device_is_waited_for(worker: Worker, tmp_path: Path) -> None:
    later = tmp_path / "later"
    worker.device_dir.rename(later)
    worker.device_dir, folder = later, worker.device_dir
    asyncio.get_running_loop().call_later(0.05, later.rename, folder)

    prism = cast(Prism, worker)
    path, _ = await read(HotAdd(prism, AttachOptions("w", folder), appear_timeout_s=5.0, poll_s=0.01), disk_point())

    assert path == str(worker.data)


async def test_a_device_that_cannot_be_read_is_said_and_is_removed(worker: Worker, tmp_path: Path) -> None:
    worker.data = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(worker.data))

        with pytest.raises(AttachError, match=rf"cannot read the disk in {worker.device_dir}: .*No such device"):
            await read(hot_add(worker), disk_point())

    assert worker.attached == []


async def test_a_device_that_never_comes_is_an_error_and_is_removed(worker: Worker) -> None:
    worker.makes_device = False

    with pytest.raises(AttachError, match="--worker"):
        await read(hot_add(worker, appear_timeout_s=0.05), disk_point())

    assert worker.attached == []


async def test_a_hot_added_disk_of_another_size_is_refused_and_removed(worker: Worker) -> None:
    with pytest.raises(AttachError, match=f"{SIZE} bytes.*{SIZE + 512}"):
        await read(hot_add(worker), disk_point(), SIZE + 512)

    assert worker.attached == []


async def test_a_disk_of_another_size_that_may_be_somebody_elses_is_left_alone(worker: Worker) -> None:
    worker.is_told = False

    with pytest.raises(AttachError, match=r"has .* bytes.*and somebody else may have added it: it stays"):
        await read(hot_add(worker), disk_point(), SIZE + 512)

    assert len(worker.attached) == 1


async def test_a_device_that_has_no_size_yet_is_waited_for(worker: Worker) -> None:
    whole = worker.data.read_bytes()
    worker.data.write_bytes(b"")
    asyncio.get_running_loop().call_later(0.05, worker.data.write_bytes, whole)

    _, data = await read(hot_add(worker), disk_point())

    assert data == b"disk"


async def test_a_name_that_leads_nowhere_yet_is_waited_for(worker: Worker, tmp_path: Path) -> None:
    asyncio.get_running_loop().call_later(0.05, worker.data.rename, tmp_path / "sdc")
    worker.data = worker.data.rename(tmp_path / "not yet")
    (tmp_path / "sdb").symlink_to(tmp_path / "sdc")

    _, data = await read(hot_add(worker), disk_point())

    assert data == b"disk"


async def test_a_disk_that_somebody_else_added_meanwhile_is_not_read(worker: Worker, tmp_path: Path) -> None:
    worker.makes_device = False
    (tmp_path / "sdz").write_bytes(b"else".ljust(SIZE, b"\0"))
    worker.link("scsi-SNUTANIX_NFS_3_0_3_" + str(uuid4()).replace("-", "_"), tmp_path / "sdz")

    with pytest.raises(AttachError, match=f"no device named .*{worker.vmdisk_id.replace('-', '_')}"):
        await read(hot_add(worker, appear_timeout_s=0.05), disk_point())

    assert worker.attached == []


async def test_one_name_for_two_devices_is_refused(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "sdc").write_bytes(b"other".ljust(SIZE, b"\0"))
    worker.link(f"scsi-2_{worker.vmdisk_id.replace('-', '_')}", tmp_path / "sdc")

    with pytest.raises(AttachError, match="more than one device"):
        await read(hot_add(worker), disk_point())

    assert worker.attached == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "x"])
async def test_a_disk_name_that_is_no_uuid_is_refused(name: str, worker: Worker) -> None:
    worker.vmdisk_id = name
    worker.makes_device = False

    with pytest.raises(AttachError, match="not a UUID"):
        await read(hot_add(worker), disk_point())

    assert worker.attached == []


async def test_the_clone_is_removed_when_the_copy_fails(worker: Worker) -> None:
    with pytest.raises(RuntimeError, match="copy"):
        async with hot_add(worker).attach(disk_point(), SIZE):
            raise RuntimeError("copy")

    assert worker.attached == []


async def test_the_first_error_is_raised_when_removing_fails_too(worker: Worker) -> None:
    worker.detach_error = TaskFailed("no")

    with pytest.raises(RuntimeError, match="copy"):
        async with hot_add(worker).attach(disk_point(), SIZE):
            raise RuntimeError("copy")


async def test_a_clone_that_cannot_be_removed_is_an_error(worker: Worker) -> None:
    worker.detach_error = TaskFailed("no")

    with pytest.raises(AttachError, match="could not be removed from VM w: no"):
        await read(hot_add(worker), disk_point())


async def test_a_block_device_is_measured_by_its_end(worker: Worker, tmp_path: Path) -> None:
    backing = tmp_path / "backing"
    backing.write_bytes(b"disk".ljust(SIZE, b"\0"))

    with loop_device(backing) as device:
        worker.data = Path(device)
        path, data = await read(hot_add(worker), disk_point())

    assert (path, data) == (device, b"disk")
