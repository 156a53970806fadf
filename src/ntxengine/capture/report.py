"""What a capture tells of itself: numbers that go into the point and into the final table."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ntxengine.attach import Locality
from ntxengine.capture.copying import Copied
from ntxengine.capture.storage import DiskStorage
from ntxengine.changes import Changes, Tracking
from ntxengine.dataplane.copy import CopyReport
from ntxengine.events import Stage
from ntxengine.prism.models import ClusterFacts, GuestTools
from ntxengine.repository import DiskReport, StoredAudit, StoredCluster, StoredGuestTools


class Stages:
    """Seconds by stage.  A stage that is entered again adds up."""

    def __init__(self) -> None:
        self._seconds: dict[Stage, float] = {}

    @contextmanager
    def __call__(self, stage: Stage) -> Iterator[None]:
        start_s = time.monotonic()
        try:
            yield
        finally:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + time.monotonic() - start_s

    def as_dict(self) -> dict[str, float]:
        return {stage.value: round(seconds, 3) for stage, seconds in self._seconds.items()}


def reduction_percent(size: int, sent: int) -> float:
    """Return how much of the disk did not have to be sent, in percent of its size."""
    return 0.0 if size == 0 else max(0.0, round(100.0 * (1.0 - sent / size), 2))


def disk_report(
    changes: Changes,
    copies: Copied | None,
    verified: CopyReport | None,
    *,
    label: str,
    trusted_point_id: str | None,
    audit: StoredAudit | None,
    resumed_from: int,
    locality: Locality | None,
    storage: DiskStorage,
    compression: str,
    bytes_allocated: int,
    stages: Stages,
) -> DiskReport:
    """Return the numbers of one disk.  `copies` is None when nothing changed, `locality` where nothing was attached."""
    copied = None if copies is None else copies.report
    is_full = not changes.is_incremental
    never_read = changes.size - changes.bytes_data - changes.bytes_zero if is_full else 0
    sent = copied.bytes_sent if copied else 0
    zeroed = copied.bytes_zeroed if copied else 0
    seconds = copied.seconds if copied else 0.0
    return DiskReport(
        label=label,
        size=changes.size,
        bytes_allocated=bytes_allocated,
        bytes_changed=_changed(changes, sent + zeroed),
        bytes_read=copied.bytes_read if copied else 0,
        bytes_sent=sent,
        bytes_stored=copied.bytes_stored if copied else 0,
        bytes_zeroed=zeroed,
        bytes_skipped=(copied.bytes_skipped if copied else 0) + never_read,
        bytes_unchanged=copied.bytes_unchanged if copied else 0,
        trusted_point_id=trusted_point_id,
        bytes_verified=verified.bytes_done if verified else 0,
        reduction_percent=reduction_percent(changes.size, sent),
        bytes_per_s=int(copied.bytes_read / seconds) if copied and seconds > 0 else 0,
        seconds=round(seconds, 3),
        compression=compression,
        packing_seconds=round(copied.stage_seconds["packing"], 3) if copied else 0.0,
        cpu_seconds=round(copied.cpu_seconds, 3) if copied else 0.0,
        retries=copied.retries if copied else 0,
        reconnects=copies.reconnects if copies else 0,
        bytes_repeated=copies.bytes_repeated if copies else 0,
        resumed_from=resumed_from,
        checkpoints=copies.checkpoints if copies else 0,
        checkpoint_seconds=round(copies.checkpoint_seconds, 3) if copies else 0.0,
        checkpoint_share=round(min(1.0, copies.checkpoint_seconds / seconds), 4) if copies and seconds > 0 else 0.0,
        connections=copied.connections if copied else 0,
        in_flight=copied.in_flight if copied else 0,
        request_size=copied.request_size if copied else 0,
        pace=copied.pace.name.lower() if copied else "",
        bottleneck=copied.bottleneck if copied else "",
        bottleneck_share=round(copied.bottleneck_share, 3) if copied else 0.0,
        tracking=changes.tracking,
        tracking_reason=changes.reason,
        incremental=changes.is_incremental,
        audit=audit,
        stages_s=stages.as_dict(),
        locality=None if locality is None else locality.kind,
        read_host=None if locality is None else locality.host,
        container_name=storage.container.name or None,
        tier=None if storage.tier is None else storage.tier.name,
    )


def _changed(changes: Changes, bytes_stored: int) -> int:
    """What changed since the previous point; for a full what holds data."""
    if changes.must_compare:
        return bytes_stored
    return changes.bytes_data + (changes.bytes_zero if changes.is_incremental else 0)


# A disk that is new in the VM is captured in full while the others are incremental: that does not make the point worse.
_RANK: tuple[Tracking, ...] = ("allocated", "v4-changed-regions", "v3-changed-regions", "digest-scan", "full")


def point_tracking(disks: Iterable[DiskReport]) -> tuple[Tracking, str]:
    """Return the tracking of the disk that fared worst, and all the reasons there are, for the point as a whole."""
    disks = list(disks)
    worst = max((disk.tracking for disk in disks if disk.tracking is not None), key=_RANK.index)
    reasons = dict.fromkeys(disk.tracking_reason for disk in disks if disk.tracking_reason)
    return worst, "; ".join(reasons)


def stored_guest_tools(tools: GuestTools) -> StoredGuestTools:
    """Return what a point keeps of Guest Tools."""
    return StoredGuestTools(
        installed=tools.installed,
        enabled=tools.enabled,
        reachable=tools.reachable,
        can_use_vss=tools.can_use_vss,
        can_freeze_file_systems=tools.can_freeze_file_systems,
        version=tools.version,
        os_name=tools.os_name,
    )


def stored_cluster(facts: ClusterFacts, way: str) -> StoredCluster:
    """Return what a point keeps of the cluster that the VM ran on."""
    version = facts.version
    return StoredCluster(facts.id, facts.name, str(version) if version.numbers else "", version.text, way)
