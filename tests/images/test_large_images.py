"""Disks of many terabytes, and many disks at once: memory and descriptors do not grow with them.

Each case runs in a process of its own, whose peak is that of the case.  `make soak` sets NTX_LARGE_IMAGES=1 for disks
of 10 and 63 TiB; `make test` does with 1 and 17.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import ZERO, whole
from ntxengine.dataplane.extents import make as extents
from ntxengine.dataplane.open import open_source
from ntxengine.images.create import NewImage
from ntxengine.units import BLOCK_SIZE, MIB
from tests.cli.ntx import ROOT, environment
from tests.images.written import KINDS, L2_BYTES, Kind, blocks_in, bytes_of, check, write
from tests.support.servers import nbdkit, qemu_img

TIB = 1 << 40
IS_LONG = bool(os.environ.get("NTX_LARGE_IMAGES"))
LARGE = (10 if IS_LONG else 1) * TIB
HUGE = (63 if IS_LONG else 17) * TIB
BOUND = 128 * MIB
DISKS = 60
PARTS = 16
FEW = CopyOptions(connections=2, request_size=BLOCK_SIZE, in_flight=2, max_buffer_bytes=MIB, timeout_s=120)


def run_apart(case: str, *arguments: object) -> None:
    """Run a case of this file in a process of its own, which holds to the bounds."""
    command = [sys.executable, "-m", "tests.images.test_large_images", case, *map(str, arguments)]
    environ = environment({"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"})
    ran = subprocess.run(command, env=environ, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def kind_of(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


async def scattered(name: str, folder: str, large: str) -> None:
    """Write a cluster in each 512 MiB, in no order, then an image above it in which all is zero."""
    size = int(large)
    places = list(range(0, size, L2_BYTES))
    Random(1).shuffle(places)
    below = NewImage(Path(folder) / "below", size)
    above = NewImage(Path(folder) / "above", size, "below", (below.path,))
    async with open_source(f"pattern:{size}") as source:
        async with kind_of(name).create(below, FEW) as image:
            for part in range(PARTS):
                rows = [(place, BLOCK_SIZE, 0) for place in sorted(places[part::PARTS])]
                await copy(source, image.device, [extents(rows)], options=FEW)
            await image.finish()
        async with kind_of(name).create(above, FEW) as image:
            await copy(source, image.device, [extents([(0, size, ZERO)])], options=FEW)
            await image.finish()


async def sparse(name: str, folder: str, uri: str, huge: str) -> None:
    """Copy a disk of which a server says where it is."""
    size = int(huge)
    new = NewImage(Path(folder) / "image", size)
    async with open_source(uri) as source, kind_of(name).create(new, FEW) as image:
        await copy(source, image.device, [whole(size)], options=FEW)
        await image.finish()


async def together(name: str, folder: str) -> None:
    """Write many disks at once."""
    most = len(os.listdir("/proc/self/fd"))

    async def one(number: int) -> None:
        nonlocal most
        new = NewImage(Path(folder) / f"image-{number}", 8 * MIB)
        async with kind_of(name).create(new, FEW) as image:
            await write(image, Path(folder) / "source", [(0, 8 * MIB, 0)], FEW)
            most = max(most, len(os.listdir("/proc/self/fd")))
            await image.finish()

    before = most
    await asyncio.gather(*map(one, range(DISKS)))
    assert most - before <= DISKS * 24
    assert len(os.listdir("/proc/self/fd")) <= before + 8


def main(case: str, *arguments: str) -> None:
    before = peak()
    asyncio.run({"scattered": scattered, "sparse": sparse, "together": together}[case](*arguments))
    assert peak() - before <= BOUND, f"{(peak() - before) / MIB} MiB"


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_clusters_all_over_a_large_disk_take_no_memory(tmp_path: Path, kind: Kind) -> None:
    run_apart("scattered", kind, tmp_path, LARGE)

    check(tmp_path / "below", tmp_path / "above")
    assert len(blocks_in(tmp_path / "below", LARGE)) == LARGE // L2_BYTES
    above = json.loads(qemu_img("map", "-f", "qcow2", "--output=json", str(tmp_path / "above")))
    assert [(extent["length"], extent["depth"], extent["zero"]) for extent in above] == [(LARGE, 0, True)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_disk_larger_than_a_file_can_be_is_an_image(tmp_path: Path, kind: Kind) -> None:
    places = [0, HUGE // 2, HUGE - BLOCK_SIZE]
    contents = " ".join(f"@{place} (0x42)*65536" for place in places)

    with nbdkit("data", contents, f"size={HUGE}") as uri:
        run_apart("sparse", kind, tmp_path, uri, HUGE)

    check(tmp_path / "image")
    assert blocks_in(tmp_path / "image", HUGE) == {place // BLOCK_SIZE for place in places}
    reads = [part for place in places for part in ("-c", f"read -P 0x42 {place} {BLOCK_SIZE}")]
    subprocess.run(["qemu-io", "-r", "-f", "qcow2", *reads, tmp_path / "image"], check=True, capture_output=True)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_many_images_at_once_take_little(tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "source").write_bytes(os.urandom(4 * MIB) + os.urandom(4096) * 1024)

    run_apart("together", kind, tmp_path)

    check(*(tmp_path / f"image-{number}" for number in range(DISKS)))
    for number in (0, DISKS - 1):
        assert bytes_of(tmp_path / f"image-{number}", 8 * MIB) == (tmp_path / "source").read_bytes()


if __name__ == "__main__":
    main(*sys.argv[1:])
