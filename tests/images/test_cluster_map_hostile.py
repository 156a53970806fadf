"""Damaged images, and a qemu-img that says what cannot be: an error or a read through qemu, never other bytes."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import struct
from pathlib import Path

import pytest

from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import SourceError, ToolError
from ntxengine.files import locks
from ntxengine.images import cluster_map as clusters
from ntxengine.images import open as opening
from ntxengine.images.open import open_image
from ntxengine.units import BLOCK_SIZE, MIB
from tests.repository.builders import write_manifest
from tests.repository.chains import (
    SIZE,
    as_qemu_reads,
    as_we_read,
    can_be_mapped,
    make,
    put,
    random_write,
    reason_of,
)

ROUNDS = 30


@pytest.fixture(autouse=True)
def _not_by_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most images here could be read without qemu-img."""
    monkeypatch.setattr(opening, "WAYS", opening.WAYS[1:])


@pytest.mark.parametrize("name", ["missing", "folder", "fifo", "empty", "noise"])
async def test_what_is_no_image_fails_as_it_does_with_qemu_nbd(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name == "fifo":
        os.mkfifo(path)
    elif name != "missing":
        path.write_bytes(b"" if name == "empty" else b"\7" * 4096)

    assert str(path) in await reason_of([path])
    if name != "fifo":  # qemu-nbd would wait for its other end
        with pytest.raises(ToolError, match="serving the image failed: qemu-nbd:"):
            async with open_image([path]):
                pass


async def test_an_image_that_is_cut_off_while_it_is_read_is_an_error_of_the_source(tmp_path: Path) -> None:
    path = make(tmp_path / "a.qcow2", SIZE)
    put(path, f"write -P 7 0 {SIZE}")
    write_manifest(tmp_path / "manifest", b"\7" * SIZE)

    with Manifest.open(tmp_path / "manifest") as manifest:
        async with open_image([path]) as device:
            os.truncate(path, path.stat().st_size - MIB)
            with pytest.raises(SourceError, match=r"a\.qcow2 ended at \d+: it was truncated") as caught:
                await dataplane.verify(device, manifest, options=CopyOptions())

    assert caught.value.offset + caught.value.length > MIB


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_a_damaged_image_reads_as_qemu_reads_it_or_is_an_error(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    path = make(tmp_path / "a.qcow2", MIB, dice.choice(["", "cluster_size=4096", "extended_l2=on"]))
    put(path, *(random_write(dice, MIB) for _ in range(6)))
    data = bytearray(path.read_bytes())
    l1_table = struct.unpack_from(">Q", data, 40)[0]
    l2_table = struct.unpack_from(">Q", data, l1_table)[0] & 0x00FFFFFFFFFFFE00
    for _ in range(dice.randint(1, 4)):
        table = dice.choice([0, 0, l1_table, l2_table, l2_table, l2_table])
        at = table + dice.randrange(104 if table == 0 else 8 if table == l1_table else 128)
        data[at] = dice.choice([0, 1, 0x40, 0x80, 0xC0, 0xFF, dice.randrange(256)])
    path.write_bytes(data)

    if await can_be_mapped([path]):
        assert await as_we_read([path]) == as_qemu_reads([path])


def row(start: int, length: int, **more: object) -> dict[str, object]:
    return {"start": start, "length": length, "depth": 0, "present": True, "zero": False, "data": True, **more}


HOSTILE = {
    "nothing": "",
    "no JSON": "x" * 100,
    "an object": "{}",
    "no end": json.dumps([row(0, MIB, offset=0)])[:-1],
    "two arrays": json.dumps([row(0, MIB, offset=0)]) * 2,
    "a gap": [row(0, 512, offset=0), row(1024, MIB - 1024, offset=0)],
    "an overlap": [row(0, 1024, offset=0), row(512, MIB - 512, offset=0)],
    "not from the start": [row(512, MIB - 512, offset=0)],
    "too short": [row(0, MIB - 512, offset=0)],
    "too long": [row(0, MIB + 512, offset=0)],
    "an empty one": [row(0, 0, offset=0), row(0, MIB, offset=0)],
    "a negative length": [row(0, -512, offset=0)],
    "a negative place": [row(0, MIB, offset=-512)],
    "a huge place": [row(0, MIB, offset=2**63)],
    "a huger place": [row(0, MIB, offset=2**70)],
    "a fraction": [row(0, MIB, offset=0.5)],
    "a depth that is not there": [row(0, MIB, offset=0, depth=1)],
    "a negative depth": [row(0, MIB, offset=0, depth=-1)],
    "no place": [row(0, MIB)],
    "a place of null": [row(0, MIB, offset=None)],
    "neither data nor zero": [row(0, MIB, offset=0, data=False)],
    "compressed": [row(0, MIB, offset=0, compressed=True)],
    "a word for a truth": [row(0, MIB, offset=0, zero="no")],
}


@pytest.mark.parametrize("said", HOSTILE)
async def test_whatever_qemu_img_says_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    path = make(tmp_path / "a.qcow2", MIB)
    put(path, f"write -P 7 0 {MIB}")
    answer = HOSTILE[said]
    (tmp_path / "answer").write_text(answer if isinstance(answer, str) else json.dumps(answer))
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "qemu-img").write_text(f"#!/bin/sh\nexec cat '{tmp_path / 'answer'}'\n")
    (bin_folder / "qemu-img").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")

    assert "qemu-img" in await reason_of([path]) or "what is at offset" in await reason_of([path])
    assert await as_we_read([path], kind="nbd") == b"\7" * MIB


@pytest.mark.parametrize(
    ("script", "timeout_s", "words"),
    [
        ("echo no >&2; exit 1", clusters.MAP_TIMEOUT_S, "no"),
        ("exec sleep 600", 0.5, "not done after"),
        ("kill -9 $$", clusters.MAP_TIMEOUT_S, "killed"),
    ],
)
async def test_a_qemu_img_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, timeout_s: float, words: str
) -> None:
    path = make(tmp_path / "a.qcow2", MIB)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "qemu-img").write_text(f"#!/bin/sh\n{script}\n")
    (bin_folder / "qemu-img").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    monkeypatch.setattr(clusters, "MAP_TIMEOUT_S", timeout_s)

    assert words in await reason_of([path])


async def test_an_image_that_is_replaced_meanwhile_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.qcow2", MIB)
    other = make(tmp_path / "b.qcow2", MIB)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "qemu-img").write_text(f'#!/bin/sh\nmv "{other}" "{path}"\nexec {shutil.which("qemu-img")} "$@"\n')
    (bin_folder / "qemu-img").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")

    assert "replaced" in await reason_of([path])


def test_a_map_may_come_in_pieces_of_any_length() -> None:
    rows = [row(i * BLOCK_SIZE, BLOCK_SIZE, offset=i * BLOCK_SIZE * (1 + i % 3)) for i in range(16)]
    text = json.dumps(rows).replace("}, ", "},\n").encode() + b"\n"
    found = []
    for step in (1, 2, 7, 100, len(text)):
        table = clusters._Table(MIB, [10 * MIB])
        for at in range(0, len(text), step):
            table.feed(text[at : at + step])
        found.append(table.finish().tolist())

    assert found[0][0] == (0, BLOCK_SIZE, 0, 0, 0)
    assert all(each == found[0] for each in found)


def test_the_struct_of_a_lock_is_that_of_the_kernel() -> None:
    assert locks.FLOCK.size == 32
    assert fcntl.F_OFD_SETLK == 37
