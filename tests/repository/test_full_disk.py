"""A full file system is one clear error, and nothing is left that looks whole."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import NtxError, TargetError
from ntxengine.images.qemu_nbd import QemuNbd
from ntxengine.images.served import ImageFile
from ntxengine.repository import Repository
from ntxengine.repository.store import PointStore
from ntxengine.repository.unfinished import BlockingUnfinishedPoint
from ntxengine.restore import RestoreFormat, RestoreOptions, restore
from tests.cli.ntx import assert_refused, ntx
from tests.repository.builders import DISK, VM, Clock, ModelDisk, Write, begin, capture, fill_disk, make, record_of
from tests.repository.conftest import fill_up

Mount = Callable[[str], Path]


def check_error(error: NtxError, path: Path) -> None:
    assert isinstance(error, TargetError)
    assert error.errno == errno.ENOSPC
    assert str(path) in str(error)
    assert "No space left on device" in str(error)
    assert "\n" not in str(error)
    assert str(error).count("free; free some space") == 1


def test_a_repository_is_not_made_on_a_full_disk(small_fs: Mount) -> None:
    folder = small_fs("64k")
    (folder / "repo").mkdir()
    fill_up(folder)

    with pytest.raises(TargetError) as caught:
        PointStore.create(folder / "repo")

    check_error(caught.value, folder)
    assert list((folder / "repo").iterdir()) == []


def test_a_point_is_not_begun_on_a_full_disk(small_fs: Mount, clock: Clock) -> None:
    folder = small_fs("2m")
    repository = PointStore.create(folder / "repo", clock=clock)
    fill_up(folder)

    with pytest.raises(TargetError) as caught:
        with begin(repository, VM, None):
            pass

    check_error(caught.value, folder)
    assert repository.points() == []


def test_an_image_is_not_made_on_a_full_disk(small_fs: Mount, clock: Clock) -> None:
    folder = small_fs("2m")
    repository = PointStore.create(folder / "repo", clock=clock)
    with begin(repository, VM, None) as unfinished:
        fill_up(folder)

        with pytest.raises(TargetError) as caught:
            make(unfinished.add_disk(DISK, 1 << 40, None))

    check_error(caught.value, folder)
    assert not (repository.path / VM).exists()


def make_disk(unfinished: BlockingUnfinishedPoint) -> NtxError | None:
    disk = fill_disk(unfinished, DISK, ModelDisk(4096), [Write(0, 512, 1)], "scsi.0")
    fill_up(unfinished.path.parents[2])
    try:
        unfinished.commit(record_of(unfinished, [disk], vm_name="x" * 20_000), vm_config={"name": "x" * 20_000})
    except NtxError as exc:
        return exc
    return None


def test_a_commit_on_a_full_disk_shows_nothing(small_fs: Mount, clock: Clock) -> None:
    folder = small_fs("4m")
    repository = PointStore.create(folder / "repo", clock=clock)

    with begin(repository, VM, None) as unfinished:
        error = make_disk(unfinished)

    assert error is not None
    check_error(error, folder)
    (folder / "filler").unlink()
    assert PointStore.open(repository.path).points() == []
    assert not (repository.path / VM).exists()
    capture(repository, ModelDisk(4096))


def test_a_full_disk_does_not_lose_a_point_that_only_lacks_its_catalog_entry(small_fs: Mount, clock: Clock) -> None:
    folder = small_fs("4m")
    repository = PointStore.create(folder / "repo", clock=clock)
    point = capture(repository, ModelDisk(4096))
    (repository.path / "catalog.sqlite").unlink()
    fill_up(folder)

    assert PointStore.open(repository.path).points() == [point]
    (folder / "filler").unlink()
    assert PointStore.open(repository.path).points() == [point]


async def test_a_write_to_a_full_disk_is_an_error_to_the_client(small_fs: Mount, clock: Clock) -> None:
    folder = small_fs("4m")
    repository = PointStore.create(folder / "repo", clock=clock)
    with begin(repository, VM, None) as unfinished:
        path = make(unfinished.add_disk(DISK, 64 * 1024**2, None))

        async with QemuNbd(ImageFile(path), read_only=False) as server:
            done = subprocess.run(
                ["qemu-io", "-f", "raw", "-c", "write -P 1 0 16M", server.uri],
                capture_output=True,
                text=True,
                check=False,
            )

        assert "No space left on device" in done.stdout + done.stderr


@pytest.mark.parametrize("format", ["raw", "qcow2"])
async def test_a_restore_onto_a_full_disk_leaves_nothing(
    repository: PointStore, small_fs: Mount, format: RestoreFormat
) -> None:
    folder = small_fs("1m")
    model = ModelDisk(4 * 1024**2)
    point = capture(repository, model, [Write(0, 4 * 1024**2, 1)])

    with pytest.raises(TargetError) as caught:
        await restore(Repository(repository), point, folder, options=RestoreOptions(format=format))

    check_error(caught.value, folder)
    assert list(folder.iterdir()) == []


async def test_a_restore_names_the_file_when_there_is_no_room_for_its_digests(
    repository: PointStore, small_fs: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_fs("1m")
    point = capture(repository, ModelDisk(65536), [Write(0, 65536, 1)])
    full = os.open("/dev/full", os.O_RDWR)
    real = Manifest.temporary

    def temporary(**arguments: Any) -> Manifest:
        manifest = real(**arguments)
        os.dup2(full, manifest.fd)
        return manifest

    monkeypatch.setattr(Manifest, "temporary", temporary)

    with pytest.raises(TargetError, match=r"scsi\.0\.raw.*digests.*No space left on device") as caught:
        await restore(Repository(repository), point, folder)

    os.close(full)
    check_error(caught.value, folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_restore_names_the_file_when_its_digests_cannot_be_begun(
    repository: PointStore, small_fs: Mount, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    folder = small_fs("1m")
    point = capture(repository, ModelDisk(65536), [Write(0, 65536, 1)])

    def temporary(**arguments: Any) -> Manifest:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Manifest, "temporary", temporary)

    with pytest.raises(TargetError, match=r"scsi\.0\.raw.*digests.*; free some space") as caught:
        await restore(Repository(repository), point, folder)

    assert caught.value.errno == code
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "full"),
    [
        (("copy", "pattern:16M", "{}/new.raw"), "new.raw"),
        (("copy", "pattern:16M", "{}/there.raw", "--overwrite"), "there.raw"),
        (("copy", "pattern:64G", "null:", "--manifest", "{}/digests"), "digests"),
    ],
)
def test_a_copy_names_the_file_that_could_not_grow_and_what_is_free(
    arguments: tuple[str, ...], full: str, small_fs: Mount
) -> None:
    folder = small_fs("3m")
    with (folder / "there.raw").open("wb") as file:
        file.truncate(16 * 1024**2)

    ran = ntx(*(each.format(folder) for each in arguments))

    assert_refused(ran, 1, f"{folder}/{full}: ", "No space left on device", "0 B of 3.0 MiB free; free some space")
