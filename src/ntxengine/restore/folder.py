"""The directory that takes the disks of a point: made, kept for one restore, and how the files in it are called.

Names come from the address of a disk (`scsi.0.raw`), cleaned, so that a restored VM is easy to put together by hand.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ntxengine.errors import LockedError, OptionsError
from ntxengine.files import durable
from ntxengine.files.locks import give_back, take
from ntxengine.repository import Point
from ntxengine.restore.options import RestoreFormat

_MAX_NAME = 64
_STRANGE = re.compile(r"[^a-z0-9.-]+")
_FALLBACK_PREFIX = "disk-"


def file_names(point: Point, format: RestoreFormat) -> dict[str, str]:
    """Return the file name of every disk of `point`, by disk id.

    Shape:  [a-z0-9.-] only, no two alike: a label that is not unique once cleaned, or looks like an id, gives way to
            the disk's id.  The same whichever disks are restored.
    """
    labels = {disk.disk_id: _clean(disk.label) for disk in point.disks}
    taken = list(labels.values())
    usable = {label for label in taken if label and taken.count(label) == 1 and not label.startswith(_FALLBACK_PREFIX)}
    return {
        disk_id: f"{label if label in usable else _FALLBACK_PREFIX + disk_id}.{format}"
        for disk_id, label in labels.items()
    }


def _clean(label: str) -> str:
    return _STRANGE.sub("-", label.lower()).strip(".-")[:_MAX_NAME]


def make_folder(folder: Path) -> None:
    """Make a directory, if it is not there.  Errors: OptionsError (qemu cannot open it, it is none), TargetError."""
    try:
        str(folder).encode()
        folder.mkdir(parents=True, exist_ok=True)
    except UnicodeEncodeError as exc:
        raise OptionsError(f"{str(folder)!r}: qemu opens only paths in UTF-8: choose another directory") from exc
    except FileExistsError as exc:
        raise OptionsError(f"{folder}: is not a directory") from exc
    except OSError as exc:
        raise durable.write_error(folder, "making the directory", exc) from exc


@contextmanager
def only_us(folder: Path) -> Iterator[None]:
    """Keep other restores out of the directory, without a file of ours in it.  Errors: LockedError, TargetError."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise durable.write_error(folder, "opening the directory", exc) from exc
    try:
        try:
            take(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise LockedError(f"{folder}: another restore writes into it: wait until that has ended") from exc
        except OSError:
            pass  # no locks on directories here (NFS): nobody is kept out
        yield
    finally:
        give_back(fd)
