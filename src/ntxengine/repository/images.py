"""QCOW2 images through qemu-img: making them, and checking that they are what a point says.

No file name that an image records is ever followed: qemu is told the whole chain by us, as a JSON node, and what the
image records is compared with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ntxengine.errors import RepositoryError, ToolError
from ntxengine.repository import process

SECTOR = 512
CREATE_TIMEOUT_S = 60.0
INFO_TIMEOUT_S = 30.0
INFO_LIMIT = 4 * 1024**2  # bytes of qemu-img info that are believed

_OPTIONS = (
    "compat=1.1,"  # version 3: has zero clusters, without which an overlay could not mask what lies below
    "cluster_size=65536,"  # one digest block: a whole changed block is written without copying any old bytes up
    "extended_l2=off,"  # smaller copies for small changes, but only qemu 5.2 and later could open the point
    "lazy_refcounts=off,"  # saves nothing under write-back caching, and leaves a crashed image to be repaired
    "preallocation=off"  # a point takes the space of its data
)


class _Specific(msgspec.Struct, rename="kebab"):
    corrupt: bool = False
    data_file: str | None = None


class _FormatSpecific(msgspec.Struct):
    data: _Specific = msgspec.field(default_factory=_Specific)


class _Info(msgspec.Struct, rename="kebab"):
    format: str
    virtual_size: int
    backing_filename: str = ""
    backing_filename_format: str = ""
    encrypted: bool = False
    format_specific: _FormatSpecific = msgspec.field(default_factory=_FormatSpecific)


def rounded_size(size: int) -> int:
    """Return the size that a QCOW2 image of a disk of `size` bytes has: whole sectors."""
    return -(-size // SECTOR) * SECTOR


def create(path: Path, *, size: int, backing: str = "") -> None:
    """Make an empty image; with `backing`, relative to it, an overlay on that.

    Errors: ToolError, TargetError (file system full).
    """
    overlay = ("-b", backing, "-F", "qcow2") if backing else ()
    process.run(
        "qemu-img",
        *("create", "-q", "-f", "qcow2", "-o", _OPTIONS, *overlay, "--", absolute(path), str(size)),
        action="making the image",
        path=path,
        timeout_s=CREATE_TIMEOUT_S,
    )


def recorded_backing(path: Path) -> str:
    """Return the backing file that an image records, "" if none.  For looking at, not for opening."""
    return _info(path).backing_filename


def check(path: Path, *, size: int, backing: str) -> None:
    """Check that a stored image is a plain QCOW2 of a disk of `size` bytes on top of just `backing` ("" for none).

    Errors: RepositoryError naming the image.
    """
    info = _info(path)
    problem = ""
    if info.format_specific.data.corrupt:
        problem = "qemu has marked it corrupt"
    elif info.virtual_size != rounded_size(size):
        problem = f"its virtual size is {info.virtual_size}, its point says {rounded_size(size)}"
    elif info.backing_filename != backing:
        problem = f"its backing file is {info.backing_filename[:200]!r}, its point says {backing!r}"
    elif backing and info.backing_filename_format != "qcow2":
        problem = f"its backing format is {info.backing_filename_format[:40]!r}, not 'qcow2'"
    elif info.format_specific.data.data_file is not None:
        problem = "its data are in another file"
    elif info.encrypted:
        problem = "it is encrypted"
    if problem:
        raise RepositoryError(f"{path}: the image is not what was captured: {problem}")


def _info(path: Path) -> _Info:
    if path.is_symlink() or not path.is_file():
        raise RepositoryError(f"{path}: the image is missing, or is not a file")
    # -U: reading what another process is writing is no harm here; without it a running capture would be an error.
    arguments = ("info", "-U", "--output=json", "-f", "qcow2", "--", absolute(path))
    try:
        output = process.run(
            "qemu-img", *arguments, action="reading the image", path=path, timeout_s=INFO_TIMEOUT_S, limit=INFO_LIMIT
        )
    except ToolError as exc:
        if "is not installed" in str(exc):
            raise
        raise RepositoryError(str(exc)) from exc
    try:
        return msgspec.json.decode(output, type=_Info)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise RepositoryError(f"{path}: reading the image failed: qemu-img said what is not understood: {exc}") from exc


def node(chain: Sequence[Path], *, format: str = "qcow2") -> str:
    """Return the file name by which qemu opens `chain`, newest first, and nothing else."""
    below: dict[str, object] | None = None
    for path in reversed(chain):
        below = {"driver": format, "file": {"driver": "file", "filename": absolute(path)}} | (
            {"backing": below} if format == "qcow2" else {}
        )
    return "json:" + json.dumps(below, ensure_ascii=False)


def absolute(path: Path) -> str:
    """Return the path so that qemu takes it for one: no leading dash, and no `name:` that could be a protocol."""
    return str(path.absolute())
