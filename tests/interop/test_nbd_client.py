"""What the client says to a server, seen by the server; and servers that other tests do not know."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from ntxengine.dataplane.checkpoints import Checkpoints
from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.dataplane.retry import Patience, retrying
from ntxengine.errors import NbdNegotiationError, OptionsError
from tests.fakes import nbd
from tests.fakes.nbd import NbdServer, Request, refusal, serving
from tests.support.servers import nbd_server, qemu_nbd

MIB = 1 << 20
SIZE = 4 * MIB
KNOWN = {nbd.READ, nbd.WRITE, nbd.DISCONNECT, nbd.FLUSH, nbd.ZERO, nbd.STATUS}


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Data, and zeros between it."""
    path = tmp_path / "disk"
    with open(path, "wb") as file:
        file.write(os.urandom(MIB) + bytes(MIB) + os.urandom(MIB))
        file.truncate(SIZE)
    return path


async def run(source: str, target: str, checkpoints: Checkpoints | None = None) -> None:
    async with open_source(source) as from_, open_target(target, source=from_, overwrite=True) as to:
        options = CopyOptions(timeout_s=10, target_is_zero=to.is_zero)
        await copy(from_, to.device, [whole(SIZE)], options=options, bytes_expected=SIZE, checkpoints=checkpoints)


async def test_a_copy_ends_with_all_replies_one_flush_and_a_goodbye(disk: Path) -> None:
    with serving(server := NbdServer(bytearray(b"\xee" * SIZE))) as uri:
        await run(str(disk), uri)

    said = [request.command for request in server.requests]
    assert set(said) <= KNOWN  # no TRIM among them
    assert said[-2:] == [nbd.FLUSH, nbd.DISCONNECT]
    assert said.count(nbd.FLUSH) == said.count(nbd.DISCONNECT) == 1
    assert bytes(server.data) == disk.read_bytes()


async def test_a_read_only_source_is_asked_for_nothing_else(disk: Path, tmp_path: Path) -> None:
    with serving(server := NbdServer(bytearray(disk.read_bytes()))) as uri:
        await run(uri, str(tmp_path / "copy"))

    said = [request.command for request in server.requests]
    assert set(said) == {nbd.STATUS, nbd.READ, nbd.DISCONNECT}
    assert said[-1] == nbd.DISCONNECT
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()


async def test_no_two_requests_in_flight_touch_the_same_bytes(disk: Path) -> None:
    with serving(server := NbdServer(bytearray(b"\xee" * SIZE))) as uri:
        await run(str(disk), uri)

    ranges = sorted((each.offset, each.length) for each in server.requests if each.command in (nbd.WRITE, nbd.ZERO))
    ends = [offset + length for offset, length in ranges]
    assert all(end <= offset for end, (offset, _) in zip(ends, ranges[1:], strict=False))
    assert ends[-1] == SIZE


async def test_a_server_that_shuts_down_is_left_politely_and_asked_again(disk: Path, tmp_path: Path) -> None:
    def answer(request: Request) -> bytes | None:
        is_second = request.command == nbd.READ and len(server.asked(nbd.READ)) == 2
        return refusal(request, nbd.ESHUTDOWN, "going down") if is_second else None

    server = NbdServer(bytearray(disk.read_bytes()), answer)
    checkpoints = Checkpoints()
    (tmp_path / "copy").write_bytes(b"\xee" * SIZE)
    with serving(server) as uri:
        once = functools.partial(run, uri, str(tmp_path / "copy"), checkpoints)
        await retrying(once, checkpoints, Patience(10, first_wait_s=0), name="disk")

    assert checkpoints.retries == 1
    assert len(server.asked(nbd.DISCONNECT)) == 2
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()


@pytest.mark.parametrize("length", [255, 256, 257, 4096])
async def test_the_name_of_an_export_may_be_long(disk: Path, tmp_path: Path, length: int) -> None:
    name = "n" * length
    with qemu_nbd(disk, "-r", "-x", name) as uri:
        await run(uri.replace("nbd+unix:///", f"nbd+unix:///{name}"), str(tmp_path / "copy"))

        with pytest.raises(NbdNegotiationError, match="no such export"):
            await run(uri.replace("nbd+unix:///", f"nbd+unix:///{name[1:]}"), str(tmp_path / "other"))
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()


async def test_a_name_that_no_server_may_take_is_not_sent(tmp_path: Path) -> None:
    with serving(server := NbdServer(bytearray(SIZE))) as uri, pytest.raises(OptionsError, match="at most 4096 bytes"):
        await run(uri.replace("nbd+unix:///", f"nbd+unix:///{'n' * 4097}"), str(tmp_path / "copy"))

    assert server.requests == []


async def test_the_server_of_the_nbd_project_is_read_and_written(disk: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"\xee" * SIZE)

    with nbd_server(disk) as source_uri, nbd_server(target) as target_uri:
        await run(source_uri, target_uri)

    assert target.read_bytes() == disk.read_bytes()
