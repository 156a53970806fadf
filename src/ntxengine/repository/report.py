"""What a capture tells of itself, and its point keeps: numbers of each disk, and of the whole.

Nothing that a restore needs is in a report.  So one that is odd never keeps a point from being read: what is not as we
write it counts as not said, and an older version did not say all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import msgspec

from ntxengine.repository.stored import (
    StoredAudit,
    StoredCluster,
    StoredDiskReport,
    StoredGuestTools,
    StoredLocality,
    StoredReport,
    StoredTracking,
)

# Once: each annotation is read as a program, which took longer than all the rest of reading a point.
_TYPES: dict[type, dict[str, Any]] = {kind: get_type_hints(kind) for kind in (StoredReport, StoredDiskReport)}


@dataclass(frozen=True)
class DiskReport:
    """The capture of one disk.  None is what was not said, but for `trusted_point_id`.

    Units:  bytes; rates in bytes per second; `bottleneck_share` is 0..1 of the threads' time.
    `bytes_stored` is what the image keeps of `bytes_sent`: less, if it is compressed; `compression` says how (zstd:1),
    "" if it is not, and `packing_seconds` is the threads' time for it.
    `bytes_skipped` is what is zero in a full image without having been read or stored; `bytes_verified` counts zeros
    too.  `trusted_point_id` is the point that holds `bytes_unchanged` by its digests, without having been read; None
    if there is none.  `reconnects` is how often a connection was lost and the copy went on, `bytes_repeated` what was
    copied once more for that, or because an interrupted capture did not get to keep it.  `checkpoint_seconds` is what
    making `checkpoints` took, the flushes of the image above all, and `checkpoint_share` that of the time, 0..1.
    `audit` is None of a disk that was never audited since it was read as a whole.  `stages_s` are seconds by
    events.Stage.  `container_name` is that of its storage container, `tier` what that lies on (SSD, HYBRID, CLOUD).
    `locality` says whether it was read on the host of the VM, `read_host` on which ("" if that is unknown); None of a
    disk that was not read.
    """

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
class CaptureReport:
    """The capture of a VM: its disks by id, and what is of none of them.

    `excluded` are disks that a recovery point does not hold; `consistency_reason` says why it is not
    application-consistent, "" if it is, or was not wanted.  `seconds` is None if it was not said.  `quiescing` is how
    the guest was made consistent, "" if it was not, `guest_tools` what Prism told of them, `cluster` where the VM ran,
    `source` the way to the bytes, as attach.Attacher names it.  `resumed` is how often the capture was interrupted and
    gone on with; what the disks count is of the last time, which began at their `resumed_from` (bytes).
    """

    disks: dict[str, DiskReport] = field(default_factory=dict)
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

    @property
    def bytes_sent(self) -> int | None:
        """What all disks together sent, None if no disk says."""
        known = [disk.bytes_sent for disk in self.disks.values() if disk.bytes_sent is not None]
        return sum(known) if known else None


def encode_report(report: CaptureReport) -> dict[str, Any]:
    """Return a report as it is stored."""
    disks = {disk_id: StoredDiskReport(**vars(disk)) for disk_id, disk in report.disks.items()}
    document = _said(StoredReport(**{**vars(report), "disks": disks}))
    return {**document, "disks": {disk_id: _said(disk) for disk_id, disk in disks.items()}}


def decode_report(found: Mapping[str, object]) -> CaptureReport:
    """Return what a stored report says.  Never fails."""
    disks = found.get("disks")
    known = disks.items() if isinstance(disks, Mapping) else ()
    return CaptureReport(
        **_known(StoredReport, {name: value for name, value in found.items() if name != "disks"}),
        disks={disk_id: DiskReport(**_known(StoredDiskReport, disk)) for disk_id, disk in known},
    )


def _said(report: StoredDiskReport | StoredReport) -> dict[str, Any]:
    return {name: value for name, value in vars(report).items() if value is not None or name == "trusted_point_id"}


def _known(kind: type[StoredDiskReport | StoredReport], found: object) -> dict[str, Any]:
    known = {}
    for name, hint in _TYPES[kind].items():
        if isinstance(found, Mapping) and name in found:
            try:
                known[name] = msgspec.convert(found[name], hint)
            except msgspec.ValidationError:
                continue
    return known
