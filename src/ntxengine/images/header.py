"""The header of a QCOW2 image, read without qemu: what an image says of itself, for looking at and never for following.

    0      4         8               16         20            24     32            36        40       48
    | magic | version | backing offset | its size | cluster bits | size | crypt method | L1 size | L1 offset | ...
    72 (version 2 ends)         100             104 or further: extensions        backing name: in the first cluster
    | incompatible features ...  | header length | type, length, data, padding to 8 ...

Everything in it may have been written by an enemy or by a failing disk: each number is compared with its bounds before
it is used, with those of qemu (docs/interop/qcow2.txt, block/qcow2.c) where it has some.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ntxengine import files
from ntxengine.errors import PortableError, RepositoryError, machine_error

MAGIC = b"QFI\xfb"

# magic, version; backing offset and size; cluster bits; size; crypt method; L1 entries and offset; refcounts: offset,
# clusters; snapshots: count, offset.  Then, of version 3: features; refcount order, length of the header.
_V2 = struct.Struct(">4sI QI I Q I IQ QI IQ")
_V3 = struct.Struct(">Q 8x 8x II")
_V3_SIZE = _V2.size + _V3.size
_EXTENSION = struct.Struct(">II")
_BACKING_FORMAT = 0xE2792ACA
_DATA_FILE = 0x44415441

_CORRUPT, _EXTERNAL_DATA = 1 << 1, 1 << 2
_COMPRESSION, _EXTENDED_L2 = 1 << 3, 1 << 4
_KNOWN_FEATURES = 0b11111  # those, and dirty reference counts
_MIN_CLUSTER_BITS, _MAX_CLUSTER_BITS = 9, 21
_MAX_NAME = 1023  # bytes of a name, as qemu has it
_MAX_TABLE_BYTES = 32 * 1024**2  # of the L1 table; those of reference counts and of snapshots are smaller
_ENTRY = 8  # bytes of an entry of the L1 table, and of an L2 table
_MIN_SNAPSHOT = 40  # bytes of an entry of the snapshot table
_FIRST_READ = 4096


class BadHeader(PortableError):
    """A file that is no image that can be read; the message goes on behind the name of the file: "is missing"."""


@dataclass(frozen=True)
class Header:
    """What an image says of itself.

    `size` is the disk's in bytes.  `backing` is the name of the image below as it is written there, "" for none: bytes
    that are no UTF-8 are surrogates, as in a path.  `features` are the incompatible ones.
    """

    version: int
    size: int
    backing: str
    backing_format: str
    crypt_method: int
    features: int
    data_file: str

    @property
    def is_corrupt(self) -> bool:
        """Whether qemu has marked it corrupt."""
        return bool(self.features & _CORRUPT)

    @property
    def has_external_data(self) -> bool:
        """Whether its data are in another file."""
        return bool(self.features & _EXTERNAL_DATA) or self.data_file != ""

    @property
    def unknown_features(self) -> int:
        """The features, as bits, without which it cannot be read and that nobody knew when this was written."""
        return self.features & ~_KNOWN_FEATURES


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file for reading: only a regular one, following no link and waiting for nobody (a FIFO).

    Errors: BadHeader, MachineError.
    """
    try:
        fd = files.open_regular(path)
    except FileNotFoundError as exc:
        raise BadHeader("is missing") from exc
    except OSError as exc:
        raise machine_error(f"{path}: opening the image failed", exc) or BadHeader(
            f"cannot be read: {exc.strerror}"
        ) from exc
    try:
        yield fd
    finally:
        os.close(fd)


def read_header(path: Path) -> Header:
    """Return the header of an image.  Errors: BadHeader."""
    with opened(path) as fd:
        return header_of(fd)


def is_compressed(path: Path) -> bool:
    """Say whether an image has clusters compressed by zstd, as ours that were made so.  Errors: RepositoryError."""
    try:
        return bool(read_header(path).features & _COMPRESSION)
    except BadHeader as exc:
        raise RepositoryError(f"{path}: the image {exc}") from exc


def header_of(fd: int) -> Header:
    """Return the header of an image that is open.  Errors: BadHeader."""
    try:
        return _parse(fd, os.fstat(fd).st_size)
    except OSError as exc:
        raise BadHeader(f"cannot be read: {exc.strerror}") from exc


def _parse(fd: int, file_size: int) -> Header:
    data = os.pread(fd, _FIRST_READ, 0)
    if data[:4] != MAGIC:
        raise BadHeader("is not in qcow2 format")
    if len(data) < _V2.size:
        raise BadHeader("is cut off within its header")
    (_, version, backing_at, backing_length, cluster_bits, size, crypt_method, *tables) = _V2.unpack_from(data)
    if version not in (2, 3):
        raise BadHeader(f"is of version {version}, not 2 or 3")
    if not _MIN_CLUSTER_BITS <= cluster_bits <= _MAX_CLUSTER_BITS:
        raise BadHeader(f"has clusters of 2^{cluster_bits} bytes")
    cluster = 1 << cluster_bits
    features, length = 0, _V2.size
    if version == 3:
        if len(data) < _V3_SIZE:
            raise BadHeader("is cut off within its header")
        features, refcount_order, length = _V3.unpack_from(data, _V2.size)
        if not _V3_SIZE <= length <= cluster or refcount_order > 6:
            raise BadHeader(f"has a header of {length} bytes and reference counts of 2^{refcount_order} bits")
        if (length > _V3_SIZE and data[_V3_SIZE : _V3_SIZE + 1] != b"\0") != bool(features & _COMPRESSION):
            raise BadHeader("has a compression type that does not fit its features")
    if size >= 1 << 63:
        raise BadHeader(f"has a size of {size} bytes")
    _check_tables(tables, size, cluster, file_size, entries_are_wide=bool(features & _EXTENDED_L2))
    backing = _read_backing(fd, backing_at, backing_length, cluster)
    extensions = dict(_extensions(fd, data, length, backing_at or cluster))
    return Header(
        version=version,
        size=size,
        backing=backing,
        backing_format=_text(extensions.get(_BACKING_FORMAT, b""), "its backing format"),
        crypt_method=crypt_method,
        features=features,
        data_file=_text(extensions.get(_DATA_FILE, b""), "the name of its data file"),
    )


def _check_tables(tables: Sequence[int], size: int, cluster: int, file_size: int, *, entries_are_wide: bool) -> None:
    l1_entries, l1_at, refcounts_at, refcounts_clusters, snapshots, snapshots_at = tables
    described = cluster * (cluster // (2 * _ENTRY if entries_are_wide else _ENTRY))  # bytes of the disk by an L1 entry
    if l1_entries * described < size:
        raise BadHeader(f"has an L1 table of {l1_entries} entries for a disk of {size} bytes")
    if refcounts_clusters == 0:
        raise BadHeader("has no reference counts")
    _check_table("L1 table", l1_at, l1_entries * _ENTRY, cluster, file_size)
    _check_table("table of reference counts", refcounts_at, refcounts_clusters * cluster, cluster, file_size)
    _check_table("table of snapshots", snapshots_at, snapshots * _MIN_SNAPSHOT, cluster, file_size)


def _check_table(what: str, offset: int, length: int, cluster: int, file_size: int) -> None:
    """A table begins at a cluster, behind the header's, and is in the file; qemu writes it whole before it is named.

    Of an empty one only the place is looked at, as qemu does.
    """
    is_misplaced = offset % cluster != 0 or offset >= 1 << 63
    is_outside = length > 0 and (length > _MAX_TABLE_BYTES or offset < cluster or offset + length > file_size)
    if is_misplaced or is_outside:
        raise BadHeader(f"has a {what} at {offset}, {length} bytes, in a file of {file_size}")


def _read_backing(fd: int, offset: int, length: int, cluster: int) -> str:
    if offset == 0:
        return ""
    if length > min(_MAX_NAME, cluster - offset):
        raise BadHeader(f"has a backing file name at {offset}, {length} bytes, in a header of at most {cluster}")
    name = os.pread(fd, length, offset)
    if len(name) < length:
        raise BadHeader("is cut off within its backing file name")
    return _text(name, "its backing file name")


def _extensions(fd: int, data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the contents of each extension of the header.  `data` is what of the file was read."""
    at = start
    while at + _EXTENSION.size <= end:
        if at + _EXTENSION.size > len(data) < end:
            data = os.pread(fd, end, 0).ljust(end, b"\0")
        kind, length = _EXTENSION.unpack_from(data, at)
        if kind == 0:
            return
        at += _EXTENSION.size
        if length > end - at:
            raise BadHeader(f"has a header extension at {at}, {length} bytes, that goes on behind {end}")
        if at + length > len(data):
            data = os.pread(fd, end, 0).ljust(end, b"\0")
        if kind in (_BACKING_FORMAT, _DATA_FILE):
            yield kind, data[at : at + min(length, _MAX_NAME)]
        at += -(-length // 8) * 8


def _text(name: bytes, what: str) -> str:
    """Return a name.  A NUL in it would end it for qemu, and for us not."""
    if b"\0" in name:
        raise BadHeader(f"has a NUL in {what}")
    return name.decode("utf-8", "surrogateescape")
