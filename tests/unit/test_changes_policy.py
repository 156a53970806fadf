"""Which question is asked about a disk, and what happens when it is not answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ntxengine.changes import ChangeQuery, Changes, Previous, find_changes
from ntxengine.changes.policy import OnLostTracking
from ntxengine.dataplane.extents import ZERO, make
from ntxengine.errors import NotFoundError, NtxError, PrismAnswerError, PrismBusy, PrismError, PrismStatusError
from ntxengine.prism.models import DiskPoint, Family, RegionPage
from ntxengine.units import GIB

SIZE = 10 * 1024**2
DISK = DiskPoint(id="new", disk_id="disk", recovery_point_id="rp2")
REFERENCE = DiskPoint(id="old", disk_id="disk", recovery_point_id="rp1")

Rows = list[tuple[int, int, int]]


class Answers:
    """A Prism that answers questions about changed regions with given pages, or with an error."""

    family: Family = "v4"

    def __init__(self, *, since: list[Rows] | PrismError, allocated: list[Rows] | PrismError, size: int | None = SIZE):
        self._answers = {REFERENCE: since, None: allocated}
        self._size = size

    async def changed_regions(self, disk: DiskPoint, reference: DiskPoint | None) -> AsyncIterator[RegionPage]:
        assert disk == DISK
        answer = self._answers[reference]
        if isinstance(answer, NtxError):
            raise answer
        for rows in answer:
            yield RegionPage(make(rows), self._size, None)


def is_empty(directory: Path) -> bool:
    return not any(directory.iterdir())


class Asked:
    """The outcome: extents as rows, what was said, and what was left in the folder."""

    def __init__(self, changes: Changes, warnings: list[str], directory: Path) -> None:
        self.changes = changes
        self.rows = [row for window in changes.extents.windows() for row in window.tolist()]
        changes.extents.close()
        self.warnings = warnings
        assert is_empty(directory)


async def ask(
    prism: Answers,
    directory: Path,
    previous: Previous | None,
    *,
    policy: OnLostTracking = "scan",
    size: int = SIZE,
    distrusted: str = "",
) -> Asked:
    warnings: list[str] = []
    query = ChangeQuery(prism, DISK, "disk scsi.0 (disk)", size, directory, warnings.append)
    changes = await find_changes(query, previous, on_lost_tracking=policy, distrusted=distrusted)
    return Asked(changes, warnings, directory)


async def test_a_first_capture_reads_what_is_allocated(tmp_path: Path) -> None:
    prism = Answers(since=[], allocated=[[(0, 512, 0)], [(65536, 65536, ZERO)]])

    asked = await ask(prism, tmp_path, None)

    assert asked.rows == [(0, 65536, 0), (65536, 65536, ZERO)]
    assert (asked.changes.tracking, asked.changes.is_incremental, asked.warnings) == ("allocated", False, [])


async def test_a_first_capture_reads_everything_where_allocation_is_not_told(tmp_path: Path) -> None:
    prism = Answers(since=[], allocated=PrismStatusError("not here", status=501))

    asked = await ask(prism, tmp_path, None)

    assert asked.rows == [(0, SIZE, 0)]
    assert asked.changes.tracking == "full"
    assert "not here" in asked.changes.reason
    assert "10.0 MiB" in asked.warnings[0]


async def test_an_incremental_reads_what_changed_since_the_reference(tmp_path: Path) -> None:
    prism = Answers(since=[[(512, 512, 0)], [(98304, 98304, ZERO)]], allocated=[])

    asked = await ask(prism, tmp_path, Previous(SIZE, REFERENCE))

    assert asked.rows == [(0, 131072, 0), (131072, 65536, ZERO)]
    assert asked.changes.tracking == "v4-changed-regions"
    assert (asked.changes.is_incremental, asked.changes.must_compare, asked.warnings) == (True, False, [])


async def test_no_change_is_an_answer(tmp_path: Path) -> None:
    asked = await ask(Answers(since=[[]], allocated=[]), tmp_path, Previous(SIZE, REFERENCE))

    assert (asked.rows, asked.changes.extents.count, asked.changes.is_incremental) == ([], 0, True)


async def test_neither_regions_nor_a_size_is_no_answer_about_changes(tmp_path: Path) -> None:
    with pytest.raises(PrismAnswerError, match=r"neither a region nor the size.*--scan"):
        await ask(Answers(since=[[], []], allocated=[], size=None), tmp_path, Previous(SIZE, REFERENCE))

    assert is_empty(tmp_path)


async def test_neither_regions_nor_a_size_means_that_a_first_capture_reads_everything(tmp_path: Path) -> None:
    asked = await ask(Answers(since=[], allocated=[[]], size=None), tmp_path, None)

    assert (asked.rows, asked.changes.tracking, asked.changes.size) == ([(0, SIZE, 0)], "full", SIZE)
    assert "neither a region nor the size" in asked.changes.reason
    assert "10.0 MiB" in asked.warnings[0]


async def test_regions_without_a_size_are_an_answer(tmp_path: Path) -> None:
    asked = await ask(Answers(since=[], allocated=[[(0, 512, 0)]], size=None), tmp_path, None)

    assert (asked.rows, asked.changes.tracking, asked.warnings) == ([(0, 65536, 0)], "allocated", [])


@pytest.mark.parametrize(("size", "warnings"), [(SIZE, 0), (2 * GIB, 1)])
async def test_a_disk_without_one_allocated_byte_is_read_to_make_sure(tmp_path: Path, size: int, warnings: int) -> None:
    asked = await ask(Answers(since=[], allocated=[[]], size=size), tmp_path, None, size=size)

    assert (asked.rows, asked.changes.tracking, asked.changes.is_incremental) == ([(0, size, 0)], "allocated", False)
    assert len(asked.warnings) == warnings
    assert all("not one allocated byte" in text and "2.0 GiB" in text for text in asked.warnings)
    assert bool(asked.changes.reason) == bool(warnings)


async def test_a_disk_that_is_reported_zero_is_zero(tmp_path: Path) -> None:
    asked = await ask(Answers(since=[], allocated=[[(0, SIZE, ZERO)]]), tmp_path, None)

    assert asked.rows == [(0, SIZE, ZERO)]


async def test_no_page_at_all_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(PrismAnswerError, match="no page"):
        await ask(Answers(since=[], allocated=[]), tmp_path, Previous(SIZE, REFERENCE))


@pytest.mark.parametrize("error", [NotFoundError("gone"), PrismStatusError("gone", status=400)])
async def test_a_lost_reference_means_scanning_and_saying_so(error: PrismError, tmp_path: Path) -> None:
    asked = await ask(Answers(since=error, allocated=[]), tmp_path, Previous(SIZE, REFERENCE))

    assert asked.rows == [(0, SIZE, 0)]
    assert asked.changes.tracking == "digest-scan"
    assert (asked.changes.is_incremental, asked.changes.must_compare, asked.changes.reason) == (True, True, "gone")
    assert all(text in asked.warnings[0] for text in ("scsi.0", "gone", "10.0 MiB"))


async def test_a_reference_that_the_cluster_no_longer_has_is_not_asked_for(tmp_path: Path) -> None:
    prism = Answers(since=PrismBusy("must not be asked"), allocated=[])

    asked = await ask(prism, tmp_path, Previous(SIZE, None, "it expired"))

    assert (asked.changes.tracking, asked.changes.reason) == ("digest-scan", "it expired")


async def test_full_on_lost_tracking_copies_what_is_allocated(tmp_path: Path) -> None:
    prism = Answers(since=NotFoundError("gone"), allocated=[[(0, 1048576, 0)]])

    asked = await ask(prism, tmp_path, Previous(SIZE, REFERENCE), policy="full")

    assert asked.rows == [(0, 1048576, 0)]
    assert (asked.changes.tracking, asked.changes.is_incremental) == ("allocated", False)
    assert all(text in asked.warnings[0] for text in ("gone", "1.0 MiB", "10.0 MiB"))


async def test_fail_on_lost_tracking_fails_with_the_reason_and_the_remedy(tmp_path: Path) -> None:
    prism = Answers(since=NotFoundError("gone"), allocated=[])

    with pytest.raises(NtxError, match=r"gone.*--on-lost-tracking"):
        await ask(prism, tmp_path, Previous(SIZE, REFERENCE), policy="fail")


@pytest.mark.parametrize("error", [PrismBusy("busy"), PrismAnswerError("nonsense")])
async def test_a_cluster_that_may_answer_later_is_no_reason_to_read_everything(
    error: PrismError, tmp_path: Path
) -> None:
    with pytest.raises(type(error)):
        await ask(Answers(since=error, allocated=[[]]), tmp_path, Previous(SIZE, REFERENCE))

    assert is_empty(tmp_path)


async def test_regions_past_the_end_of_the_disk_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PrismAnswerError, match="512 bytes past the end"):
        await ask(Answers(since=[[(SIZE, 512, 0)]], allocated=[]), tmp_path, Previous(SIZE, REFERENCE))


async def test_the_tail_of_a_disk_that_grew_is_read_from_the_start_of_its_first_block(tmp_path: Path) -> None:
    prism = Answers(since=[[(0, 512, 0), (SIZE - 4096, 4096, ZERO)]], allocated=[])

    asked = await ask(prism, tmp_path, Previous(SIZE - 65536 - 512, REFERENCE))

    assert asked.rows == [(0, 65536, 0), (SIZE - 2 * 65536, 2 * 65536, 0)]
    assert asked.changes.is_incremental


@pytest.mark.parametrize("reference", [REFERENCE, None])
async def test_a_disk_that_shrank_is_captured_in_full(reference: DiskPoint | None, tmp_path: Path) -> None:
    prism = Answers(since=[[]], allocated=[[(0, 512, 0)]])

    asked = await ask(prism, tmp_path, Previous(SIZE + 512, reference, "" if reference else "gone"))

    assert (asked.rows, asked.changes.is_incremental, asked.changes.tracking) == ([(0, 65536, 0)], False, "allocated")
    assert f"shrank from {SIZE + 512} to {SIZE}" in asked.warnings[0]


async def test_the_size_that_comes_with_the_regions_wins(tmp_path: Path) -> None:
    prism = Answers(since=[[(SIZE - 512, 512, 0)]], allocated=[])

    asked = await ask(prism, tmp_path, Previous(SIZE, REFERENCE), size=SIZE // 2)

    assert asked.changes.size == SIZE


@pytest.mark.parametrize("policy", ["scan", "full"])
@pytest.mark.parametrize(
    ("previous", "size", "tracking"),
    [
        (None, SIZE, "full"),
        (Previous(SIZE, REFERENCE), SIZE, "digest-scan"),
        (Previous(SIZE, REFERENCE), SIZE // 2, "full"),
    ],
)
async def test_a_cluster_that_is_distrusted_is_asked_nothing(
    policy: OnLostTracking, previous: Previous | None, size: int, tracking: str, tmp_path: Path
) -> None:
    asked = await ask(
        Answers(since=[], allocated=[]), tmp_path, previous, policy=policy, size=size, distrusted="it lied"
    )

    assert (asked.rows, asked.changes.tracking, asked.changes.reason) == ([(0, size, 0)], tracking, "it lied")
    assert "it lied" in asked.warnings[0]


async def test_a_cluster_that_is_distrusted_fails_where_reading_all_is_not_allowed(tmp_path: Path) -> None:
    with pytest.raises(NtxError, match="it lied"):
        await ask(Answers(since=[], allocated=[]), tmp_path, None, policy="fail", distrusted="it lied")
