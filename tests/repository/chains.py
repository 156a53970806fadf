"""Chains of images made by qemu's own tools, and what they read as: to us, and to qemu."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.open import open_target
from ntxengine.images.cluster_map import map_clusters
from ntxengine.images.held import CannotMap
from ntxengine.images.open import open_image
from ntxengine.images.qemu_img import node
from ntxengine.units import MIB

SIZE = 2 * MIB


def qemu_img(*arguments: object) -> str:
    return subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def make(path: Path, size: int, options: str = "", *, backing: Path | None = None) -> Path:
    overlay = ["-b", backing, "-F", "qcow2"] if backing else []
    qemu_img("create", "-q", "-f", "qcow2", *(["-o", options] if options else []), *overlay, path, size)
    return path


def put(path: Path, *commands: str) -> None:
    arguments = [word for command in commands for word in ("-c", command)]
    subprocess.run(["qemu-io", "-d", "unmap", "-f", "qcow2", *arguments, path], check=True, capture_output=True)


def as_qemu_reads(chain: Sequence[Path]) -> bytes:
    """Return the bytes of the disk by qemu-img, with every zero written out."""
    raw = chain[0].with_name("by-qemu.raw")
    qemu_img("convert", "-S", "0", "-O", "raw", node(chain), raw)
    return raw.read_bytes()


async def as_we_read(chain: Sequence[Path], *, kind: str = "mapped") -> bytes:
    """Return the bytes of the disk by a copy with several threads, which asks the map, and check how it was opened."""
    target = chain[0].with_name("by-us.raw")
    target.unlink(missing_ok=True)
    async with open_image(chain, timeout_s=20) as device:
        assert device.kind == kind
        async with open_target(str(target), source=device) as opened:
            whole = [dataplane.whole(device.size)]
            await dataplane.copy(device, opened.device, whole, options=CopyOptions(connections=3))
    return target.read_bytes()


async def reason_of(chain: Sequence[Path]) -> str:
    with pytest.raises(CannotMap) as caught:
        async with map_clusters(chain):
            pass
    return str(caught.value)


async def can_be_mapped(chain: Sequence[Path]) -> bool:
    """Tell whether an image is not too damaged for its clusters to be looked up."""
    try:
        async with map_clusters(chain) as found:
            return found.size <= 16 * MIB
    except CannotMap:
        return False


def random_write(dice: random.Random, size: int) -> str:
    unit = dice.choice([512, 512, 4096, 65536])
    offset = dice.randrange(size // unit) * unit if size >= unit else 0
    length = min(dice.randint(1, dice.choice([2, 20, 300])) * unit, size - offset)
    how = dice.choice(["write -P {}", "write -P {}", "write -z", "write -z -u", "discard"])
    return f"{how.format(dice.randint(1, 255))} {offset} {length}"


def random_chain(dice: random.Random, folder: Path) -> tuple[Path, ...]:
    """Three images whose sizes and clusters differ, with random writes, zeros and discards in each."""
    chain: tuple[Path, ...] = ()
    for level in range(3):
        size = dice.randint(1, SIZE // 512) * 512
        options = dice.choice(
            [
                "compat=1.1",
                "compat=1.1,cluster_size=512",
                "compat=1.1,cluster_size=4096",
                "compat=1.1,cluster_size=2M",
                "compat=1.1,extended_l2=on",
                "compat=1.1,extended_l2=on,cluster_size=16k",
                "compat=1.1,lazy_refcounts=on",
                "compat=0.10",
            ]
        )
        if not chain and dice.random() < 0.3:
            options += ",preallocation=" + dice.choice(["metadata", "falloc"])
        path = make(folder / f"{level}.qcow2", size, options, backing=chain[0] if chain else None)
        for _ in range(dice.randint(0, 3)):
            put(path, *(random_write(dice, size) for _ in range(dice.randint(1, 8))))
        chain = (path, *chain)
    return chain
