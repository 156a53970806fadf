"""Restored files are what was captured, have safe names, and appear whole."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import subprocess
import threading
from itertools import product
from pathlib import Path

import pytest

from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.errors import LockedError, NotFoundError, NtxError, OptionsError, RepositoryError, SourceError
from ntxengine.events import DiskDone, Event, Progressed, Stage, StageBegan, Warned
from ntxengine.files import durable
from ntxengine.repository import Point, Repository
from ntxengine.repository.store import PointStore
from ntxengine.restore import RestoreFormat, RestoreOptions, file_names, restore
from tests.repository.builders import DISK, OTHER_DISK, VM, ModelDisk, Write, begin, capture, fill_disk, record_of
from tests.support.servers import require_root

SIZES = [0, 1, 511, 512, 513, 65535, 65536 + 512, 10 * 1024**2 + 512]
VERIFIED = RestoreOptions(verify=True)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out, here"


@pytest.mark.parametrize("size", SIZES)
async def test_a_raw_restore_is_the_disk_byte_for_byte(repository: PointStore, out: Path, size: int) -> None:
    model = ModelDisk(size)
    capture(repository, model, [Write(0, size, 1)] if size else [])
    point = capture(
        repository, model, [Write(0, min(size, 1000), 2), Write(size // 2, size // 4, 0)] if size > 8 else []
    )

    report = await restore(Repository(repository), point, out, options=VERIFIED)

    assert (out / "scsi.0.raw").read_bytes() == model.data
    assert json.loads((out / "vm.json").read_bytes()) == {"name": "db01"}
    assert sorted(path.name for path in out.iterdir()) == ["scsi.0.raw", "vm.json"]
    assert [(disk.path, disk.size, disk.is_verified) for disk in report.disks] == [(out / "scsi.0.raw", size, True)]


@pytest.mark.parametrize("size", SIZES)
async def test_a_qcow2_restore_stands_alone(repository: PointStore, out: Path, size: int) -> None:
    model = ModelDisk(size)
    capture(repository, model, [Write(0, size, 1)] if size else [])
    point = capture(repository, model, [Write(0, size // 2, 0)] if size > 8 else [])

    await restore(Repository(repository), point, out, options=RestoreOptions(format="qcow2", verify=True))

    info = json.loads(
        subprocess.run(["qemu-img", "info", "--output=json", out / "scsi.0.qcow2"], capture_output=True).stdout
    )
    assert "backing-filename" not in info
    subprocess.run(["qemu-img", "convert", "-O", "raw", out / "scsi.0.qcow2", out / "plain"], check=True)
    assert (out / "plain").read_bytes()[:size] == model.data


async def test_a_restore_goes_through_a_link_to_a_directory(repository: PointStore, out: Path, tmp_path: Path) -> None:
    point = capture(repository, ModelDisk(512), [Write(0, 512, 1)])
    (tmp_path / "elsewhere").mkdir()
    out.symlink_to(tmp_path / "elsewhere")

    await restore(Repository(repository), point, out)

    assert (tmp_path / "elsewhere" / "scsi.0.raw").read_bytes() == bytes([1]) * 512


async def test_a_restore_is_sparse(repository: PointStore, out: Path) -> None:
    point = capture(repository, ModelDisk(64 * 1024**2), [Write(0, 4096, 1)])

    report = await restore(Repository(repository), point, out)

    assert (out / "scsi.0.raw").stat().st_size == 64 * 1024**2
    assert report.disks[0].bytes_allocated < 1024**2


@pytest.fixture
def two_disks(repository: PointStore) -> Point:
    with begin(repository, VM, None) as unfinished:
        disks = [
            fill_disk(unfinished, DISK, ModelDisk(65536), [Write(0, 512, 1)], "scsi.0"),
            fill_disk(unfinished, OTHER_DISK, ModelDisk(65536), [Write(0, 512, 2)], "scsi.1"),
        ]
        return unfinished.commit(record_of(unfinished, disks), vm_config={"name": "two"})


async def test_two_disks_of_one_size_do_not_change_places(repository: PointStore, two_disks: Point, out: Path) -> None:
    await restore(Repository(repository), two_disks, out, options=VERIFIED)

    assert (out / "scsi.0.raw").read_bytes()[:1] == b"\1"
    assert (out / "scsi.1.raw").read_bytes()[:1] == b"\2"


async def test_every_step_of_a_restore_is_told_and_of_what(repository: PointStore, two_disks: Point, out: Path) -> None:
    events: list[Event] = []

    await restore(Repository(repository), two_disks, out, options=VERIFIED, on_event=events.append)

    assert {(event.vm_id, event.point_id) for event in events} == {(two_disks.vm_id, two_disks.id)}
    for disk in two_disks.disks:
        of_disk = [event for event in events if (event.disk_id, event.disk_label) == (disk.disk_id, disk.label)]
        stages = [event.stage for event in of_disk if isinstance(event, StageBegan)]
        assert stages == [Stage.RESTORE, Stage.VERIFY]
        assert isinstance(of_disk[-1], DiskDone)
        for stage in stages:
            told = [event for event in of_disk if isinstance(event, Progressed) and event.stage is stage]
            assert told[-1].bytes_done == told[-1].bytes_total == disk.size


async def test_all_disks_of_a_restore_share_one_limit_of_bandwidth(repository: PointStore, out: Path) -> None:
    size = 192 * 1024
    with begin(repository, VM, None) as unfinished:
        disks = [
            fill_disk(unfinished, disk_id, ModelDisk(size), [Write(0, size, 1)], label)
            for disk_id, label in ((DISK, "scsi.0"), (OTHER_DISK, "scsi.1"))
        ]
        point = unfinished.commit(record_of(unfinished, disks), vm_config={"name": "two"})

    report = await restore(Repository(repository), point, out, options=RestoreOptions(verify=True, bandwidth=1024**2))

    # Two disks, written and read back, are 0.75 s, less a tenth that may be saved up; with a limit each, half of that.
    assert report.seconds > 0.5


def test_options_of_a_restore_have_one_limit_whatever_is_made_of_them() -> None:
    options = RestoreOptions(bandwidth="08:00,50M 19:00,off")

    assert dataclasses.replace(options, verify=True).bandwidth is options.bandwidth
    with pytest.raises(OptionsError, match="is not from 0"):
        RestoreOptions(bandwidth=-1)


async def test_a_file_system_without_modes_is_a_warning_of_the_restore(
    repository: PointStore, two_disks: Point, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "restrict", lambda path: False)
    events: list[Event] = []

    await restore(Repository(repository), two_disks, out, on_event=events.append)

    (warned,) = (event for event in events if isinstance(event, Warned))
    assert warned.text == f"{out}: {durable.NO_MODES}"
    assert len(list(out.iterdir())) == 3


@pytest.mark.parametrize("kind", [StageBegan, Progressed, DiskDone])
@pytest.mark.parametrize("error", [RuntimeError("a defect"), SourceError("raised by a callback"), NtxError("the same")])
async def test_what_a_callback_raises_ends_a_restore_without_a_file(
    error: Exception, kind: type[Event], repository: PointStore, two_disks: Point, out: Path
) -> None:
    def raise_it(event: Event) -> None:
        if isinstance(event, kind):
            raise error

    with pytest.raises(type(error)) as caught:
        await restore(Repository(repository), two_disks, out, options=VERIFIED, on_event=raise_it)

    assert caught.value is error
    assert list(out.iterdir()) == []


async def test_disks_can_be_restored_one_after_the_other(repository: PointStore, two_disks: Point, out: Path) -> None:
    await restore(Repository(repository), two_disks, out, disks=["scsi.1"])
    await restore(Repository(repository), two_disks, out, disks=[DISK, "scsi.0"])

    assert sorted(path.name for path in out.iterdir()) == ["scsi.0.raw", "scsi.1.raw", "vm.json"]


async def test_a_disk_that_is_not_there_is_said_to_be_none(repository: PointStore, two_disks: Point, out: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no disk 'ide\.0'; its disks: scsi\.0"):
        await restore(Repository(repository), two_disks, out, disks=["scsi.0", "ide.0"])

    assert not out.exists()


@pytest.mark.parametrize("existing", ["scsi.1.raw", "vm.json"])
async def test_what_exists_is_kept_unless_told_otherwise(
    repository: PointStore, two_disks: Point, out: Path, existing: str
) -> None:
    out.mkdir()
    (out / existing).write_bytes(b"precious")

    with pytest.raises(OptionsError, match=f"{re.escape(existing)}: exists already") as caught:
        await restore(Repository(repository), two_disks, out)
    assert caught.value.exit_code == 2
    assert [(path.name, path.read_bytes()) for path in out.iterdir()] == [(existing, b"precious")]

    await restore(Repository(repository), two_disks, out, options=RestoreOptions(overwrite=True))
    assert (out / "scsi.1.raw").read_bytes()[:1] == b"\2"


async def test_restored_disks_are_for_their_owner_only(repository: PointStore, two_disks: Point, out: Path) -> None:
    await restore(Repository(repository), two_disks, out)

    assert [path.stat().st_mode & 0o077 for path in out.iterdir()] == [0, 0, 0]


async def test_a_link_is_replaced_and_not_followed(
    repository: PointStore, two_disks: Point, out: Path, tmp_path: Path
) -> None:
    out.mkdir()
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    for name in ("scsi.0.raw", "scsi.1.raw.ntx-unfinished", "vm.json"):
        (out / name).symlink_to(precious)

    await restore(Repository(repository), two_disks, out, options=RestoreOptions(overwrite=True))

    assert precious.read_bytes() == b"precious"
    assert not any(path.is_symlink() for path in out.iterdir())


async def test_a_directory_in_the_place_of_a_file_is_refused(
    repository: PointStore, two_disks: Point, out: Path
) -> None:
    (out / "scsi.0.raw").mkdir(parents=True)

    with pytest.raises(OptionsError, match="is not a file"):
        await restore(Repository(repository), two_disks, out, options=RestoreOptions(overwrite=True))


async def test_the_repository_is_no_place_to_restore_to(
    repository: PointStore, two_disks: Point, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(repository.path)

    for place in (repository.path, two_disks.path / "x", tmp_path / "link" / "y"):
        with pytest.raises(OptionsError, match="lies in the repository"):
            await restore(Repository(repository), two_disks, place)


async def test_two_restores_do_not_share_a_directory(repository: PointStore, two_disks: Point, out: Path) -> None:
    bandwidth = Bandwidth("4K")
    told: list[Event] = []
    first = asyncio.create_task(
        restore(
            Repository(repository),
            two_disks,
            out,
            options=RestoreOptions(bandwidth=bandwidth),
            on_event=told.append,
        )
    )
    while not told and not first.done():
        await asyncio.sleep(0.01)

    with pytest.raises(LockedError):
        await restore(Repository(repository), two_disks, out)

    bandwidth.change("off")
    await first
    assert sorted(path.name for path in out.iterdir()) == ["scsi.0.raw", "scsi.1.raw", "vm.json"]


async def test_a_damaged_image_stops_all_and_leaves_nothing(
    repository: PointStore, two_disks: Point, out: Path
) -> None:
    two_disks.image_path(two_disks.disks[1]).unlink()

    with pytest.raises(RepositoryError, match="is missing"):
        await restore(Repository(repository), two_disks, out)
    assert list(out.iterdir()) == []


async def test_a_point_without_its_parent_cannot_be_restored(repository: PointStore, out: Path) -> None:
    model = ModelDisk(4096)
    parent = capture(repository, model)
    child = capture(repository, model)
    parent.path.rename(parent.path.with_name("20200101T000000Z-aaaaaa"))

    with pytest.raises(RepositoryError, match=f"{parent.id}: is missing"):
        await restore(Repository(repository), child, out)


@pytest.mark.parametrize(("format", "delay_s"), [*product(["raw", "qcow2"], [0, 0.05]), ("raw", 0.01), ("qcow2", 0.1)])
async def test_a_cancelled_restore_leaves_no_file_and_no_process(
    repository: PointStore, out: Path, format: RestoreFormat, delay_s: float
) -> None:
    point = capture(repository, ModelDisk(64 * 1024**2), [Write(0, 64 * 1024**2, 1)])
    options = RestoreOptions(format=format, verify=True, bandwidth=32 * 1024**2)
    before = children()  # the server that forks ntx, when an earlier test of this process asked for one
    task = asyncio.create_task(restore(Repository(repository), point, out, options=options))
    await asyncio.sleep(delay_s)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not out.exists() or list(out.iterdir()) == []
    assert children() <= before
    await restore(Repository(repository), point, out)


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{threading.main_thread().native_id}/children").read_text().split())


def test_a_point_without_disks_or_configuration_is_an_empty_directory(repository: PointStore, out: Path) -> None:
    with begin(repository, VM, None) as unfinished:
        point = unfinished.commit(record_of(unfinished, []))

    report = asyncio.run(restore(Repository(repository), point, out))

    assert report.disks == ()
    assert report.config is None
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["scsi.0", "scsi.1"], ["scsi.0", "scsi.1"]),
        (["SCSI.0", "scsi.0"], None),
        (["../../etc/passwd", "scsi.0"], ["etc-passwd", "scsi.0"]),
        (["..", "."], None),
        (["", "-"], None),
        (["a/b", "a b"], None),
        (["x" * 300, "y\n\0é"], ["x" * 64, "y"]),
        (["disk-" + OTHER_DISK, "disk-" + DISK], None),
        (["vm.json", "-rf"], ["vm.json", "rf"]),
    ],
)
def test_names_of_restored_files_are_safe_and_never_alike(
    repository: PointStore, labels: list[str], names: list[str] | None
) -> None:
    with begin(repository, VM, None) as unfinished:
        ids = [DISK, OTHER_DISK]
        for disk_id in ids:
            unfinished.add_disk(disk_id, 512, None)
        disks = tuple(
            unfinished.disk_entry(disk_id, label, "0" * 32) for disk_id, label in zip(ids, labels, strict=True)
        )
        record = dataclasses.asdict(record_of(unfinished, []))
    point = Point(**(record | {"disks": disks}))

    found = file_names(point, "raw")

    expected = names or [f"disk-{disk_id}" for disk_id in ids]
    assert list(found.values()) == [f"{name}.raw" for name in expected]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*\.raw", name) for name in found.values())


@pytest.mark.parametrize("options", [{"format": "vmdk"}, {"parallel": 0}, {"flush_timeout_s": 0}])
def test_options_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionsError):
        RestoreOptions(**options)  # type: ignore[arg-type]


async def test_a_read_only_repository_can_be_restored_from(repository: PointStore, out: Path, tmp_path: Path) -> None:
    model = ModelDisk(66048)
    capture(repository, model, [Write(0, 66048, 1)])
    capture(repository, model, [Write(512, 512, 2)])
    require_root("a read-only mount")
    mount = tmp_path / "mount"
    mount.mkdir()
    subprocess.run(["mount", "--bind", repository.path, mount], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", mount], check=True)
        frozen = PointStore.open(mount)

        await restore(Repository(frozen), frozen.points()[-1], out, options=VERIFIED)

        assert (out / "scsi.0.raw").read_bytes() == model.data
    finally:
        subprocess.run(["umount", mount], check=True)


async def test_a_place_that_is_a_file_is_refused(repository: PointStore, two_disks: Point, out: Path) -> None:
    out.touch()

    with pytest.raises(NtxError, match="is not a directory"):
        await restore(Repository(repository), two_disks, out)
