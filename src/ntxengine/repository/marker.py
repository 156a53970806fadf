"""ntx-repository.json: what makes a directory a repository, and its id."""

from __future__ import annotations

import os
import secrets
import uuid
from pathlib import Path

import msgspec

from ntxengine import files
from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.ids import is_canonical_uuid
from ntxengine.repository import layout, stored, strays
from ntxengine.repository.scan import vm_folders
from ntxengine.repository.stored import MARKER_FORMAT, MARKER_VERSION, StoredMarker

_MARKER_LIMIT = 64 * 1024
_ID_LENGTH = 8


class DamagedMarker(RepositoryError):
    """The file that says what the directory is holds nothing that can be read.  The points may be whole."""


def new() -> bytes:
    """Return the marker of a repository with a new id."""
    return stored.encode(StoredMarker(MARKER_FORMAT, MARKER_VERSION, str(uuid.uuid4())))


def write(folder: Path) -> bool:
    """Make the marker appear as a whole; False if another process was first."""
    for stray in strays.markers(folder):
        stray.unlink(missing_ok=True)
    fresh = folder / f"{strays.MARKER_PREFIX}{secrets.token_hex(8)}"
    durable.write_file(fresh, new())
    try:
        files.publish(fresh, folder / layout.MARKER_FILE)
    except FileExistsError:
        return False
    except OSError as exc:
        raise durable.write_error(folder, "making the repository", exc) from exc
    finally:
        fresh.unlink(missing_ok=True)
    return True


def read(path: Path) -> str:
    """Return the id of a repository, as names on a cluster have it: the beginning of a UUID.

    Errors: RepositoryError naming the file, DamagedMarker among them.
    """
    data = durable.read_file(path, limit=_MARKER_LIMIT)
    try:
        marker = msgspec.json.decode(data, type=StoredMarker)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise DamagedMarker(f"{path}: is damaged: {exc}{remedy(path.parent)}") from exc
    if marker.format != MARKER_FORMAT:
        raise RepositoryError(f"{path}: is not a repository of ntxengine: format {marker.format[:40]!r}")
    if marker.version != MARKER_VERSION:
        raise RepositoryError(
            f"{path}: repository version {marker.version}, this ntxengine reads version {MARKER_VERSION}: "
            f"use the one that wrote it"
        )
    if not is_canonical_uuid(marker.id):
        problem = f"id {marker.id[:80]!r} is not a UUID"
        raise DamagedMarker(f"{path}: is damaged: {problem}{remedy(path.parent)}")
    return marker.id[:_ID_LENGTH]


def remedy(folder: Path) -> str:
    """Return what to do where the marker is lost and folders of VMs are there, "" where there are none."""
    return f"; it has folders of VMs: `ntx repository adopt {folder}` makes it one again" if vm_folders(folder) else ""


def check_creatable(folder: Path) -> None:
    """Refuse a directory that cannot become a repository.  One that is not there can.

    Errors: RepositoryError if there is something else, or a repository already; TargetError.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise durable.write_error(folder, "making the repository", exc) from exc
    # A fresh ext4 has lost+found, and another process may be making the marker at this moment.
    strangers = [name for name in names if name != "lost+found" and not name.startswith(strays.MARKER_PREFIX)]
    if layout.MARKER_FILE in strangers:
        raise RepositoryError(f"{folder}: is a repository already: open it")
    if strangers:
        raise RepositoryError(
            f"{folder}: is not empty and not a repository (it holds {strangers[0][:80]!r}): "
            f"choose an empty directory{remedy(folder)}"
        )
