"""How much an audit of one disk reads, until its share, its bytes or its time is over; and what it counts."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ntxengine.capture.audit import Audit, Audited, Auditor
from ntxengine.changes import Changes
from ntxengine.changes.sampling import Sample, sample
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane import extents
from ntxengine.dataplane.copy import CopyOptions, CopyReport, Progress
from ntxengine.dataplane.coverage import Cursor
from ntxengine.dataplane.extents import ExtentFile
from ntxengine.dataplane.location import parse
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source
from ntxengine.errors import NbdProtocolError, OptionsError, PlaceError, SourceError, TransferTimeout
from ntxengine.units import BLOCK_SIZE, MIB

BLOCKS = 1001
SIZE = (BLOCKS - 1) * BLOCK_SIZE + 512


class Clock:
    """Each look at it costs some seconds."""

    def __init__(self, step_s: float) -> None:
        self.now_s = 0.0
        self._step_s = step_s

    def __call__(self) -> float:
        self.now_s += self._step_s
        return self.now_s


class Disk:
    """A disk of random bytes in its middle, its manifest, and an audit of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk.raw"
        self._folder = folder
        with self.path.open("wb") as file:
            file.truncate(SIZE)
            file.seek(20 * MIB)
            file.write(os.urandom(2 * MIB))
            file.seek(SIZE - 512)
            file.write(os.urandom(512))
        self.told: list[Progress] = []
        self.before: Manifest | None = None
        self.options = CopyOptions()
        self.on_progress: Callable[[Progress], None] = lambda progress: self.told.append(progress)

    async def remember(self) -> None:
        """Take what the disk holds now as the previous point."""
        self.before = Manifest.create(self._folder / "before", size=SIZE)
        async with open_source(parse(str(self.path)), timeout_s=10) as source:
            await dataplane.digest(source, self.before, options=CopyOptions(), reads_all=True)

    def write(self, offset: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    async def audit(
        self,
        audit: Audit,
        cursor: Cursor,
        *,
        regions: extents.Extents | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Audited:
        with ExtentFile() as kept:
            kept.append(extents.make([]) if regions is None else regions)
            is_incremental = self.before is not None
            tracking = "v4-changed-regions" if is_incremental else "allocated"
            changes = Changes(tracking, "", is_incremental, False, SIZE, kept)
            async with open_source(parse(str(self.path)), timeout_s=10) as source:
                auditor = Auditor(
                    source,
                    changes,
                    self.before,
                    directory=self._folder,
                    options=self.options,
                    on_progress=self.on_progress,
                    clock=clock,
                )
                return await auditor.run(audit, cursor)


def opened() -> list[str]:
    """Return what this process has open."""
    return sorted(path.readlink().name for path in Path("/proc/self/fd").iterdir() if path.is_symlink())


@asynccontextmanager
async def remembered(folder: Path) -> AsyncIterator[Disk]:
    disk = Disk(folder)
    await disk.remember()
    try:
        yield disk
    finally:
        assert disk.before is not None
        disk.before.close()


async def test_a_share_is_of_the_disk_and_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    async with remembered(tmp_path) as disk:
        cursor = Cursor(5, 0, BLOCKS)
        for number in range(1, 4):
            found = await disk.audit(Audit(share=0.1), cursor)

            assert (found.blocks_sampled, len(found.wrong), found.problem) == (101, 0, "")
            assert found.cursor == Cursor(5, 101 * number, BLOCKS)
            cursor = found.cursor


async def test_all_is_every_block_once_the_short_last_one_too(tmp_path: Path) -> None:
    async with remembered(tmp_path) as disk:
        found = await disk.audit(Audit(share=1.0), Cursor(7, 900, BLOCKS))
        disk.write(SIZE - 8, b"another!")  # of one random byte it may be the same
        wrong = await disk.audit(Audit(share=1.0), found.cursor)

    assert (found.blocks_sampled, found.bytes_read, found.cursor.position) == (BLOCKS, SIZE, 900 + BLOCKS)
    assert (wrong.wrong.tolist(), wrong.offsets) == ([BLOCKS - 1], ((BLOCKS - 1) * BLOCK_SIZE,))


async def test_what_changed_is_passed_over_by_a_share_and_does_not_count_for_bytes(tmp_path: Path) -> None:
    half = extents.make([(0, SIZE // 2 // BLOCK_SIZE * BLOCK_SIZE, 0)])
    async with remembered(tmp_path) as disk:
        share = await disk.audit(Audit(share=0.1), Cursor(1, 0, BLOCKS), regions=half)
        some = await disk.audit(Audit(bytes=100 * BLOCK_SIZE), Cursor(1, 0, BLOCKS), regions=half)
        more = await disk.audit(Audit(bytes=1 << 50), Cursor(1, 0, BLOCKS), regions=half)

    assert 45 <= share.blocks_sampled <= 56
    assert share.cursor.position == 101
    assert some.blocks_sampled == 100
    assert 190 <= some.cursor.position <= 210
    assert (more.blocks_sampled, more.cursor.position) == (BLOCKS - BLOCKS // 2, BLOCKS)


async def test_a_time_ends_between_sweeps_that_grow_with_the_pace(tmp_path: Path) -> None:
    async with remembered(tmp_path) as disk:
        none = await disk.audit(Audit(seconds=0.5), Cursor(1, 0, BLOCKS), clock=Clock(1))
        one = await disk.audit(Audit(seconds=1.5), Cursor(1, 0, BLOCKS), clock=Clock(1))
        few = await disk.audit(Audit(seconds=4), Cursor(1, 0, BLOCKS), clock=Clock(1))
        every = await disk.audit(Audit(seconds=1e6), Cursor(1, 0, BLOCKS), clock=Clock(1))

    assert none.blocks_sampled == 0
    assert one.blocks_sampled == 64
    assert 64 < few.blocks_sampled < BLOCKS
    assert every.blocks_sampled == BLOCKS


async def test_a_first_capture_compares_with_zero_what_no_data_region_has(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    told = extents.make([(20 * MIB, 2 * MIB, 0), (SIZE - 512, 512, 0)])

    honest = await disk.audit(Audit(share=1.0), Cursor(0, 0, BLOCKS), regions=told)
    lying = await disk.audit(Audit(share=1.0), Cursor(0, 0, BLOCKS), regions=told[:1])

    assert (honest.blocks_sampled, len(honest.wrong)) == (BLOCKS - 33, 0)
    assert lying.wrong.tolist() == [BLOCKS - 1]


async def test_progress_is_of_the_whole_audit(tmp_path: Path) -> None:
    async with remembered(tmp_path) as disk:
        await disk.audit(Audit(seconds=1e6), Cursor(1, 0, BLOCKS), clock=Clock(1))
        timed, disk.told = disk.told, []
        await disk.audit(Audit(share=0.1), Cursor(1, 0, BLOCKS))

    done = [progress.bytes_done for progress in timed]
    assert done == sorted(done)
    assert done[-1] == SIZE
    assert {progress.bytes_total for progress in timed} == {0}
    assert {progress.bytes_total for progress in disk.told} == {101 * BLOCK_SIZE}


async def test_an_audit_that_is_cancelled_while_it_reads_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    ended: list[type[BaseException]] = []
    digest = dataplane.digest

    async def watched(*args: Any, **options: Any) -> Any:
        try:
            return await digest(*args, **options)
        except BaseException as error:
            ended.append(type(error))
            raise

    def cancel(progress: Progress) -> None:
        done.append(progress.bytes_done)
        task.cancel()

    async with remembered(tmp_path) as disk:
        before = opened(), sorted(tmp_path.iterdir())
        monkeypatch.setattr(dataplane, "digest", watched)
        disk.options = CopyOptions(bandwidth=4 * MIB)
        disk.on_progress = cancel
        task = asyncio.ensure_future(disk.audit(Audit(share=1.0), Cursor(1, 0, BLOCKS)))

        with pytest.raises(asyncio.CancelledError):
            await task

        assert done
        assert max(done) < SIZE
        assert ended == [asyncio.CancelledError]
        assert (opened(), sorted(tmp_path.iterdir())) == before


class FailsAt:
    """Reading fails where one of some blocks is asked for."""

    def __init__(self, blocks: Iterable[int], kind: type[PlaceError] = SourceError) -> None:
        self._blocks = set(blocks)
        self._kind = kind
        self._digest = dataplane.digest
        self.reads = 0

    async def __call__(self, *args: Any, **options: Any) -> CopyReport:
        self.reads += 1
        (places,) = options["extents"]
        for offset, length, _ in places.tolist():
            if self._blocks & set(range(offset // BLOCK_SIZE, -(-(offset + length) // BLOCK_SIZE))):
                raise self._kind("Input/output error", offset=offset, length=length)
        return await self._digest(*args, **options)


@pytest.mark.parametrize("audit", [Audit(share=1.0), Audit(bytes=SIZE)])
async def test_blocks_that_cannot_be_read_are_passed_over(
    audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remembered(tmp_path) as disk:
        fails = FailsAt({200, 700})
        monkeypatch.setattr(dataplane, "digest", fails)

        found = await disk.audit(audit, Cursor(1, 0, BLOCKS))

    assert (found.blocks_sampled, found.cursor.position) == (BLOCKS - 2, BLOCKS)
    assert (len(found.wrong), found.problem) == (0, "Input/output error")
    assert fails.reads < 64


async def test_audits_get_past_a_bad_stretch_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with remembered(tmp_path) as disk:
        fails = FailsAt(range(300, 320))
        monkeypatch.setattr(dataplane, "digest", fails)
        cursor, sampled, audits = Cursor(1, 0, BLOCKS), 0, 0
        while cursor.covered < BLOCKS:
            found = await disk.audit(Audit(share=1.0), cursor)
            assert found.cursor.position > cursor.position
            cursor, sampled, audits = found.cursor, sampled + found.blocks_sampled, audits + 1

    assert sampled >= BLOCKS - 20
    assert audits < 20


@pytest.mark.parametrize(("kind", "reads"), [(NbdProtocolError, 1), (TransferTimeout, 1), (SourceError, 32)])
async def test_a_source_that_is_gone_ends_the_audit(
    kind: type[PlaceError], reads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with remembered(tmp_path) as disk:
        fails = FailsAt(range(BLOCKS), kind)
        monkeypatch.setattr(dataplane, "digest", fails)

        found = await disk.audit(Audit(share=1.0), Cursor(1, 0, BLOCKS))

    assert (found.blocks_sampled, found.problem, fails.reads) == (0, "Input/output error", reads)
    assert found.cursor.position < reads


@pytest.mark.parametrize(
    "bad", [{}, {"share": 0.0}, {"share": 1.01}, {"bytes": 0}, {"seconds": float("inf")}, {"share": 0.1, "bytes": 1}]
)
def test_an_amount_that_is_none_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(OptionsError):
        Audit(**bad)  # type: ignore[arg-type]


def test_bytes_and_time_are_divided_by_size() -> None:
    assert Audit(bytes=100).of_disk(1, 4) == Audit(bytes=25)
    assert Audit(seconds=60).of_disk(3, 4) == Audit(seconds=45)
    assert Audit(share=0.5).of_disk(3, 4) == Audit(share=0.5)
    assert Audit(bytes=100).of_disk(0, 0) == Audit(bytes=100)


async def test_bytes_are_found_in_few_looks_where_nearly_all_is_read_anyway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def counted(*args: Any, **options: Any) -> Sample:
        nonlocal looks
        looks += 1
        return sample(*args, **options)

    monkeypatch.setattr("ntxengine.capture.audit.sample", counted)
    nearly_all = extents.make([(0, (BLOCKS - 10) * BLOCK_SIZE, 0)])
    all_of_it = extents.make([(0, SIZE, 0)])
    async with remembered(tmp_path) as disk:
        some = await disk.audit(Audit(bytes=5 * BLOCK_SIZE), Cursor(1, 0, BLOCKS), regions=nearly_all)
        none = await disk.audit(Audit(bytes=5 * BLOCK_SIZE), Cursor(1, 0, BLOCKS), regions=all_of_it)

    assert (some.blocks_sampled, none.blocks_sampled, none.cursor.position) == (5, 0, BLOCKS)
    assert looks < 20
