"""What a copy reserves of memory is what it takes at most, and several copies together keep to a limit."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ntxengine.dataplane.bandwidth import Bandwidth
from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.errors import NbdReplyError, OptionsError
from ntxengine.units import KIB, MIB
from tests.support.pki import Pki
from tests.support.servers import nbdkit
from tests.tls.servers import nbdkit_tls

SIZE = 192 * MIB

PYTHON = 6 * MIB
"""Of the growth what is not of the job: modules that are loaded when they are first used, and what Python keeps."""


OPENED = MIB
"""Of a disk that waits: what is opened before it has its turn."""


def in_a_process(**said: Any) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.measured_copy", json.dumps(said)],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(source: str, target: str, tls: Path | None = None, **options: Any) -> tuple[int, int]:
    """Return the bytes that a copy had reserved, and those by which memory grew."""
    found = in_a_process(copies=[(source, target)], options=options, tls=None if tls is None else str(tls))
    return found["reserved"][0], found["taken"]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bytes that can be compressed, and some that cannot."""
    path = tmp_path_factory.mktemp("memory") / "disk"
    block = os.urandom(MIB) + os.urandom(KIB) * 1024
    with open(path, "wb") as file:
        for _ in range(SIZE // len(block)):
            file.write(block)
    return path


OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {},
    "many": {"connections": 4, "in_flight": 8, "request_size": MIB, "max_buffer_bytes": 64 * MIB},
    "few": {"connections": 2, "in_flight": 2, "request_size": 64 * KIB},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("target", ["image:{}:zstd:0", "image:{}:zstd:1", "image:{}:zstd:19"])
def test_an_image_takes_no_more_memory_than_was_reserved(
    target: str, options: dict[str, Any], disk: Path, tmp_path: Path
) -> None:
    reserved, taken = measured(str(disk), target.format(tmp_path / "image"), **options)

    assert taken <= reserved + PYTHON


def test_nor_does_reading_a_compressed_image_from_a_server_that_is_late(disk: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    measured(str(disk), f"image:{image}:zstd:1")

    with nbdkit("--filter=delay", "null", str(SIZE), "wdelay=20ms") as uri:
        reserved, taken = measured(f"image:{image}", uri, **OPTIONS["many"])

    assert reserved / 3 < taken <= reserved + PYTHON


def test_nor_do_connections_over_tls(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")

    with nbdkit_tls(pki, "--filter=delay", "pattern", str(SIZE), "rdelay=5ms", psk=True) as port:
        reserved, taken = measured(f"nbds://localhost:{port}", "null:", tls=pki.psk, **OPTIONS["many"])

    assert reserved / 3 < taken <= reserved + PYTHON


def test_most_of_what_is_reserved_is_taken_where_requests_are_in_flight(disk: Path, tmp_path: Path) -> None:
    reserved, taken = measured(str(disk), f"image:{tmp_path / 'image'}:zstd:0", **OPTIONS["many"])

    assert taken > reserved / 2


@pytest.mark.parametrize("level", [0, 1])
def test_several_disks_at_once_keep_to_a_small_limit_and_are_right(level: int, disk: Path, tmp_path: Path) -> None:
    limit, count = 32 * MIB, 6
    images = [tmp_path / f"image{number}" for number in range(count)]
    copies = [(str(disk), f"image:{image}:zstd:{level}") for image in images]

    found = in_a_process(copies=copies, options={"connections": 4}, memory_limit=limit)

    assert found["peak_reserved"] <= limit
    assert found["taken"] <= limit + PYTHON + count * OPENED
    for image in images:
        subprocess.run(
            ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, image], check=True, capture_output=True
        )


async def test_a_copy_that_does_not_fit_is_refused_before_its_first_byte(disk: Path) -> None:
    options = CopyOptions(bandwidth=Bandwidth(0, memory_limit=MIB))

    async with open_source(str(disk)) as source, open_target("null:", source=source) as target:
        with pytest.raises(OptionsError, match=r"copying .*disk to null:.*: needs .* MiB of memory at least"):
            await copy(source, target.device, [whole(SIZE)], options=options)


async def test_what_fails_or_is_cancelled_gives_its_memory_back(disk: Path, tmp_path: Path) -> None:
    limit = Bandwidth(0, memory_limit=64 * MIB)
    options = CopyOptions(bandwidth=limit)

    with nbdkit("--filter=error", "null", str(SIZE), "error-pwrite-rate=100%") as uri:
        async with open_source(str(disk)) as source, open_target(uri, source=source) as target:
            with pytest.raises(NbdReplyError):
                await copy(source, target.device, [whole(SIZE)], options=options)
    assert limit.memory.reserved == 0
    async with open_source(f"pattern:{1 << 40}") as endless, open_target("null:", source=endless) as nowhere:
        task = asyncio.ensure_future(copy(endless, nowhere.device, [whole(1 << 40)], options=options))
        while not limit.memory.reserved:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert (limit.memory.reserved, limit.memory.waiting) == (0, 0)
