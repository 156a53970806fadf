"""The JSON files of a repository, field by field: what is stored has these names, whatever the models are called.

    ntx-repository.json    StoredMarker            point.json     StoredPoint
    ntx-site.json          StoredSiteFile          report.json    StoredReport, which point.json holds too
    .cluster-<id>.json     (stored_cluster.py)     vm.json        what Prism gave, untouched: nothing here names a field
    distrusted.json        StoredDistrustFile               sampled.json   StoredSampleFile
    retention.json         StoredRetentionFile (retention_file.py)

A class has the fields of a file, in their order.  Each file says its `format` and `version`; report.json has those of
the point.json beside it.  A field may be added with a default, since older files lack it, and an unknown one is left
out.  A field that is renamed, or means something else, needs a new version and the code that reads the old one.

Files that nothing else has a digest of (the cluster's, distrusted, sampled, retention) have one of their own, `check`,
which is of no class: it is over whatever else is in the file.

LIMIT: a field that a newer ntxengine added is lost where an older one writes the file anew (site and cluster files).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import xxhash

from ntxengine.errors import RepositoryError

POINT_FORMAT, POINT_VERSIONS = "ntxengine-point", (1, 2)  # 2: images that were made anew have other names
MARKER_FORMAT, MARKER_VERSION = "ntxengine-repository", 1
SITE_FORMAT, SITE_VERSION = "ntxengine-site", 1
DISTRUST_FORMAT, DISTRUST_VERSION = "ntxengine-distrust", 1
SAMPLES_FORMAT, SAMPLES_VERSION = "ntxengine-samples", 1

StoredKind = Literal["full", "incremental"]
StoredLocality = Literal["local", "remote", "unknown"]
StoredTracking = Literal["v4-changed-regions", "v3-changed-regions", "digest-scan", "allocated", "full"]


@dataclass(frozen=True)
class StoredHead:
    """What every file begins with."""

    format: str
    version: int


File = TypeVar("File", bound=StoredHead)


# ------------------------------------------------------------------------------------------------------- point.json


@dataclass(frozen=True)
class StoredDisk:
    """One of `disks`: see PointDisk."""

    disk_id: str
    label: str
    size: int
    file: str
    manifest: str
    digest: str
    backing: str = ""
    writer: str | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True)
class StoredDiskPoint:
    """One of `recovery_point_disks`: a disk recovery point as Prism names it, "" or None for what it does not say.

    `path` is where its file is below the cluster's storage.  `group_point_id` is the part of a volume group, "" where
    it is in that of the VM.
    """

    id: str
    disk_id: str = ""
    recovery_point_id: str = ""
    vm_point_id: str = ""
    path: str | None = None
    group_point_id: str = ""


@dataclass(frozen=True)
class StoredAudit:
    """`audit` of the report of a disk: what was compared of what the cluster reported as unchanged.

    `seed`, `position` and `blocks` are where the next audit goes on (dataplane.coverage.Cursor); `position` counts from
    the last capture that read everything.  `blocks_wrong` of `blocks_sampled` were not what was reported, the first of
    them at `offsets` (bytes).  `problem` says what could not be read, "" if nothing.
    """

    seed: int
    position: int
    blocks: int
    blocks_sampled: int = 0
    bytes_read: int = 0
    blocks_wrong: int = 0
    offsets: tuple[int, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class StoredDiskReport:
    """One of `disks` of a report: see DiskReport.  None is not stored, but for `trusted_point_id`."""

    label: str | None = None
    size: int | None = None
    bytes_allocated: int | None = None
    bytes_changed: int | None = None
    bytes_read: int | None = None
    bytes_sent: int | None = None
    bytes_stored: int | None = None
    bytes_zeroed: int | None = None
    bytes_skipped: int | None = None
    bytes_unchanged: int | None = None
    trusted_point_id: str | None = None
    bytes_verified: int | None = None
    reduction_percent: float | None = None
    bytes_per_s: int | None = None
    seconds: float | None = None
    compression: str | None = None
    packing_seconds: float | None = None
    cpu_seconds: float | None = None
    retries: int | None = None
    reconnects: int | None = None
    bytes_repeated: int | None = None
    resumed_from: int | None = None
    checkpoints: int | None = None
    checkpoint_seconds: float | None = None
    checkpoint_share: float | None = None
    connections: int | None = None
    in_flight: int | None = None
    request_size: int | None = None
    pace: str | None = None
    bottleneck: str | None = None
    bottleneck_share: float | None = None
    tracking: StoredTracking | None = None
    tracking_reason: str | None = None
    incremental: bool | None = None
    audit: StoredAudit | None = None
    stages_s: dict[str, float] | None = None
    locality: StoredLocality | None = None
    read_host: str | None = None
    container_name: str | None = None
    tier: str | None = None


@dataclass(frozen=True)
class StoredGuestTools:
    """`guest_tools` of a report: Guest Tools as Prism told of them when the VM was frozen, None for what it did not."""

    installed: bool | None = None
    enabled: bool | None = None
    reachable: bool | None = None
    can_use_vss: bool | None = None
    can_freeze_file_systems: bool | None = None
    version: str = ""
    os_name: str = ""


@dataclass(frozen=True)
class StoredCluster:
    """`cluster` of a report: where the VM ran, the version of AOS ("" unknown), the API that was spoken, and why."""

    cluster_id: str = ""
    cluster_name: str = ""
    aos_version: str = ""
    aos_version_text: str = ""
    way: str = ""


@dataclass(frozen=True)
class StoredReport:
    """report.json, and `report` of point.json: see CaptureReport.  None is not stored."""

    disks: dict[str, StoredDiskReport]
    excluded: tuple[str, ...] = ()
    consistency_reason: str = ""
    warnings: tuple[str, ...] = ()
    stages_s: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    quiescing: str | None = None
    guest_tools: StoredGuestTools | None = None
    cluster: StoredCluster | None = None
    source: str | None = None
    resumed: int | None = None


@dataclass(frozen=True)
class StoredMember:
    """One of `together`: a VM that was frozen at the same moment, and the point that it was to become."""

    vm_id: str
    vm_name: str
    point_id: str


@dataclass(frozen=True)
class StoredPoint(StoredHead):
    """point.json.  `report` is a StoredReport, as far as what is found is one: it is numbers for people."""

    id: str
    vm_id: str
    vm_name: str
    created_at: datetime
    parent_id: str | None
    kind: StoredKind
    consistency_requested: str
    consistency_obtained: str
    tracking: StoredTracking
    tracking_reason: str
    recovery_point_id: str
    recovery_point_disks: dict[str, StoredDiskPoint]
    disks: tuple[StoredDisk, ...]
    report: dict[str, Any] = field(default_factory=dict)
    sums: str = ""
    together: tuple[StoredMember, ...] | msgspec.UnsetType = msgspec.UNSET  # left out where there are none


# --------------------------------------------------------------------------------------- the other files of our own


@dataclass(frozen=True)
class StoredMarker(StoredHead):
    """ntx-repository.json."""

    id: str = ""


@dataclass(frozen=True)
class StoredSite:
    """Where a directory is: see site.Site."""

    machine_id: str = ""
    path: str = ""
    file_system_uuid: str = ""
    file_system_id: str = ""


@dataclass(frozen=True)
class StoredSiteFile(StoredHead):
    """ntx-site.json."""

    site: StoredSite


@dataclass(frozen=True)
class StoredDistrust:
    """A disk of a point whose changes were found by a tracker that is not trusted: see distrust.Distrust."""

    point_id: str
    disk_id: str
    label: str
    found_by: str
    found_at: datetime
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True)
class StoredDistrustFile(StoredHead):
    """distrusted.json."""

    disks: tuple[StoredDistrust, ...]


@dataclass(frozen=True)
class StoredSample:
    """How far the samples of a disk of a point are, taken since its files are what they are.

    `files` stands for these files (sampled.fingerprint).  `seed`, `position` and `blocks` are where the next sample
    goes on (dataplane.coverage.Shuffled), counted in blocks that have data.  `wrong` are blocks that were found wrong
    (bytes), the first of them.
    """

    point_id: str
    disk_id: str
    files: str
    seed: int
    position: int
    blocks: int
    sampled_at: datetime
    wrong: tuple[int, ...] = ()


@dataclass(frozen=True)
class StoredSampleFile(StoredHead):
    """sampled.json."""

    disks: tuple[StoredSample, ...]


# --------------------------------------------------------------------------------------------------------- the bytes


def encode(document: object) -> bytes:
    """Return the bytes of a file.  What JSON cannot hold (lone surrogates, infinities) is replaced, never refused."""
    return _encode(_plain(msgspec.to_builtins(document)))


def encode_checked(document: object) -> bytes:
    """Return the bytes of a file that nothing else has a digest of: `check` is its own."""
    plain = _plain(msgspec.to_builtins(document))
    return _encode({**plain, "check": _check_of(plain)})


def decode_checked(
    path: Path,
    data: bytes,
    kind: type[File],
    *,
    format: str,
    versions: Sequence[int],
    remedy: str = "",
    needs_check: bool = False,
) -> File:
    """Return what `encode_checked` made the bytes of; older files have no `check`, and fit, unless it `needs_check`.

    Errors: RepositoryError naming the file: it is of another version, or damaged, and then `remedy` says what to do.
    """
    try:
        found = msgspec.json.decode(data, type=kind)
        document = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise RepositoryError(f"{path}: is damaged: {exc}{remedy}") from exc
    if found.format != format or found.version not in versions:
        raise RepositoryError(f"{path}: is {found.format[:40]!r} version {found.version}: use the ntx that wrote it")
    if (needs_check or "check" in document) and document.pop("check", None) != _check_of(document):
        raise RepositoryError(f"{path}: is damaged: its checksum does not fit{remedy}")
    return found


def _check_of(document: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(document, order="sorted"))


def _encode(plain: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"


def encode_line(document: object) -> bytes:
    """Return what `encode` does as one line, without its end."""
    return msgspec.json.encode(_plain(msgspec.to_builtins(document)))


def _plain(value: Any) -> Any:
    """Return JSON values that every JSON reader takes."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
