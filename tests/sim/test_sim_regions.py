"""Changed regions against an oracle that compares byte by byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.sim import storage
from ntxengine.sim.pages import Page, Window
from ntxengine.sim.regions import compute

SECTOR = 512
TIB = 1 << 40


def oracle(new: bytes, old: bytes | None, block: int) -> list[tuple[int, int, bool]]:
    """Return merged (offset, length, is zero) of the blocks that differ, the slow and plain way."""
    result: list[tuple[int, int, bool]] = []
    for start in range(0, len(new), block):
        now = new[start : start + block]
        if old is not None and start < len(old) and now == old[start : start + len(now)].ljust(len(now), b"\0"):
            continue
        is_zero = not any(now)
        if result and result[-1][0] + result[-1][1] == start and result[-1][2] == is_zero:
            offset, length, _ = result.pop()
            result.append((offset, length + len(now), is_zero))
        else:
            result.append((start, len(now), is_zero))
    return result


def write(path: Path, size: int, pieces: list[tuple[int, bytes]]) -> bytes:
    """Make a sparse file with these pieces and return what it holds."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in pieces:
            file.seek(min(offset, size))
            file.write(data[: max(0, size - offset)])
    return path.read_bytes()


def pages(path: Path, old: Path | None, window: Window) -> list[Page]:
    """Follow next_offset to the end, which must always move on."""
    result = [compute(path, old, window)]
    while (following := result[-1].next_offset) is not None:
        assert following > window.start
        window = Window(following, window.end, window.block_size, window.count, window.zeroes, window.look_ahead)
        result.append(compute(path, old, window))
    return result


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder whose files every example overwrites."""
    return tmp_path_factory.mktemp("regions")


SIZES = st.integers(1, 40).map(lambda sectors: sectors * 8192 + SECTOR * (sectors % 3))
PIECES = st.lists(
    st.tuples(st.integers(0, 330_000), st.one_of(st.binary(min_size=1, max_size=3), st.just(bytes(9000)))), max_size=8
)


@settings(max_examples=150)
@given(
    size=SIZES,
    old_size=st.one_of(st.none(), SIZES),
    before=PIECES,
    after=PIECES,
    block=st.sampled_from([SECTOR, 32_768, 65_536]),
    count=st.integers(1, 5),
)
def test_pages_of_a_diff_are_what_a_byte_comparison_finds(
    files: Path,
    size: int,
    old_size: int | None,
    before: list[tuple[int, bytes]],
    after: list[tuple[int, bytes]],
    block: int,
    count: int,
) -> None:
    old = write(files / "old", old_size or size, before)
    new = write(files / "new", size, before + after)

    found = pages(files / "new", files / "old", Window(block_size=block, count=count))

    assert [region for page in found for region in page.regions] == oracle(new, old, block)
    assert all(len(page.regions) <= count for page in found)
    assert found[0].size == size


@settings(max_examples=80)
@given(size=SIZES, before=PIECES, after=PIECES, window=st.tuples(st.integers(0, 700), st.integers(0, 700)))
def test_a_window_holds_its_part_and_next_offset_skips_to_the_next_change(
    files: Path,
    size: int,
    before: list[tuple[int, bytes]],
    after: list[tuple[int, bytes]],
    window: tuple[int, int],
) -> None:
    old = write(files / "old", size, before)
    new = write(files / "new", size, before + after)
    start, end = (sector * SECTOR for sector in sorted(window))
    changed = [n for n in range(0, size, SECTOR) if new[n : n + SECTOR] != old[n : n + SECTOR]]

    page = compute(files / "new", files / "old", Window(start, end, look_ahead=True))

    covered = [n for offset, length, _ in page.regions for n in range(offset, offset + length, SECTOR)]
    assert covered == [n for n in changed if start <= n < end]
    assert page.next_offset == next((n for n in changed if n >= max(start, end)), None)


@settings(max_examples=60)
@given(size=SIZES, pieces=PIECES, block=st.sampled_from([SECTOR, 32_768]))
def test_without_reference_everything_that_is_not_zero_is_in_a_regular_region(
    files: Path, size: int, pieces: list[tuple[int, bytes]], block: int
) -> None:
    path = files / "disk"
    content = write(path, size, pieces)

    regular = compute(path, None, Window(block_size=block)).regions
    both = compute(path, None, Window(block_size=block, zeroes=True)).regions

    rebuilt = bytearray(size)
    for offset, length, is_zero in regular:
        assert not is_zero
        rebuilt[offset : offset + length] = content[offset : offset + length]
    assert bytes(rebuilt) == content
    assert [region for region in both if not region[2]] == regular
    assert sum(length for _, length, _ in both) == size


def bytes_read() -> int:
    """Return how many bytes this thread has read of files."""
    said = Path("/proc/thread-self/io").read_text()
    return int(said.partition("rchar: ")[2].split()[0])


def test_tebibytes_of_holes_cost_nothing(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_at = 3 * TIB + 512
    for path in (old, new):
        with path.open("wb") as file:
            file.truncate(8 * TIB)
    with new.open("r+b") as file:
        file.seek(write_at)
        file.write(b"x")
    before = bytes_read()

    page = compute(new, old, Window())

    assert page.regions == [(write_at, 512, False)]
    assert bytes_read() - before < 64 << 20


def test_a_sparse_copy_keeps_bytes_and_holes_and_cannot_be_written(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "sub" / "target"
    with source.open("wb") as file:
        file.truncate(64 << 30)
        for offset in (0, 4096 * 1000, (64 << 30) - 700):
            file.seek(offset)
            file.write(os.urandom(700))

    storage.copy_file(source, target, writable=False)

    assert target.stat().st_size == 64 << 30
    assert target.stat().st_blocks * 512 < 1 << 20
    assert compute(target, source, Window()).regions == []
    assert target.stat().st_mode & 0o777 == 0o444
