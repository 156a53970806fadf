"""The manifest file: digests of a whole disk, sparse like the disk, refused when it is not whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.dataplane import manifest as manifest_module
from ntxengine.dataplane.differing import differences
from ntxengine.dataplane.extents import make
from ntxengine.dataplane.journal import DigestsBelow
from ntxengine.dataplane.manifest import HEADER_SIZE, Manifest
from ntxengine.errors import OptionsError, RepositoryError, TargetError
from ntxengine.units import BLOCK_SIZE, TIB

SIZE = 10 * BLOCK_SIZE + 512


def sealed(path: Path, blocks: dict[int, bytes], size: int = SIZE) -> Manifest:
    manifest = Manifest.create(path, size=size)
    for block, digest in blocks.items():
        os.pwrite(manifest.fd, digest, HEADER_SIZE + 16 * block)
    manifest.seal()
    return manifest


def test_disk_digest_is_xxh3_over_digests_and_size(tmp_path: Path) -> None:
    digest = bytes(range(16))

    with sealed(tmp_path / "m", {3: digest}) as manifest:
        found = manifest.disk_digest

    expected = xxhash.xxh3_128(bytes(16 * 3) + digest + bytes(16 * 7) + SIZE.to_bytes(8, "little")).hexdigest()
    assert found == expected


def test_sealed_manifest_opens_again(tmp_path: Path) -> None:
    sealed(tmp_path / "m", {3: bytes(range(16))}).close()

    with Manifest.open(tmp_path / "m") as manifest:
        assert (manifest.size, manifest.blocks) == (SIZE, 11)
        assert manifest.digests(3, 1).tobytes() == bytes(range(16))


def test_manifest_of_a_sparse_disk_is_sparse(tmp_path: Path) -> None:
    with Manifest.create(tmp_path / "m", size=2 * TIB) as manifest:
        manifest.seal()

    assert (tmp_path / "m").stat().st_size == HEADER_SIZE + 2 * TIB // BLOCK_SIZE * 16
    assert (tmp_path / "m").stat().st_blocks * 512 <= 64 * 1024


def test_copy_is_whole_when_the_disk_takes_only_parts_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    with sealed(tmp_path / "old", dict.fromkeys(range(11), b"a" * 16)) as old:
        monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, bytes(data)[:100], offset))

        with Manifest.copy_of(old, tmp_path / "new", size=SIZE) as new:
            assert list(differences(old, new)) == []


def test_manifest_that_cannot_be_searched_is_not_taken_for_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with sealed(tmp_path / "old", {0: b"a" * 16}) as old:
        monkeypatch.setattr(os, "lseek", fail)

        with pytest.raises(OSError, match="Input/output"):
            Manifest.copy_of(old, tmp_path / "new", size=SIZE)


def test_copy_keeps_digests_but_a_short_last_block_of_a_disk_that_grew(tmp_path: Path) -> None:
    with sealed(tmp_path / "old", {0: b"a" * 16, 10: b"z" * 16}) as old:
        with Manifest.copy_of(old, tmp_path / "same", size=SIZE) as same:
            assert list(differences(old, same)) == []
        with Manifest.copy_of(old, tmp_path / "grown", size=SIZE + 512) as grown:
            assert grown.digests(0, 1).tobytes() == b"a" * 16
            assert grown.digests(10, 1).tobytes() == bytes(16)
        with Manifest.copy_of(old, tmp_path / "cut", size=BLOCK_SIZE) as cut:
            assert cut.blocks == 1


def test_differences_look_only_where_extents_touch(tmp_path: Path) -> None:
    with sealed(tmp_path / "a", {}) as a, sealed(tmp_path / "b", {1: b"x" * 16, 5: b"y" * 16, 10: b"z" * 16}) as b:
        touched = [make([(BLOCK_SIZE - 1, 2, 0)]), make([(2 * BLOCK_SIZE, 5, 0), (SIZE - 1, 1, 0)])]

        assert list(differences(a, b)) == [1, 5, 10]
        assert list(differences(a, b, touched)) == [1, 10]


runs = st.lists(st.tuples(st.integers(1, 3 * BLOCK_SIZE), st.integers(1, 2 * BLOCK_SIZE)), max_size=8)


@settings(max_examples=200)
@given(parts=runs, cut=st.integers(0, 8), other=st.sets(st.integers(0, 40), max_size=20), chunk=st.integers(1, 5))
def test_differences_are_those_of_a_set_of_blocks(
    tmp_path_factory: pytest.TempPathFactory,
    parts: list[tuple[int, int]],
    cut: int,
    other: set[int],
    chunk: int,
) -> None:
    size = 41 * BLOCK_SIZE
    rows, at = [], -1
    for gap, length in parts:
        rows.append((at + gap, length, 0))
        at += gap + length
    touched = {
        block for begin, length, _ in rows for block in range(begin // BLOCK_SIZE, -(-(begin + length) // BLOCK_SIZE))
    }

    with Manifest.temporary(size=size) as a, Manifest.temporary(size=size) as b, pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_module, "_CHUNK_BLOCKS", chunk)
        for block in other:
            os.pwrite((a if block % 2 else b).fd, b"x" * 16, HEADER_SIZE + 16 * block)

        found = list(differences(a, b, [make(rows[:cut]), make([]), make(rows[cut:])]))
        everywhere = list(differences(a, b))

    assert found == sorted(touched & other)
    assert everywhere == sorted(other)


def test_holes_of_both_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 10 * TIB
    block = 5 * TIB // BLOCK_SIZE
    with sealed(tmp_path / "a", {}, size) as a, sealed(tmp_path / "b", {block: b"x" * 16}, size) as b:
        read = []
        digests = Manifest.digests
        monkeypatch.setattr(Manifest, "digests", lambda self, *place: read.append(place) or digests(self, *place))

        assert list(differences(a, b)) == [block]

    assert len(read) == 2


@pytest.mark.parametrize("offset", [0, 8, 16, 24, 30, 45, HEADER_SIZE + 16 * 3])
def test_flipped_bit_is_found(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "m"
    sealed(path, {3: bytes(range(16))}).close()
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)

    with pytest.raises(RepositoryError, match=str(path)):
        Manifest.open(path)


def test_unfinished_cut_or_foreign_file_is_refused(tmp_path: Path) -> None:
    Manifest.create(tmp_path / "unfinished", size=SIZE).close()
    sealed(tmp_path / "cut", {}).close()
    os.truncate(tmp_path / "cut", HEADER_SIZE + 3)
    (tmp_path / "foreign").write_text("hello")

    for name, message in [("unfinished", "never finished"), ("cut", "was cut"), ("foreign", "not a manifest")]:
        with pytest.raises(RepositoryError, match=message):
            Manifest.open(tmp_path / name)
    with pytest.raises(OptionsError, match="cannot be opened"):
        Manifest.open(tmp_path / "missing")


def test_manifest_that_is_cut_while_it_is_open_is_an_error_that_names_it(tmp_path: Path) -> None:
    with sealed(tmp_path / "m", {3: bytes(range(16))}) as manifest:
        os.truncate(tmp_path / "m", HEADER_SIZE + 3 * 16 + 8)

        with pytest.raises(RepositoryError, match=r"/m: the manifest was cut while it was read"):
            manifest.digests(0, 11)
        with pytest.raises(RepositoryError, match=r"/m: the manifest was cut while it was read"):
            DigestsBelow(manifest).at(SIZE)


def test_manifest_on_a_disk_that_fails_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(fd: int, count: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with sealed(tmp_path / "m", {}) as manifest:
        monkeypatch.setattr(os, "pread", fails)

        with pytest.raises(RepositoryError, match=r"/m: the manifest cannot be read: Input/output error"):
            manifest.digests(0, 1)
        with pytest.raises(RepositoryError, match=r"/m: the manifest cannot be read: Input/output error"):
            Manifest.open(tmp_path / "m")


def test_manifest_on_a_full_disk_is_an_error_that_names_it(tmp_path: Path, small_fs: Callable[[str], Path]) -> None:
    small = small_fs("64k")
    with Manifest.create(tmp_path / "old", size=512 * BLOCK_SIZE * 64) as old:
        os.pwrite(old.fd, b"x" * (512 * 64 * 16), HEADER_SIZE)
        old.seal()
        with pytest.raises(TargetError, match="the manifest cannot be written: No space left") as caught:
            Manifest.copy_of(old, small / "new", size=old.size)

    assert str(small) in str(caught.value)
    assert list(small.iterdir()) == []


def test_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("precious")

    with pytest.raises(OptionsError, match="File exists"):
        Manifest.create(tmp_path / "m", size=SIZE)

    assert (tmp_path / "m").read_text() == "precious"
