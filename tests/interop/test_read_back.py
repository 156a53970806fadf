"""Reading back reads: servers that acknowledge what they did not do, and stand by it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.ntx import Ran, ntx
from tests.support.servers import nbdkit

KIB, MIB = 1024, 1024**2
SIZE = 4 * MIB

LIAR = """#!/bin/bash
file={file}
case "$1" in
    get_size) echo {size} ;;
    can_write|can_zero|can_trim|can_flush|can_extents) ;;
    pread) dd if=$file bs=64K iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none ;;
    pwrite) dd of=$file bs=64K oflag=seek_bytes seek=$4 conv=notrunc status=none ;;
    zero|trim|flush) ;;
    extents) echo "{extent}" ;;
    *) exit 2 ;;
esac
"""


@contextlib.contextmanager
def liar(folder: Path, *, extent: str) -> Iterator[str]:
    """A server that never zeroes, and says that all but a bit of it is zero.  It holds 0xff to begin with."""
    held, plugin = folder / "held", folder / "liar.sh"
    held.write_bytes(b"\xff" * SIZE)
    plugin.write_text(LIAR.format(file=held, size=SIZE, extent=extent))
    plugin.chmod(0o755)
    with nbdkit("sh", str(plugin)) as uri:
        yield uri


def copy_to(uri: str, source: Path, *more: object) -> Ran:
    return ntx("copy", source, uri, "--verify", "--json", "--connections", "1", *more)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A block of data, and nothing but a hole behind."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(64 * KIB))
    os.truncate(path, SIZE)
    return path


@pytest.mark.parametrize("extent", [f"0 {SIZE} hole,zero", f"{MIB} {SIZE - MIB} zero", f"0 {SIZE} "])
def test_zeros_that_the_target_did_not_store_are_found(extent: str, source: Path, tmp_path: Path) -> None:
    with liar(tmp_path, extent=extent) as uri:
        ran = copy_to(uri, source)

    assert ran.code != 0
    assert "63 of 64 blocks" in ran.err


@pytest.mark.parametrize("kind", ["data", "zero"])
def test_zeros_in_extents_are_read_back_too(kind: str, source: Path, tmp_path: Path) -> None:
    extents = tmp_path / "extents.json"
    extents.write_text(json.dumps([{"offset": 2 * MIB, "length": 2 * MIB, "type": kind}]))

    with liar(tmp_path, extent=f"0 {SIZE} hole,zero") as uri:
        ran = copy_to(uri, source, "--extents", extents)

    assert ran.code != 0
    assert "32 of 64 blocks" in ran.err


def test_a_target_that_was_wrongly_said_to_be_zero_is_found(source: Path, tmp_path: Path) -> None:
    with liar(tmp_path, extent=f"0 {SIZE} hole,zero") as uri:
        ran = copy_to(uri, source, "--target-is-zero")

    assert ran.code != 0
    assert "63 of 64 blocks" in ran.err


def test_an_honest_target_that_does_not_know_its_zeros_is_right(source: Path, tmp_path: Path) -> None:
    with nbdkit("--filter=noextents", "memory", str(SIZE)) as uri:
        ran = copy_to(uri, source)

    assert (ran.code, ran.json["verified"]) == (0, True)
