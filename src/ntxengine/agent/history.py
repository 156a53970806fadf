"""What the runs of VMs were like over time: how long they took, what they moved, how much of it was left out.  Pure.

Middles are medians: one run that waited for an hour says nothing of the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from ntxengine.agent.records import Figures


@dataclass(frozen=True)
class Ended:
    """A run that has ended, as far as a history of VMs needs it."""

    job: str
    vm_id: str
    vm_name: str
    started_at: datetime
    has_succeeded: bool
    seconds: float = 0.0
    figures: Figures | None = None
    anomalies: tuple[str, ...] = ()


@dataclass(frozen=True)
class VmHistory:
    """The runs of a VM in a job.

    Units: bytes, seconds; percent of the disks' size that did not have to be sent; `packed_share` is what is stored of
    what was sent to be stored compressed, 0..1.  All but the counts are medians of the runs that succeeded, those of
    `changed` and `reduction` of increments alone; None where there is no such run, or nothing was compressed.
    """

    job: str
    vm_id: str
    vm_name: str
    runs: int
    failed: int
    newest_at: datetime
    seconds: float | None
    bytes_changed: int | None
    bytes_read: int | None
    bytes_sent: int | None
    bytes_stored: int | None
    reduction_percent: float | None
    packed_share: float | None
    anomalies: tuple[str, ...]


def by_vm(runs: Iterable[Ended]) -> list[VmHistory]:
    """Return the history of each VM in each job, by the names of VM and job."""
    found: dict[tuple[str, str], _Gathered] = {}
    for run in runs:
        found.setdefault((run.job, run.vm_id), _Gathered(run)).add(run)
    return sorted((each.history() for each in found.values()), key=lambda each: (each.vm_name, each.job, each.vm_id))


def packed_share(figures: Figures) -> float | None:
    """Return what is stored of what was to be compressed, None if nothing was."""
    return round(figures.bytes_packed / figures.bytes_to_pack, 4) if figures.bytes_to_pack else None


@dataclass
class _Gathered:
    """The numbers of a VM's runs."""

    newest: Ended
    runs: int = 0
    failed: int = 0
    seconds: list[float] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    read: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)
    reduction: list[float] = field(default_factory=list)
    packed: list[float] = field(default_factory=list)
    anomalies: list[str] = field(default_factory=list)

    def add(self, run: Ended) -> None:
        self.runs += 1
        self.newest = max(self.newest, run, key=lambda each: each.started_at)
        if not run.has_succeeded:
            self.failed += 1
            return
        self.seconds.append(run.seconds)
        self.anomalies += run.anomalies
        figures = run.figures
        if figures is None:
            return
        self.read.append(figures.bytes_read)
        self.sent.append(figures.bytes_sent)
        self.stored.append(figures.bytes_stored)
        if figures.kind == "incremental":
            self.changed.append(figures.bytes_changed)
            self.reduction.append(figures.reduction_percent)
        if (share := packed_share(figures)) is not None:
            self.packed.append(share)

    def history(self) -> VmHistory:
        return VmHistory(
            job=self.newest.job,
            vm_id=self.newest.vm_id,
            vm_name=self.newest.vm_name,
            runs=self.runs,
            failed=self.failed,
            newest_at=self.newest.started_at,
            seconds=_middle(self.seconds, 3),
            bytes_changed=_middle_bytes(self.changed),
            bytes_read=_middle_bytes(self.read),
            bytes_sent=_middle_bytes(self.sent),
            bytes_stored=_middle_bytes(self.stored),
            reduction_percent=_middle(self.reduction, 2),
            packed_share=_middle(self.packed, 4),
            anomalies=tuple(self.anomalies),
        )


def _middle(amounts: list[float], digits: int) -> float | None:
    return round(median(amounts), digits) if amounts else None


def _middle_bytes(amounts: list[int]) -> int | None:
    return int(median(amounts)) if amounts else None
