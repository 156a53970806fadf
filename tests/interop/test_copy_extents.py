"""Extents that somebody hands over: what is in them, and what is not, against a model of a few lines."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntxengine.dataplane.blocks import untouched
from ntxengine.dataplane.copy import CopyOptions, copy, digest, verify
from ntxengine.dataplane.extents import ZERO, make, total
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.open import open_source, open_target
from ntxengine.units import BLOCK_SIZE, KIB
from tests.cli.ntx import ntx
from tests.support.servers import nbdkit

SIZE = 700 * KIB
Rows = list[tuple[int, int, int]]


def some_extents(rng: random.Random, size: int) -> Rows:
    """Ascending extents of any length, many of them adjacent, many in one block."""
    rows: Rows = []
    at = rng.randrange(2000)
    while at < size:
        longest = rng.choice([1, 700, 5000, 70 * KIB, 200 * KIB])
        length = min(1 + rng.randrange(longest), size - at)
        rows.append((at, length, rng.choice([0, ZERO])))
        at += length + rng.choice([0, 0, rng.randrange(3000), rng.randrange(150 * KIB)])
    return rows


def model(source: bytes, target: bytes, rows: Rows, unit: int) -> bytes:
    """What the target holds afterwards, if it is written in whole units."""
    wanted, result = bytearray(source), bytearray(target)
    for offset, length, flags in rows:
        if flags & ZERO:
            wanted[offset : offset + length] = bytes(length)
    for offset, length, _ in rows:
        start, end = offset // unit * unit, min(-(-(offset + length) // unit) * unit, len(source))
        result[start:end] = wanted[start:end]
    return bytes(result)


@contextlib.contextmanager
def served(path: Path, unit: int) -> Iterator[str]:
    """The file itself, or through a server that takes only whole units."""
    if unit == 1:
        yield str(path)
        return
    sizes = [f"blocksize-minimum={unit}", f"blocksize-preferred={max(unit, 4096)}", "blocksize-maximum=32M"]
    with nbdkit("--filter=blocksize-policy", "file", str(path), *sizes, "blocksize-error-policy=error") as uri:
        yield uri


@pytest.mark.parametrize("unit", [1, 512, 4096, 65536])
async def test_any_extents_give_what_the_model_says(unit: int, tmp_path: Path) -> None:
    rng = random.Random(unit)
    for number in range(8):
        size = SIZE // unit * unit if unit > 1 else SIZE + rng.randrange(1000)
        before, held = rng.randbytes(size), rng.choice([bytes(size), b"\xff" * size, rng.randbytes(size)])
        source, target = tmp_path / f"source{number}", tmp_path / f"target{number}"
        source.write_bytes(before)
        target.write_bytes(held)
        rows = some_extents(rng, size)
        options = CopyOptions(connections=rng.choice([1, 3]), request_size=BLOCK_SIZE, target_is_zero=not any(held))

        with served(target, unit) as uri:
            async with open_source(str(source)) as device, open_target(uri, source=device, overwrite=True) as to:
                with Manifest.temporary(size=size) as manifest:
                    await copy(device, to.device, [make(rows)], options=options, manifest=manifest)
                    found = [manifest.digests(block, 1).tobytes() for block in range(manifest.blocks)]

        assert target.read_bytes() == model(before, held, rows, unit)
        whole = tmp_path / "whole"
        whole.write_bytes(model(before, before, rows, 1))
        async with open_source(str(whole)) as device:
            with Manifest.temporary(size=size) as expected:
                await digest(device, expected, options=CopyOptions())
                for block in range(expected.blocks):
                    start, end = block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE
                    if any(offset < end and offset + length > start for offset, length, _ in rows):
                        assert found[block] == expected.digests(block, 1).tobytes()


async def test_manifest_and_read_back_agree_on_zero_extents(tmp_path: Path) -> None:
    """Beside the extents the two are alike, as a base and its changes are; in them the source holds anything."""
    rng = random.Random(5)
    size = SIZE + 77
    rows = some_extents(rng, size)
    before = rng.randbytes(size)
    (tmp_path / "source").write_bytes(before)
    (tmp_path / "target").write_bytes(model(before, before, [(o, n, ZERO) for o, n, _ in rows], 1))
    extents = [make(rows)]

    async with open_source(str(tmp_path / "source")) as device:
        async with open_target(str(tmp_path / "target"), source=device, overwrite=True) as to:
            with Manifest.temporary(size=size) as manifest:
                await copy(device, to.device, extents, options=CopyOptions(), manifest=manifest)
                await verify(to.device, manifest, options=CopyOptions(), extents=lambda: iter(extents))

    assert (tmp_path / "target").read_bytes() == model(before, before, rows, 1)


def test_an_unaligned_zero_extent_is_zero_in_target_manifest_and_read_back(tmp_path: Path) -> None:
    source, target, extents = tmp_path / "source", tmp_path / "target", tmp_path / "extents.json"
    before = random.Random(1).randbytes(300_000)
    source.write_bytes(before)
    target.write_bytes(before[:1000] + b"\xff" * 130_000 + before[131_000:])
    extents.write_text(json.dumps([{"offset": 1000, "length": 130_000, "type": "zero"}]))

    more = ("--overwrite", "--manifest", tmp_path / "m", "--verify", "--json")
    ran = ntx("copy", source, target, "--extents", extents, *more)

    assert ran.code == 0
    assert target.read_bytes() == before[:1000] + bytes(130_000) + before[131_000:]
    assert ran.json["digest"] == ntx("checksum", target, "--json").json["digest"]


def test_what_no_extent_touches_is_counted_in_whole_blocks() -> None:
    size = 6 * BLOCK_SIZE + 5
    touched = [make([(1, 1, 0), (BLOCK_SIZE + 1, 5, 0)]), make([(2 * BLOCK_SIZE - 1, 1, 0), (3 * BLOCK_SIZE, 1, ZERO)])]

    left = [tuple(row) for window in untouched(touched, size=size) for row in window.tolist()]

    assert left == [(2 * BLOCK_SIZE, BLOCK_SIZE, 0), (4 * BLOCK_SIZE, 2 * BLOCK_SIZE + 5, 0)]
    assert [total(window) for window in untouched([], size=size)] == [size]
    assert sum(total(window) for window in untouched([make([(0, size, 0)])], size=size)) == 0


def test_a_mismatch_beside_an_extent_that_fills_no_block_says_why(tmp_path: Path) -> None:
    source, extents = tmp_path / "source", tmp_path / "extents.json"
    source.write_bytes(random.Random(1).randbytes(2 * BLOCK_SIZE))
    extents.write_text(json.dumps([{"offset": BLOCK_SIZE, "length": 4096, "type": "data"}]))

    into_new = ntx("copy", source, tmp_path / "new", "--extents", extents, "--verify")
    (tmp_path / "same").write_bytes(source.read_bytes())
    into_same = ntx("copy", source, tmp_path / "same", "--extents", extents, "--verify", "--overwrite")

    assert into_new.code == 1
    assert "whole blocks are compared" in into_new.err
    assert "leave out --verify" in into_new.err
    assert into_same.code == 0
