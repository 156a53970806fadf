"""What is left attached of a disk that two VMs have: whoever gives up last removes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ntxengine.capture.recorded import give_up, trace_of
from ntxengine.errors import TargetError
from ntxengine.repository import ClusterRecord, Repository
from ntxengine.repository.store import PointStore

FIRST = "11111111-1111-4111-8111-111111111111"
SECOND = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(PointStore.create(tmp_path / "shared"))


def records(repository: Repository) -> tuple[ClusterRecord, ClusterRecord]:
    """Return those of one recovery point of two VMs, which share a disk of a volume group."""
    point_id = "20261129T090000Z-aaaaaa"
    first = ClusterRecord(
        point_id,
        repository.shared_point_name(point_id),
        "worker",
        "33333333-3333-4333-8333-333333333333",
        ("disk of the first", "shared"),
        "hotadd",
        (FIRST, SECOND),
    )
    return first, replace(first, point_id="20261129T090000Z-bbbbbb", sources=("disk of the second", "shared"))


async def test_the_last_of_two_that_give_up_at_once_removes_what_is_left_of_a_shared_disk(
    repository: Repository,
) -> None:
    one, other = records(repository)
    async with repository.lock(FIRST) as first, repository.lock(SECOND) as second:
        await repository.write_cluster_record(first, one)
        await repository.write_cluster_record(second, other)

        of_one = trace_of(one, await give_up(repository, first, one))
        of_other = trace_of(other, await give_up(repository, second, other))

    assert of_one.sources == ("disk of the first",)
    assert of_other.sources == ("disk of the second", "shared")


async def test_what_is_left_in_another_way_than_the_other_vm_reads_is_removed_at_once(repository: Repository) -> None:
    one, other = records(repository)
    async with repository.lock(FIRST) as first, repository.lock(SECOND) as second:
        await repository.write_cluster_record(first, one)
        await repository.write_cluster_record(second, replace(other, source="iscsi"))

        trace = trace_of(one, await give_up(repository, first, one))

    assert trace.sources == one.sources


async def test_who_cannot_write_that_it_gives_up_still_sees_who_else_needs_it(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> None:
        raise TargetError("the file system is full")

    one, other = records(repository)
    async with repository.lock(FIRST) as first, repository.lock(SECOND) as second:
        await repository.write_cluster_record(first, one)
        await repository.write_cluster_record(second, other)
        monkeypatch.setattr(repository, "write_cluster_record", full)

        sharing = await give_up(repository, first, one)

    assert sharing.vm_ids == (SECOND,)
    assert trace_of(one, sharing).sources == ("disk of the first",)
