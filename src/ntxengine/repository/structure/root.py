"""The directory itself: its marker, where it was last used, the catalog, and what else lies in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ntxengine.errors import NotFoundError, RepositoryError
from ntxengine.files import durable
from ntxengine.ids import is_canonical_uuid
from ntxengine.repository import layout, marker, site, strays
from ntxengine.repository.catalog import SUFFIXES, Catalog, Row
from ntxengine.repository.point import MAX_POINT_BYTES
from ntxengine.repository.scan import Scan, scan, vm_folders
from ntxengine.repository.structure.finding import Finding, Place
from ntxengine.repository.structure.names import find_readable, listed, unknown

_HERE = Place()

_CATALOG_REMEDY = "`ntx repair` makes it anew from the directory; nothing is lost"


def find_vm_folders(root: Path) -> list[Path]:
    """Return the folders of the VMs of what may be a repository.

    Errors: NotFoundError if it is none; RepositoryError if it cannot be read.
    """
    folders = vm_folders(root)
    if not folders and not os.path.lexists(root / layout.MARKER_FILE):
        raise NotFoundError(f"{root}: is not a repository: no {layout.MARKER_FILE} in it")
    return folders


def inspect_root(root: Path, vm_id: str | None = None) -> list[Finding]:
    """Return what is wrong beside the folders of the VMs, and with the catalog: of all of them, or of one.

    Blocks: reads every point.json.
    Errors: RepositoryError if the directory cannot be read.
    """
    found = [*_marker(root), *_site(root)]
    scanned = scan(root, {}, vm_id)
    found += [_HERE.from_error("link", error, [path], "") for path, error in scanned.strange.items()]
    found += _catalog(root, scanned, vm_id)
    found += [
        _HERE.leftover("half-written", path, "was to become a file of the repository") for path in strays.markers(root)
    ]
    found += _names(root)
    return found


def _marker(root: Path) -> Iterator[Finding]:
    path = root / layout.MARKER_FILE
    adopt = f"`ntx repository adopt {root}` makes the directory a repository again, with a new id"
    if not os.path.lexists(path):
        yield _HERE.damage("marker", path, "is missing", adopt)
        return
    try:
        marker.read(path)
    except RepositoryError as exc:
        yield _HERE.from_error("marker", exc, [path], adopt)


def _site(root: Path) -> Iterator[Finding]:
    path = root / site.SITE_FILE
    mismatch = site.find_mismatch(root)
    if mismatch.startswith(f"{path}: "):
        yield _HERE.from_error(
            "site",
            RepositoryError(mismatch),
            [path],
            f"remove it if this is no copy of another repository; if it is one, `ntx repository adopt {root}`",
        )
    elif mismatch:
        problem = mismatch.removeprefix(f"{root}: ")
        yield _HERE.note("copy", root, problem, f"`ntx repository adopt {root}`, if it is to be one of its own")


# ------------------------------------------------------------------------------------------------------ the catalog


def _catalog(root: Path, scanned: Scan, vm_id: str | None) -> Iterator[Finding]:
    path = root / layout.CATALOG_FILE
    rows, problem, is_strange = Catalog(path, guard=root / layout.MARKER_FILE).look()
    if is_strange:
        yield _HERE.damage("link", path, problem, "remove it: the catalog is then made anew")
        return
    if problem:
        yield _HERE.damage("catalog", path, f"is damaged: {problem}", _CATALOG_REMEDY)
        return
    if rows is None or not os.path.lexists(path):
        return
    folders = {(folder.parent.name, folder.name): folder for folder in scanned.folders()}
    known = {key: row for key, row in rows.items() if vm_id in (None, key[0])}
    rotten = [key for key, row in known.items() if key in folders and _is_rotten(folders[key], row)]
    if rotten:
        more = f", and {len(rotten) - 1} more" if len(rotten) > 1 else ""
        text = f"does not have what is in the folder of point {rotten[0][1]}{more}"
        yield _HERE.damage("catalog", path, text, _CATALOG_REMEDY)
    whole = {(point.vm_id, point.id) for point in scanned.points}
    if missing := len(whole - known.keys()):
        yield _HERE.note("stale-catalog", path, f"lacks {missing} of the points", "none: the next command enters them")
    if gone := len(known.keys() - folders.keys()):
        yield _HERE.note(
            "stale-catalog", path, f"has {gone} points that are gone", "none: the next command removes them"
        )


def _is_rotten(folder: Path, row: Row) -> bool:
    """Say whether a row would be believed, and tells other things than the file."""
    file = folder / layout.POINT_FILE
    try:
        status = file.lstat()
        if (status.st_size, status.st_mtime_ns) != (row.stamp.size, row.stamp.mtime_ns):
            return False
        return durable.read_file(file, limit=MAX_POINT_BYTES) != row.document
    except (OSError, RepositoryError):  # damage of the point
        return False


# ---------------------------------------------------------------------------------------------------------- names


def _names(root: Path) -> Iterator[Finding]:
    known = {layout.MARKER_FILE, site.SITE_FILE, "lost+found", *(layout.CATALOG_FILE + suffix for suffix in SUFFIXES)}
    ours = []
    for name in listed(root):
        path = root / name
        if name in known:
            ours += [] if name == "lost+found" else [path]
        elif not is_canonical_uuid(name) and not strays.is_of_a_marker(name):
            yield unknown(_HERE, path)
    yield from find_readable(_HERE, root, ours)
