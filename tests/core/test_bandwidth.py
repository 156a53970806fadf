"""The rate limit that copies share, with real threads."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ntxengine.dataplane import cpu
from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.copy import CopyOptions, CopyReport, Progress, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.dataplane.timetable import parse_timetable
from ntxengine.errors import OptionsError
from ntxengine.units import BLOCK_SIZE, MIB

TRIES = 10
"""A busy machine makes a copy slower than its limit, but not always."""


async def read(size: int, options: CopyOptions, seen: list[Progress] | None = None) -> CopyReport:
    async with open_source(f"pattern:{size}") as source, open_target("null:", source=source) as target:
        on_progress = None if seen is None else seen.append
        return await copy(source, target.device, [whole(size)], options=options, on_progress=on_progress)


async def test_several_copies_together_keep_one_limit() -> None:
    size, rate = 8 * MIB, 64 * MIB

    async def run() -> float:
        began = time.monotonic()
        options = CopyOptions(bandwidth=rate, request_size=4 * BLOCK_SIZE)
        await asyncio.gather(*(read(size, replace(options, connections=threads)) for threads in (1, 2, 4, 1)))
        return time.monotonic() - began

    took_s = [await run()]
    while took_s[-1] >= 4 * size / rate * 1.5 and len(took_s) < TRIES:
        took_s.append(await run())

    assert min(took_s) > 4 * size / rate * 0.98
    assert min(took_s) < 4 * size / rate * 1.5


async def test_copies_get_equal_parts_whatever_threads_and_requests_they_have() -> None:
    began = time.monotonic()
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
    seconds = time.monotonic() - began

    assert 0.8 < modest[-1].bytes_read / greedy[-1].bytes_read < 1.25
    assert modest[-1].bytes_read + greedy[-1].bytes_read < 64 * MIB * seconds * 1.05


async def test_a_request_larger_than_a_second_of_the_limit_is_copied_and_a_cancel_does_not_wait() -> None:
    options = CopyOptions(bandwidth=MIB, request_size=32 * MIB)
    began = time.monotonic()
    slow = asyncio.ensure_future(read(64 * MIB, options))
    await asyncio.sleep(0.1)

    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow

    assert time.monotonic() - began < 20  # where the request would take 32
    began = time.monotonic()
    report = await read(8 * MIB, CopyOptions(bandwidth=32 * MIB, request_size=32 * MIB))
    assert report.bytes_read == 8 * MIB
    assert time.monotonic() - began > 0.2


async def test_the_timetable_ends_the_limit_of_a_copy_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntxengine.dataplane.bandwidth._LOOK_INTERVAL_S", 0.0)
    evening = datetime(2026, 11, 23, 19)
    looks = itertools.count()
    bandwidth = Bandwidth(
        parse_timetable("08:00,4K 19:00,off"), wall=lambda: evening - timedelta(minutes=int(next(looks) < 3))
    )

    async with asyncio.timeout(60):
        report = await read(64 * MIB, CopyOptions(bandwidth=bandwidth))

    assert bandwidth.rate == 0
    assert report.bytes_read == 64 * MIB


def waited_s() -> float:
    """Return how long the threads of this process have waited for a processor that others had."""
    waited_ns = 0
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended
            waited_ns += int((thread / "schedstat").read_text().split()[1])
    return waited_ns / 1e9


async def processor_time_of(options: CopyOptions, seconds: float) -> tuple[float, float]:
    """Return how much processor time a second of an endless copy takes, as a part of all processors, and how much it
    would take if there were nobody else.
    """
    copying = asyncio.ensure_future(read(1 << 44, options))
    await asyncio.sleep(0.2)
    began, before, waited_before_s = time.monotonic(), time.process_time(), waited_s()
    await asyncio.sleep(seconds)
    all_s = (time.monotonic() - began) * (os.cpu_count() or 1)
    took_s, missed_s = time.process_time() - before, waited_s() - waited_before_s
    copying.cancel()
    await asyncio.gather(copying, return_exceptions=True)
    return took_s / all_s, (took_s + missed_s) / all_s


async def test_the_processor_time_keeps_its_limit_which_may_change() -> None:
    bandwidth = Bandwidth(0, cpu_limit=0.05)

    first, first_alone = await processor_time_of(CopyOptions(bandwidth=bandwidth), 2)
    bandwidth.limit_cpu(0.2)
    second, second_alone = await processor_time_of(CopyOptions(bandwidth=bandwidth), 1)

    assert first < 0.07
    assert first_alone > 0.03
    assert second < 0.27
    assert second_alone > 0.1


async def test_what_servers_take_counts_as_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ntxengine.dataplane.bandwidth._LOOK_INTERVAL_S", 0.0)
    taken_ns = itertools.count(0, 10**10)
    monkeypatch.setattr(cpu, "children_ns", lambda: next(taken_ns))
    seen: list[Progress] = []
    copying = asyncio.ensure_future(read(1 << 44, CopyOptions(bandwidth=Bandwidth(0, cpu_limit=0.1)), seen))

    async with asyncio.timeout(60):
        while len(seen) < 10 or seen[-1].bytes_read != seen[-10].bytes_read:
            await asyncio.sleep(0.05)
    copying.cancel()
    await asyncio.gather(copying, return_exceptions=True)


def test_processes_count_while_they_run_and_when_they_ended() -> None:
    before = cpu.children_ns()
    burn = "while time.process_time() < 0.4: pass"
    program = f"import os, time\nif not os.fork():\n    {burn}\n    os._exit(0)\nos.wait()\ninput()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while cpu.children_ns() - before < 3 * 10**8:
            assert time.monotonic() < deadline
        process.communicate(b"\n")

    assert cpu.children_ns() - before >= 3 * 10**8


@pytest.mark.parametrize("text", ["0%", "101%", "5", "-1%", "5 percent", "1e1%", "", "0.001%", "NaN%"])
def test_a_limit_of_the_processor_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(OptionsError, match="a part of all processors"):
        cpu.parse_cpu_limit(text)


def test_a_limit_of_the_processor_time_is_a_part_of_all_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)

    assert cpu.share_ppm(cpu.parse_cpu_limit("5%")) == 400_000
    assert cpu.share_ppm(cpu.parse_cpu_limit("0.5 %")) == 40_000
    with pytest.raises(OptionsError, match="between 0 and 1"):
        Bandwidth(0, cpu_limit=1.5)


async def test_a_rate_that_is_changed_holds_for_copies_that_wait() -> None:
    bandwidth = Bandwidth("4K")
    copying = asyncio.ensure_future(read(64 * MIB, CopyOptions(bandwidth=bandwidth)))
    await asyncio.sleep(0.2)

    bandwidth.change("off")
    async with asyncio.timeout(60):
        report = await copying

    assert report.bytes_read == 64 * MIB
