"""The closing flush: it may take long, says so, has a limit of its own, and is left when the copy is cancelled."""

import asyncio
import time
from pathlib import Path

import pytest

from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.dataplane.progress import Progress
from ntxengine.errors import OptionsError, TransferTimeout
from tests.fakes.nbd import slow_to_flush

SOON_S = 15.0
"""A cancel ends within a second; the machine may do much else.  The flush would take longer."""


async def test_a_flush_may_take_longer_than_an_answer_and_says_so() -> None:
    seen: list[Progress] = []
    with slow_to_flush(3.0) as uri:
        async with open_source("pattern:1M") as source, open_target(uri, source=source) as target:
            report = await copy(
                source,
                target.device,
                [whole(source.size)],
                options=CopyOptions(timeout_s=2.0),
                bytes_expected=source.size,
                on_progress=seen.append,
            )

    assert report.is_flushed
    flushing = [progress for progress in seen if progress.is_flushing]
    assert len(flushing) > 2
    assert all(progress.bytes_done == progress.bytes_total == 1 << 20 for progress in flushing)
    assert not seen[0].is_flushing
    assert not seen[-1].is_flushing


async def test_a_flush_has_a_limit_that_names_its_option() -> None:
    with slow_to_flush(20.0) as uri:
        async with open_source("pattern:1M") as source, open_target(uri, source=source) as target:
            with pytest.raises(TransferTimeout, match=r"flush failed: no answer within 0\.5 s: .*--flush-timeout"):
                await copy(source, target.device, [whole(source.size)], options=CopyOptions(flush_timeout_s=0.5))


@pytest.mark.parametrize("limit_s", [0, -1, float("nan"), 10**9])
def test_a_limit_of_the_flush_that_is_none_is_refused(limit_s: float) -> None:
    with pytest.raises(OptionsError, match="time limit of the flush"):
        CopyOptions(flush_timeout_s=limit_s)


async def test_a_cancelled_copy_does_not_wait_for_the_flush() -> None:
    is_flushing = asyncio.Event()

    def tell(progress: Progress) -> None:
        if progress.is_flushing:
            is_flushing.set()

    with slow_to_flush(20.0) as uri:
        async with open_source("pattern:1M") as source, open_target(uri, source=source) as target:
            running = asyncio.create_task(
                copy(source, target.device, [whole(source.size)], options=CopyOptions(), on_progress=tell)
            )
            await is_flushing.wait()
            began = time.monotonic()

            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

            assert time.monotonic() - began < SOON_S


async def test_a_file_is_flushed_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"

    async with open_source("pattern:80M") as source, open_target(str(path), source=source) as target:
        report = await copy(source, target.device, [whole(source.size)], options=CopyOptions())

    assert report.is_flushed
    assert path.stat().st_size == 80 << 20
