"""Names that nothing of ours has, and what others may read."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from ntxengine.repository.structure.finding import Finding, Place

HALF_WRITTEN = re.compile(r"\.[A-Za-z0-9.-]+\.[0-9a-f]{8}\.new")
"""What was to replace a file (durable.replace_file)."""

_FOR_OTHERS = 0o077


def unknown(place: Place, path: Path) -> Finding:
    """Return what is said of a file or a folder that is not ours."""
    return place.note("unknown", path, "is nothing that ntx knows", "look what it is; ntx never touches it")


def find_readable(place: Place, folder: Path, paths: Iterable[Path]) -> Iterator[Finding]:
    """Yield one note for all of these paths that others than their owner may read or enter."""
    open_to_others = [path for path in paths if _is_for_others(path)]
    if open_to_others:
        more = f", and {len(open_to_others) - 1} more" if len(open_to_others) > 1 else ""
        yield place.note(
            "mode",
            folder,
            f"other users of this machine may read what is in it: {open_to_others[0].name}{more}",
            "chmod -R go= it, if its file system keeps modes; if not, see its mount options (umask=)",
        )


def _is_for_others(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False
    return not stat.S_ISLNK(mode) and bool(mode & _FOR_OTHERS)


def listed(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none where it is gone.  Errors: OSError."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
