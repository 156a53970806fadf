"""An OVA: a tar (ustar) with the envelope in front, its manifest, and the disks as streamOptimized VMDKs.

    NAME.ovf | NAME.mf | disk, disk, ... | end

The envelope says how long the disks are, and the manifest their SHA-256, so both are known last: their places are left
free, and the envelope is filled up with newlines, which mean nothing in XML.  Nothing else is written twice.
A disk of 8 GiB or more has its length in base 256, as GNU tar and VMware write it: ustar has no digits for it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.errors import SourceError, TargetError
from ntxengine.files import durable
from ntxengine.images.vmdk import Adapter
from ntxengine.images.vmdk_stream import write_stream

_BLOCK = 512
_RECORD = 20 * _BLOCK
_LARGEST_OCTAL = 8**11 - 1
_SIZE_FIELD, _SUM_FIELD = slice(124, 136), slice(148, 156)
_LONGEST_SIZE = 2**62


@dataclass(frozen=True)
class OvaDisk:
    """A disk: the raw file that holds it, how it is called in the OVA, and what it is connected by."""

    source: Path
    size: int
    name: str
    adapter: Adapter
    content_id: int


Envelope = Callable[[Sequence[int]], bytes]
"""Return the envelope, told how long the file of each disk is."""


async def write_ova(
    path: Path,
    name: str,
    disks: Sequence[OvaDisk],
    envelope: Envelope,
    *,
    made_at: datetime,
    on_progress: Callable[[int], None] = lambda _: None,
) -> tuple[int, ...]:
    """Write an OVA at `path`, whose envelope is called NAME.ovf; return how long each disk is in it.

    What was at `path` is lost; the file is not synced.  `on_progress` is told how much of all disks is read.
    Errors: TargetError (no room; a disk passes 2 TiB when compressed), OptionsError (no VMDK can be so large).
    """
    room = len(envelope([_LONGEST_SIZE] * len(disks)))
    names = (f"{name}.ovf", *(disk.name for disk in disks))
    file = await acquire_in_thread(partial(_File, path, made_at), give_back=_File.close)
    try:
        ovf = file.leave_room(room)
        manifest = file.leave_room(sum(len(_line(each, "0" * 64)) for each in names))
        lengths, digests, done = [], [], 0
        for disk in disks:
            length, digest = await _write_disk(file, disk, done, on_progress)
            lengths.append(length)
            digests.append(digest)
            done += disk.size
            on_progress(done)
        await to_thread_joined(file.end)
        text = envelope(lengths).ljust(room, b"\n")
        digests.insert(0, hashlib.sha256(text).hexdigest())
        lines = b"".join(map(_line, names, digests))
        await to_thread_joined(file.fill, ovf, names[0], text)
        await to_thread_joined(file.fill, manifest, f"{name}.mf", lines)
    finally:
        await to_thread_joined(file.close)
    return tuple(lengths)


def _line(name: str, digest: str) -> bytes:
    return f"SHA256({name})= {digest}\n".encode()


async def _write_disk(file: _File, disk: OvaDisk, done: int, on_progress: Callable[[int], None]) -> tuple[int, str]:
    start = file.begin_member()
    digest = hashlib.sha256()

    def write(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    source = await acquire_in_thread(partial(_Source, disk.source), give_back=_Source.close)
    try:
        length = await write_stream(
            source.read,
            write,
            disk.size,
            disk.name,
            skip=source.skip,
            content_id=disk.content_id,
            adapter=disk.adapter,
            on_progress=lambda offset: on_progress(done + offset),
        )
    finally:
        await to_thread_joined(source.close)
    await to_thread_joined(file.end_member, start, disk.name, length)
    return length, digest.hexdigest()


class _Source:
    """A raw file that is read; what lies behind its end is zero."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as exc:
            raise self._error(exc, 0, 0) from exc

    def read(self, offset: int, length: int) -> bytes:
        """As vmdk_stream.Read."""
        try:
            return os.pread(self._fd, length, offset)
        except OSError as exc:
            raise self._error(exc, offset, length) from exc

    def skip(self, offset: int) -> int:
        """As vmdk_stream.Skip: holes are not read."""
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return _LONGEST_SIZE  # there is nothing but holes
            raise self._error(exc, offset, 0) from exc

    def close(self) -> None:
        os.close(self._fd)

    def _error(self, exc: OSError, offset: int, length: int) -> TargetError:
        text = f"{self._path}: cannot be read back at offset {offset}: {exc.strerror}"
        return TargetError(text, offset=offset, length=length, errno=exc.errno or 0)


class _File:
    """The tar that is being written.  One call at a time."""

    def __init__(self, path: Path, made_at: datetime) -> None:
        self._path = path
        self._made_at = int(made_at.timestamp())
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, durable.FILE_MODE)
        except OSError as exc:
            raise durable.write_error(path, "making the file", exc) from exc
        self._at = 0

    def leave_room(self, length: int) -> int:
        """Leave room for a member of this length; return its place."""
        place = self._at
        self._at += _BLOCK + -(-length // _BLOCK) * _BLOCK
        return place

    def begin_member(self) -> int:
        """Begin a member whose length is not known yet; return its place."""
        self._at += _BLOCK
        return self._at - _BLOCK

    def write(self, data: bytes) -> None:
        """Write behind what was written."""
        self._write_at(self._at, data)
        self._at += len(data)

    def end_member(self, place: int, name: str, length: int) -> None:
        """End the member at `place`, of which `length` bytes were written."""
        self.write(bytes(-length % _BLOCK))
        self._write_at(place, self._header(name, length))

    def end(self) -> None:
        """Write what a tar ends with."""
        length = self._at + 2 * _BLOCK
        self.write(bytes(2 * _BLOCK + -length % _RECORD))

    def fill(self, place: int, name: str, data: bytes) -> None:
        """Write a member into the room that was left for it, which is as long as `data`."""
        self._write_at(place, self._header(name, len(data)) + data + bytes(-len(data) % _BLOCK))

    def close(self) -> None:
        os.close(self._fd)

    def _header(self, name: str, length: int) -> bytes:
        member = tarfile.TarInfo(name)
        member.mode, member.mtime = 0o644, self._made_at
        member.size = length if length <= _LARGEST_OCTAL else 0
        header = bytearray(member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
        if length > _LARGEST_OCTAL:
            header[_SIZE_FIELD] = b"\x80" + length.to_bytes(11, "big")
            header[_SUM_FIELD] = b" " * 8
            header[_SUM_FIELD] = f"{sum(header):06o}\0 ".encode()
        return bytes(header)

    def _write_at(self, place: int, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._fd, view, place)
                view, place = view[written:], place + written
        except OSError as exc:
            raise durable.write_error(self._path, "writing", exc) from exc


def member_of(path: Path, name: str) -> tuple[int, int]:
    """Return where a member of a tar begins, and how long it is.  Errors: SourceError: there is none."""
    try:
        with tarfile.open(path, "r:") as tar:
            member = tar.getmember(name)
            return member.offset_data, member.size
    except (OSError, KeyError, tarfile.TarError) as exc:
        raise SourceError(f"{path}: {name} cannot be found in it: {exc}") from exc
