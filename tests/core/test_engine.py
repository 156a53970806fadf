"""The binding of the C core: kernels agree with an oracle, errors become exceptions, devices are guarded."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from ntxengine._core.device import BLOCK_SIZE, Device
from ntxengine._core.engine import Job
from ntxengine._core.kernels import digest, digest_kernel, is_zero
from ntxengine._core.limits import Limits
from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import Extents, make, whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.errors import OptionsError, SourceError, TargetError, TransferTimeout
from ntxengine.units import MIB
from tests.fakes import nbd
from tests.support.servers import kill_server, nbdkit

SOON_S = 20.0
"""What happens at once has happened by then, also on a busy machine."""


@given(st.binary(max_size=300), st.integers(0, 70000))
def test_kernels_agree_with_the_oracle(data: bytes, padding: int) -> None:
    data = data + bytes(padding)

    assert is_zero(data) == (not any(data))
    assert digest(data) == (xxhash.xxh3_128_digest(data) if any(data) else bytes(16))


def test_digest_kernel_has_a_name() -> None:
    assert digest_kernel() in {"scalar", "sse2", "avx2", "avx512", "build default"}


async def test_missing_source_and_target_are_told_apart(tmp_path: Path) -> None:
    missing = tmp_path / "missing"

    with pytest.raises(SourceError, match=str(missing)) as caught:
        async with open_source(str(missing)):
            pass
    assert caught.value.errno == 2

    async with open_source("pattern:4K") as source:
        with pytest.raises(TargetError, match="folder/target"):
            async with open_target(str(tmp_path / "folder" / "target"), source=source):
                pass


def test_closed_device_says_so() -> None:
    device = Device.open_pattern(4096)
    device.close()
    device.close()

    with pytest.raises(ValueError, match="closed"):
        _ = device.size


def make_job(source: Device, target: Device) -> Job:
    return Job(
        source,
        target,
        Limits(connections=2, in_flight=2, request_size=BLOCK_SIZE, max_buffer_bytes=1 << 20, timeout_ms=1000),
        disk_size=0,
        target_is_zero=False,
        bytes_expected=0,
        digest_fd=-1,
        digest_offset=0,
        digests_are_zero=False,
        reference_fd=-1,
        reference_offset=0,
        reference_blocks=0,
    )


def test_device_serves_one_job_at_a_time_and_outlives_it() -> None:
    source, target = Device.open_pattern(4096), Device.open_null(4096)
    job = make_job(source, target)

    with pytest.raises(ValueError, match="in use"):
        source.close()
    with pytest.raises(ValueError, match="in use"):
        source.map(0, 4096)
    with pytest.raises(ValueError, match="one job at a time"):
        make_job(source, target)
    job.close()

    make_job(source, target).close()
    source.close()


def counted() -> list[int]:
    return [threading.active_count(), len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))]


def assert_no_more_than(before: list[int]) -> None:
    """A thread that opened a device may still have been there before, on its way to its end; a job has several.

    A thread that was joined may be in /proc for another moment.
    """
    deadline = time.monotonic() + SOON_S
    while any(now > then for now, then in zip(counted(), before, strict=True)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_running_job_that_is_dropped_ends_its_threads() -> None:
    before = counted()
    source, target = Device.open_pattern(1 << 40), Device.open_null(1 << 40)
    job = make_job(source, target)
    job.start()
    job.feed(whole(1 << 40))

    del job

    assert_no_more_than(before)


CYCLE = """
import gc
from ntxengine._core.device import Device
from ntxengine.dataplane.extents import whole
from tests.core.test_engine import make_job

def drop_in_a_cycle():
    job = make_job(Device.open_pattern(1 << 40), Device.open_null(1 << 40))
    job.start()
    job.feed(whole(1 << 40))
    cycle = [job]
    cycle.append(cycle)

gc.disable()
drop_in_a_cycle()
gc.collect()
"""


def test_running_job_in_a_reference_cycle_keeps_its_devices_to_the_end() -> None:
    """In a process of its own: what it guards against is a crash."""
    done = subprocess.run([sys.executable, "-c", CYCLE], env=os.environ | {"PYTHONPATH": "src:."}, timeout=60)

    assert done.returncode == 0


def test_closed_job_says_so() -> None:
    job = make_job(Device.open_pattern(4096), Device.open_null(4096))
    job.close()
    job.close()

    for use in (job.start, job.progress, job.fileno, job.cancel, job.join, job.feed_end, job.checkpoint):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(ValueError, match="closed"):
        job.feed(whole(4096))


def test_device_that_a_thread_waits_for_cannot_be_closed() -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def answer(request: nbd.Request) -> None:
        if request.command == nbd.STATUS:
            asked.set()
            may_answer.wait(SOON_S)

    with nbd.serving(nbd.NbdServer(bytearray(4096), answer)) as uri:
        device = Device.open_nbd([uri.split("=", 1)[1].encode()], b"", timeout_ms=60000)
        mapping = threading.Thread(target=device.map, args=(0, 4096))
        mapping.start()
        assert asked.wait(SOON_S)

        with pytest.raises(ValueError, match="in use"):
            device.close()
        with pytest.raises(ValueError, match="in use"):
            device.map(0, 4096)

        may_answer.set()
        mapping.join()
        device.close()


async def test_lost_connection_is_refused_by_the_next_copy() -> None:
    with nbdkit("--filter=delay", "memory", "1M", "delay-write=3") as uri:
        async with open_source("pattern:1M") as source, open_target(uri, source=source) as target:
            with pytest.raises(TransferTimeout):
                await copy(source, target.device, [whole(source.size)], options=CopyOptions(timeout_s=0.2))

            with pytest.raises(TargetError, match="open it again"):
                await copy(source, target.device, [whole(source.size)], options=CopyOptions())


async def test_why_a_connection_was_refused_is_told(caplog: pytest.LogCaptureFixture) -> None:
    options = CopyOptions(connections=4, bandwidth=32 * MIB)  # slow enough for all four to try
    with nbdkit("--filter=limit", "memory", "64M", "limit=2") as uri:
        async with open_source("pattern:64M") as source, open_target(uri, source=source) as target:
            report = await copy(source, target.device, [whole(source.size)], options=options)

    assert (report.connections, report.connections_refused) == (2, 2)
    assert report.refused is not None
    assert "handshake failed" in report.refused or "opening the export failed" in report.refused  # the server's choice
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"a connection could not be had; the copy goes on with fewer: {report.refused}"
    ]


async def test_what_is_no_extents_leaves_the_devices_free() -> None:
    source, target = Device.open_pattern(MIB), Device.open_null(MIB)

    with pytest.raises(TypeError):
        await copy(source, target, None, options=CopyOptions())  # type: ignore[arg-type]

    source.close()
    target.close()


async def test_no_refusal_is_told_where_there_was_none() -> None:
    async with open_source("pattern:1M") as source, open_target("null:", source=source) as target:
        report = await copy(source, target.device, [whole(source.size)], options=CopyOptions())

    assert (report.connections_refused, report.refused) == (0, None)


@pytest.mark.parametrize("name", [b"a" * 200 + b"/" + b"b" * 200, b"caf\xe9.raw"])
async def test_source_is_known_as_the_target_whatever_its_name(tmp_path: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    other = tmp_path / "other"
    path.parent.mkdir(exist_ok=True)
    for file in (path, other):
        file.write_bytes(bytes(4096))

    async with open_source(str(path)) as source:
        with pytest.raises(OptionsError, match="is the source itself"):
            async with open_target(str(path), source=source):
                pass
        async with open_target(str(other), source=source, overwrite=True) as target:
            assert target.device.size == 4096


async def test_name_with_a_nul_is_refused_and_not_cut() -> None:
    with nbdkit("memory", "1M") as uri, pytest.raises(OptionsError, match="%00"):
        async with open_source(uri.replace(":///", ":///disk%00other")):
            pass


async def test_cancelled_copy_leaves_no_thread_and_no_descriptor() -> None:
    async with open_source("pattern:1T") as source, open_target("null:", source=source) as target:
        before = counted()
        running = asyncio.create_task(
            copy(source, target.device, [whole(source.size)], options=CopyOptions(connections=4))
        )
        await asyncio.sleep(0.05)

        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert_no_more_than(before)


async def test_a_cancellation_that_comes_with_news_of_the_job_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    bells: list[asyncio.Event] = []

    class Bell(asyncio.Event):
        def __init__(self) -> None:
            super().__init__()
            bells.append(self)

    async with open_source("pattern:1T") as source, open_target("null:", source=source) as target:
        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "Event", Bell)
            options = CopyOptions(bandwidth=1 << 20)
            running = asyncio.create_task(copy(source, target.device, [whole(source.size)], options=options))
            while not bells:
                await asyncio.sleep(0.01)

        bells[0].set()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(60):
                await running


async def test_wrong_extents_from_the_caller_end_the_copy_cleanly() -> None:
    async with open_source("pattern:1M") as source, open_target("null:", source=source) as target:
        for windows in ([make([(0, 1 << 21, 0)])], [make([(512, 10, 0)]), make([(0, 10, 0)])]):
            with pytest.raises(OptionsError, match="extent 0 refused"):
                await copy(source, target.device, windows, options=CopyOptions())


async def test_error_in_the_feed_reaches_the_caller_and_stops_the_job() -> None:
    def windows() -> object:
        yield make([(0, 4096, 0)])
        raise RuntimeError("the feed broke")

    async with open_source("pattern:1M") as source, open_target("null:", source=source) as target:
        with pytest.raises(RuntimeError, match="the feed broke"):
            await copy(source, target.device, windows(), options=CopyOptions())  # type: ignore[arg-type]

        report = await copy(source, target.device, [whole(source.size)], options=CopyOptions())

    assert report.bytes_done == 1 << 20


async def test_bandwidth_is_kept() -> None:
    async with open_source("pattern:8M") as source, open_target("null:", source=source) as target:
        began = time.monotonic()
        report = await copy(
            source,
            target.device,
            [whole(source.size)],
            options=CopyOptions(bandwidth=16 << 20, request_size=BLOCK_SIZE),
        )
        seconds = time.monotonic() - began

    assert seconds > 0.3
    assert report.bottleneck == "limit"


async def test_progress_is_told_and_ends_with_the_whole() -> None:
    seen = []

    async with open_source("pattern:64M") as source, open_target("null:", source=source) as target:
        await copy(
            source,
            target.device,
            [whole(source.size)],
            options=CopyOptions(),
            bytes_expected=source.size,
            on_progress=seen.append,
        )

    done = [progress.bytes_done for progress in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1].bytes_total == 64 << 20


async def test_stalled_server_is_a_timeout_and_not_a_hang() -> None:
    async with open_source("pattern:1M") as source:
        with nbdkit("--filter=delay", "memory", "1M", "delay-write=30") as uri:
            async with open_target(uri, source=source) as target:
                with pytest.raises(Exception, match="no answer") as caught:
                    await copy(source, target.device, [whole(source.size)], options=CopyOptions(timeout_s=0.3))

    assert getattr(caught.value, "exit_code", 0) == 75


async def test_server_that_dies_is_named() -> None:
    async with open_source("pattern:64M") as source:
        with nbdkit("--filter=delay", "memory", "64M", "delay-write=1") as uri:
            async with open_target(uri, source=source) as target:
                running = asyncio.create_task(
                    copy(source, target.device, [whole(source.size)], options=CopyOptions(timeout_s=20))
                )
                await asyncio.sleep(0.2)
                kill_server(uri)
                with pytest.raises(TargetError, match="nbd\\+unix"):
                    await running


async def test_full_disk_while_digests_are_written_is_an_error_and_not_a_signal(tmp_path: Path) -> None:
    manifest = Manifest.create(tmp_path / "manifest", size=64 << 20)
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, manifest.fd)
    os.close(full)

    async with open_source("pattern:64M") as source, open_target("null:", source=source) as target:
        with pytest.raises(Exception, match=r"manifest failed: No space left on device"):
            await copy(source, target.device, [whole(source.size)], options=CopyOptions(), manifest=manifest)
    manifest.close()


def windows_of(count: int) -> list[Extents]:
    return [make([(i * 131072, 4096, 0)]) for i in range(count)]


async def test_partly_changed_blocks_are_read_whole_and_sent_in_part() -> None:
    async with open_source("pattern:16M") as source, open_target("null:", source=source) as target:
        report = await copy(source, target.device, windows_of(100), options=CopyOptions())

    assert report.bytes_read == 100 * BLOCK_SIZE
    assert report.bytes_sent == 100 * 4096
    assert report.bytes_stored == 0
