"""A repository that an earlier ntxengine made is read, verified, restored and built on by this one.

stored/version-1.tar.xz is one as commit d50061d made it: two captures, through a simulated cluster, of a VM with disks
of 256 KiB and of 64.5 KiB.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from ntxengine.repository import Point, Repository, stored
from ntxengine.repository.point import encode
from ntxengine.repository.report import encode_report
from ntxengine.repository.store import PointStore
from ntxengine.restore import RestoreOptions, restore
from ntxengine.verify import verify_points
from tests.repository.builders import ModelDisk, Write, begin, fill_disk, record_of

STORED = Path(__file__).parent / "stored" / "version-1.tar.xz"
VM_ID = "bcf1abbe-2dda-51e2-9c2e-6d97ed1d7782"
POINT_IDS = ["20261128T220755Z-23f374", "20261128T220758Z-ad5438"]


def system() -> ModelDisk:
    disk = ModelDisk(4 * 65536, b"system.raw".ljust(512, b"\1"))
    return disk.apply([Write(65536, 65536, 2)])


def data() -> ModelDisk:
    return ModelDisk(65536 + 512).apply([Write(0, 512, 3)])


@pytest.fixture
def store(tmp_path: Path) -> PointStore:
    with tarfile.open(STORED) as tar:
        tar.extractall(tmp_path / "repository", filter="data")
    return PointStore.open(tmp_path / "repository")


@pytest.mark.parametrize("has_catalog", [True, False])
async def test_its_points_are_listed(store: PointStore, has_catalog: bool) -> None:
    if not has_catalog:
        (store.path / "catalog.sqlite").unlink()

    health = await (await Repository.open(store.path)).health()

    assert [point.id for point in health.points] == POINT_IDS
    assert not health.problems
    newest = health.points[-1]
    assert (newest.vm_id, newest.vm_name, newest.kind, newest.parent_id) == (VM_ID, "db01", "incremental", POINT_IDS[0])
    assert newest.tracking == "v4-changed-regions"
    assert [(disk.label, disk.size) for disk in newest.disks] == [("scsi.0", 262144), ("scsi.1", 66048)]
    assert {disk.recovery_point_id for disk in newest.recovery_point_disks.values()} == {newest.recovery_point_id}


def test_its_points_would_be_written_byte_for_byte_as_they_are(store: PointStore) -> None:
    for point in store.points():
        assert encode(point) == (point.path / "point.json").read_bytes()
        assert stored.encode(encode_report(point.report)) == (point.path / "report.json").read_bytes()


async def test_what_it_records_of_the_cluster_and_of_itself_is_read(store: PointStore) -> None:
    repository = Repository(store)

    records = await repository.cluster_records(VM_ID)

    (record,) = records.foreign  # it was unpacked: this is a copy
    assert (record.point_id, record.name) == (POINT_IDS[1], repository.recovery_point_name(POINT_IDS[1]))
    assert len(record.sources) == 2
    assert record.source == ""  # version 1 knows none
    assert (records.own, records.problems) == ((), ())
    assert "'/backups'" in await repository.find_mismatch()


async def test_it_is_verified(store: PointStore) -> None:
    repository = Repository(store)

    verdicts = await verify_points(repository, [(point, ()) for point in await repository.points()])

    assert [verdict.is_right for verdict in verdicts] == [True, True]


async def check_restored(store: PointStore, point: Point, folder: Path, *disks: ModelDisk) -> None:
    report = await restore(Repository(store), point, folder, options=RestoreOptions(verify=True))

    assert [disk.path.read_bytes() for disk in report.disks] == [bytes(disk.data) for disk in disks]


async def test_it_is_restored(store: PointStore, tmp_path: Path) -> None:
    await check_restored(store, store.points()[-1], tmp_path / "out", system(), data())

    assert json.loads((tmp_path / "out" / "vm.json").read_bytes())["name"] == "db01"


async def test_it_is_built_on(store: PointStore, tmp_path: Path) -> None:
    parent = store.newest(VM_ID)
    assert parent is not None
    disks, writes = (system(), data()), [Write(512, 512, 7)]

    with begin(store, VM_ID, parent) as unfinished:
        added = [
            fill_disk(unfinished, disk.disk_id, model, writes, disk.label)
            for disk, model in zip(parent.disks, disks, strict=True)
        ]
        point = unfinished.commit(record_of(unfinished, added))

    assert (point.kind, point.parent_id) == ("incremental", parent.id)
    await check_restored(store, point, tmp_path / "out", *disks)
    verdicts = await verify_points(Repository(store), [(each, ()) for each in store.points()])
    assert [verdict.is_right for verdict in verdicts] == [True, True, True]
