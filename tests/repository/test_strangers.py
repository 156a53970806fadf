"""Links, FIFOs, sockets and folders where a repository has something else.

None is followed or waited for, each gets one clear line, and the other VMs go on.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ntxengine.errors import NtxError, RepositoryError
from ntxengine.repository import Repository, leftovers
from ntxengine.repository.store import PointStore
from ntxengine.sweep import sweep
from tests.repository.builders import OTHER_VM, VM, ModelDisk, Write, begin, capture

SIZE = 128 * 1024
Put = Callable[[Path, Path], None]
"""Puts something in the place of the first path; the second is outside of the repository."""


def link(path: Path, outside: Path) -> None:
    """All that is behind it is right."""
    if os.path.lexists(path):
        path.rename(outside)
    path.symlink_to(outside)


def dangling_link(path: Path, outside: Path) -> None:
    remove(path)
    path.symlink_to(outside)


def fifo(path: Path, _: Path) -> None:
    remove(path)
    os.mkfifo(path)


def unix_socket(path: Path, outside: Path) -> None:
    remove(path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(outside))
    outside.rename(path)


def folder(path: Path, _: Path) -> None:
    remove(path)
    path.mkdir()


def file(path: Path, _: Path) -> None:
    remove(path)
    path.write_bytes(b"x")


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


NOT_A_FILE = (link, dangling_link, fifo, unix_socket, folder)
NOT_A_FOLDER = (link, dangling_link, fifo, file)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return tmp_path / "outside"


@pytest.fixture
def two_vms(repository: PointStore) -> PointStore:
    """Two points of the first VM, one of the second."""
    model = ModelDisk(SIZE)
    capture(repository, model, [Write(0, SIZE, 1)])
    capture(repository, model, [Write(0, 512, 2)])
    capture(repository, ModelDisk(SIZE), vm_id=OTHER_VM)
    return repository


def check_other_vm(repository: PointStore) -> None:
    """The other VM is listed, and can be captured."""
    opened = PointStore.open(repository.path)
    assert [point.vm_id for point in opened.points(OTHER_VM)] == [OTHER_VM]
    assert OTHER_VM in {vm.vm_id for vm in opened.vms()}
    capture(opened, ModelDisk(SIZE), vm_id=OTHER_VM)


def check_line(error: NtxError, path: Path) -> None:
    text = str(error)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert "link" in text or "not a regular file" in text or "not a folder" in text


@pytest.mark.parametrize("put", NOT_A_FILE)
def test_a_manifest_that_is_something_else_is_one_error(two_vms: PointStore, put: Put, outside: Path) -> None:
    point = two_vms.points(VM)[0]
    path = point.manifest_path(point.disks[0])
    put(path, outside)

    with pytest.raises(NtxError) as caught:
        two_vms.manifest(point, point.disks[0])

    check_line(caught.value, path)
    check_other_vm(two_vms)


@pytest.mark.parametrize("put", NOT_A_FILE)
def test_a_lock_that_is_something_else_is_one_error(two_vms: PointStore, put: Put, outside: Path) -> None:
    path = two_vms.path / VM / ".lock"
    put(path, outside)

    with pytest.raises(NtxError) as caught:
        with begin(two_vms, VM, None):
            pass

    check_line(caught.value, path)
    assert put is link or not outside.exists()
    check_other_vm(two_vms)


@pytest.mark.parametrize("put", NOT_A_FILE)
def test_a_marker_that_is_something_else_is_one_error(two_vms: PointStore, put: Put, outside: Path) -> None:
    path = two_vms.path / "ntx-repository.json"
    put(path, outside)

    for create in (False, True):
        with pytest.raises(NtxError) as caught:
            PointStore.open(two_vms.path, create)
        check_line(caught.value, path)

    assert put is link or not outside.exists()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("put", NOT_A_FILE)
def test_a_catalog_that_is_something_else_is_not_used(
    two_vms: PointStore, put: Put, suffix: str, outside: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = two_vms.path / f"catalog.sqlite{suffix}"
    put(path, outside)
    before = outside.read_bytes() if put is link and outside.exists() else None

    with caplog.at_level(logging.WARNING):
        opened = PointStore.open(two_vms.path)
        assert len(opened.points()) == 3
        capture(opened, ModelDisk(SIZE), vm_id=OTHER_VM)

    assert len(opened.points()) == 4
    assert (outside.read_bytes() if outside.exists() else None) == before
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{path}: it is ")
    assert line.endswith("remove it")


@pytest.mark.parametrize("put", NOT_A_FOLDER)
def test_a_vm_folder_that_is_something_else_hides_no_other_vm(two_vms: PointStore, put: Put, outside: Path) -> None:
    path = two_vms.path / VM
    put(path, outside)

    (problem,) = PointStore.open(two_vms.path).damaged()

    check_line(problem, path)
    assert two_vms.points(VM) == []
    with pytest.raises(NtxError) as caught:
        with begin(two_vms, VM, None):
            pass
    check_line(caught.value, path)
    assert put is link or not outside.exists()
    check_other_vm(two_vms)


@pytest.mark.parametrize("put", NOT_A_FOLDER)
def test_a_point_folder_that_is_something_else_is_not_followed(two_vms: PointStore, put: Put, outside: Path) -> None:
    older, newer = two_vms.points(VM)
    put(older.path, outside)

    (problem,) = PointStore.open(two_vms.path).damaged()

    check_line(problem, older.path)
    assert [point.id for point in two_vms.points(VM)] == [newer.id]
    with pytest.raises(NtxError):
        two_vms.chain(newer)
    with pytest.raises(NtxError):
        two_vms.images(newer, newer.disks[0])
    check_other_vm(two_vms)


@pytest.mark.parametrize("put", [*NOT_A_FOLDER, unix_socket])
def test_an_unfinished_point_that_is_something_else_is_removed(two_vms: PointStore, put: Put, outside: Path) -> None:
    path = two_vms.path / VM / ".unfinished-20260101T000000Z-aaaaaa"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x")
    if put in (link, dangling_link):
        path.symlink_to(outside)
    else:
        put(path, outside.with_name("another"))

    removed = leftovers.sweep(two_vms.path).unfinished

    assert removed == [(VM, "20260101T000000Z-aaaaaa")]
    assert not os.path.lexists(path)
    assert (outside / "precious").exists()


def test_an_unfinished_link_does_not_stop_a_capture(two_vms: PointStore, outside: Path) -> None:
    (two_vms.path / VM / ".unfinished-20260101T000000Z-aaaaaa").symlink_to(outside)

    capture(two_vms, ModelDisk(SIZE), on_top=False)

    assert len(two_vms.points(VM)) == 3


def test_a_point_folder_of_the_last_second_is_named_before_anything_is_made(two_vms: PointStore) -> None:
    last = two_vms.path / VM / "99981231T235959Z-aaaaaa"
    last.mkdir()
    before = sorted((two_vms.path / VM).iterdir())

    with pytest.raises(RepositoryError, match=f"newer than {last.name}.*move that folder out"):
        with begin(two_vms, VM, None):
            pass

    assert sorted((two_vms.path / VM).iterdir()) == before


async def test_a_dry_run_sees_what_a_sweep_removes_and_nothing_else(two_vms: PointStore) -> None:
    for folder in (two_vms.path / VM, two_vms.path / "stranger"):
        (folder / ".unfinished-20260101T000000Z-aaaaaa").mkdir(parents=True)

    plan = await sweep(None, Repository(two_vms), dry_run=True)
    report = await sweep(None, Repository(two_vms))

    assert (plan.removed, plan.problems) == (report.removed, report.problems)
    assert [each.vm_id for each in plan.removed] == [VM]


async def test_a_vm_that_cannot_be_swept_does_not_keep_the_others_from_it(two_vms: PointStore, outside: Path) -> None:
    for vm_id in (VM, OTHER_VM):
        (two_vms.path / vm_id / ".unfinished-20260101T000000Z-aaaaaa").mkdir()
    fifo(two_vms.path / VM / ".lock", outside)

    for dry_run in (True, False):
        report = await sweep(None, Repository(two_vms), dry_run=dry_run)

        assert [each.vm_id for each in report.removed] == [OTHER_VM]
        (problem,) = report.problems
        assert f"{VM}: " in problem
        assert "not a regular file" in problem


def test_a_repository_is_found_through_links_to_it(two_vms: PointStore, tmp_path: Path) -> None:
    (tmp_path / "short").symlink_to(two_vms.path)
    (tmp_path / "long").symlink_to(tmp_path)

    for path in (tmp_path / "short", tmp_path / "long" / "repo"):
        opened = PointStore.open(path)
        assert len(opened.points(OTHER_VM)) >= 1
        capture(opened, ModelDisk(SIZE), vm_id=OTHER_VM)
