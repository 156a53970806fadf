"""QCOW2 images through qemu-img: making them, and checking that they are what was made.

No file name that an image records is ever followed: qemu is told the whole chain by us, as a JSON node, and what the
image records is compared with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import LockedError, MissingProgram, RepositoryError, ToolError
from ntxengine.files.locks import have_locks, is_locked
from ntxengine.images import process
from ntxengine.images.header import BadHeader, Header, read_header

PROGRAMS = {name: process.PACKAGES[name] for name in ("qemu-img", "qemu-nbd", "setpriv")}
"""What images are made, read and served by, and the package that each is in."""
SECTOR = 512
MAX_ARGUMENT = 128 * 1024
"""Bytes of one argument of a program, with the zero behind it: MAX_ARG_STRLEN of Linux."""
CREATE_TIMEOUT_S = 60.0
LOOK_TIMEOUT_S = 20.0
WRITER_TIMEOUT_S = 30.0
"""Until a qemu-nbd is gone that the kernel was told to kill: it may wait for a slow disk."""

_POLL_S = 0.05

_OPTIONS = (
    "compat=1.1,"  # version 3: has zero clusters, without which an overlay could not mask what lies below
    "cluster_size=65536,"  # one digest block: a whole changed block is written without copying any old bytes up
    "extended_l2=off,"  # smaller copies for small changes, but only qemu 5.2 and later could open the point
    "lazy_refcounts=off,"  # saves nothing under write-back caching, and leaves a crashed image to be repaired
    "preallocation=off"  # a point takes the space of its data
)


def rounded_size(size: int) -> int:
    """Return the size that a QCOW2 image of a disk of `size` bytes has: whole sectors."""
    return -(-size // SECTOR) * SECTOR


async def create(path: Path, *, size: int, backing: str = "") -> None:
    """Make an empty image; with `backing`, relative to it, an overlay on that, which is recorded and not opened.

    Errors: ToolError, TargetError (file system full).
    """
    # -u: else qemu-img opens the whole chain, following what the images record, and gives up where the names of all of
    # them, joined, are longer than a path may be.
    overlay = ("-u", "-b", backing, "-F", "qcow2") if backing else ()
    await process.run(
        "qemu-img",
        *("create", "-q", "-f", "qcow2", "-o", _OPTIONS, *overlay, "--", absolute(path), str(size)),
        action="making the image",
        path=path,
        timeout_s=CREATE_TIMEOUT_S,
    )


def check(path: Path, *, size: int, backing: str, is_backing: Callable[[str], bool] | None = None) -> None:
    """Check that a stored image is a plain QCOW2 of a disk of `size` bytes on top of just `backing` ("" for none).

    `is_backing` says which other names stand for the same.
    Reads its header and starts nothing: a chain is checked by one small read for each of its images.
    Errors: RepositoryError naming the image.
    """
    header = _header(path)
    problem = ""
    if header.is_corrupt:
        problem = "qemu has marked it corrupt"
    elif header.size != rounded_size(size):
        problem = f"its virtual size is {header.size}, not {rounded_size(size)}"
    elif header.backing != backing and (is_backing is None or not is_backing(header.backing)):
        problem = f"its backing file is {header.backing[:200]!r}, not {backing!r}"
    elif backing and header.backing_format != "qcow2":
        problem = f"its backing format is {header.backing_format[:40]!r}, not 'qcow2'"
    elif header.has_external_data:
        problem = "its data are in another file"
    elif header.crypt_method:
        problem = "it is encrypted"
    elif header.unknown_features:
        problem = f"it needs features that are not known: {header.unknown_features:#x}"
    if problem:
        raise RepositoryError(f"{path}: the image is not what was captured: {problem}")


async def check_tables(path: Path) -> None:
    """Let qemu check the tables of one image: what they refer to, and how often.  Images below it are not opened.

    Errors: RepositoryError (it is damaged), MissingProgram.
    """
    try:
        await process.run("qemu-img", "check", "-q", "--", node([path]), action="checking the image", path=path)
    except MissingProgram:
        raise
    except ToolError as exc:
        raise RepositoryError(str(exc)) from exc


async def mend(chain: Sequence[Path]) -> None:
    """Check all metadata of the newest image of a chain, and give back clusters that nothing refers to: those that a
    killed writer took and had not yet entered.  If that one is not gone yet, it is waited for.

    Errors: RepositoryError (it is damaged), LockedError (somebody still writes to it), TargetError (file system full),
            MissingProgram.
    """
    deadline = time.monotonic() + WRITER_TIMEOUT_S
    while await to_thread_joined(is_locked, chain[0]):
        if time.monotonic() > deadline:
            raise LockedError(f"{chain[0]}: another program still writes to this image: end it, or try later")
        await asyncio.sleep(_POLL_S)
    try:
        await process.run(
            "qemu-img",
            *("check", "-q", "-r", "leaks", "--", node(chain)),
            action="checking the image",
            path=chain[0],
        )
    except MissingProgram:
        raise
    except ToolError as exc:
        raise RepositoryError(str(exc)) from exc


def _header(path: Path) -> Header:
    try:
        return read_header(path)
    except BadHeader as exc:
        raise RepositoryError(f"{path}: the image {exc}") from exc


async def no_driver(name: str) -> str:
    """Return why this machine cannot export what needs a driver of this name, "" if it can: qemu lacks it, or is not
    installed.

    LIMIT: a qemu that says nothing in time is taken to have it; what is read then fails with what is wrong.
    """
    for program in ("qemu-img", "qemu-nbd"):
        if lacking := process.missing(program):
            return lacking
    try:
        await process.run(
            "qemu-img",
            *("info", "--", "json:" + json.dumps({"driver": name})),
            action="looking for a driver",
            path="qemu",
            timeout_s=LOOK_TIMEOUT_S,
        )
    except process.NoDriver as exc:
        return exc.reason
    except ToolError:  # it has the driver, which was told nothing that it could open; or it was too slow to say
        pass
    return ""


def node(chain: Sequence[Path], *, format: str = "qcow2", root_format: str = "qcow2") -> str:
    """Return the file name by which qemu opens `chain`, newest first, and nothing else.

    Where the file system has no locks, qemu is told not to lock: else it refuses to read what nobody can lock.
    `root_format` is that of the last where it is below another.
    LIMIT: qemu takes a time that grows with the cube of the depth: 0.3 s for 70 images, 1 s for 140.
    Errors: RepositoryError if it is longer than the kernel lets an argument be.
    """
    below: dict[str, object] | None = None
    locking = {} if have_locks(chain[0]) else {"locking": "off"}
    formats = [format] * (len(chain) - 1) + [root_format if len(chain) > 1 else format]
    for path, driver in zip(reversed(chain), reversed(formats), strict=True):
        file = {"driver": "file", "filename": absolute(path), **locking}
        below = {"driver": driver, "file": file} | ({"backing": below} if driver == "qcow2" else {})
    name = "json:" + json.dumps(below, ensure_ascii=False)
    if len(os.fsencode(name)) >= MAX_ARGUMENT:
        raise RepositoryError(
            f"{chain[0]}: is on top of {len(chain) - 1} images whose names together are longer than qemu can be told "
            f"({MAX_ARGUMENT} bytes): move the repository to a shorter path, or mount it there"
        )
    return name


def absolute(path: Path) -> str:
    """Return the path so that qemu takes it for one: no leading dash, and no `name:` that could be a protocol."""
    return str(path.absolute())
