"""The manifest of a disk: the digest of each of its 64 KiB blocks, and one digest of the whole disk.

    0      8        12          16          24     26           28              36      52
    | magic | version | block size | disk size | sealed | reserved | header check | digest |  zeros .. | digests
                                                                                             4096 -----'
All numbers are little-endian.  Digest i, 16 bytes at 4096 + 16 * i, is XXH3-128 in canonical form of block i (the last
block may be short), or 16 zero bytes if the block is all zero: the manifest of a sparse disk is a sparse file.
The disk digest is XXH3-128 over all digests in order, then the disk size as 8 bytes.  It finds corruption, not malice.
An unsealed manifest is one that was never finished.
"""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from ntxengine import files, machine
from ntxengine.errors import OptionsError, RepositoryError, TargetError, machine_error
from ntxengine.files import free_space
from ntxengine.units import BLOCK_SIZE, MIB

DIGEST_SIZE = 16
HEADER_SIZE = 4096
VERSION = 1

_MAGIC = b"NTXMANIF"
_HEAD = struct.Struct("<8sIIQHH")  # magic, version, block size, disk size, sealed, reserved
_TAIL = struct.Struct("<8s16s")  # XXH3-64 over head and digest, disk digest
_CHUNK = 4 * MIB
_CHUNK_BLOCKS = _CHUNK // DIGEST_SIZE
_ZEROS = bytes(_CHUNK)
_NOBODYS = b"\xff" * DIGEST_SIZE


class Manifest:
    """A manifest file, open.  The C core writes digests straight to `.fd`; `seal` makes it whole."""

    def __init__(self, fd: int, path: str, size: int, *, is_fresh: bool, disk_digest: str) -> None:
        """Not for callers: see `create`, `copy_of`, `temporary` and `open`."""
        self.fd = fd
        self.path = path
        self.size = size
        self.is_fresh = is_fresh
        self.disk_digest = disk_digest

    digest_offset = HEADER_SIZE

    @property
    def blocks(self) -> int:
        """Number of blocks, the short last one included."""
        return -(-self.size // BLOCK_SIZE)

    @classmethod
    def create(cls, path: Path | str, *, size: int) -> Manifest:
        """Make a new manifest of a disk of `size` bytes in which every block is zero.

        Errors: OptionsError if the file exists or cannot be made.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            action = f"{path}: the manifest cannot be made"
            raise machine_error(action, exc) or OptionsError(f"{action}: {exc.strerror}") from exc
        try:
            return cls._begin(fd, str(path), size)
        except BaseException:
            os.unlink(path)
            raise

    @classmethod
    def temporary(cls, *, size: int, directory: Path | str | None = None) -> Manifest:
        """Make a manifest without a name: it is gone when closed."""
        fd, path = tempfile.mkstemp(prefix="ntx-manifest-", dir=directory or machine.temporary_folder())
        os.unlink(path)
        return cls._begin(fd, path, size)

    @classmethod
    def copy_of(cls, previous: Manifest, path: Path | str, *, size: int) -> Manifest:
        """Make a new manifest that begins with the digests of `previous`.

        A disk that grew keeps the digests of all old blocks but a short last one, which has to be digested again.
        """
        manifest = cls.create(path, size=size)
        try:
            manifest._take_digests(previous)
        except BaseException:
            manifest.close()
            os.unlink(path)
            raise
        return manifest

    @classmethod
    def temporary_copy_of(cls, previous: Manifest, *, directory: Path | str) -> Manifest:
        """Make a manifest without a name that begins as `previous`.  Errors: TargetError (no room), OSError."""
        manifest = cls.temporary(size=previous.size, directory=directory)
        try:
            manifest._take_digests(previous)
        except BaseException:
            manifest.close()
            raise
        return manifest

    def _take_digests(self, previous: Manifest) -> None:
        whole_blocks = min(previous.size, self.size) // BLOCK_SIZE
        count = previous.blocks if previous.size == self.size else whole_blocks
        for start, end in _data_runs(previous.fd, HEADER_SIZE, HEADER_SIZE + count * DIGEST_SIZE):
            for offset in range(start, end, _CHUNK):
                data = _pread_all(previous.fd, min(_CHUNK, end - offset), offset, previous.path)
                with _writing(self.path):
                    _pwrite_all(self.fd, data, offset)
        self.is_fresh = False

    @classmethod
    def _begin(cls, fd: int, path: str, size: int) -> Manifest:
        manifest = cls(fd, path, size, is_fresh=True, disk_digest="")
        try:
            with _writing(path):
                os.ftruncate(fd, HEADER_SIZE + manifest.blocks * DIGEST_SIZE)
                manifest._write_header(sealed=False, digest=bytes(DIGEST_SIZE))
        except BaseException:
            os.close(fd)
            raise
        return manifest

    @classmethod
    def open(cls, path: Path | str) -> Manifest:
        """Open a sealed manifest for reading; a link is not followed.

        Errors: OptionsError if it is not there; RepositoryError if it is none, damaged, or was never finished.
        """
        try:
            fd = files.open_regular(Path(path))
        except OSError as exc:
            action = f"{path}: the manifest cannot be opened"
            raise machine_error(action, exc) or OptionsError(f"{action}: {exc.strerror}") from exc
        try:
            size, digest = _read_header(fd, str(path))
            manifest = cls(fd, str(path), size, is_fresh=False, disk_digest=digest.hex())
            if manifest._compute() != digest:
                raise RepositoryError(f"{path}: the manifest is damaged: its block digests do not give its disk digest")
        except BaseException:
            os.close(fd)
            raise
        return manifest

    @classmethod
    def reopen(cls, path: Path | str, *, size: int, unseal: bool = False) -> Manifest:
        """Open a manifest of a disk of `size` bytes that was never finished, to go on with it; a link is not followed.

        `unseal`: one that was finished is taken too, and is not any more.
        Errors: RepositoryError if it is missing, none, damaged, finished, or of another size; TargetError.
        """
        try:
            fd = files.open_regular(Path(path), os.O_RDWR)
        except OSError as exc:
            action = f"{path}: the manifest cannot be opened"
            raise machine_error(action, exc) or RepositoryError(f"{action}: {exc.strerror}") from exc
        try:
            found, _ = _read_header(fd, str(path), sealed=None if unseal else False)
            if found != size:
                raise RepositoryError(f"{path}: the manifest is of a disk of {found} bytes, not {size}")
            manifest = cls(fd, str(path), size, is_fresh=False, disk_digest="")
            if unseal:
                with _writing(path):
                    manifest._write_header(sealed=False, digest=bytes(DIGEST_SIZE))
        except BaseException:
            os.close(fd)
            raise
        return manifest

    def set_size(self, size: int) -> None:
        """Make it that of a disk of `size` bytes, which was not known before.  Errors: TargetError."""
        self.size = size
        with _writing(self.path):
            os.ftruncate(self.fd, HEADER_SIZE + self.blocks * DIGEST_SIZE)
            self._write_header(sealed=False, digest=bytes(DIGEST_SIZE))

    def seal(self) -> str:
        """Compute the disk digest, write it, sync the file, and return it in hex.

        Errors: TargetError (no room, or the disk fails).
        """
        digest = self._compute()
        with _writing(self.path):
            self._write_header(sealed=True, digest=digest)
            os.fsync(self.fd)
        self.disk_digest = digest.hex()
        return self.disk_digest

    def digests(self, first: int, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
        """Return the digests of `count` blocks from `first` on, as rows of 16 bytes.

        Errors: RepositoryError if the file was cut, or cannot be read.
        """
        count = max(0, min(count, self.blocks - first))
        data = _pread_all(self.fd, count * DIGEST_SIZE, HEADER_SIZE + first * DIGEST_SIZE, self.path)
        return np.frombuffer(data, dtype=np.uint8).reshape(count, DIGEST_SIZE)

    def digests_at(self, blocks: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the digests of some blocks, in their order, as rows of 16 bytes.  Blocks: a small read for each.

        Errors: RepositoryError if the file was cut.
        """
        found = np.empty((len(blocks), DIGEST_SIZE), dtype=np.uint8)
        for row, block in enumerate(blocks.tolist()):
            data = _pread_all(self.fd, DIGEST_SIZE, HEADER_SIZE + block * DIGEST_SIZE, self.path)
            found[row] = np.frombuffer(data, dtype=np.uint8)
        return found

    def is_hole(self, first: int, count: int) -> bool:
        """Return whether the file holds nothing for these blocks, so that all of them are zero."""
        start = HEADER_SIZE + first * DIGEST_SIZE
        return next(_data_runs(self.fd, start, start + count * DIGEST_SIZE), None) is None

    def forget(self, start: int) -> None:
        """Let every block at byte `start` or behind it be zero.  Errors: TargetError.

        Whoever is killed meanwhile leaves a manifest that can be reopened: it is never shorter than it has to be.
        """
        begin = HEADER_SIZE + -(-start // BLOCK_SIZE) * DIGEST_SIZE
        with _writing(self.path):
            for run, end in _data_runs(self.fd, begin, HEADER_SIZE + self.blocks * DIGEST_SIZE):
                for offset in range(run, end, _CHUNK):
                    _pwrite_all(self.fd, _ZEROS[: min(_CHUNK, end - offset)], offset)

    def disown(self, first: int, count: int) -> None:
        """Let `count` blocks from `first` on have a digest that no block has: what is there is not known.

        Errors: TargetError.
        """
        self.is_fresh = False
        with _writing(self.path):
            for at in range(first, first + count, _CHUNK_BLOCKS):
                some = min(_CHUNK_BLOCKS, first + count - at)
                _pwrite_all(self.fd, _NOBODYS * some, HEADER_SIZE + at * DIGEST_SIZE)

    def bytes_data(self, start: int = 0) -> int:
        """Return the bytes of all blocks at byte `start` or behind it that are not zero."""
        blocks = 0
        begin = HEADER_SIZE + -(-start // BLOCK_SIZE) * DIGEST_SIZE
        for run, end in _data_runs(self.fd, begin, HEADER_SIZE + self.blocks * DIGEST_SIZE):
            first, behind = (run - HEADER_SIZE) // DIGEST_SIZE, -(-(end - HEADER_SIZE) // DIGEST_SIZE)
            for at in range(first, behind, _CHUNK_BLOCKS):
                blocks += int(self.digests(at, min(_CHUNK_BLOCKS, behind - at)).any(axis=1).sum())
        return min(blocks * BLOCK_SIZE, self.size)

    def close(self) -> None:
        """Close the file.  A second time is allowed."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _compute(self) -> bytes:
        state = xxhash.xxh3_128()
        end = HEADER_SIZE + self.blocks * DIGEST_SIZE
        at = HEADER_SIZE
        for start, stop in _data_runs(self.fd, at, end):
            _update_zeros(state, start - at)
            for offset in range(start, stop, _CHUNK):
                state.update(_pread_all(self.fd, min(_CHUNK, stop - offset), offset, self.path))
            at = stop
        _update_zeros(state, end - at)
        state.update(struct.pack("<Q", self.size))
        return state.digest()

    def _write_header(self, *, sealed: bool, digest: bytes) -> None:
        head = _HEAD.pack(_MAGIC, VERSION, BLOCK_SIZE, self.size, int(sealed), 0)
        os.pwrite(self.fd, head + _TAIL.pack(_check(head, digest), digest), 0)


def read_header(path: Path | str) -> tuple[int, str]:
    """Return the disk's size and digest that a sealed manifest says of itself; its digests are not read.

    Errors: RepositoryError if it is missing, none, damaged, or was never finished.
    """
    try:
        fd = files.open_regular(Path(path))
    except OSError as exc:
        action = f"{path}: the manifest cannot be opened"
        raise machine_error(action, exc) or RepositoryError(f"{action}: {exc.strerror}") from exc
    try:
        size, digest = _read_header(fd, str(path))
    finally:
        os.close(fd)
    return size, digest.hex()


def is_padded(path: Path | str) -> bool:
    """Say whether there is nothing between the header of a manifest and its digests, which nothing else covers.

    Errors: RepositoryError.
    """
    try:
        fd = files.open_regular(Path(path))
    except OSError as exc:
        raise RepositoryError(f"{path}: the manifest cannot be opened: {exc.strerror}") from exc
    try:
        used = _HEAD.size + _TAIL.size
        return not any(_pread(fd, HEADER_SIZE - used, used, str(path)))
    finally:
        os.close(fd)


@contextmanager
def _writing(path: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        text = f"{path}: the manifest cannot be written: {exc.strerror}{free_space.remedy(exc.errno or 0, path)}"
        raise TargetError(text, errno=exc.errno or 0) from exc


def _check(head: bytes, digest: bytes) -> bytes:
    return xxhash.xxh3_64_digest(head + digest)


def _read_header(fd: int, path: str, *, sealed: bool | None = True) -> tuple[int, bytes]:
    data = _pread(fd, _HEAD.size + _TAIL.size, 0, path)
    if len(data) < _HEAD.size + _TAIL.size or data[:8] != _MAGIC:
        raise RepositoryError(f"{path}: is not a manifest")
    _, version, block_size, size, is_sealed, _ = _HEAD.unpack_from(data)
    check, digest = _TAIL.unpack_from(data, _HEAD.size)
    if check != _check(data[: _HEAD.size], digest):
        raise RepositoryError(f"{path}: the manifest's header is damaged")
    if version != VERSION or block_size != BLOCK_SIZE:
        raise RepositoryError(
            f"{path}: manifest version {version} with blocks of {block_size} bytes: this ntxengine reads version "
            f"{VERSION} with {BLOCK_SIZE}"
        )
    if sealed is not None and sealed != bool(is_sealed):
        raise RepositoryError(f"{path}: the manifest was {'never' if sealed else 'already'} finished")
    blocks = -(-size // BLOCK_SIZE)
    if os.fstat(fd).st_size != HEADER_SIZE + blocks * DIGEST_SIZE:
        raise RepositoryError(f"{path}: the manifest's length does not fit a disk of {size} bytes: it was cut")
    return size, digest


def _data_runs(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of [start, end) that the file system holds data for; the rest is holes."""
    at = start
    while at < end:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                yield at, end  # a file system that cannot tell
            elif exc.errno != errno.ENXIO:
                raise
            return  # nothing but a hole to the end
        if data >= end:
            return
        at = min(os.lseek(fd, data, os.SEEK_HOLE), end)
        yield max(data, start), at


def _pread(fd: int, count: int, offset: int, path: str) -> bytes:
    try:
        return os.pread(fd, count, offset)
    except OSError as exc:
        raise RepositoryError(f"{path}: the manifest cannot be read: {exc.strerror}") from exc


def _pread_all(fd: int, count: int, offset: int, path: str) -> bytes:
    data = _pread(fd, count, offset, path)
    if len(data) != count:
        raise RepositoryError(f"{path}: the manifest was cut while it was read")
    return data


def _pwrite_all(fd: int, data: bytes, offset: int) -> None:
    """Write all of it: when the disk fills up a call may take only a part, and only the next one fails."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def _update_zeros(state: xxhash.xxh3_128, count: int) -> None:
    while count > 0:
        state.update(_ZEROS[: min(count, _CHUNK)])
        count -= _CHUNK
