"""iSCSI: a volume group with a clone of the disk is made for us, and we log in to its target.

    make a volume group --> admit a name of ours, with a secret --> log in, read-only --> read --> log out --> remove

The names of volume groups say whose they are: <recovery point>-<digits of the disk point>, both of which the repository
recorded before.  The secret is made for one volume group, and nobody keeps it.

The target, not we, chooses the CVM that serves the disk, and hands the login on to it: whether the read is local is
unknown.

LIMIT: that the user of CHAP is the name of the initiator, as it is with every target that we have seen, no document of
Nutanix says.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial

from ntxengine.attach.base import (
    YES,
    Attached,
    Attacher,
    AttachOptions,
    Leftover,
    Leftovers,
    Trace,
    Verdict,
    called,
    check_size,
    taken_away,
)
from ntxengine.attach.initiator import WAITING, Initiator, Qemu, Waiting
from ntxengine.attach.iscsiadm import Kernel
from ntxengine.attach.portal import Portal, parse_portal, portal_problem
from ntxengine.attach.through_ssh import lun_through, portal_problem_through
from ntxengine.attach.tried import Tried
from ntxengine.errors import AttachError, NtxError
from ntxengine.images.served import IscsiLun
from ntxengine.prism.cluster import Prism
from ntxengine.prism.findings import Findings
from ntxengine.prism.models import DiskPoint, Vm, VolumeGroup

REMOVE_TIMEOUT_S = 180.0
"""Taking an initiator off and deleting a volume group are two tasks of a cluster that may be busy."""
INITIATORS: tuple[type[Initiator], ...] = (Qemu, Kernel)
"""Who may log in, the preferred one first."""

_INITIATOR_PREFIX = "iqn.2026-11.org.ntxengine:"
_PROBER = f"{_INITIATOR_PREFIX}probe"
_NAME_OF_OURS = 32  # characters: the point and the disk; with the prefix fewer than the 64 that Prism takes
_SECRET_SIZE = 14  # characters: 12 to 16 is what every initiator and target takes
_DIGITS = 8


class Iscsi(Attacher):
    """Volume groups that are made of disks of a recovery point."""

    name = "iscsi"
    title = "iSCSI"
    makes_clones = True
    can_tunnel = True

    def __init__(self, prism: Prism, options: AttachOptions, *, waiting: Waiting = WAITING) -> None:
        super().__init__(prism, options)
        self._waiting = waiting
        self._told: Tried[str] = Tried()
        self._tried: Tried[str] = Tried()
        self._places: dict[str, tuple[str, Portal]] = {}
        self._chosen: Initiator | None = None

    async def can_serve(self, findings: Findings) -> Verdict:
        """Say whether volume groups can be made, and something here can log in to them."""
        if reason := self.prism.no_volume_groups:
            return Verdict(reason)
        if self.options.data_services:
            parse_portal(self.options.data_services, "--data-services")
        return Verdict(await self._choose_initiator())

    async def can_serve_vm(self, vm: Vm) -> Verdict:
        """Say whether the data services of the VM's cluster answer."""
        if not vm.cluster_id and self.prism.family == "v4":
            return Verdict(
                f"Prism does not tell the cluster of VM {vm.name!r} ({vm.id}), which a volume group is to be made on"
            )
        portal = await self._portal(vm.cluster_id)
        if portal is None:
            return Verdict(
                f"{await called(self.prism, vm.cluster_id)} has no data services address, which volume groups are "
                f"reached at: set one in Prism (Cluster Details, iSCSI Data Services IP), or give --data-services HOST"
            )
        if problem := await self._tried.get(portal, partial(self._problem, portal)):
            return Verdict(f"data services of {await called(self.prism, vm.cluster_id)}: {problem}")
        self._places |= {disk.id: (vm.cluster_id, portal) for disk in vm.disks}
        return YES

    async def leftovers(self, trace: Trace) -> Leftovers:
        """Return the volume groups of the recorded disks.  None is looked for that no capture can have made."""
        if trace.source != self.name or not trace.name:
            return Leftovers()
        ours = {group_name(trace.name, source) for source in trace.sources}
        try:
            groups = await self.prism.volume_groups(f"{trace.name}-")
        except NtxError as error:
            return Leftovers(unseen=(("volume groups", error),))
        return Leftovers(
            tuple(
                Leftover(
                    "volume-group",
                    group.id,
                    group.name,
                    partial(self.prism.remove_volume_group, group),
                    protection=group.protection,
                )
                for group in groups
                if group.name in ours
            )
        )

    @asynccontextmanager
    async def attach(self, disk_point: DiskPoint, size: int) -> AsyncIterator[Attached]:
        """Give an export, or a device, of a clone of the disk; remove the clone on exit, also when cancelled."""
        place = self._places.get(disk_point.disk_id)
        if place is None:
            raise AttachError(f"disk {disk_point.disk_id} was not there when its VM was looked at; try again")
        cluster_id, portal = place
        if (missing := await self._choose_initiator()) or self._chosen is None:
            raise AttachError(f"volume groups of cluster {cluster_id}: {missing}")
        secret = _new_secret()
        if not disk_point.recovery_point_name:
            raise AttachError(f"recovery point {disk_point.recovery_point_id}: its name was not recorded")
        name = group_name(disk_point.recovery_point_name, disk_point.id)
        # One that is cancelled half-way is taken back by Prism's side, which alone knows how far it came.
        group = await self.prism.make_volume_group(disk_point, name=name, cluster_id=cluster_id, secret=secret)
        async with taken_away(
            partial(self.prism.remove_volume_group, group), partial(_not_removed, group), timeout_s=REMOVE_TIMEOUT_S
        ):
            own_name = f"{_INITIATOR_PREFIX}{name[-_NAME_OF_OURS:].lower()}"
            await self.prism.admit_initiator(group, own_name, secret)
            lun = IscsiLun(str(portal), group.target, group.lun, initiator=own_name, secret=secret)
            async with self._reachable(lun) as reachable, self._chosen.open(reachable) as export:
                check_size(lun.label, export.size, size)
                yield Attached(export.location)

    async def _problem(self, portal: Portal) -> str:
        """Return why the portal cannot be used, "" if it can."""
        if self.options.gateway is None:
            return await portal_problem(portal, _PROBER)
        return await portal_problem_through(self.options.gateway, portal, _PROBER)

    def _reachable(self, lun: IscsiLun) -> AbstractAsyncContextManager[IscsiLun]:
        """Return the disk as it can be reached from here."""
        if self.options.gateway is None:
            return nullcontext(lun)
        return lun_through(self.options.gateway, lun, self._waiting)

    async def _portal(self, cluster_id: str) -> Portal | None:
        """Return where the volume groups of a cluster are reached, None if that is not known."""
        if self.options.data_services:
            return parse_portal(self.options.data_services, "--data-services")
        address = await self._told.get(cluster_id, partial(self.prism.data_services, cluster_id))
        return Portal(address) if address else None

    async def _choose_initiator(self) -> str:
        """Choose who logs in.  Return why nobody can, "" if somebody can."""
        reasons = []
        # The kernel asks the target itself where its disks are, and goes there.
        kinds = INITIATORS if self.options.gateway is None else (Qemu,)
        for kind in kinds if self._chosen is None else ():
            initiator = kind(self._waiting)
            if not (missing := await initiator.missing()):
                self._chosen = initiator
                return ""
            reasons.append(missing)
        return "; and ".join(reasons)


def group_name(recovery_point_name: str, disk_point_id: str) -> str:
    """Return the name of the volume group that is made of a disk of a recovery point."""
    return f"{recovery_point_name}-{hashlib.sha256(disk_point_id.encode()).hexdigest()[:_DIGITS]}"


def _new_secret() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(_SECRET_SIZE))


def _not_removed(group: VolumeGroup, error: BaseException) -> str:
    return (
        f"a clone was left behind: volume group {group.name} ({group.id}) could not be removed: {error}; `ntx sweep` "
        f"removes it"
    )
