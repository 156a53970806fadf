"""What an attacher is, and the checks that all share."""

from __future__ import annotations

import os
import stat
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from ntxengine.errors import AttachError
from ntxengine.prism.models import DiskPoint

T = TypeVar("T")


class Attacher(Protocol):
    """Makes the bytes of a disk recovery point readable here.

    `worker_id` is the VM that disks are added to for it, "" if none are.
    """

    worker_id: str

    def attach(self, disk_point: DiskPoint, size: int) -> AbstractAsyncContextManager[str]:
        """Give the path of a file or block device that holds exactly the disk as it was; take it away on exit.

        Units:  size in bytes, what the disk must have.
        Errors: AttachError (what was attached is not readable, or has another size), PrismError.
        """
        ...


def readable_size(path: Path) -> int:
    """Return the bytes of a regular file or block device that can be opened for reading.

    Errors: OSError; AttachError if it is neither.
    """
    # Not blocking: a FIFO in the place of a file must not hold us up.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return status.st_size
        if stat.S_ISBLK(status.st_mode):
            return os.lseek(descriptor, 0, os.SEEK_END)
        raise AttachError(f"cannot read {path}: it is neither a regular file nor a block device")
    finally:
        os.close(descriptor)


def check_size(path: Path, found: int, expected: int) -> None:
    """Refuse a disk that has another size than the recovery point."""
    if found != expected:
        raise AttachError(
            f"{path} has {found} bytes, but the disk in the recovery point has {expected}: this is not that disk, or "
            f"its size was changed while it was captured; nothing was copied from it, try again"
        )
