"""What a killed process can leave in a repository beside unfinished points: nothing that is ever read."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from ntxengine.files import durable
from ntxengine.repository import layout
from ntxengine.repository.scan import vm_folders

log = logging.getLogger(__name__)

MARKER_PREFIX = ".ntx-repository-"
"""Of a marker that has not got its name yet."""
OLD_S = 3600.0
"""Making a repository takes a moment: one that has taken this long was interrupted."""

_NEW_SUFFIX = ".new"
_HALF_WRITTEN = re.compile(r"\.ntx-(?:repository|site)\.json\.[0-9a-f]{8}\.new")
"""What was to replace a file of a repository itself."""


def markers(root: Path) -> list[Path]:
    """Return the markers that interrupted creations of a repository left in a folder, and those of changes to it."""
    limit = time.time() - OLD_S
    try:
        with os.scandir(root) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if is_of_a_marker(entry.name)
                and entry.is_file(follow_symlinks=False)
                and entry.stat(follow_symlinks=False).st_mtime < limit
            ]
    except OSError:
        return []


def is_of_a_marker(name: str) -> bool:
    """Say whether a file was to become one of a repository itself."""
    return name.startswith(MARKER_PREFIX) or _HALF_WRITTEN.fullmatch(name) is not None


def empty_folders(root: Path) -> list[Path]:
    """Return the folders of VMs that hold nothing, but perhaps a lock."""
    return [folder for folder in vm_folders(root) if _is_empty(folder)]


def _is_empty(folder: Path) -> bool:
    try:
        return set(os.listdir(folder)) <= {layout.LOCK_FILE}
    except OSError:  # removed by another sweep, or not for us to look into
        return False


def unfinished(vm_folder: Path) -> list[Path]:
    """Return the folders of the unfinished points of a VM."""
    return sorted(vm_folder.glob(f"{layout.UNFINISHED_PREFIX}*"))


def rests(vm_folder: Path) -> list[Path]:
    """Return what is left of points that were being removed."""
    return sorted(vm_folder.glob(f"{layout.REMOVED_PREFIX}*"))


def maps(vm_folder: Path) -> list[Path]:
    """Return the cluster maps in points of a VM whose images are gone."""
    found = (path for path in vm_folder.glob(f"*/disk-*{layout.MAP_SUFFIX}") if layout.is_point_id(path.parent.name))
    return sorted(path for path in found if not os.path.lexists(str(path).removesuffix(layout.MAP_SUFFIX)))


def remove_unfinished(vm_folder: Path, *, kept: Collection[Path] = ()) -> list[Path]:
    """Remove what killed captures left in the folder of a VM, which is locked; return the unfinished points, without
    those that are `kept`.

    Blocks: an image of a terabyte takes its time.
    """
    _remove_half_written(vm_folder)
    removed = [folder for folder in unfinished(vm_folder) if folder not in kept]
    for folder in removed:
        durable.remove_tree(folder)
        log.info("%s: removed, its capture was interrupted", folder)
    return removed


def _remove_half_written(vm_folder: Path) -> None:
    """Remove files that were to replace others in the folder of a VM, but none that others may write now: what is
    forgotten is said also while somebody else has the VM's lock (retention_file.py).
    """
    for path in vm_folder.glob(f".*{_NEW_SUFFIX}"):
        if path.name.startswith(layout.RETENTION_HALF_WRITTEN):
            continue
        with suppress(OSError):  # it is in the way of nobody
            path.unlink()
