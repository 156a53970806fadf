"""What a capture makes on a cluster, recorded before it is made: nothing else is ever removed from there.

    REPO/<vm id>/.cluster-<point id>.json

    before the recovery point is asked for   its name, the way to the bytes, the VM that clones are added to
    when it is there                         its id, and what such clones say that they come from
    when the cluster is clean                removed: when a later point replaced it, by a sweep, or by undoing

So it outlives the folder of an unfinished point, and tells of what a killed capture left.  It is believed only in the
folder that it was written in: a copy of a repository has the same names, and must not remove what the original needs.

LIMIT: a file system that gives its folders new inodes when it is mounted (exFAT, some FUSE) makes a copy of each
repository; what was made before stays on the cluster until it expires.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.ids import is_canonical_uuid
from ntxengine.repository import layout, site, stored
from ntxengine.repository.site import Site
from ntxengine.repository.stored_cluster import (
    CLUSTER_FORMAT,
    CLUSTER_VERSION,
    CLUSTER_VERSION_OF_EXPORT,
    READABLE_CLUSTER_VERSIONS,
    StoredClusterFile,
    StoredClusterRecord,
    StoredFolder,
    StoredReferenceDisk,
)

log = logging.getLogger(__name__)

PREFIX = ".cluster-"
NAME_PREFIX = "ntx-"
"""Of all recovery points that any capture makes."""
SETTLED_AFTER = timedelta(minutes=15)
"""A request that was on its way when its capture was killed has ended by then: what it made can be seen."""

_SUFFIX = ".json"
_LIMIT = 1024**2
_NAME = re.compile(rf"{NAME_PREFIX}[0-9a-f]{{8}}-(.{{1,40}})")
_TOGETHER = "-together"


def name_prefix(repository_id: str) -> str:
    """Return what the names of all recovery points of a repository begin with."""
    return f"{NAME_PREFIX}{repository_id}-"


@dataclass(frozen=True)
class ClusterRecord:
    """One recovery point, and the clones of its disks.

    `recovery_point_id` is "" until it is known.  `worker_id` is the VM that clones are added to, "" if none are;
    `sources` are the disk recovery points that they say they come from.  `source` is the way to the bytes, as
    attach.Attacher names it; "" in a record of an older ntxengine.  `together` are the VMs that one recovery point was
    made for, this one among them, empty for one alone; `is_released`: this one does not need it any more.
    `attached_at` is when a clone was last asked for, None while none is, and once all are known to be gone.
    `reference` are the disks of one that a control plane was given whole, and the next export is compared with: it
    stays until that has replaced it, or the cluster lets it go.  Empty for all that captures make.
    """

    point_id: str
    name: str
    worker_id: str
    recovery_point_id: str = ""
    sources: tuple[str, ...] = ()
    source: str = ""
    together: tuple[str, ...] = ()
    is_released: bool = False
    attached_at: datetime | None = None
    reference: tuple[StoredReferenceDisk, ...] = ()

    def is_settled(self, now: datetime) -> bool:
        """Say whether its recovery point can be seen on the cluster by now."""
        return self.recovery_point_id != "" or now - layout.time_of(self.point_id) > SETTLED_AFTER

    def may_attach_yet(self, now: datetime) -> bool:
        """Say whether a clone that was asked for may be made yet."""
        return self.attached_at is not None and now - self.attached_at <= SETTLED_AFTER


@dataclass(frozen=True)
class Records:
    """What a VM's folder records: what was made from this very folder, and what a folder that it is a copy of made."""

    own: tuple[ClusterRecord, ...]
    foreign: tuple[ClusterRecord, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Folder:
    """A folder, told from its copies."""

    site: Site
    inodes: tuple[int, int]

    def is_same(self, other: _Folder) -> bool:
        if self.inodes != other.inodes:
            return False
        same = self.site.has_same_file_system(other.site)
        return self.site.machine_id == other.site.machine_id if same is None else same


@dataclass(frozen=True)
class Sharing:
    """Who else needs the recovery point of a record: `vm_ids`; and which of its disk recovery points are being read by
    a capture of one of them at this moment."""

    vm_ids: tuple[str, ...] = ()
    sources_in_use: frozenset[str] = frozenset()


def shared_name(repository_id: str, point_id: str) -> str:
    """Return the name of a recovery point of several VMs; `point_id` is the point of one of them.

    It is none that a record of a VM alone may have: who knows only those must not delete it.
    """
    return f"{name_prefix(repository_id)}{point_id}{_TOGETHER}"


def sharing(repository: Path, vm_id: str, record: ClusterRecord, is_locked: Callable[[str], bool]) -> Sharing:
    """Return who else needs what a record tells of.  A VM whose records cannot be read does.

    Who has released a recovery point, or reads its disks in another way, uses nothing of what this record tells of.
    """
    needing: list[str] = []
    in_use: set[str] = set()
    for other_id in (other.lower() for other in record.together):
        if other_id == vm_id.lower():
            continue
        found = read(repository / other_id)
        same = [each for each in (*found.own, *found.foreign) if each.name == record.name]
        unreleased = [each for each in same if not each.is_released]
        if found.problems or unreleased:
            needing.append(other_id)
        alike = (each for each in unreleased if "" in (each.source, record.source) or each.source == record.source)
        common = {source for each in alike for source in each.sources} & set(record.sources)
        if common and is_locked(other_id):
            in_use |= common
    return Sharing(tuple(needing), frozenset(in_use))


def write(vm_folder: Path, record: ClusterRecord) -> None:
    """Write or replace a record, durably.  The VM is locked.  Errors: TargetError, RepositoryError."""
    folder = _folder(vm_folder)
    document = StoredClusterFile(
        format=CLUSTER_FORMAT,
        version=CLUSTER_VERSION_OF_EXPORT if record.reference else CLUSTER_VERSION,
        record=StoredClusterRecord(
            point_id=record.point_id,
            name=record.name,
            worker_id=record.worker_id,
            recovery_point_id=record.recovery_point_id,
            sources=record.sources,
            source=record.source,
            together=record.together,
            is_released=record.is_released,
            attached_at=record.attached_at,
            reference=record.reference,
        ),
        made_in=StoredFolder(site.to_stored(folder.site), folder.inodes),
    )
    durable.replace_file(_path(vm_folder, record.point_id), stored.encode_checked(document))


def remove(vm_folder: Path, record: ClusterRecord) -> None:
    """Remove a record: the cluster is clean.  Errors: TargetError."""
    path = _path(vm_folder, record.point_id)
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise durable.write_error(path, "removing", exc) from exc


def exist(vm_folder: Path) -> bool:
    """Say whether there are any."""
    return any(vm_folder.glob(f"{PREFIX}*{_SUFFIX}"))


def read(vm_folder: Path) -> Records:
    """Return the records of a VM, oldest first.  One that cannot be read is a problem, and removes nothing."""
    own: list[ClusterRecord] = []
    foreign: list[ClusterRecord] = []
    problems: list[str] = []
    now = _folder(vm_folder) if vm_folder.is_dir() else None
    for path in sorted(vm_folder.glob(f"{PREFIX}*{_SUFFIX}")):
        try:
            record, made_in = _read(path)
        except RepositoryError as exc:
            problems.append(str(exc))
            continue
        is_own = now is not None and made_in.is_same(now)
        (own if is_own else foreign).append(record)
    return Records(tuple(own), tuple(foreign), tuple(problems))


def _folder(vm_folder: Path) -> _Folder:
    try:
        inodes = (vm_folder.parent.stat().st_ino, vm_folder.stat().st_ino)
    except OSError as exc:
        raise durable.read_error(vm_folder, exc) from exc
    return _Folder(replace(site.here(vm_folder), path=""), inodes)


def _is_named_well(record: StoredClusterRecord) -> bool:
    """Return whether a record tells of a recovery point that its capture may have made."""
    if not record.together:
        name = _NAME.fullmatch(record.name)
        return name is not None and name[1] == record.point_id
    name = _NAME.fullmatch(record.name.removesuffix(_TOGETHER))
    is_shared_name = name is not None and layout.is_point_id(name[1]) and record.name.endswith(_TOGETHER)
    return is_shared_name and all(is_canonical_uuid(vm_id) for vm_id in record.together)


def _path(vm_folder: Path, point_id: str) -> Path:
    return vm_folder / f"{PREFIX}{point_id}{_SUFFIX}"


def _read(path: Path) -> tuple[ClusterRecord, _Folder]:
    data = durable.read_file(path, limit=_LIMIT)
    found = stored.decode_checked(
        path, data, StoredClusterFile, format=CLUSTER_FORMAT, versions=READABLE_CLUSTER_VERSIONS
    )
    point_id = path.name.removeprefix(PREFIX).removesuffix(_SUFFIX)
    if not layout.is_point_id(point_id) or found.record.point_id != point_id or not _is_named_well(found.record):
        raise RepositoryError(f"{path}: is damaged: it tells of {found.record.name[:80]!r}")
    record = ClusterRecord(
        point_id=found.record.point_id,
        name=found.record.name,
        worker_id=found.record.worker_id,
        recovery_point_id=found.record.recovery_point_id,
        sources=found.record.sources,
        source=found.record.source,
        together=found.record.together,
        is_released=found.record.is_released,
        attached_at=found.record.attached_at,
        reference=found.record.reference,
    )
    return record, _Folder(site.from_stored(found.made_in.site), found.made_in.inodes)
