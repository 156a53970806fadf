"""A point becomes visible whole, or never."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ntxengine.errors import MachineError, OptionsError, RepositoryError
from ntxengine.repository import PointDisk
from ntxengine.repository.store import PointStore
from ntxengine.repository.unfinished import BlockingUnfinishedPoint
from tests.repository.builders import (
    DISK,
    OTHER_DISK,
    OTHER_VM,
    VM,
    ModelDisk,
    Write,
    begin,
    capture,
    fill_disk,
    make,
    read_image,
    record_of,
)


def unfinished_of(repository: PointStore) -> list[str]:
    return sorted(path.name for path in repository.path.glob("*/.unfinished-*"))


def test_nothing_is_listed_before_the_commit(repository: PointStore) -> None:
    with begin(repository, VM, None) as unfinished:
        disk = fill_disk(unfinished, DISK, ModelDisk(4096), [Write(0, 512, 1)], "scsi.0")
        before = PointStore.open(repository.path).points()
        point = unfinished.commit(record_of(unfinished, [disk]))

    assert before == []
    assert PointStore.open(repository.path).points() == [point]
    assert unfinished_of(repository) == []


def test_a_point_is_committed_also_where_no_descriptor_is_left_to_enter_it(
    repository: PointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path) -> None:
        raise MachineError(f"{folder}: Too many open files")

    with begin(repository, VM, None) as unfinished:
        disk = fill_disk(unfinished, DISK, ModelDisk(4096), [], "scsi.0")
        with monkeypatch.context() as patch:
            patch.setattr("ntxengine.repository.store.read_point", fails)
            point = unfinished.commit(record_of(unfinished, [disk]))

    assert repository.points() == [point]


def test_only_the_owner_may_read_what_a_repository_holds(repository: PointStore) -> None:
    before = os.umask(0o022)
    try:
        capture(repository, ModelDisk(512))
    finally:
        os.umask(before)

    modes = {path.name: path.stat().st_mode & 0o777 for path in repository.path.rglob("*")}

    assert {name: oct(mode) for name, mode in modes.items() if mode not in (0o600, 0o700)} == {}


def test_an_error_on_the_way_leaves_nothing(repository: PointStore) -> None:
    def interrupted() -> None:
        with begin(repository, VM, None) as unfinished:
            fill_disk(unfinished, DISK, ModelDisk(4096), [], "scsi.0")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert unfinished_of(repository) == []
    assert repository.points() == []
    capture(repository, ModelDisk(512))


def test_a_point_is_used_once(repository: PointStore) -> None:
    with begin(repository, VM, None) as unfinished:
        disk = fill_disk(unfinished, DISK, ModelDisk(512), [], "scsi.0")
        point = unfinished.commit(record_of(unfinished, [disk]))

        unfinished.abort()

    assert repository.points() == [point]
    with pytest.raises(RepositoryError, match="already"):
        unfinished.add_disk(OTHER_DISK, 512, None)
    with pytest.raises(RepositoryError, match="already"):
        unfinished.commit(record_of(unfinished, [disk]))


def break_size(unfinished: BlockingUnfinishedPoint, disk: PointDisk) -> PointDisk:
    return dataclasses.replace(disk, size=disk.size + 512)


def break_digest(unfinished: BlockingUnfinishedPoint, disk: PointDisk) -> PointDisk:
    return dataclasses.replace(disk, digest="1" * 32)


def drop_manifest(unfinished: BlockingUnfinishedPoint, disk: PointDisk) -> PointDisk:
    (unfinished.path / disk.manifest).unlink()
    return disk


def drop_image(unfinished: BlockingUnfinishedPoint, disk: PointDisk) -> PointDisk:
    (unfinished.path / disk.file).unlink()
    return disk


def cut_image(unfinished: BlockingUnfinishedPoint, disk: PointDisk) -> PointDisk:
    os.truncate(unfinished.path / disk.file, 100)
    return disk


def rename_disk(unfinished: BlockingUnfinishedPoint, disk: PointDisk) -> PointDisk:
    return dataclasses.replace(
        disk, disk_id=OTHER_DISK, file=f"disk-{OTHER_DISK}.qcow2", manifest=f"disk-{OTHER_DISK}.manifest"
    )


@pytest.mark.parametrize("breaks", [break_size, break_digest, drop_manifest, drop_image, cut_image, rename_disk])
def test_what_is_not_whole_is_not_committed(repository: PointStore, breaks) -> None:
    with begin(repository, VM, None) as unfinished:
        disk = fill_disk(unfinished, DISK, ModelDisk(4096), [Write(0, 512, 1)], "scsi.0")

        with pytest.raises(RepositoryError):
            unfinished.commit(record_of(unfinished, [breaks(unfinished, disk)]))

    assert repository.points() == []
    assert unfinished_of(repository) == []


def test_a_disk_of_the_record_must_have_been_made(repository: PointStore) -> None:
    with begin(repository, VM, None) as unfinished:
        fill_disk(unfinished, DISK, ModelDisk(4096), [], "scsi.0")

        with pytest.raises(RepositoryError, match="0 disks, not the 1"):
            unfinished.commit(record_of(unfinished, []))


def test_a_second_disk_of_one_id_is_refused(repository: PointStore) -> None:
    with begin(repository, VM, None) as unfinished:
        unfinished.add_disk(DISK, 512, None)

        with pytest.raises(RepositoryError, match="in the point already"):
            unfinished.add_disk(DISK.upper(), 512, None)


def test_only_the_newest_point_of_the_same_vm_can_be_built_upon(repository: PointStore) -> None:
    model = ModelDisk(4096)
    old, new = capture(repository, model), capture(repository, model)
    other = capture(repository, ModelDisk(4096), vm_id=OTHER_VM)

    for parent in (old, other):
        with pytest.raises(RepositoryError, match="not the newest"), begin(repository, VM, parent):
            pass
    with begin(repository, VM, new) as unfinished:
        with pytest.raises(RepositoryError, match="not in the parent"):
            unfinished.add_disk(OTHER_DISK, 4096, new.disks[0])
        with pytest.raises(RepositoryError, match="not in the parent"):
            unfinished.add_disk(DISK, 4096, other.disks[0])


@pytest.mark.parametrize("size", [-1, 1 << 63])
def test_what_is_no_size_is_refused(repository: PointStore, size: int) -> None:
    with begin(repository, VM, None) as unfinished, pytest.raises(OptionsError, match="is not a size"):
        unfinished.add_disk(DISK, size, None)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 65535, 66048, 10 * 1024**2 + 512, 5 * 1024**4])
def test_an_image_has_the_disks_size_in_whole_sectors(repository: PointStore, size: int) -> None:
    with begin(repository, VM, None) as unfinished:
        path = make(unfinished.add_disk(DISK, size, None))

        info = subprocess.run(["qemu-img", "info", path], check=True, capture_output=True, text=True).stdout
        assert f"({-(-size // 512) * 512} bytes)" in info


def test_an_overlay_is_relative_and_plain_tools_read_it(repository: PointStore) -> None:
    model = ModelDisk(1024 * 1024)
    capture(repository, model, [Write(0, 1024 * 1024, 7)])
    capture(repository, model, [Write(512, 512, 9), Write(65536, 131072, 0), Write(1000 * 512, 512, 0)])
    point = capture(repository, model, [Write(65536, 512, 3)])

    info = subprocess.run(
        ["qemu-img", "info", point.image_path(point.disks[0])], check=True, capture_output=True, text=True
    ).stdout

    assert f"backing file: ../{point.parent_id}/disk-{DISK}.qcow2 " in info
    assert read_image(point.image_path(point.disks[0]), 1024 * 1024) == model.data
    for image in repository.images(point, point.disks[0]):
        subprocess.run(["qemu-img", "check", "-q", image], check=True)


@pytest.mark.parametrize(("before", "after"), [(65536, 131072 + 512), (65536 + 512, 65536), (512, 0), (0, 512)])
def test_a_disk_may_have_another_size_than_in_the_parent(repository: PointStore, before: int, after: int) -> None:
    first = ModelDisk(before)
    capture(repository, first, [Write(0, before, 5)] if before else [])
    second = ModelDisk(after, bytes(first.data[:after]))

    point = capture(repository, second)

    assert read_image(point.image_path(point.disks[0]), after) == second.data


def test_a_disk_that_the_parent_does_not_have_stands_alone(repository: PointStore) -> None:
    model, other = ModelDisk(4096), ModelDisk(8192)
    parent = capture(repository, model, [Write(0, 512, 1)])
    with begin(repository, VM, parent) as unfinished:
        disks = [
            fill_disk(unfinished, DISK, model, [Write(512, 512, 2)], "scsi.0"),
            fill_disk(unfinished, OTHER_DISK, other, [Write(0, 512, 3)], "scsi.1"),
        ]
        point = unfinished.commit(record_of(unfinished, disks))

    assert [len(repository.images(point, disk)) for disk in point.disks] == [2, 1]
    assert point.disk("SCSI.1").disk_id == OTHER_DISK


def test_a_point_where_nothing_was_incremental_has_no_parent(repository: PointStore) -> None:
    parent = capture(repository, ModelDisk(4096))
    with begin(repository, VM, parent) as unfinished:
        disk = fill_disk(unfinished, DISK, ModelDisk(4096), [Write(0, 512, 3)], "scsi.0", is_full=True)
        point = unfinished.commit(record_of(unfinished, [disk]))

    assert (point.kind, point.parent_id) == ("full", None)
    assert repository.chain(point) == [point]


@pytest.mark.parametrize("backing", ["/etc/passwd", "../../x.qcow2", "", "json:{}", "nbd://127.0.0.1:1/"])
def test_what_an_image_says_it_is_on_top_of_is_not_followed(repository: PointStore, backing: str) -> None:
    model = ModelDisk(4096)
    capture(repository, model, [Write(0, 512, 1)])
    point = capture(repository, model, [Write(512, 512, 2)])
    path = point.image_path(point.disks[0])
    subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing, path], check=True)

    with pytest.raises(RepositoryError, match="backing f"):
        repository.images(point, point.disks[0])


def test_an_image_that_keeps_its_data_elsewhere_is_refused(repository: PointStore, tmp_path: Path) -> None:
    point = capture(repository, ModelDisk(4096))
    path = point.image_path(point.disks[0])
    path.unlink()
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 4096)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={secret},data_file_raw=on", path, "4096"],
        check=True,
    )

    with pytest.raises(RepositoryError, match="in another file"):
        repository.images(point, point.disks[0])


@pytest.mark.parametrize("damage", ["missing", "link", "cut", "raw", "resized", "fifo"])
def test_a_damaged_image_is_refused_naming_it(repository: PointStore, damage: str) -> None:
    point = capture(repository, ModelDisk(4096))
    path = point.image_path(point.disks[0])
    match damage:
        case "missing":
            path.unlink()
        case "link":
            path.symlink_to(path.rename(path.with_name("kept")))
        case "cut":
            os.truncate(path, 50)
        case "raw":
            path.write_bytes(bytes(4096))
        case "resized":
            subprocess.run(["qemu-img", "resize", "-q", "-f", "qcow2", path, "8192"], check=True)
        case "fifo":
            path.unlink()
            os.mkfifo(path)

    with pytest.raises(RepositoryError, match=f"disk-{DISK}"):
        repository.images(point, point.disks[0])


def test_a_missing_disk_below_is_named(repository: PointStore) -> None:
    model = ModelDisk(4096)
    root = capture(repository, model)
    point = capture(repository, model)
    shutil.rmtree(root.path)

    with pytest.raises(RepositoryError, match=root.id):
        repository.images(point, point.disks[0])
