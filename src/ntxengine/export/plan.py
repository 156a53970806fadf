"""What an export would do, found out without making or changing anything."""

from __future__ import annotations

from dataclasses import dataclass

from ntxengine.attach import Attachers
from ntxengine.capture import CapturePlan, plan_capture
from ntxengine.capture.reference import Reference, find_reference
from ntxengine.errors import NtxError, OptionsError
from ntxengine.export.options import ExportOptions, PortOptions
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Disk
from ntxengine.repository import Repository


@dataclass(frozen=True)
class ExportPlan:
    """`capture` is what a capture of the VM would freeze and attach; `reference` what changes are asked against."""

    capture: CapturePlan
    reference: Reference

    @property
    def disks(self) -> tuple[Disk, ...]:
        """The disks that are exported."""
        return tuple(each.disk for each in self.capture.disks)


async def plan_export(
    prism: Prism, state: Repository, vm_id: str, options: ExportOptions, *, attacher: Attachers
) -> ExportPlan:
    """Decide what would be frozen and served, and what changes are asked against.

    Errors: OptionsError (the state folder is a backup repository; too few ports), NtxError (no reference, and that is
            not allowed); as plan_capture.
    """
    if await state.points(with_forgotten=True):
        raise OptionsError(
            f"--state {state.path}: is a repository that has points: give exports a folder of their own, so that "
            f"neither removes what the other needs on the cluster"
        )
    plan = await plan_capture(prism, state, vm_id, options.capture, attacher=attacher)
    reference = await find_reference(prism, state, plan.vm, options.since)
    if options.since and options.capture.on_lost_tracking == "fail":
        why = next(filter(None, (reference.why_not(each.disk) for each in plan.disks)), "")
        if why:
            raise NtxError(f"VM {plan.vm.name!r} ({plan.vm.id}): no changed regions: {why}; nothing was made")
    needed = len(plan.disks) + 1
    if isinstance(options.way, PortOptions) and options.way.count < needed:
        raise OptionsError(
            f"--ports: {options.way.count} ports, and {needed} are needed: one for each of {len(plan.disks)} disks, "
            f"and one for the links"
        )
    return ExportPlan(plan, reference)
