"""What a capture would do, found out without making or changing anything.

The previous point of a disk is what an incremental goes on top of; the reference is the recovery point on the cluster
that belongs to it and that changes are asked against.  A previous point whose recovery point is gone is still good for
a digest scan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ntxengine.attach import Attacher, Attachers, Locality
from ntxengine.capture.audit import Audit, cursor_after
from ntxengine.capture.clones import find_clones
from ntxengine.capture.consistency import choose_quiescing
from ntxengine.capture.estimate import estimate_bytes
from ntxengine.capture.groups import with_groups
from ntxengine.capture.options import CaptureOptions
from ntxengine.capture.parent import Parent, find_parent
from ntxengine.capture.storage import DiskStorage, storage_of
from ntxengine.errors import NtxError, PrismAnswerError, PrismBusy
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import GROUP_PREFIX, ClusterFacts, Consistency, Disk, DiskPoint, Vm, VssBackup
from ntxengine.prism.versions import notice, refusal
from ntxengine.repository import Point, PointDisk, Repository, StoredDiskPoint


@dataclass(frozen=True)
class DiskPlan:
    """One disk.  `previous` is None for a disk that the previous point does not have; `lost` says why no reference.

    `distrusted` says why the cluster is not to be asked at all: then the disk is read as a whole.
    `bytes_estimated` is what it will take in the repository, None where nobody can tell.  `audit` is how much of it is
    to be audited, and `blocks_covered` how much earlier audits have seen since all of it was read.  `storage` is where
    it lies: a container that compresses already leaves little to whoever would compress again.
    """

    disk: Disk
    previous: PointDisk | None
    reference: DiskPoint | None
    lost: str = ""
    distrusted: str = ""
    bytes_estimated: int | None = None
    audit: Audit | None = None
    blocks_covered: int = 0
    storage: DiskStorage = field(default_factory=DiskStorage)


@dataclass(frozen=True)
class CapturePlan:
    """All of it.

    `parent` is the point that the new one goes on top of, None for one that stands alone: the first, or another because
    of `full_reason`.  `reference_id` is its recovery point on the cluster, "" if that cannot be used because of `lost`;
    `replaced` is the point whose recovery point is not needed any more once the new one is there, None if none.
    `newest` is the newest that can be read, which may be neither of them.  `consistency` is what will be asked for,
    `consistency_reason` why not application; `quiescing` says how the guest is made consistent, `vss` what VSS is told.
    `way` is the API that is spoken, and why; `notice` what is odd of the version of `cluster`, "" if nothing.
    `removed` are disks of the newest point that the VM has no more.  `hot_added` are those of `vm.excluded` that a
    capture added to the VM: it is a worker VM.  `attacher` is who attaches the disks, None if nobody asked.
    `groups_left_out` are volume groups among `vm.excluded`, and `warnings` what is to be said of groups, and of the way
    to the bytes.
    """

    vm: Vm
    parent: Point | None
    full_reason: str
    reference_id: str
    replaced: Point | None
    newest: Point | None
    lost: str
    consistency: Consistency
    consistency_reason: str
    disks: tuple[DiskPlan, ...]
    hot_added: tuple[str, ...] = ()
    vss: VssBackup | None = None
    quiescing: str = ""
    cluster: ClusterFacts = field(default_factory=lambda: ClusterFacts(""))
    way: str = ""
    notice: str = ""
    removed: tuple[str, ...] = ()
    groups_left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    attacher: Attacher | None = None

    @property
    def source(self) -> str:
        """Return the way to the bytes, "" if nobody asked."""
        return "" if self.attacher is None else self.attacher.name

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what is to be said of it before anything is made, one line each."""
        name = f"VM {self.vm.name!r}"
        is_news = self.notice and self.cluster.version.numbers  # one that is not told may be no news at all
        return (
            *([f"{name}: {self.notice}"] if is_news else ()),
            *self.warnings,
            *(f"{name}: {clone} is left out: it is no disk of this VM" for clone in self.hot_added),
        )

    @property
    def locality(self) -> Locality:
        """Return where they will be read."""
        return Locality() if self.attacher is None else self.attacher.locality(self.vm)


def first_method(plan: DiskPlan) -> str:
    """How the changes of a disk will be looked for first."""
    if plan.distrusted:
        return "distrusted"
    if plan.previous is None:
        return "allocated"
    return "changed-regions" if plan.reference is not None else "lost"


async def plan_capture(
    prism: Prism,
    repository: Repository,
    vm_id: str,
    options: CaptureOptions,
    *,
    attacher: Attachers | None = None,
    damage: str = "",
) -> CapturePlan:
    """Decide what a capture of the VM, as it is now, would go on top of.  Touches nothing.

    `attacher` is asked who attaches disks of the VM; `damage` is as in find_parent.
    What can be known is looked at here, so that no VM is frozen in vain.
    Errors: NotFoundError (no such VM), NtxError (nothing to capture, or it would be in vain; application consistency
            demanded and impossible), AttachError (its disks cannot be attached), PrismBusy (not now),
            PrismConnectionError, PrismTimeout (nobody can be asked for changed regions); as find_parent.
    """
    groups = await with_groups(prism, await prism.vm(vm_id), are_wanted=options.volume_groups)
    vm = groups.vm
    warnings = list(groups.warnings)
    chosen = None if attacher is None else await attacher.for_vm(vm, warnings.append)
    parent = await find_parent(prism, repository, vm, options, damage=damage)
    clones = await find_clones(prism, repository, vm, parent.newest)
    vm = dataclasses.replace(
        vm,
        disks=tuple(disk for disk in vm.disks if disk.id not in clones),
        excluded=(*vm.excluded, *groups.left_out, *clones.values()),
    )
    facts = await _cluster_that_can(prism, vm)
    quiescing = choose_quiescing(prism, vm, options)
    storage = await storage_of(prism, vm, facts, usage={})
    disks = await _plan_disks(repository, vm, parent, options, storage)
    await _reach_element(prism, vm, facts, disks, options)
    return CapturePlan(
        vm=vm,
        parent=parent.point,
        full_reason=parent.full_reason,
        reference_id="" if parent.point is None or parent.lost else parent.point.recovery_point_id,
        replaced=parent.replaced,
        newest=parent.newest,
        lost=parent.lost,
        consistency=quiescing.consistency,
        consistency_reason=quiescing.reason,
        vss=quiescing.vss,
        quiescing=quiescing.how,
        disks=disks,
        hot_added=tuple(clones.values()),
        cluster=facts,
        way=prism.findings.why,
        notice=notice(facts.version, prism.family),
        removed=_removed(vm, parent.newest, are_groups_left_out=bool(groups.left_out)),
        groups_left_out=groups.left_out,
        warnings=tuple(warnings),
        attacher=chosen,
    )


async def _cluster_that_can(prism: Prism, vm: Vm) -> ClusterFacts:
    """Return the cluster that the VM is on, if the VM can be captured there now."""
    if not vm.disks:
        left_out = f"; a recovery point does not hold {', '.join(vm.excluded)}" if vm.excluded else ""
        raise NtxError(f"VM {vm.name!r} ({vm.id}) has no disk that can be captured{left_out}")
    if vm.is_moving:
        raise PrismBusy(f"VM {vm.name!r} ({vm.id}) is being moved to another cluster: capture it when it is there")
    if obstacle := prism.obstacle(vm):
        raise NtxError(f"VM {vm.name!r} ({vm.id}) cannot be captured: {obstacle}; nothing was made")
    facts = await prism.cluster(vm.cluster_id)
    if old := refusal(facts.version):
        raise NtxError(f"VM {vm.name!r} ({vm.id}) cannot be captured: {old}; nothing was made")
    return facts


async def _reach_element(
    prism: Prism, vm: Vm, facts: ClusterFacts, disks: Sequence[DiskPlan], options: CaptureOptions
) -> None:
    """Make sure that regions can be asked for, if they will be: a scan needs none, and a distrusted disk."""
    asked = [plan for plan in disks if not plan.distrusted]
    reference = next((plan.reference for plan in asked if plan.reference is not None), None)
    is_full = options.on_lost_tracking == "full" or any(plan.previous is None for plan in asked)
    if asked and (reference is not None or is_full):
        try:
            await prism.reach_element(facts, reference)
        except PrismAnswerError as error:
            raise type(error)(f"VM {vm.name!r} ({vm.id}): {error}; --scan reads the disks instead") from error


def _removed(vm: Vm, newest: Point | None, *, are_groups_left_out: bool) -> tuple[str, ...]:
    """Return the disks that the VM has no more.  Those of a group that is left out are said to be that."""
    present = {disk.id.lower() for disk in vm.disks}
    return tuple(
        f"{disk.label} ({disk.disk_id})"
        for disk in (newest.disks if newest else ())
        if disk.disk_id not in present and not (are_groups_left_out and disk.label.startswith(GROUP_PREFIX))
    )


async def _plan_disks(
    repository: Repository, vm: Vm, parent: Parent, options: CaptureOptions, storage: Mapping[str, DiskStorage]
) -> tuple[DiskPlan, ...]:
    plans = []
    for disk in vm.disks:
        plan = _with_audit(_plan_disk(disk, parent), parent, vm, options)
        plans.append(await _estimated(repository, dataclasses.replace(plan, storage=storage[disk.id]), parent))
    return tuple(plans)


def _plan_disk(disk: Disk, parent: Parent) -> DiskPlan:
    distrusted = parent.distrusted.get(disk.id.lower(), "")
    if distrusted or parent.scan:
        previous = None if parent.point is None else parent.point.find_disk(disk.id)
        why = "; ".join(dict.fromkeys(filter(None, (parent.full_reason, parent.lost, parent.scan, distrusted))))
        return DiskPlan(disk, previous, None, why, why)
    if parent.point is None:
        return DiskPlan(disk, None, None, parent.full_reason)
    point = parent.point
    previous = point.find_disk(disk.id)
    if previous is None:
        return DiskPlan(disk, None, None, f"not in the previous point {point.id}")
    if parent.lost:
        return DiskPlan(disk, previous, None, parent.lost)
    if lost := parent.lost_disks.get(disk.id.lower()):
        return DiskPlan(disk, previous, None, lost)
    if disk.is_moving:
        return DiskPlan(disk, previous, None, "the disk is being moved to another storage container")
    recorded = point.recovery_point_disks.get(disk.id.lower())
    if recorded is None:
        return DiskPlan(disk, previous, None, f"point {point.id} records no recovery point of this disk")
    return DiskPlan(disk, previous, disk_point_from(recorded))


def _with_audit(plan: DiskPlan, parent: Parent, vm: Vm, options: CaptureOptions) -> DiskPlan:
    disk, audit = plan.disk, options.audit
    if audit is not None:
        audit = audit.of_disk(disk.size, sum(each.size for each in vm.disks))
    cursor = None if plan.previous is None else cursor_after(parent.point, disk.id, disk.size)
    return dataclasses.replace(plan, audit=audit, blocks_covered=0 if cursor is None else cursor.covered)


async def _estimated(repository: Repository, plan: DiskPlan, parent: Parent) -> DiskPlan:
    found = await estimate_bytes(
        repository,
        plan.disk,
        parent.newest,
        is_incremental=plan.previous is not None,
        has_dedup=plan.storage.container.has_dedup is True,
    )
    return dataclasses.replace(plan, bytes_estimated=found)


def disk_point_from(recorded: StoredDiskPoint) -> DiskPoint:
    """Return what `stored_disk_point` recorded."""
    return DiskPoint(
        id=recorded.id,
        disk_id=recorded.disk_id,
        recovery_point_id=recorded.recovery_point_id,
        vm_point_id=recorded.vm_point_id,
        path=recorded.path,
        group_point_id=recorded.group_point_id,
    )


def stored_disk_point(disk_point: DiskPoint) -> StoredDiskPoint:
    """Return what a point keeps of its disk recovery point."""
    return StoredDiskPoint(
        id=disk_point.id,
        disk_id=disk_point.disk_id,
        recovery_point_id=disk_point.recovery_point_id,
        vm_point_id=disk_point.vm_point_id,
        path=disk_point.path,
        group_point_id=disk_point.group_point_id,
    )
