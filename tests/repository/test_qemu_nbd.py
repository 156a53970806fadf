"""One qemu-nbd for one image: it starts, serves just that, and is gone afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from ntxengine.errors import RepositoryError, ToolError
from ntxengine.images.create import NewImage
from ntxengine.images.qemu_nbd import QemuNbd
from ntxengine.images.served import ImageFile
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from tests.repository.builders import (
    DISK,
    VM,
    ModelDisk,
    Write,
    begin,
    capture,
    fill_disk,
    make,
    read_image,
    record_of,
    run_folders,
    write_manifest,
)

pytestmark = pytest.mark.usefixtures("own_temporary_folder")

ODD_NAMES = [
    "plain",
    "with space",
    "comma,comma,,",
    "colon:colon",
    "nbd:unix:x",
    "json:{}",
    "-rf",
    "--help",
    "quote\"'`$(id)",
    "percent%41",
    "new\nline",
    "üñí→\U0001f4be",
    "back\\slash",
    "#hash?question=1&x",
    "~",
]


def io(uri: str, *commands: str, read_only: bool = False) -> str:
    arguments = [word for command in commands for word in ("-c", command)]
    mode = ["-r"] if read_only else []
    done = subprocess.run(["qemu-io", *mode, "-f", "raw", *arguments, uri], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_repository_may_have_any_name(tmp_path: Path, name: str) -> None:
    repository = PointStore.create(tmp_path / name)
    model = ModelDisk(128 * 1024)
    capture(repository, model, [Write(0, 65536, 1)])
    parent = repository.newest(VM)
    assert parent is not None
    below = repository.images(parent, parent.disks[0])
    with begin(repository, VM, parent) as unfinished:
        disk = fill_disk(unfinished, DISK, model, [], "scsi.0")
        path = unfinished.path / disk.file
        async with QemuNbd(ImageFile(path, backing=below), read_only=False, connections=4) as server:
            written = io(server.uri, "write -P 2 512 512", "flush")
        model.apply([Write(512, 512, 2)])
        (unfinished.path / disk.manifest).unlink()
        digest = write_manifest(unfinished.manifest_path(DISK), bytes(model.data))
        point = unfinished.commit(record_of(unfinished, [unfinished.disk_entry(DISK, "scsi.0", digest)]))

    assert "wrote 512/512" in written
    async with Repository(repository).serve(point, point.disks[0]) as server:
        said = io(server.uri, "read -P 1 0 512", "read -P 2 512 512", "read -P 1 1k 63k", read_only=True)
    assert [said.count(f"read {length}/{length}") for length in (512, 64512)] == [2, 1]
    assert "verification" not in said
    assert read_image(point.image_path(point.disks[0]), len(model.data)) == model.data


async def test_zeroes_written_into_an_overlay_mask_what_lies_below(repository: PointStore) -> None:
    model = ModelDisk(1024 * 1024)
    capture(repository, model, [Write(0, 1024 * 1024, 7)])
    parent = repository.newest(VM)
    assert parent is not None
    below = repository.images(parent, parent.disks[0])
    with begin(repository, VM, parent) as unfinished:
        disk = fill_disk(unfinished, DISK, model, [], "scsi.0")
        path = unfinished.path / disk.file
        async with QemuNbd(ImageFile(path, backing=below), read_only=False, connections=2) as server:
            # Whole clusters, with and without leave to punch holes; less than a cluster; across two.
            said = io(
                server.uri,
                "write -z 0 128k",
                "write -z -u 128k 128k",
                "write -z 300k 512",
                "write -z -u 383k 2k",
                "flush",
            )
            trimmed = io(server.uri, "discard 512k 128k", "flush")
        model.apply([Write(0, 256 * 1024, 0), Write(300 * 1024, 512, 0), Write(383 * 1024, 2048, 0)])

        assert "failed" not in said + trimmed
        assert read_image(path, len(model.data)) == model.data
        assert path.stat().st_blocks * 512 < 768 * 1024


async def test_what_lies_below_is_never_written_to(repository: PointStore) -> None:
    model = ModelDisk(65536)
    parent = capture(repository, model, [Write(0, 65536, 7)])
    before = parent.image_path(parent.disks[0]).read_bytes()
    below = repository.images(parent, parent.disks[0])
    with begin(repository, VM, parent) as unfinished:
        disk = fill_disk(unfinished, DISK, model, [], "scsi.0")
        path = unfinished.path / disk.file
        async with QemuNbd(ImageFile(path, backing=below), read_only=False) as server:
            io(server.uri, "write -P 1 0 64k", "flush")

    assert parent.image_path(parent.disks[0]).read_bytes() == before


async def test_a_read_only_server_refuses_writes(image: Path) -> None:
    async with QemuNbd(ImageFile(image), read_only=True) as server:
        said = io(server.uri, "write 0 512")

    assert "read-only" in said.lower() or "denied" in said.lower()


@pytest.mark.parametrize("connections", [1, 8])
async def test_a_writable_server_permits_several_connections(image: Path, connections: int) -> None:
    async with QemuNbd(ImageFile(image), read_only=False, connections=connections) as server:
        done = subprocess.run(["nbdinfo", "--can", "multi-conn", server.uri], check=False)
        sockets = [socket.socket(socket.AF_UNIX) for _ in range(connections)]
        for each in sockets:
            each.settimeout(10)
            each.connect(str(server.socket_path))
            assert each.recv(8) == b"NBDMAGIC"
            each.close()

    assert done.returncode == 0


async def test_a_raw_image_can_be_served(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"\5" * 4096)

    async with QemuNbd(ImageFile(path, format="raw"), read_only=True) as server:
        said = io(server.uri, "read -P 5 0 4k", read_only=True)

    assert "read 4096/4096" in said
    assert "verification" not in said


async def test_socket_and_process_are_gone_afterwards(image: Path) -> None:
    before = run_folders()
    async with QemuNbd(ImageFile(image), read_only=False) as server:
        pid, path = server.pid, server.socket_path
        assert path.is_socket()
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert parse_qs(urlsplit(server.uri).query)["socket"] == [str(path)]
        assert run_folders() != before

    assert not Path(f"/proc/{pid}").exists()
    assert run_folders() == before


async def test_the_server_inherits_no_descriptor_of_ours(repository: PointStore, image: Path) -> None:
    with repository.lock(VM), (repository.path / "ours").open("wb") as ours:
        os.set_inheritable(ours.fileno(), True)
        async with QemuNbd(ImageFile(image), read_only=False) as server:
            held = [os.readlink(link) for link in Path(f"/proc/{server.pid}/fd").iterdir()]

    assert not [name for name in held if str(repository.path) in name or "lock" in name]


def page_faults(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


async def test_the_buffers_of_large_requests_are_kept(tmp_path: Path) -> None:
    make(NewImage(tmp_path / "image.qcow2", 8 * 1024 * 1024))
    commands = [f"aio_write -P 2 {number}m 1m" for number in range(8)]
    pages = 8 * 1024 * 1024 // os.sysconf("SC_PAGESIZE")

    async with QemuNbd(ImageFile(tmp_path / "image.qcow2"), read_only=False) as server:
        fewest = pages
        for _ in range(16):  # the heap grows to what is in use at once, and then has it
            before = page_faults(server.pid)
            assert io(server.uri, *commands, "aio_flush").count("wrote 1048576/1048576") == len(commands)
            fewest = min(fewest, page_faults(server.pid) - before)

    assert fewest < pages / 4


async def test_the_socket_path_fits_when_the_temporary_directory_is_deep(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(deep))

    async with QemuNbd(ImageFile(image), read_only=True) as server:
        assert len(os.fsencode(server.socket_path)) <= 107


async def test_the_folder_of_a_killed_process_is_removed_by_the_next(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = tmp_path / "ntx-run-dead0000"
    dead.mkdir()
    (dead / "lock").touch()
    stranger = tmp_path / "ntx-run-other"
    stranger.mkdir()

    async with (
        QemuNbd(ImageFile(image), read_only=True) as first,
        QemuNbd(ImageFile(image), read_only=True) as second,
    ):
        assert first.socket_path.is_socket()
        assert second.socket_path.is_socket()

    assert not dead.exists()
    assert stranger.exists()


@pytest.mark.parametrize(("tool", "package"), [("qemu-nbd", "qemu-utils"), ("setpriv", "util-linux")])
async def test_a_missing_tool_names_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, package: str
) -> None:
    path = tmp_path / "disk.raw"
    path.touch()
    only = tmp_path / "bin"
    only.mkdir()
    for name in {"qemu-nbd", "setpriv", "sh"} - {tool}:
        (only / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(only))

    with pytest.raises(ToolError, match=f"^{tool} is not installed: install the package {package}$"):
        async with QemuNbd(ImageFile(path, format="raw"), read_only=True):
            pass


def test_a_missing_qemu_img_names_its_package(
    repository: PointStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with begin(repository, VM, None) as unfinished, pytest.raises(ToolError, match="install the package qemu-utils"):
        make(unfinished.add_disk(DISK, 512, None), "qcow2-by-qemu")
    assert repository.points() == []


async def test_an_image_that_cannot_be_served_is_one_line_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "noise.qcow2"
    path.write_bytes(b"\7" * 4096)
    before = run_folders()

    with pytest.raises(ToolError) as caught:
        async with QemuNbd(ImageFile(path), read_only=True):
            pass

    assert str(path) in str(caught.value)
    assert "not in qcow2 format" in str(caught.value)
    assert "json:" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert run_folders() == before


async def test_an_image_is_served_by_one_writer(image: Path) -> None:
    async with QemuNbd(ImageFile(image), read_only=False):
        with pytest.raises(ToolError, match="lock"):
            async with QemuNbd(ImageFile(image), read_only=False):
                pass


def test_a_backing_file_outside_the_vm_is_not_opened(repository: PointStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret.qcow2"
    make(NewImage(secret, 65536))
    point = capture(repository, ModelDisk(65536))
    path = point.image_path(point.disks[0])
    for backing in (str(secret), "../../../secret.qcow2", f"../20260101T000000Z-aaaaaa/disk-{DISK}.qcow2"):
        subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing, path], check=True)

        with pytest.raises(RepositoryError):
            repository.images(point, point.disks[0])
