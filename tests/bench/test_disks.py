"""The disks: made of what was asked for, the same every time, with a digest that is not the engine's."""

from __future__ import annotations

from pathlib import Path

from ntxengine.bench.disks import make_disk, make_layer
from ntxengine.bench.suite import Bytes, Disk
from ntxengine.units import BLOCK_SIZE, KIB, MIB
from tests.cli.ntx import ntx

MIXED = Disk(size=Bytes(4 * MIB), data=30, zeros=30, run=Bytes(128 * KIB))


def test_disk_is_made_of_what_was_asked_for(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", MIXED, seed="a")

    content = disk.path.read_bytes()
    blocks = [content[at : at + BLOCK_SIZE] for at in range(0, len(content), BLOCK_SIZE)]
    assert len(content) == disk.size == MIXED.size
    assert sum(any(block) for block in blocks) * BLOCK_SIZE == disk.bytes_data
    assert disk.bytes_data == 32 * 30 // 100 * MIXED.run


def test_disk_is_the_same_every_time_and_another_for_another_seed(tmp_path: Path) -> None:
    digests = [make_disk(tmp_path / "disk", MIXED, seed=seed).digest for seed in ("a", "a", "b")]

    assert digests[0] == digests[1] != digests[2]


def test_digest_is_the_one_that_the_engine_arrives_at(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", MIXED, seed="a")

    found = ntx("checksum", disk.path, "--json").json["digest"]

    assert found == disk.digest


def test_layer_has_the_digest_of_the_disk_below_with_its_changes(tmp_path: Path) -> None:
    base = make_disk(tmp_path / "base", MIXED, seed="a")
    layer = make_layer(tmp_path / "layer", MIXED, base, changed=25, seed="b")

    merged = bytearray(base.path.read_bytes())
    changes = layer.path.read_bytes()
    for at in range(0, len(changes), BLOCK_SIZE):
        if any(changes[at : at + BLOCK_SIZE]):
            merged[at : at + BLOCK_SIZE] = changes[at : at + BLOCK_SIZE]
    (tmp_path / "merged").write_bytes(merged)

    assert ntx("checksum", tmp_path / "merged", "--json").json["digest"] == layer.digest != base.digest
