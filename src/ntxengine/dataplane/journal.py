"""The journal of a copy: how far it got, for whoever goes on after a kill or a power cut.

    {"digests":"99aa...","format":"ntxengine journal","identity":{...},"size":1048576,"stored_to":65536,"version":1}
    2f1c...   XXH3-128 of the line above, in hex

It is replaced as a whole at each checkpoint, so a reader finds an old one or the new one.  `identity` is what has to be
the same when the copy goes on: whoever writes it chooses the words, and they are compared, never used.  `digests` is
over those of the manifest below `stored_to`, so that one that was damaged meanwhile is not gone on with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import xxhash

from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import OptionsError, RepositoryError
from ntxengine.files import durable
from ntxengine.units import BLOCK_SIZE, MIB

VERSION = 1
MAX_SIZE = MIB
"""Bytes of a journal that are believed: more than all names have together, each byte of them written as six."""

_FORMAT = "ntxengine journal"
_AT_ONCE = 65536  # digests: 1 MiB


@dataclass(frozen=True)
class Journal:
    """Of a copy of `size` bytes, everything below `stored_to` (bytes) is stored, and its digests are.

    `digests` is what DigestsBelow says of these, "" where nobody asked it.
    """

    identity: Mapping[str, str]
    size: int
    stored_to: int
    digests: str = ""

    def check_same(
        self, identity: Mapping[str, str], size: int, *, path: Path, remedy: str = "remove the journal to begin again"
    ) -> None:
        """Refuse to go on with a copy of something else.  Errors: OptionsError: what differs, and `remedy`."""
        now = {**identity, "size": str(size)}
        before = {**self.identity, "size": str(self.size)}
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise OptionsError(
                    f"{path}: is of a copy whose {key} was {before.get(key, 'not told')}, and it is "
                    f"{now.get(key, 'not told')} now: {remedy}, or name another journal"
                )


class DigestsBelow:
    """One digest over those of a manifest that lie below a place, which only ever moves forward."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._state = xxhash.xxh3_128()
        self._blocks = 0

    def at(self, stored_to: int) -> str:
        """Return it for the blocks below `stored_to` (bytes), in hex.  Reads those that are new."""
        end = min(-(-stored_to // BLOCK_SIZE), self._manifest.blocks)
        while self._blocks < end:
            digests = self._manifest.digests(self._blocks, min(_AT_ONCE, end - self._blocks))
            self._state.update(digests.tobytes())
            self._blocks += len(digests)
        return self._state.hexdigest()


def read(path: Path) -> Journal | None:
    """Return the journal at `path`; None if there is none.  Errors: RepositoryError (damaged, of a later version)."""
    if not os.path.lexists(path):
        return None
    return _decode(durable.read_file(path, limit=MAX_SIZE), path)


def write(path: Path, journal: Journal) -> None:
    """Put a journal in the place of what is at `path`, durably.  Errors: TargetError.

    One writer at a time: what a killed one has left under the temporary name is overwritten.
    """
    fresh = _fresh(path)
    durable.remove_file(fresh)
    durable.write_file(fresh, _encode(journal))
    durable.replace(fresh, path)
    durable.sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a journal, and what a killed writer left.  Errors: TargetError."""
    durable.remove_file(path)
    durable.remove_file(_fresh(path))


def _fresh(path: Path) -> Path:
    return path.with_name(f".{path.name.removeprefix('.')}.new")


def _encode(journal: Journal) -> bytes:
    document = {
        "format": _FORMAT,
        "version": VERSION,
        "identity": dict(journal.identity),
        "size": journal.size,
        "stored_to": journal.stored_to,
        "digests": journal.digests,
    }
    line = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return line + b"\n" + xxhash.xxh3_128_hexdigest(line).encode() + b"\n"


def _decode(data: bytes, path: Path) -> Journal:
    line, _, check = data.partition(b"\n")
    if check != xxhash.xxh3_128_hexdigest(line).encode() + b"\n":
        raise _damaged(path, "its checksum does not fit")
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise _damaged(path, "it is no JSON") from exc
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise _damaged(path, "it is something else")
    if document.get("version") != VERSION:
        raise RepositoryError(f"{path}: journal version {document.get('version')}: this ntxengine reads {VERSION}")
    identity, size, stored_to = document.get("identity"), document.get("size"), document.get("stored_to")
    if not isinstance(identity, dict) or not all(isinstance(value, str) for value in identity.values()):
        raise _damaged(path, "its identity cannot be read")
    if type(size) is not int or type(stored_to) is not int or not 0 <= stored_to <= size:
        raise _damaged(path, f"{stored_to!r} of {size!r} bytes cannot be true")
    digests = document.get("digests", "")
    if not isinstance(digests, str):
        raise _damaged(path, "its digests cannot be read")
    return Journal(identity, size, stored_to, digests)


def _damaged(path: Path, why: str) -> RepositoryError:
    return RepositoryError(f"{path}: the journal is damaged ({why}): remove it to begin again")
