"""What a capture tells of itself, and its point keeps: numbers of each disk, and of the whole.

These are the models that a caller reads.  How they are stored is another matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DiskReport:
    """The capture of one disk.  None is what was not said, but for `trusted_point_id`.

    Units:  bytes; rates in bytes per second; `bottleneck_share` is 0..1 of the threads' time.
    `bytes_skipped` is what is zero in a full image without having been read or stored; `bytes_verified` counts zeros
    too.  `trusted_point_id` is the point that holds `bytes_unchanged` by its digests, without having been read; None
    if there is none.  `stages_s` are seconds by events.Stage.
    """

    label: str | None = None
    size: int | None = None
    bytes_allocated: int | None = None
    bytes_changed: int | None = None
    bytes_read: int | None = None
    bytes_sent: int | None = None
    bytes_zeroed: int | None = None
    bytes_skipped: int | None = None
    bytes_unchanged: int | None = None
    trusted_point_id: str | None = None
    bytes_verified: int | None = None
    reduction_percent: float | None = None
    bytes_per_s: int | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    retries: int | None = None
    connections: int | None = None
    in_flight: int | None = None
    request_size: int | None = None
    pace: str | None = None
    bottleneck: str | None = None
    bottleneck_share: float | None = None
    tracking: str | None = None
    tracking_reason: str | None = None
    incremental: bool | None = None
    stages_s: dict[str, float] | None = None


@dataclass(frozen=True)
class CaptureReport:
    """The capture of a VM: its disks by id, and what is of none of them.  None is what was not said."""

    disks: Mapping[str, DiskReport] = field(default_factory=dict)
    excluded: tuple[str, ...] | None = None
    consistency_reason: str | None = None
    warnings: tuple[str, ...] | None = None
    stages_s: dict[str, float] | None = None
    seconds: float | None = None

    @property
    def bytes_sent(self) -> int | None:
        """What all disks together sent, None if no disk says."""
        known = [disk.bytes_sent for disk in self.disks.values() if disk.bytes_sent is not None]
        return sum(known) if known else None
