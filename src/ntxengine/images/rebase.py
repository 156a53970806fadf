"""Changing the name of the image below, in an image that stays as it is otherwise.

The new name is written to a free place of the first cluster and synced; then the twelve bytes that say where the name
is, and how long, are written over: within one sector, so that a power cut leaves the old name or the new one.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from ntxengine import files
from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.images.header import BadHeader, header_of

_BACKING = struct.Struct(">QI")
_AT_BACKING, _AT_CLUSTER_BITS = 8, 20
_MAX_NAME = 1023
_PLACES = (32768, 34816)
"""Where names are put, in turn: far behind the header and its extensions, for images of 64 KiB clusters."""
_CLUSTER_BITS = 16


def set_backing(path: Path, backing: str) -> None:
    """Let an image record `backing`, which holds the same bytes as the one that it records now.

    Nobody may write to it meanwhile; who has it open goes on with what he has.
    Errors: RepositoryError (it is no image of 64 KiB clusters on top of another), TargetError.
    """
    name = os.fsencode(backing)
    try:
        fd = files.open_regular(path, os.O_RDWR)
    except OSError as exc:
        raise durable.write_error(path, "opening the image", exc) from exc
    try:
        _set(fd, path, name)
    except OSError as exc:
        raise durable.write_error(path, "changing what is below the image", exc) from exc
    finally:
        os.close(fd)


def _set(fd: int, path: Path, name: bytes) -> None:
    try:
        before = header_of(fd)
    except BadHeader as exc:
        raise RepositoryError(f"{path}: the image {exc}") from exc
    head = os.pread(fd, 64, 0)
    at, _ = _BACKING.unpack_from(head, _AT_BACKING)
    if not before.backing or int.from_bytes(head[_AT_CLUSTER_BITS : _AT_CLUSTER_BITS + 4], "big") != _CLUSTER_BITS:
        raise RepositoryError(f"{path}: is no image of 64 KiB clusters on top of another: it cannot be put on another")
    if not 0 < len(name) <= _MAX_NAME:
        raise RepositoryError(f"{path}: a name of {len(name)} bytes cannot be that of the image below")
    place = _PLACES[1] if at == _PLACES[0] else _PLACES[0]
    os.pwrite(fd, name, place)
    os.fdatasync(fd)
    os.pwrite(fd, _BACKING.pack(place, len(name)), _AT_BACKING)
    os.fdatasync(fd)
