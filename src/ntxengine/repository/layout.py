"""Names in a repository.  They come from UUIDs and the clock, never from what somebody typed in Prism.

    REPO/ntx-repository.json                 what this directory is
    REPO/ntx-site.json                       where it was when it was last written to
    REPO/catalog.sqlite                      a copy of all point.json, for speed; may be deleted
    REPO/<vm id>/.lock                       held while the VM is captured
    REPO/<vm id>/.cluster-<point id>.json    what a capture made on the cluster
    REPO/<vm id>/distrusted.json             points whose tracking is distrusted since an audit
    REPO/<vm id>/sampled.json                how much of which disk was verified by samples; may be deleted
    REPO/<vm id>/retention.json              tags, holds, and which points are forgotten
    REPO/<vm id>/.retention.lock             held while that is replaced
    REPO/<vm id>/.unfinished-<point id>/     never listed as a point; the next capture goes on with it, or removes it
        resume, disk-<disk id>.changes, disk-<disk id>.journal, disk-<disk id>.qcow2.map
            what that needs, besides the files of a point
    REPO/<vm id>/.removed-<point id>/        what a kill left of a point that was being removed
    REPO/<vm id>/<point id>/                 a committed point:
        disk-<disk id>.qcow2, disk-<disk id>.manifest, vm.json, point.json, report.json, SHA256SUMS
        disk-<disk id>.gN.qcow2 instead of the image, after points below were merged into it for the Nth time

A point id sorts by time: 20261123T041500Z-8f3a2c.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ntxengine.errors import RepositoryError
from ntxengine.ids import is_canonical_uuid

MARKER_FILE = "ntx-repository.json"
CATALOG_FILE = "catalog.sqlite"
LOCK_FILE = ".lock"
DISTRUST_FILE = "distrusted.json"
SAMPLES_FILE = "sampled.json"
RETENTION_FILE = "retention.json"
RETENTION_LOCK_FILE = ".retention.lock"
RETENTION_HALF_WRITTEN = ".retention.json."
"""What the names of files begin with that were to replace it (durable.replace_file)."""
POINT_FILE = "point.json"
VM_FILE = "vm.json"
REPORT_FILE = "report.json"
SUMS_FILE = "SHA256SUMS"
UNFINISHED_PREFIX = ".unfinished-"
REMOVED_PREFIX = ".removed-"
RESUME_FILE = "resume"
MAP_SUFFIX = ".map"
"""Of a cluster map, behind the name of its image."""

MAX_PATH = 4096
"""Bytes of a path, with the zero behind it: PATH_MAX of Linux."""

_GENERATION = re.compile(r"\.g([1-9][0-9]{0,5})\.qcow2")
_POINT_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
_TIME_FORMAT = "%Y%m%dT%H%M%SZ"


def checked_uuid(text: str, what: str) -> str:
    """Return a UUID in lower case.

    Errors: RepositoryError if it is none, for it is about to become a file name.
    """
    lowered = text.lower()
    if not is_canonical_uuid(lowered):
        raise RepositoryError(f"{what} {text[:80]!r} is not a UUID: it cannot name a file in a repository")
    return lowered


def is_point_id(name: str) -> bool:
    """Say whether `name` is a point id, with a time that exists."""
    if _POINT_ID.fullmatch(name) is None:
        return False
    try:
        return 1970 <= time_of(name).year <= 9998  # so that there is a next second
    except ValueError:
        return False


def new_point_id(now: datetime, *, after: str | None, token: str) -> str:
    """Return a point id for `now`, or for one second past `after` where the clock is not later than that.

    So a point always sorts behind its parent, also when two are made in one second or the clock was set back.
    Errors: RepositoryError if nothing can sort behind `after`.
    """
    when = now.astimezone(UTC).replace(microsecond=0)
    if after is not None:
        when = max(when, time_of(after) + timedelta(seconds=1))
    point_id = f"{when.strftime(_TIME_FORMAT)}-{token}"
    if not is_point_id(point_id):
        raise RepositoryError(
            f"no point can be newer than {after}, whose name no clock made: move that folder out of the repository"
        )
    return point_id


def time_of(point_id: str) -> datetime:
    """Return when a point was begun.  Errors: ValueError."""
    return datetime.strptime(point_id.partition("-")[0], _TIME_FORMAT).replace(tzinfo=UTC)


def unfinished_id(folder: Path) -> str:
    """Return the id that the point in an unfinished folder was to have."""
    return folder.name.removeprefix(UNFINISHED_PREFIX)


def image_name(disk_id: str, generation: int = 0) -> str:
    """Return the name of a disk's image in its point.

    `generation` counts how often it was made anew, when what was below it was merged into it.
    """
    return f"disk-{disk_id}.g{generation}.qcow2" if generation else f"disk-{disk_id}.qcow2"


def generation_of(name: str, disk_id: str) -> int | None:
    """Return which image of a disk has this name in its point, None if none has."""
    if name == image_name(disk_id):
        return 0
    match = _GENERATION.fullmatch(name.removeprefix(f"disk-{disk_id}"))
    return None if match is None or not name.startswith("disk-") else int(match[1])


def manifest_name(disk_id: str) -> str:
    """Return the name of a disk's manifest in its point."""
    return f"disk-{disk_id}.manifest"


def changes_name(disk_id: str) -> str:
    """Return the name of what is to be copied of a disk, in its unfinished point."""
    return f"disk-{disk_id}.changes"


def journal_name(disk_id: str) -> str:
    """Return the name of how far a disk is copied, in its unfinished point."""
    return f"disk-{disk_id}.journal"


def map_name(disk_id: str) -> str:
    """Return the name of what tells where the clusters of an image are that is not whole (images/writer.py)."""
    return f"{image_name(disk_id)}{MAP_SUFFIX}"


def is_for_resuming(name: str) -> bool:
    """Say whether a file of an unfinished point is of no use to a point."""
    return name == RESUME_FILE or name.endswith((".changes", ".journal", MAP_SUFFIX))


def backing_name(parent_id: str, file: str) -> str:
    """Return the backing file of a disk's overlay, relative to its point: the repository can be moved as a whole."""
    return f"../{parent_id}/{file}"


def is_backing(name: str, parent_id: str, disk_id: str) -> bool:
    """Say whether a backing file is that disk of that point, in any generation: the point says which it is now."""
    folder, _, file = name.rpartition("/")
    return folder == f"../{parent_id}" and generation_of(file, disk_id) is not None


def vm_of(folder: Path) -> str:
    """Return the id of the VM that a folder is of: that of a point, or the VM's own."""
    return folder.name if is_canonical_uuid(folder.name) else folder.parent.name


def longest_chain(vm_folder: Path) -> int:
    """Return how many images plain qemu can open on top of each other in the folder of a VM.

    It joins the relative names of a chain into one path, /repo/vm/NEWEST/../OLDER/../OLDEST/disk-...qcow2, and a path
    has its limit.
    """
    newest = vm_folder / "20261123T041500Z-8f3a2c" / image_name("0a1b2c3d-0000-4000-8000-00000000aa01")
    step = len(f"../{newest.parent.name}/")
    return 1 + max(0, (MAX_PATH - 1 - len(os.fsencode(newest))) // step)
