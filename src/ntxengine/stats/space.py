"""The figures of space: of a point, of a VM, of a repository.

Units: bytes.  What a file takes is what its file system says, so that holes take nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ntxengine.repository import Point
from ntxengine.stats.growth import days_left, growth_per_day


@dataclass(frozen=True)
class PointSpace:
    """What one point takes by itself, without those below it.

    `size` is that of its disks, `bytes_images` what its images take, `bytes_own` that and the rest of its folder.
    `bytes_captured` is what its capture sent, `bytes_stored` what the images kept of that, less if they are compressed;
    None where the report does not say.
    """

    point_id: str
    created_at: datetime
    kind: str
    size: int
    bytes_own: int
    bytes_images: int
    bytes_captured: int | None
    bytes_stored: int | None
    is_forgotten: bool

    @classmethod
    def of(cls, point: Point, bytes_images: int, bytes_own: int, *, is_forgotten: bool) -> PointSpace:
        reports = list(point.report.disks.values())
        return cls(
            point_id=point.id,
            created_at=point.created_at,
            kind=point.kind,
            size=point.size,
            bytes_own=bytes_own,
            bytes_images=bytes_images,
            bytes_captured=_sum(each.bytes_sent for each in reports),
            bytes_stored=_sum(each.bytes_sent if each.bytes_stored is None else each.bytes_stored for each in reports),
            is_forgotten=is_forgotten,
        )


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


@dataclass(frozen=True)
class Totals:
    """Sums over points.

    `reduction` is how many times smaller they are than their disks would be, each copied whole: None of nothing.
    `compression` is what was kept of what captures sent, 0..1; None where nobody says.
    """

    size: int
    bytes_own: int
    bytes_captured: int
    bytes_stored: int
    bytes_forgotten: int

    @classmethod
    def over(cls, points: Iterable[PointSpace]) -> Totals:
        every = list(points)
        said = [each for each in every if each.bytes_captured is not None and each.bytes_stored is not None]
        return cls(
            size=sum(each.size for each in every),
            bytes_own=sum(each.bytes_own for each in every),
            bytes_captured=sum(each.bytes_captured or 0 for each in said),
            bytes_stored=sum(each.bytes_stored or 0 for each in said),
            bytes_forgotten=sum(each.bytes_own for each in every if each.is_forgotten),
        )

    @property
    def reduction(self) -> float | None:
        return self.size / self.bytes_own if self.bytes_own else None

    @property
    def compression(self) -> float | None:
        return self.bytes_stored / self.bytes_captured if self.bytes_captured else None


@dataclass(frozen=True)
class VmSpace:
    """What a VM takes.

    `bytes_unreadable` is of points that cannot be read, `bytes_unfinished` of interrupted captures, `bytes_other` of
    what is neither.  `bytes_forgotten` is what prune looks at: it frees as much of it as no other point needs.
    `retention_problem` says why nobody knows what is forgotten, "" if that is known.
    """

    vm_id: str
    vm_name: str
    points: tuple[PointSpace, ...]
    bytes_unreadable: int = 0
    bytes_unfinished: int = 0
    bytes_other: int = 0
    retention_problem: str = ""

    @property
    def totals(self) -> Totals:
        return Totals.over(self.points)

    @property
    def bytes_all(self) -> int:
        """All that its folder takes."""
        return self.totals.bytes_own + self.bytes_unreadable + self.bytes_unfinished + self.bytes_other

    @property
    def per_day(self) -> float | None:
        """Bytes that its points add in a day; None where that cannot be said: see growth.py."""
        return growth_per_day([(each.created_at, each.bytes_own) for each in self.points])


@dataclass(frozen=True)
class RepositorySpace:
    """What all VMs take together, and what the file system has left, of which others may take some too.

    `is_whole`: no VM was left out.
    """

    path: Path
    vms: tuple[VmSpace, ...]
    bytes_free: int
    bytes_file_system: int
    is_whole: bool = True

    @property
    def totals(self) -> Totals:
        return Totals.over(point for vm in self.vms for point in vm.points)

    @property
    def bytes_all(self) -> int:
        return sum(vm.bytes_all for vm in self.vms)

    @property
    def per_day(self) -> float | None:
        """What the VMs add in a day of which that can be said; None if it cannot of any."""
        known = [vm.per_day for vm in self.vms if vm.per_day is not None]
        return sum(known) if known else None

    @property
    def days_left(self) -> float | None:
        """For how many days there is room; None where that cannot be said, or if only some VMs were looked at."""
        return days_left(self.bytes_free, self.per_day) if self.is_whole else None
