"""What is compared with where there are no points, or why nothing: each reason by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ntxengine.capture.reference import Reference, find_reference
from ntxengine.errors import NotFoundError
from ntxengine.prism.cluster import RecoveryPoints
from ntxengine.prism.models import Disk, DiskPoint, RecoveryPoint, Vm
from ntxengine.repository import Repository, StoredReferenceDisk
from ntxengine.repository.stored import StoredDiskPoint

MIB = 1 << 20
VM = cast("Vm", SimpleNamespace(id="vm-1", name="db01", cluster_id="here"))
CREATED = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def kept(disk_id: str, path: str | None = None) -> StoredReferenceDisk:
    return StoredReferenceDisk(MIB, StoredDiskPoint(f"p-{disk_id.lower()}", disk_id, "rp", path=path))


def disk(disk_id: str, **more: Any) -> Disk:
    return Disk(disk_id, MIB, "SCSI", 0, "container", **more)


def point_of(disk_id: str, path: str | None = None) -> DiskPoint:
    return DiskPoint(id=f"now-{disk_id}", disk_id=disk_id, recovery_point_id="now", path=path)


class Recorded:
    """A state folder with one record, and a cluster with its recovery point."""

    path = Path("/state")

    def __init__(self) -> None:
        self.reference: tuple[StoredReferenceDisk, ...] = (kept("D0"), kept("d1"))
        self.is_own = True
        self.problems: list[str] = []
        self.found: RecoveryPoint | None = RecoveryPoint(
            "rp", "ntx", "VM-1", "crash", CREATED, None,
            disks=(point(kept("D0")), point(kept("d1"))), cluster_ids=frozenset({"here"}),
        )  # fmt: skip
        self.asked: list[str] = []

    async def cluster_records(self, vm_id: str) -> Any:
        assert vm_id == VM.id
        record = SimpleNamespace(recovery_point_id="rp", reference=self.reference)
        own, foreign = ([record], []) if self.is_own else ([], [record])
        return SimpleNamespace(own=own, foreign=foreign, problems=self.problems)

    async def recovery_point(self, point_id: str, vm: Vm) -> RecoveryPoint:
        self.asked.append(point_id)
        if self.found is None:
            raise NotFoundError("recovery point rp")
        return self.found

    async def find(self, since: str = "rp") -> Reference:
        return await find_reference(cast("RecoveryPoints", self), cast("Repository", self), VM, since)


def point(stored: StoredReferenceDisk) -> DiskPoint:
    return DiskPoint(id=stored.point.id, disk_id=stored.point.disk_id, recovery_point_id="rp")


@pytest.mark.parametrize("is_own", [True, False])
async def test_what_was_recorded_and_is_still_there_is_compared_with(is_own: bool) -> None:
    given = Recorded()
    given.is_own = is_own

    found = await given.find()
    previous = found.previous(disk("d0"), point_of("d0"))

    assert (found.id, found.lost, found.lost_disks) == ("rp", "", {})
    assert set(found.disks) == {"d0", "d1"}
    assert previous is not None
    assert previous.reference is not None
    assert (previous.size, previous.lost, previous.reference.id) == (MIB, "", "p-d0")
    assert found.why_not(disk("D0")) == ""


async def test_without_a_name_nothing_is_asked() -> None:
    given = Recorded()

    found = await given.find("")

    assert (found.id, found.lost, given.asked) == ("", "no recovery point to compare with was named", [])


async def test_a_recovery_point_that_was_never_given_out_is_not_asked_for() -> None:
    given = Recorded()
    given.problems = ["a record is damaged"]

    other = await given.find("x" * 200)
    given.reference = ()
    no_reference = await given.find()

    assert given.asked == []
    assert other.lost == (
        f"/state records no recovery point {'x' * 80} of this VM that was taken whole (a record is damaged)"
    )
    assert no_reference.lost.startswith("/state records no recovery point rp of this VM")


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (None, "the cluster no longer has recovery point rp"),
        ({"vm_id": "vm-2"}, "recovery point rp is of another VM"),
        ({"vm_ids": frozenset({"vm-2"})}, "recovery point rp is of another VM"),
        ({"cluster_ids": frozenset({"there"})}, "the VM was moved to cluster here, and recovery point rp is not there"),
        ({"cluster_ids": frozenset()}, ""),
        ({"vm_id": ""}, ""),  # Prism does not say of which
    ],
)
async def test_a_recovery_point_that_is_gone_or_another_is_said_to_be(change: dict[str, Any] | None, lost: str) -> None:
    given = Recorded()
    given.found = None if change is None or given.found is None else replace(given.found, **change)

    found = await given.find()

    assert (found.lost, found.id) == (lost, "" if lost else "rp")


async def test_of_a_disk_that_it_no_longer_holds_nothing_can_be_compared() -> None:
    given = Recorded()
    assert given.found is not None
    given.found = replace(given.found, disks=given.found.disks[:1])

    found = await given.find()
    previous = found.previous(disk("d1"), point_of("d1"))

    assert found.lost_disks == {"d1": "recovery point rp of 2026-11-30T12:00:00Z no longer holds this disk"}
    assert previous is not None
    assert (previous.reference, previous.lost) == (None, found.lost_disks["d1"])
    given.found = replace(given.found, created_at=None)
    assert "of an unknown time no longer" in (await given.find()).lost_disks["d1"]


async def test_a_disk_that_is_told_by_its_path_is_compared_by_its_file() -> None:
    given = Recorded()
    given.reference = (kept("d0", "/.acropolis/a"),)
    assert given.found is not None
    given.found = replace(given.found, disks=())

    found = await given.find()
    same, other = (found.previous(disk("d0"), point_of("d0", f"/snapshot/{name}")) for name in ("a", "b"))

    assert found.lost_disks == {}
    assert same is not None
    assert same.reference is not None
    assert other is not None
    assert (other.reference, other.lost) == (None, "the disk's file on storage was a and is b")


async def test_a_disk_that_is_new_or_moves_is_compared_with_nothing() -> None:
    found = await Recorded().find()

    moving = found.previous(disk("d0", is_moving=True), point_of("d0"))

    assert found.previous(disk("d7"), point_of("d7")) is None
    assert found.why_not(disk("d7")) == "recovery point rp does not hold this disk"
    assert moving is not None
    assert (moving.reference, moving.lost) == (None, "the disk is being moved to another storage container")
