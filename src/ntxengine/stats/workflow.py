"""Gathering the figures: the catalog tells of the points, one look at each file what it takes.

No image and no manifest is opened, so that the cost grows with the number of files, whatever a chain is made of.
"""

from __future__ import annotations

from ntxengine.errors import NotFoundError, RepositoryError
from ntxengine.repository import Point, Repository, VmUsage, file_system_of, usage_of_vm
from ntxengine.stats.space import PointSpace, RepositorySpace, VmSpace


async def repository_stats(repository: Repository, vm_id: str | None = None) -> RepositorySpace:
    """Return what a repository takes by VM and by point, or what one VM takes in it.

    Units:  bytes of the file system; days.
    Errors: NotFoundError (the VM has no folder here), RepositoryError (a folder cannot be read).
    """
    vm_ids = await repository.vm_ids()
    if vm_id is not None and vm_id not in vm_ids:
        raise NotFoundError(f"{repository.path}: has no folder of VM {vm_id}")
    by_vm: dict[str, list[Point]] = {}
    for point in await repository.points(vm_id, with_forgotten=True):
        by_vm.setdefault(point.vm_id, []).append(point)
    wanted = vm_ids if vm_id is None else [vm_id]
    vms = [await _vm(repository, each, by_vm.get(each, [])) for each in wanted]
    free, size = await file_system_of(repository)
    ordered = sorted(vms, key=lambda vm: (vm.vm_name, vm.vm_id))
    return RepositorySpace(repository.path, tuple(ordered), free, size, is_whole=vm_id is None)


async def _vm(repository: Repository, vm_id: str, points: list[Point]) -> VmSpace:
    usage = await usage_of_vm(repository, vm_id)
    forgotten: frozenset[str] = frozenset()
    problem = ""
    try:
        forgotten = (await repository.retention(vm_id)).forgotten
    except RepositoryError as exc:
        problem = str(exc)
    known = {point.id for point in points}
    return VmSpace(
        vm_id=vm_id,
        vm_name=points[-1].vm_name if points else vm_id,
        points=tuple(_point(point, usage, forgotten) for point in points if point.id in usage.points),
        bytes_unreadable=sum(each.bytes_own for point_id, each in usage.points.items() if point_id not in known),
        bytes_unfinished=usage.bytes_unfinished,
        bytes_other=usage.bytes_other,
        retention_problem=problem,
    )


def _point(point: Point, usage: VmUsage, forgotten: frozenset[str]) -> PointSpace:
    used = usage.points[point.id]
    return PointSpace.of(point, used.bytes_images, used.bytes_own, is_forgotten=point.id in forgotten)
