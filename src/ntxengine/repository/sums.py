"""SHA256SUMS of a point: the digests of its small files, in the form of sha256sum, so that `sha256sum -c` checks them.

    <sha256 in hex>  point.json
    <sha256 in hex>  report.json
    <sha256 in hex>  vm.json

Written with the point.  While point.json is replaced, which a merge of points below does, there are two lines for it:
the old one and the new.  Disks are not in it: each has its manifest, whose digest is in point.json.  A
point that has the file says so in point.json (`sums`): one that is gone is noticed.  Older points have neither.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.repository import layout
from ntxengine.repository.point import MAX_POINT_BYTES

FILES = (layout.POINT_FILE, layout.REPORT_FILE, layout.VM_FILE)
_MAX_SUMS_BYTES = 4096
_LINE = re.compile(r"([0-9A-Fa-f]{64}) [ *]([a-z.]+)")

Sums = Mapping[str, Sequence[bytes]]
"""Digests by file name: one each, or two of a file that is being replaced."""


def digest_of(data: bytes) -> bytes:
    """Return the digest of what a file holds."""
    return hashlib.sha256(data).digest()


def encode(sums: Sums) -> bytes:
    """Return SHA256SUMS."""
    return "".join(f"{digest.hex()}  {name}\n" for name, digests in sums.items() for digest in digests).encode()


def read_sums(folder: Path) -> Sums | None:
    """Return the digests that a point's folder has, None if it has none.

    Errors: RepositoryError naming the file.
    """
    path = folder / layout.SUMS_FILE
    if not os.path.lexists(path):
        return None
    found: dict[str, list[bytes]] = {}
    for number, line in enumerate(_lines(path), 1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] not in FILES or len(found.get(match[2], ())) == _most_digests(match[2]):
            raise RepositoryError(f"{path}: is damaged: line {number} is {line[:100]!r}, not the digest of {_known()}")
        found.setdefault(match[2], []).append(bytes.fromhex(match[1]))
    return found


def _most_digests(name: str) -> int:
    return 2 if name == layout.POINT_FILE else 1


def compare(folder: Path, name: str, data: bytes, sums: Sums) -> None:
    """Compare what a file holds with its digest.  Errors: RepositoryError naming the file."""
    digest = digest_of(data)
    if name not in sums:
        raise RepositoryError(f"{folder / layout.SUMS_FILE}: is damaged: it has no digest of {name}")
    if digest not in sums[name]:
        said = " or ".join(each.hex() for each in sums[name])
        raise RepositoryError(
            f"{folder / name}: is damaged: its SHA-256 is {digest.hex()}, {layout.SUMS_FILE} says {said}"
        )


def read_companion(folder: Path, name: str, *, checked: bool = True) -> bytes | None:
    """Return what vm.json or report.json of a point holds; None if the point was made without.

    `checked`: only if it is as it was written.
    Errors: RepositoryError naming what is missing or damaged.
    """
    sums = read_sums(folder) if checked else None
    path = folder / name
    if not os.path.lexists(path):
        if sums is not None and name in sums:
            raise RepositoryError(f"{path}: is missing, and {layout.SUMS_FILE} has its digest")
        return None
    data = durable.read_file(path, limit=MAX_POINT_BYTES)
    if sums is not None:
        compare(folder, name, data, sums)
    return data


def find_problems(folder: Path) -> list[str]:
    """Return what is wrong with the files beside the disks and point.json, one line for each."""
    problems = []
    for name in (layout.REPORT_FILE, layout.VM_FILE):
        try:
            read_companion(folder, name)
        except RepositoryError as exc:
            problems.append(str(exc))
    return problems


def _lines(path: Path) -> list[str]:
    return durable.read_file(path, limit=_MAX_SUMS_BYTES).decode("ascii", "backslashreplace").splitlines()


def _known() -> str:
    return f"{', '.join(FILES[:-1])} or {FILES[-1]}, each once"
