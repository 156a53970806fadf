"""Freezing a VM: the recovery point, its consistency, and which of its disks is which."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ntxengine.capture.options import CaptureOptions
from ntxengine.capture.plan import CapturePlan
from ntxengine.capture.recorded import Recorder
from ntxengine.concurrency.rollback import Rollback
from ntxengine.errors import NtxError, PrismAnswerError, PrismError, PrismStatusError, TaskFailed
from ntxengine.prism.cluster import RecoveryPoints
from ntxengine.prism.models import Consistency, DiskGroup, DiskPoint, RecoveryPoint
from ntxengine.units import utc_now

_NOT_ABOUT_QUIESCING = (401, 403, 404, 429)
_UNTOLD = "recovery point tells none of its disks"


@dataclass(frozen=True)
class Frozen:
    """The recovery point, its disk points by disk id, and why it is not application-consistent ("" if it is, or
    was not wanted)."""

    point: RecoveryPoint
    disks: dict[str, DiskPoint]
    consistency_reason: str


async def freeze(
    prism: RecoveryPoints,
    plans: Sequence[CapturePlan],
    *,
    name: str,
    options: CaptureOptions,
    warn: Callable[[str], None],
) -> list[RecoveryPoint]:
    """Create the recovery point of all VMs: with the planned consistency, which is that of all, or crash-consistent
    where that fails and may.  Return it as each VM sees it.

    Errors: as Prism.create_recovery_point.
    """
    consistency = plans[0].consistency
    try:
        return await _create(prism, plans, name, consistency, options)
    except (TaskFailed, PrismStatusError) as error:
        if consistency != "application" or options.consistency == "app" or not may_be_about_quiescing(error):
            raise
        names = ", ".join(repr(plan.vm.name) for plan in plans)
        warn(f"no application-consistent recovery point of VM {names} ({error}): making a crash-consistent one")
    return await _create(prism, plans, name, "crash", options)


async def freeze_recorded(
    prism: RecoveryPoints,
    plan: CapturePlan,
    recorder: Recorder,
    undo: Rollback,
    *,
    record_id: str,
    options: CaptureOptions,
    warn: Callable[[str], None],
) -> tuple[CapturePlan, Frozen]:
    """Freeze one VM, recorded before it is asked for, and taken back by `undo`; return the plan without what cannot be
    had of it.

    Errors: as freeze, Recorder.announce, leave_out_untold and check_frozen.
    """
    assert plan.attacher is not None
    name = await recorder.announce(record_id, plan.attacher)
    undo.add(f"remove recovery point {name}", recorder.take_back)
    (point,) = await freeze(prism, [plan], name=name, options=options, warn=warn)
    # Recorded before anything else is looked at: undoing it needs the id.
    await recorder.complete(point)
    plan = leave_out_untold(plan, point, warn)
    return plan, check_frozen(plan, point, name, options, warn)


def may_be_about_quiescing(error: PrismError) -> bool:
    """Say whether a crash-consistent recovery point may be had where this was said, and nothing was made.

    A login, a right, a thing that is not there and a rate stay what they are; a 5xx may have frozen the VM.
    """
    if isinstance(error, PrismStatusError):
        is_refusal = 400 <= error.status < 500 and error.status not in _NOT_ABOUT_QUIESCING
        return is_refusal and not error.may_have_been_done
    return isinstance(error, TaskFailed)


async def _create(
    prism: RecoveryPoints, plans: Sequence[CapturePlan], name: str, consistency: Consistency, options: CaptureOptions
) -> list[RecoveryPoint]:
    expires_at = utc_now() + options.expiry
    if len(plans) == 1:
        (plan,) = plans
        point = await prism.create_recovery_point(
            plan.vm, name=name, consistency=consistency, expires_at=expires_at, vss=plan.vss
        )
        return [point]
    return await prism.create_shared_recovery_point(
        [plan.vm for plan in plans],
        name=name,
        consistency=consistency,
        expires_at=expires_at,
        vss={plan.vm.id: plan.vss for plan in plans},
    )


def check_frozen(
    plan: CapturePlan, point: RecoveryPoint, name: str, options: CaptureOptions, warn: Callable[[str], None]
) -> Frozen:
    """Check that the recovery point is what was asked for, by this name, and find the VM's disks in it.

    It may hold more than the disks of the VM (files of CD-ROMs, NVRAM): those are left.
    Errors: NtxError (not application-consistent, and nothing less will do), PrismAnswerError (a disk lacks, or is there
            twice).
    """
    reason = plan.consistency_reason
    if plan.consistency == "application" and point.consistency != "application":
        reason = "application consistency was asked for, and the cluster made a crash-consistent recovery point"
        if options.consistency == "app":
            raise NtxError(f"VM {plan.vm.name!r} ({plan.vm.id}): {reason}; nothing was captured")
        warn(f"VM {plan.vm.name!r}: {reason}")
    disks = {}
    for disk in (each.disk for each in plan.disks):
        found = [candidate for candidate in point.disks if candidate.disk_id == disk.id]
        if len(found) != 1:
            raise PrismAnswerError(
                f"recovery point {point.id} of VM {plan.vm.name!r} holds disk {disk.label} ({disk.id}) {len(found)} "
                f"times instead of once, among {len(point.disks)} disks"
            )
        disks[disk.id] = dataclasses.replace(found[0], recovery_point_name=name)
    return Frozen(point, disks, reason)


def leave_out_untold(plan: CapturePlan, point: RecoveryPoint, warn: Callable[[str], None]) -> CapturePlan:
    """Return the plan without the groups of which the recovery point tells no disk: no other call tells them.

    Errors: PrismAnswerError if nothing is left of it.
    """
    held = {disk.disk_id for disk in point.disks}
    groups = dict.fromkeys(each.disk.group for each in plan.disks if each.disk.group is not None)
    told = {each.disk.group for each in plan.disks if each.disk.id in held}
    for group in (each for each in groups if each not in told):
        plan = _without(plan, group)
        warn(f"VM {plan.vm.name!r}: volume group {group.name} is left out: the {_UNTOLD}")
    if not plan.disks:
        raise PrismAnswerError(
            f"VM {plan.vm.name!r} ({plan.vm.id}): it has only volume groups, and the {_UNTOLD}; nothing was captured"
        )
    return plan


def _without(plan: CapturePlan, group: DiskGroup) -> CapturePlan:
    left_out = f"vg:{group.name} (volume group {group.id}: the {_UNTOLD})"
    vm = dataclasses.replace(
        plan.vm,
        disks=tuple(disk for disk in plan.vm.disks if disk.group != group),
        excluded=(*plan.vm.excluded, left_out),
    )
    return dataclasses.replace(
        plan,
        vm=vm,
        disks=tuple(each for each in plan.disks if each.disk.group != group),
        groups_left_out=(*plan.groups_left_out, left_out),
    )
