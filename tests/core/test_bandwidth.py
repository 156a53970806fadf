"""The rate limit that copies share, with real threads."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.copy import CopyOptions, CopyReport, Progress, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.dataplane.timetable import parse_timetable
from ntxengine.units import BLOCK_SIZE, MIB


async def read(size: int, options: CopyOptions, seen: list[Progress] | None = None) -> CopyReport:
    async with open_source(f"pattern:{size}") as source, open_target("null:", source=source) as target:
        on_progress = None if seen is None else seen.append
        return await copy(source, target.device, [whole(size)], options=options, on_progress=on_progress)


async def test_several_copies_together_keep_one_limit() -> None:
    size, rate = 8 * MIB, 64 * MIB
    options = CopyOptions(bandwidth=rate, request_size=4 * BLOCK_SIZE)

    began = time.monotonic()
    await asyncio.gather(*(read(size, replace(options, connections=threads)) for threads in (1, 2, 4, 1)))
    seconds = time.monotonic() - began

    assert 4 * size / rate * 0.98 < seconds < 4 * size / rate * 1.5


async def test_copies_get_equal_parts_whatever_threads_and_requests_they_have() -> None:
    options = CopyOptions(bandwidth=64 * MIB)
    modest: list[Progress] = []
    greedy: list[Progress] = []
    copies = [
        asyncio.ensure_future(read(1 << 40, replace(options, connections=1, request_size=BLOCK_SIZE), modest)),
        asyncio.ensure_future(read(1 << 40, replace(options, connections=8, request_size=8 * BLOCK_SIZE), greedy)),
    ]

    await asyncio.sleep(1)
    for each in copies:
        each.cancel()
    await asyncio.gather(*copies, return_exceptions=True)

    assert 0.8 < modest[-1].bytes_read / greedy[-1].bytes_read < 1.25
    seconds = max(modest[-1].seconds, greedy[-1].seconds)
    assert modest[-1].bytes_read + greedy[-1].bytes_read < 64 * MIB * seconds * 1.05


async def test_a_request_larger_than_a_second_of_the_limit_is_copied_and_a_cancel_does_not_wait() -> None:
    options = CopyOptions(bandwidth=MIB, request_size=32 * MIB)
    began = time.monotonic()
    slow = asyncio.ensure_future(read(64 * MIB, options))
    await asyncio.sleep(0.1)

    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow

    assert time.monotonic() - began < 1
    report = await read(8 * MIB, CopyOptions(bandwidth=32 * MIB, request_size=32 * MIB))
    assert report.bytes_read == 8 * MIB
    assert report.seconds > 0.2


async def test_the_timetable_ends_the_limit_of_a_copy_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntxengine.dataplane.bandwidth._LOOK_INTERVAL_S", 0.0)
    evening = datetime(2026, 11, 23, 19)
    looks = itertools.count()
    bandwidth = Bandwidth(
        parse_timetable("08:00,4K 19:00,off"), wall=lambda: evening - timedelta(minutes=int(next(looks) < 3))
    )

    async with asyncio.timeout(20):
        report = await read(64 * MIB, CopyOptions(bandwidth=bandwidth))

    assert bandwidth.rate == 0
    assert report.bytes_read == 64 * MIB
