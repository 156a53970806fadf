"""The live probe: one recovery point that is made, asked about, and deleted, whatever happens.

It expires within an hour, should this process be killed: see `Leftovers`.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from ntxengine.concurrency.completion import run_to_completion
from ntxengine.errors import NtxError, PrismProtected
from ntxengine.prism.models import Disk, DiskPoint
from ntxengine.probe.check import Check, Context
from ntxengine.probe.cluster import POINT_PREFIX
from ntxengine.probe.model import Facts, Result, failed, ok, skipped, warning
from ntxengine.units import MIB, format_size

LIFE = timedelta(hours=1)
WINDOW = MIB
DELETE_TIMEOUT_S = 300.0
APPROVAL_TIMEOUT_S = 20.0
"""For the deletion of one of which Prism says that somebody has to approve it: it is asked for all the same."""


class Freeze(Check):
    """A crash-consistent recovery point can be made."""

    name = "freeze"
    limit_s = 300.0

    async def run(self, context: Context) -> Result:
        prism, vm = context.prism, context.vm
        assert prism is not None
        assert vm is not None
        if denied := context.denied("create-points") or context.denied("delete-points"):
            return denied
        name = f"{POINT_PREFIX}{uuid.uuid4().hex[:12]}"
        expires = context.now().replace(microsecond=0) + LIFE
        context.live_point = await prism.create_recovery_point(vm, name=name, consistency="crash", expires_at=expires)
        point = context.live_point
        held = {disk.disk_id for disk in point.disks}
        facts: Facts = {
            "recovery_point_id": point.id,
            "name": name,
            "held": len(point.disks),
            "wanted": len(vm.disks),
            "tells_paths": any(disk.path for disk in point.disks),
            "tells_expiry": point.expires_at is not None,
        }
        if absent := [disk.label for disk in vm.disks if disk.id not in held]:
            return failed(
                f"recovery point {name} does not hold {', '.join(absent)}", "report it, with --report", **facts
            )
        return ok(f"recovery point {name}, with {len(point.disks)} disks", **facts)


def _first_disk(context: Context) -> tuple[Disk, DiskPoint] | None:
    """Return the first disk of the recovery point that is one of the VM's, None if it holds none."""
    assert context.vm is not None
    assert context.live_point is not None
    ours = {disk.id: disk for disk in context.vm.disks}
    return next(((ours[each.disk_id], each) for each in context.live_point.disks if each.disk_id in ours), None)


class Regions(Check):
    """Where the first MiB of its first disk has data is really told."""

    name = "regions"
    limit_s = 120.0

    async def run(self, context: Context) -> Result:
        assert context.prism is not None
        if (first := _first_disk(context)) is None:
            return skipped("the VM has no disk")
        ours, disk = first
        sample = await context.prism.sample_regions(disk, WINDOW)
        page = sample.page
        lengths = [int(length) for length in page.regions["length"]]
        offsets = [int(offset) for offset in page.regions["offset"]]
        numbers = [number for number in (*offsets, *lengths) if number]
        facts: Facts = {
            "by": sample.by,
            "token_revision": sample.revision,
            "regions": len(lengths),
            "told_bytes": sum(lengths),
            "granularity": min((number & -number for number in numbers), default=None),
            "file_size": page.disk_size,
            "next_offset": page.next_offset,
        }
        if page.disk_size is not None and page.disk_size != ours.size:
            return warning(
                f"{sample.by} says {page.disk_size} bytes, the VM {ours.size}",
                "was the disk resized just now?",
                **facts,
            )
        return ok(
            f"{len(lengths)} regions, {format_size(sum(lengths))}, in the first {format_size(WINDOW)} of"
            f" {ours.label}, computed by {sample.by}",
            **facts,
        )


class Read(Check):
    """Its first disk can be opened here, where that makes nothing on the cluster."""

    name = "read"
    limit_s = 120.0

    def applies(self, context: Context) -> bool:
        return context.live_point is not None and context.attacher is not None and not context.attacher.makes_clones

    async def run(self, context: Context) -> Result:
        attacher = context.attacher
        assert attacher is not None
        if (first := _first_disk(context)) is None:
            return skipped("the VM has no disk")
        ours, disk = first
        async with attacher.attach(disk, ours.size):
            return ok(
                f"{ours.label} is readable here ({attacher.title}), with {format_size(ours.size)}", path=disk.path
            )


class Delete(Check):
    """It can be deleted again."""

    name = "delete"
    limit_s = DELETE_TIMEOUT_S + 10.0

    def applies(self, context: Context) -> bool:
        return context.live_point is not None

    async def run(self, context: Context) -> Result:
        point = context.live_point
        assert point is not None
        try:
            await delete_live_point(context, APPROVAL_TIMEOUT_S if point.protection else DELETE_TIMEOUT_S)
        except (NtxError, TimeoutError) as exc:
            if isinstance(exc, TimeoutError):
                context.live_point = None  # it was asked for, for as long as it may take
            if point.protection or isinstance(exc, PrismProtected):
                context.live_point = None  # its deletion waits for somebody
                return warning(
                    f"{point.name} ({point.id}) stays: {point.protection or exc}",
                    "approve its deletion in Prism, or let it expire",
                )
            return failed(
                f"recovery point {point.name} ({point.id}) is left: {str(exc) or 'no end in time'}",
                f"it expires at {point.expires_at or 'the time that was asked for'}; or delete it in Prism",
            )
        return ok(f"recovery point {point.name} is gone")


async def delete_live_point(context: Context, timeout_s: float = DELETE_TIMEOUT_S) -> None:
    """Delete the recovery point, if there is one, also while somebody cancels us.  Errors: PrismError, TimeoutError."""
    point = context.live_point
    if point is None:
        return
    assert context.prism is not None
    await run_to_completion(context.prism.delete_recovery_point(point.id), timeout_s=timeout_s)
    context.live_point = None
