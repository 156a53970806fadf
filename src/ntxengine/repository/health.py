"""Which points can be read whole: found out from names and headers, so that it is cheap for thousands of points.

    point.json  ->  its images, and those below them (a header each)  ->  its manifests (a header each)

What lies inside the images and between the headers is for `ntx verify`: it reads everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.errors import RepositoryError
from ntxengine.repository import distrust, layout, retention_file
from ntxengine.repository.chain import Chains, check_manifest
from ntxengine.repository.distrust import Distrust
from ntxengine.repository.point import Point, PointDisk
from ntxengine.repository.retention import PointRetention, Retention


@dataclass(frozen=True)
class Health:
    """What was found of the points of one VM, or of all.

    `points` are those whose point.json can be read, oldest first; `unreadable` says of the folders of the others, and
    of those of VMs that cannot be looked into, why not.  `problems` says of a point, by its folder, and of a disk, by
    its id, why that cannot be read whole; `depths` how many images the disk has that has most.

    `distrusted` are the disks of a point, by its folder, of which an audit found that changes may be missing;
    `unknown_distrust` says of the folder of a VM why nobody knows.

    `forgotten` are points that can be read and are in none of these, being forgotten; `retention` is what was said of
    the points of a VM, by its folder, and `unknown_retention` why nobody knows: then none is taken for forgotten.
    """

    points: tuple[Point, ...]
    unreadable: Mapping[Path, RepositoryError]
    problems: Mapping[Path, Mapping[str, str]]
    depths: Mapping[Path, int]
    distrusted: Mapping[Path, tuple[Distrust, ...]] = field(default_factory=dict)
    unknown_distrust: Mapping[Path, RepositoryError] = field(default_factory=dict)
    forgotten: tuple[Point, ...] = ()
    retention: Mapping[Path, Retention] = field(default_factory=dict)
    unknown_retention: Mapping[Path, RepositoryError] = field(default_factory=dict)

    def said_of(self, point: Point) -> PointRetention:
        """Return what was said of a point; nothing where nobody knows."""
        return self.retention.get(point.path.parent, Retention()).of(point.id)

    def problem(self, point: Point, disks: Sequence[PointDisk] | None = None) -> str:
        """Return why a point cannot be read whole, or these disks of it; "" if it can."""
        found = self.problems.get(point.path, {})
        return next((found[disk.disk_id] for disk in disks or point.disks if disk.disk_id in found), "")

    def depth(self, point: Point) -> int:
        """Return how many images are on top of each other in a point, itself counted."""
        return self.depths.get(point.path, 0)

    def newer_unreadable(self, vm_id: str) -> Path | None:
        """Return the folder of the newest point of a VM if it cannot be read; None if the newest can."""
        newest = max((point.id for point in self.points if point.vm_id == vm_id), default="")
        newer = [folder for folder in self._unreadable_of(vm_id) if folder.name > newest or folder.name == vm_id]
        return max(newer, default=None)

    def what_is_whole(self, vm_id: str) -> str:
        """Return which points of a VM can be restored, for a message."""
        of_vm = [point for point in self.points if point.vm_id == vm_id]
        whole = [point for point in of_vm if not self.problem(point)]
        count = len(of_vm) + len(self._unreadable_of(vm_id))
        if not whole:
            return f"none of the {count} points of the VM is whole"
        return f"{len(whole)} of the {count} points of the VM can be restored, the newest of them {whole[-1].id}"

    def right_since(self, mark: Distrust) -> Point | None:
        """Return the first point since a finding that is whole and has all of that disk, whatever the cluster told."""
        for point in self.points:
            disk = point.find_disk(mark.disk_id) if mark.found_by <= point.id else None
            if disk is not None and distrust.was_read_whole(point, disk) and not self.problem(point):
                return point
        return None

    def _unreadable_of(self, vm_id: str) -> list[Path]:
        return [folder for folder in self.unreadable if layout.vm_of(folder) == vm_id]


def examine(points: Sequence[Point], unreadable: Mapping[Path, RepositoryError]) -> Health:
    """Look at every disk of `points`, oldest first.  Blocks: a few small reads for each disk."""
    chains = Chains(points)
    problems: dict[Path, dict[str, str]] = {}
    depths: dict[Path, int] = {}
    for point in points:
        for disk in point.disks:
            try:
                depth = len(chains.images_of(point, disk))
                depths[point.path] = max(depth, depths.get(point.path, 0))
                check_manifest(point.path, disk)
            except RepositoryError as exc:
                problems.setdefault(point.path, {})[disk.disk_id] = str(exc)
    vm_folders = {path if path.name == layout.vm_of(path) else path.parent for path in unreadable}
    vm_folders |= {point.path.parent for point in points}
    distrusted, unknown = _distrusted(vm_folders)
    said, unknown_said = _retention(vm_folders)
    hidden = {folder / point_id for folder, found in said.items() for point_id in found.forgotten}
    return Health(
        tuple(point for point in points if point.path not in hidden),
        {path: error for path, error in unreadable.items() if path not in hidden},
        problems,
        depths,
        distrusted,
        unknown,
        tuple(point for point in points if point.path in hidden),
        said,
        unknown_said,
    )


def _retention(vm_folders: Iterable[Path]) -> tuple[dict[Path, Retention], dict[Path, RepositoryError]]:
    """Return what was said of the points in these folders, by folder; and what cannot tell."""
    found: dict[Path, Retention] = {}
    unknown: dict[Path, RepositoryError] = {}
    for folder in vm_folders:
        try:
            found[folder] = retention_file.read(folder)
        except RepositoryError as exc:
            unknown[folder] = exc
    return found, unknown


def _distrusted(vm_folders: Iterable[Path]) -> tuple[dict[Path, tuple[Distrust, ...]], dict[Path, RepositoryError]]:
    """Return the distrusted disks of the points in these folders, by the folder of each; and what cannot tell."""
    found: dict[Path, tuple[Distrust, ...]] = {}
    unknown: dict[Path, RepositoryError] = {}
    for folder in vm_folders:
        try:
            for each in distrust.read(folder):
                path = folder / each.point_id
                found[path] = (*found.get(path, ()), each)
        except RepositoryError as exc:
            unknown[folder] = exc
    return found, unknown
