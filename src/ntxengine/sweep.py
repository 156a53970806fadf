"""Removing what a killed capture left: here, on the cluster, and on the worker VM.

Ours are the recovery points whose name begins with this repository's id, and the hot-added disks that came from them.
Nothing else is ever touched, and nothing of a VM that somebody is working on.

    per VM, while its lock is held:   hot-added disks  ->  recovery points         then:   unfinished points

LIMIT: a hot-added disk is known by the recovery point that it came from.  Once that is gone (deleted by hand, expired)
nobody can tell that the disk is ours, and it stays attached to the worker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ntxengine.capture.freeze import name_prefix
from ntxengine.capture.plan import disk_point_from
from ntxengine.errors import LockedError, NotFoundError, NtxError
from ntxengine.prism.models import AttachedDisk, Prism, RecoveryPoint
from ntxengine.repository import Repository, layout


@dataclass(frozen=True)
class Swept:
    """One thing that was removed, or would be: `id` as the repository or Prism calls it."""

    kind: str
    id: str
    name: str
    vm_id: str

    def as_dict(self) -> dict[str, str]:
        """For `--json`: the id under a name that says what it identifies."""
        id_name = f"{self.kind.removeprefix('unfinished-').replace('-', '_')}_id"
        return {"kind": self.kind, id_name: self.id, "name": self.name, "vm_id": self.vm_id}


@dataclass
class SweepReport:
    """What was removed (with `dry_run`: what would be), what was left because its VM is locked, and what failed.

    Kinds: `disk` (hot-added), `recovery-point`, `unfinished-point`.
    """

    dry_run: bool
    removed: list[Swept] = field(default_factory=list)
    locked_vms: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "dry_run": self.dry_run,
            "removed": [each.as_dict() for each in self.removed],
            "locked_vm_ids": self.locked_vms,
            "problems": self.problems,
        }


async def sweep(
    prism: Prism | None, repository: Repository, *, worker_id: str | None = None, dry_run: bool = False
) -> SweepReport:
    """Remove what no running capture and no next capture needs.

    Without `prism` only the repository is swept; without `worker_id` no hot-added disk is looked for.
    A thing that cannot be removed is reported in `problems` and does not keep the others from being removed.
    Errors: PrismError (the cluster cannot even be listed), RepositoryError.
    """
    return await _Sweep(prism, repository, worker_id, SweepReport(dry_run)).run()


class _Sweep:
    def __init__(self, prism: Prism | None, repository: Repository, worker_id: str | None, report: SweepReport) -> None:
        self._prism = prism
        self._repository = repository
        self._worker_id = worker_id
        self._report = report
        self._attached: list[AttachedDisk] = []

    async def run(self) -> SweepReport:
        if self._prism is not None:
            await self._sweep_cluster(self._prism)
        self._sweep_repository()
        return self._report

    async def _sweep_cluster(self, prism: Prism) -> None:
        prefix = name_prefix(self._repository.id)
        by_vm: defaultdict[str, list[RecoveryPoint]] = defaultdict(list)
        for point in await prism.recovery_points():
            # One of several VMs has no VM id: no capture of ours makes such.
            if point.name.startswith(prefix) and point.vm_id:
                by_vm[point.vm_id].append(point)
        if self._worker_id is not None and by_vm:
            self._attached = await prism.attached_disks(self._worker_id)
        for vm_id, points in sorted(by_vm.items()):
            try:
                with self._repository.lock(vm_id):
                    await self._sweep_vm(prism, vm_id, points)
            except LockedError:
                self._report.locked_vms.append(vm_id)
            except NtxError as error:
                self._report.problems.append(f"VM {vm_id}: {error}")

    async def _sweep_vm(self, prism: Prism, vm_id: str, points: list[RecoveryPoint]) -> None:
        """Sweep one VM.  Its lock is held, so what is kept is decided on what was really committed."""
        newest = self._repository.newest(vm_id)
        kept = newest.recovery_point_id if newest is not None else ""
        for point in points:
            # Nobody works on this VM, so a disk that came from any of our recovery points, also from the kept one, was
            # left behind.  Before the recovery point: without it nobody can tell any more where the disk came from.
            for disk in await self._left_attached(prism, point):
                await self._remove(Swept("disk", disk.id, disk.source, vm_id), _call(prism.detach_disk, disk))
            if point.id != kept:
                found = Swept("recovery-point", point.id, point.name, vm_id)
                await self._remove(found, _call(prism.delete_recovery_point, point.id))

    async def _left_attached(self, prism: Prism, point: RecoveryPoint) -> list[AttachedDisk]:
        if not self._attached:
            return []
        sources = {
            disk_point_from(recorded).id
            for committed in self._repository.points(point.vm_id)
            if committed.recovery_point_id == point.id
            for recorded in committed.recovery_point_disks.values()
        }
        try:
            vm = await prism.vm(point.vm_id)
            sources |= {disk.id for disk in (await prism.recovery_point(point.id, vm)).disks}
        except NotFoundError as error:
            if not sources:
                self._report.problems.append(
                    f"recovery point {point.name}: its disks are not known ({error}): if one is still attached to "
                    f"worker VM {self._worker_id}, remove it by hand"
                )
        return [disk for disk in self._attached if disk.source in sources]

    def _sweep_repository(self) -> None:
        names = self._unlocked_unfinished() if self._report.dry_run else self._repository.sweep_unfinished()
        for name in names:
            vm_id, _, point_id = name.partition("/")
            self._report.removed.append(Swept("unfinished-point", point_id, name, vm_id))

    def _unlocked_unfinished(self) -> Iterator[str]:
        """Yield what Repository.sweep_unfinished would remove, as it names it."""
        for folder in sorted(self._repository.path.glob(f"*/{layout.UNFINISHED_PREFIX}*")):
            with suppress(LockedError), self._repository.lock(folder.parent.name):
                yield f"{folder.parent.name}/{folder.name.removeprefix(layout.UNFINISHED_PREFIX)}"

    async def _remove(self, found: Swept, removal: Callable[[], Awaitable[None]]) -> None:
        if not self._report.dry_run:
            try:
                await removal()
            except NtxError as error:
                self._report.problems.append(f"{found.kind} {found.id}: {error}")
                return
        self._report.removed.append(found)


def _call(method: Callable[[Any], Awaitable[None]], argument: Any) -> Callable[[], Awaitable[None]]:
    return lambda: method(argument)
