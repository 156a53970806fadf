"""A server that stored everything and flips one bit when it is read: each time it is found, and in which block."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ntxengine._core.device import Device
from ntxengine.dataplane.copy import CopyOptions, copy, verify
from ntxengine.dataplane.extents import whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.errors import ChecksumMismatch, NbdReplyError
from tests.fakes import nbd
from tests.fakes.nbd import NbdServer, Request, refusal, serving

BLOCK = 65536
SIZE = 8 * BLOCK + 512
PASSES = 100
OPTIONS = CopyOptions(request_size=BLOCK)


class Flipping:
    """Answers of a server that flips one bit, of the byte at `offset`, in what it reads, or cannot read it at all."""

    def __init__(self, server: NbdServer) -> None:
        self.server = server
        self.offset = self.bit = -1
        self.is_unreadable = False
        self.reads = 0

    def __call__(self, request: Request) -> bytes | None:
        place = self.offset - request.offset
        if request.command != nbd.READ or not 0 <= place < request.length:
            return None
        self.reads += 1
        if self.is_unreadable:
            return refusal(request, nbd.EIO)
        answer = bytearray(self.server.good_answer(request))
        answer[place - request.length] ^= 1 << self.bit  # the payload is what comes last
        return bytes(answer)


@pytest.fixture
def flipping() -> Flipping:
    server = NbdServer(bytearray(b"\xee" * SIZE))
    server.answer = flipping = Flipping(server)
    return flipping


@pytest.fixture
async def manifest(flipping: Flipping, tmp_path: Path) -> AsyncIterator[Manifest]:
    """That of a disk with zeros in it, which was captured to the server."""
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(3 * BLOCK) + bytes(3 * BLOCK) + os.urandom(SIZE - 6 * BLOCK))
    with serving(flipping.server) as uri, Manifest.temporary(size=SIZE) as manifest:
        async with open_source(str(disk)) as source, open_target(uri, source=source) as target:
            await copy(source, target.device, [whole(SIZE)], options=OPTIONS, manifest=manifest)
        manifest.seal()
        assert flipping.server.data == disk.read_bytes()
        yield manifest


@pytest.fixture
async def stored(flipping: Flipping) -> AsyncIterator[Device]:
    with serving(flipping.server) as uri:
        async with open_source(uri) as device:
            yield device


async def test_each_flipped_bit_is_found_where_it_is(flipping: Flipping, manifest: Manifest, stored: Device) -> None:
    chance = random.Random(1)

    for _ in range(PASSES):
        flipping.offset, flipping.bit, flipping.reads = chance.randrange(SIZE), chance.randrange(8), 0
        with pytest.raises(ChecksumMismatch) as caught:
            await verify(stored, manifest, options=OPTIONS)

        assert (caught.value.offsets, caught.value.blocks) == ((flipping.offset // BLOCK * BLOCK,), 1)
        assert flipping.reads == 1  # it is not asked again until it tells something else

    flipping.offset = -1
    await verify(stored, manifest, options=OPTIONS)


async def test_what_cannot_be_read_is_no_mismatch(flipping: Flipping, manifest: Manifest, stored: Device) -> None:
    flipping.is_unreadable = True

    for flipping.offset in (0, 4 * BLOCK + 1, SIZE - 1):
        with pytest.raises(NbdReplyError, match="Input/output error") as caught:
            await verify(stored, manifest, options=OPTIONS)

        assert caught.value.offset == flipping.offset // BLOCK * BLOCK
