"""A byte flipped anywhere in a repository is found, whatever file it is in."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ntxengine.check import DataOptions, check_repository
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.repository import Hold, Point, retention_file
from ntxengine.repository.store import PointStore
from ntxengine.units import BLOCK_SIZE
from tests.images.written import PLAIN
from tests.repository.builders import DISK, VM
from tests.repository.test_flipped_anywhere import add_point, places_of

SEED = int(os.environ.get("NTX_SOAK_SEED", "1"))
FLIPS = 10
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DATA = DataOptions(options=CopyOptions(connections=1, request_size=BLOCK_SIZE, timeout_s=60))

SMALL = ["point.json", "vm.json", "report.json", "SHA256SUMS", f"disk-{DISK}.manifest"]


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> list[Point]:
    """A full point and one on top of it, as our writer makes them, with tags and a hold."""
    folder = tmp_path_factory.mktemp("flipped")
    store, chance = PointStore.create(folder / "a repository"), random.Random(SEED)
    size = 5 * BLOCK_SIZE + 512
    below = chance.randbytes(size)
    above = chance.randbytes(2 * BLOCK_SIZE) + below[2 * BLOCK_SIZE :]
    full = add_point(store, PLAIN, below, [(0, size, 0)], folder / "source")
    upper = add_point(store, PLAIN, above, [(0, 2 * BLOCK_SIZE, 0)], folder / "source")
    retention_file.change(
        store.path / VM, lambda found: found.tag(full.id, ["keep-it"]).hold(upper.id, Hold(reason="an audit"))
    )
    return [full, upper]


async def is_found(root: Path, data: DataOptions | None = None) -> bool:
    return not (await check_repository(root, clock=lambda: NOW, data=data)).is_right


def flips(path: Path, places: list[tuple[int, int]], chance: random.Random) -> Iterator[int]:
    """Flip a bit of a file, at random in each of these places in turn, and put it right again."""
    right = path.read_bytes()
    stat = path.stat()
    for number in range(FLIPS):
        start, length = places[number % len(places)]
        at = start + chance.randrange(length)
        wrong = bytearray(right)
        wrong[at] ^= 1 << chance.randrange(8)
        path.write_bytes(wrong)
        # As rot does: neither its size nor its time tells.
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        yield at
        path.write_bytes(right)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


async def test_nothing_is_wrong_before(points: list[Point]) -> None:
    assert not await is_found(points[0].path.parent.parent, DATA)


@pytest.mark.parametrize("name", [*SMALL, "../retention.json"])
async def test_a_flip_in_a_small_file_is_found(points: list[Point], name: str) -> None:
    path = points[1].path / name

    for at in flips(path, [(0, path.stat().st_size)], random.Random(f"{SEED} {name}")):
        assert await is_found(points[0].path.parent.parent), at


@pytest.mark.parametrize(("number", "blocks"), [(0, [3, 4, 5]), (1, [0, 1])])
async def test_a_flip_in_an_image_is_found_where_all_is_read(
    points: list[Point], number: int, blocks: list[int]
) -> None:
    path = points[number].path / f"disk-{DISK}.qcow2"
    places = [(each.at, each.length) for each in places_of(path.read_bytes(), PLAIN, blocks) if each.matters]
    before = PointStore.open(path.parent.parent.parent).points()

    for at in flips(path, places, random.Random(f"{SEED} {number}")):
        assert await is_found(points[0].path.parent.parent, DATA), at

    assert before == points
