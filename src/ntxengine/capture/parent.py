"""What a new point goes on top of: the newest point of the VM that is not forgotten, or nothing.

    no point yet                                        nothing: a first capture
    all are forgotten                                   nothing
    a full point is asked for                           nothing
    the newest cannot be read, or is not whole          nothing, unless lost tracking is to be an error
    what was put on top of it was read back wrong       nothing, unless lost tracking is to be an error
    its chain has as many images as may be              nothing
    else                                                the newest

Only the newest: a repository puts a point on nothing else, and what changed since an older one does not say what of
that has changed back since the newest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ntxengine.capture.options import CaptureOptions
from ntxengine.errors import NotFoundError, RepositoryError
from ntxengine.prism.cluster import RecoveryPoints
from ntxengine.prism.models import RecoveryPoint, Vm
from ntxengine.repository import Health, Point, Repository


@dataclass(frozen=True)
class Parent:
    """`point` is what the new one goes on top of; None if it stands alone, and then `full_reason` says why, though
    there are older ones ("" for a first capture).

    `lost` says why changes cannot be asked against the recovery point of `point`, "" if they can.  `newest` is the
    newest point that can be read; `replaced` is that too, if the cluster still has its recovery point: with the new
    point it is not needed.  `lost_disks` says of the disks of `point`, by id, why changes cannot be asked for of these
    alone; `distrusted` of those of `newest` why the cluster is not to be believed: an audit found that it was wrong.
    `scan` says that a person does not believe it about any disk, "" if nobody said so.
    """

    point: Point | None
    full_reason: str
    lost: str
    newest: Point | None
    replaced: Point | None
    lost_disks: Mapping[str, str] = field(default_factory=dict)
    distrusted: Mapping[str, str] = field(default_factory=dict)
    scan: str = ""


async def find_parent(
    prism: RecoveryPoints, repository: Repository, vm: Vm, options: CaptureOptions, *, damage: str = ""
) -> Parent:
    """Decide what a capture of the VM goes on top of.  Changes nothing.

    `damage` is what a capture that went on top of the newest has found, and cannot be seen from here.
    Errors: RepositoryError (the newest point is not whole, and `on_lost_tracking` is "fail").
    """
    health = await repository.health_of_newest(vm.id)
    newest = health.points[-1] if health.points else None
    found = await _find_reference(prism, newest, vm)
    replaced = newest if found.is_there else None
    distrusted = _distrusted(health, newest)
    scan = _asked("a scan", options.reason) if options.scan else ""

    def alone(why: str) -> Parent:
        return Parent(None, why, "", newest, replaced, distrusted=distrusted, scan=scan)

    if options.full:
        return alone(_asked("a full point", options.reason))
    if damage:
        return alone(damage)
    if damage := await _find_damage(repository, health, vm):
        every = await repository.health(vm.id, from_catalog=False)
        damage = f"{damage}; {every.what_is_whole(vm.id.lower())}"
        if options.on_lost_tracking == "fail":
            raise RepositoryError(
                f"VM {vm.name!r} ({vm.id}): nothing can be put on top of its newest point: {damage}; a full point "
                f"instead was not allowed: make one with --full"
            )
        return alone(damage)
    if newest is None:
        return alone("every point of the VM is forgotten" if health.forgotten else "")
    if limit := _find_limit(repository, health, newest, options):
        return alone(limit)
    return Parent(newest, "", scan or found.lost, newest, replaced, found.lost_disks, distrusted, scan)


def _distrusted(health: Health, newest: Point | None) -> dict[str, str]:
    if newest is None:
        return {}
    if error := health.unknown_distrust.get(newest.path.parent):
        return {disk.disk_id: str(error) for disk in newest.disks}
    return {
        each.disk_id: f"the audit of {each.found_by} found that point {each.point_id} may lack changes"
        for each in health.distrusted.get(newest.path, ())
    }


def _asked(what: str, reason: str) -> str:
    return f"{what} was asked for: {reason}" if reason else f"{what} was asked for"


@dataclass(frozen=True)
class _Reference:
    """The recovery point of the newest point: whether the cluster has it, why nothing can be compared with it ("" if
    it can), and the disks that this is true of alone."""

    is_there: bool
    lost: str = ""
    lost_disks: Mapping[str, str] = field(default_factory=dict)


async def _find_reference(prism: RecoveryPoints, newest: Point | None, vm: Vm) -> _Reference:
    """Find out what the next changes can be asked against."""
    if newest is None:
        return _Reference(is_there=False)
    name = f"recovery point {newest.recovery_point_id}"
    if not newest.recovery_point_id:
        return _Reference(is_there=False, lost=f"point {newest.id} records no recovery point")
    try:
        found = await prism.recovery_point(newest.recovery_point_id, vm)
    except NotFoundError:
        return _Reference(is_there=False, lost=f"the cluster no longer has {name} of point {newest.id}")
    if moved := _moved(newest, found, vm):
        return _Reference(is_there=True, lost=moved)
    held = {disk.id for disk in found.disks}
    gone = {
        disk_id: f"{name} no longer holds this disk as point {newest.id} records it"
        for disk_id, recorded in newest.recovery_point_disks.items()
        # A path (v3) tells the file of the disk too: that is compared once there is a new one.
        if recorded.path is None and recorded.id not in held
    }
    return _Reference(is_there=True, lost_disks=gone)


def _moved(newest: Point, found: RecoveryPoint, vm: Vm) -> str:
    """Return why changes cannot be asked for of a VM that is on another cluster now, "" if it is not known to be."""
    before = found.cluster_ids
    if not before and newest.report.cluster is not None:
        before = frozenset({newest.report.cluster.cluster_id} - {""})
    if not before or not vm.cluster_id or vm.cluster_id in before:
        return ""
    return (
        f"the VM was moved from cluster {', '.join(sorted(before))} to {vm.cluster_id}, and recovery point "
        f"{found.id} of point {newest.id} is not there"
    )


async def _find_damage(repository: Repository, health: Health, vm: Vm) -> str:
    """Return why nothing can be put on top of the newest point, "" if something can.  Reads its manifests whole."""
    if unreadable := health.newer_unreadable(vm.id.lower()):
        return str(health.unreadable[unreadable])
    if not health.points:
        return ""
    newest = health.points[-1]
    wanted = {disk.id.lower() for disk in vm.disks}
    disks = [disk for disk in newest.disks if disk.disk_id in wanted]
    if problem := health.problem(newest, disks):
        return problem
    for disk in disks:
        try:
            (await repository.manifest(newest, disk)).close()
        except RepositoryError as exc:
            return str(exc)
    return ""


def most_images(repository: Repository, vm_id: str, options: CaptureOptions) -> tuple[int, str]:
    """Return how many images may be on top of each other before a point stands alone again, and what says so."""
    longest = repository.longest_chain(vm_id)
    limit = min(options.max_chain, max(1, longest // 2))
    return limit, (
        "--max-chain" if limit == options.max_chain else f"half of the {longest} that qemu can open at this path"
    )


def _find_limit(repository: Repository, health: Health, newest: Point, options: CaptureOptions) -> str:
    """Return why the chain of a point must not grow, "" if it may."""
    depth = health.depth(newest)
    limit, why = most_images(repository, newest.vm_id, options)
    if depth < limit:
        return ""
    return (
        f"the chain of point {newest.id} has a depth of {depth}, and {limit} is the most ({why}), unless it can be "
        f"made shorter first"
    )
