"""Whether two names mean the same bytes: links, names through other folders, device nodes, and what lies on what.

    /dev/loop0p1 --lies on--> /dev/loop0 --lies on--> disk.raw

LIMIT: what a device mapper or multipath joins, and what an NBD server serves, is not known to be the same.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

Place = tuple[str, int, int]
_SYSFS = Path("/sys/dev/block")
_MOST = 16  # of what lies on what


def is_same(one: Path, other: Path) -> bool:
    """Say whether two files or block devices are one, or one lies on the other; also of names that do not exist yet."""
    first, second = places_of(one), places_of(other)
    if first and second:
        return first[0] in second or second[0] in first
    return not first and not second and _future(one) == _future(other)


def places_of(path: Path) -> list[Place]:
    """Return what a name means, and what that lies on, down to the last that is known; nothing if it does not exist."""
    found: list[Place] = []
    below: Path | None = path
    while below is not None and len(found) < _MOST:
        try:
            status = os.stat(below)
        except (OSError, ValueError):
            break
        if not stat.S_ISBLK(status.st_mode):
            found.append(("file", status.st_dev, status.st_ino))
            break
        number = os.major(status.st_rdev), os.minor(status.st_rdev)
        found.append(("device", *number))
        disk = _disk_of(*number)
        if disk != number:
            found.append(("device", *disk))
        below = _backing_file(*disk)
    return found


def _disk_of(major: int, minor: int) -> tuple[int, int]:
    """Return the number of the disk that a partition is of; of anything else its own."""
    folder = _SYSFS / f"{major}:{minor}"
    if not (folder / "partition").exists():
        return major, minor
    try:
        of_major, _, of_minor = (folder / ".." / "dev").read_text().strip().partition(":")
        return int(of_major), int(of_minor)
    except (OSError, ValueError):
        return major, minor


def _backing_file(major: int, minor: int) -> Path | None:
    """Return the file behind a loop device.  One that was removed has a name that leads nowhere."""
    try:
        return Path((_SYSFS / f"{major}:{minor}" / "loop" / "backing_file").read_text().rstrip("\n"))
    except (OSError, UnicodeDecodeError):
        return None


def _future(path: Path) -> Path:
    """Return where a file of this name would be made."""
    return path.parent.resolve() / path.name
