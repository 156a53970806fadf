"""What the file system of a repository can, tried out before any work is done.

lacks                                  so
syncing a folder, hard links           done otherwise (files/names.py), without a word
modes                                  a warning: the mount decides who may read the files
files of 4 GiB                         a warning: FAT, or a limit of the process; small disks fit
syncing a file, exclusive creation     refused: a point could be lost, or mixed with another
locks                                  refused (lock.py)
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from ntxengine.files import durable
from ntxengine.units import GIB

_PROBE = "probe"
_LARGE = 4 * GIB
_NO_LARGE_FILES = (
    f"a file cannot have {_LARGE // GIB} GiB here (FAT, or ulimit -f): the capture of a disk with more data will fail; "
    f"put the repository on another file system"
)


def try_out(folder: Path) -> list[str]:
    """Try in a folder of ours what a capture will do there, and return warnings.  Leaves nothing.

    Errors: TargetError: a capture cannot work here; why, and what to do.
    """
    probe, renamed = folder / _PROBE, folder / f"{_PROBE}-renamed"
    warnings = []
    try:
        durable.write_file(probe, b"probe", mode=0o644)  # as qemu-img makes them
        if not durable.restrict(probe):
            warnings.append(f"{folder.parent}: {durable.NO_MODES}")
        if not _can_be_large(probe):
            warnings.append(f"{folder.parent}: {_NO_LARGE_FILES}")
        durable.rename(probe, renamed)
        durable.sync_folder(folder)
    finally:
        for path in (probe, renamed):
            with suppress(OSError):  # the folder goes, too
                path.unlink()
    return warnings


def _can_be_large(file: Path) -> bool:
    try:
        os.truncate(file, _LARGE + 1)
    except OSError as exc:
        return exc.errno != errno.EFBIG
    return True
