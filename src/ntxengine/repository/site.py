"""Where a directory is: on which machine, under which path, on which file system.  And whether it is a copy of another.

    REPO/ntx-site.json     where the repository was when it was last written to: a hint, kept beside its marker

A repository that is moved, mounted elsewhere or restored keeps at least one of the three.  Where all three differ, it
is taken for a copy whose original lives on elsewhere.

LIMIT: a clone of a whole machine or of a whole file system below the same path cannot be told from its original.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.repository import stored
from ntxengine.repository.stored import SITE_FORMAT, SITE_VERSION, StoredSite, StoredSiteFile

SITE_FILE = "ntx-site.json"

_MACHINE_ID = Path("/etc/machine-id")
_UUIDS = Path("/dev/disk/by-uuid")
_LIMIT = 64 * 1024


@dataclass(frozen=True)
class Site:
    """All three, "" for what is not known.  `file_system_id` is the kernel's, `file_system_uuid` its own."""

    machine_id: str = ""
    path: str = ""
    file_system_uuid: str = ""
    file_system_id: str = ""

    def is_near(self, other: Site) -> bool:
        """Say whether one of the three is the same."""
        is_same_machine = self.machine_id != "" and self.machine_id == other.machine_id
        is_same_path = self.path != "" and self.path == other.path
        return is_same_machine or is_same_path or self.has_same_file_system(other) is True

    def has_same_file_system(self, other: Site) -> bool | None:
        """Say whether both are on one file system; None if nobody knows."""
        if self.file_system_uuid and other.file_system_uuid:
            return self.file_system_uuid == other.file_system_uuid
        if self.file_system_id and other.file_system_id:
            return self.file_system_id == other.file_system_id
        return None


def to_stored(site: Site) -> StoredSite:
    """Return what a file says of a site."""
    return StoredSite(
        machine_id=site.machine_id,
        path=site.path,
        file_system_uuid=site.file_system_uuid,
        file_system_id=site.file_system_id,
    )


def from_stored(found: StoredSite) -> Site:
    """Return the site that a file tells of."""
    return Site(
        machine_id=found.machine_id,
        path=found.path,
        file_system_uuid=found.file_system_uuid,
        file_system_id=found.file_system_id,
    )


def here(folder: Path) -> Site:
    """Return where a directory is now.  Errors: RepositoryError if it cannot even be looked at."""
    try:
        path = str(folder.resolve(strict=True))
        device = folder.stat().st_dev
        fsid = os.statvfs(folder).f_fsid
    except OSError as exc:
        raise durable.read_error(folder, exc) from exc
    return Site(_machine_id(), path, _file_system_uuid(device), f"{fsid:x}" if fsid else "")


def _machine_id() -> str:
    try:
        return _MACHINE_ID.read_text("ascii")[:64].strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _file_system_uuid(device: int) -> str:
    try:
        with os.scandir(_UUIDS) as entries:
            return next((entry.name for entry in entries if entry.stat().st_rdev == device), "")
    except OSError:
        return ""


def find_mismatch(folder: Path) -> str:
    """Return why the repository in `folder` seems to be a copy, "" if it does not.  Changes nothing."""
    recorded = _read(folder)
    if isinstance(recorded, str):
        return recorded
    found = here(folder)
    if recorded is None or recorded.is_near(found):
        return ""
    return (
        f"{folder}: seems to be a copy of the repository that was last used as {recorded.path[:200]!r}: "
        f"neither the machine, nor the path, nor the file system is the same"
    )


def settle(folder: Path) -> str:
    """As find_mismatch; where there is none, record where the repository is now.  Errors: TargetError."""
    mismatch = find_mismatch(folder)
    if not mismatch and _read(folder) != here(folder):
        record(folder)
    return mismatch


def record(folder: Path) -> None:
    """Record that the repository is here from now on.  Errors: TargetError."""
    document = StoredSiteFile(SITE_FORMAT, SITE_VERSION, to_stored(here(folder)))
    durable.replace_file(folder / SITE_FILE, stored.encode(document))


def _read(folder: Path) -> Site | str | None:
    """Return what was recorded, None if nothing was, or why it cannot be read."""
    path = folder / SITE_FILE
    if not os.path.lexists(path):
        return None
    try:
        found = msgspec.json.decode(durable.read_file(path, limit=_LIMIT), type=StoredSiteFile)
    except RepositoryError as exc:
        return str(exc)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        return f"{path}: is damaged: {exc}"
    if (found.format, found.version) != (SITE_FORMAT, SITE_VERSION):
        return f"{path}: is {found.format[:40]!r} version {found.version}, not what this ntxengine reads"
    return from_stored(found.site)
