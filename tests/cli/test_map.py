"""`ntx map` of exports so large that it takes long: it says how far it is, and stops when it is told to."""

import asyncio
import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from ntxengine.dataplane.mapping import map_device
from ntxengine.dataplane.open import open_source
from tests.cli.ntx import COMMAND, environment, ntx
from tests.support.servers import nbdkit

KIB, GIB = 1024, 1024**3


def test_a_map_that_takes_hours_shows_its_progress_and_can_be_stopped() -> None:
    with nbdkit("-r", "null", "7E") as uri:
        process = subprocess.Popen(
            [*COMMAND, "map", uri, "--progress", "json"],
            env=environment(), text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        with process:
            assert process.stderr is not None
            line = json.loads(process.stderr.readline())
            while not line["bytes_done"]:
                line = json.loads(process.stderr.readline())
            process.send_signal(signal.SIGINT)
            code = process.wait(60)

    assert line["label"] == "map"
    assert 0 < line["bytes_done"] < line["bytes_total"] == 7 * 1024**6
    assert code == 130


def test_a_server_that_accepts_and_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"nbd://127.0.0.1:{server.getsockname()[1]}/"
        process = subprocess.Popen(
            [*COMMAND, "map", uri, "--timeout", "600"],
            env=environment(), text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        with process:
            with server.accept()[0]:
                process.send_signal(signal.SIGINT)
                try:
                    _, err = process.communicate(timeout=60)
                finally:
                    process.kill()

    assert process.returncode == 130
    assert "interrupted by SIGINT" in err


@pytest.mark.parametrize("command", ["checksum", "copy"])
def test_what_has_no_room_for_its_digests_fails_before_the_map(command: str) -> None:
    with nbdkit("-r", "null", "7E") as uri:
        done = subprocess.run(
            ["prlimit", "--fsize=1000000000", *COMMAND, command, uri, *(["null:"] if command == "copy" else [])],
            env=environment(), text=True, capture_output=True, timeout=60,
        )  # fmt: skip

    assert done.returncode == 1
    assert "the manifest cannot be written: File too large" in done.stderr


async def test_a_map_that_is_cancelled_does_not_wait_for_an_answer() -> None:
    with nbdkit("-r", "--filter=delay", "null", "1G", "delay-extents=60") as uri:
        async with open_source(uri) as device:
            asking = asyncio.create_task(map_device(device, timeout_s=120))
            await asyncio.sleep(0.2)  # long enough that it waits; if not, it is no less to be cancelled
            began_s = time.monotonic()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            took_s = time.monotonic() - began_s

    assert took_s < 30


async def test_progress_of_a_map_ends_with_the_whole_device() -> None:
    told: list[int] = []
    with nbdkit("-r", "null", "100G") as uri:
        async with open_source(uri) as device:
            with await map_device(device, on_progress=lambda done, _: told.append(done), patience_s=0) as extents:
                rows = [tuple(row) for window in extents.windows() for row in window.tolist()]

    assert rows == [(0, 100 * GIB, 1)]
    assert told == sorted(told)
    assert told[-1] == 100 * GIB


def test_a_quick_map_says_nothing_of_its_progress(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"\1" * 64 * KIB)

    assert ntx("map", tmp_path / "disk", "--progress", "json", "--json").err == ""


def test_a_server_that_cannot_tell_what_holds_data_is_read_whole(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\1" * 64 * KIB + b"\0" * 64 * KIB)
    with nbdkit("--filter=error", "file", str(disk), "error-extents-rate=100%") as uri:
        mapped = ntx("map", uri, "--json")
        copied = ntx("copy", uri, tmp_path / "copy", "--verify")

    assert mapped.json == [{"offset": 0, "length": 128 * KIB, "type": "data"}]
    assert "Input/output error: everything from offset 0 on is taken for data" in mapped.err
    assert copied.code == 0
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()
