"""Hot-add: this machine is a VM of the cluster, and a clone of the disk is added to it.

    prism.attach_disk --> the kernel finds it --> udev names it after its file on storage --> read --> detach_disk
                          /dev/disk/by-id/scsi-SNUTANIX_NFS_0_0_0_<vmdisk id with _ for ->

The clone is new and writable, and we only read it.  LVM and automatic mounting on this machine must be kept off it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ntxengine.attach import hotadd_clones
from ntxengine.attach.base import (
    DEVICE_DIR,
    YES,
    Attached,
    Attacher,
    AttachOptions,
    History,
    Leftovers,
    Locality,
    NotOurs,
    Trace,
    Verdict,
    WrongSize,
    called,
    check_folder,
    check_size,
    file_location,
    taken_away,
)
from ntxengine.attach.device import wait_for_device
from ntxengine.errors import AttachError
from ntxengine.ids import is_uuid
from ntxengine.prism.cluster import Prism
from ntxengine.prism.findings import TOO_OLD_TO_HOT_ADD, Findings
from ntxengine.prism.models import AttachedDisk, DiskPoint, Vm

APPEAR_TIMEOUT_S = 60.0
"""From the end of Prism's task to a device of full size: udev on a busy machine."""
DETACH_TIMEOUT_S = 200.0
"""Prism's part ends after 120 s by itself, and says what it waited for; this is for a last request that hangs."""
POLL_S = 0.1


class HotAdd(Attacher):
    """Adds clones to the worker VM, which is this machine."""

    name = "hotadd"
    title = "hot-add"
    makes_clones = True

    def __init__(
        self,
        prism: Prism,
        options: AttachOptions,
        *,
        appear_timeout_s: float = APPEAR_TIMEOUT_S,
        poll_s: float = POLL_S,
    ) -> None:
        super().__init__(prism, options)
        self.worker_id = options.worker_id
        self._appear_timeout_s = appear_timeout_s
        self._poll_s = poll_s
        self._localities: dict[str, Locality] = {}

    async def can_serve(self, findings: Findings) -> Verdict:
        """Say whether this machine is known as a VM of the cluster, and Prism can add disks to it."""
        if not self.worker_id:
            return Verdict("this machine was not given as a VM of the cluster (--worker VM)")
        if not findings.can_hot_add:
            return Verdict(TOO_OLD_TO_HOT_ADD)
        if self.options.device_dir != DEVICE_DIR:  # that one appears with the first device
            await check_folder(self.options.device_dir, "--device-dir")
        return YES

    async def can_serve_vm(self, vm: Vm) -> Verdict:
        """Refuse what hot-add is known to fail for, and note how far apart the hosts are.

        LIMIT: a VM that moves to another host while it is captured is called local or remote as it was before.
        """
        if self.prism.no_hot_add:
            return Verdict(self.prism.no_hot_add)
        worker = await self.prism.vm(self.worker_id)
        if worker.power_state in ("off", "paused"):
            return Verdict(
                f"worker VM {worker.name!r} ({worker.id}) is {worker.power_state}, so it is not this machine: give "
                f"the name or UUID of this machine (--worker)"
            )
        if worker.cluster_id != vm.cluster_id and worker.cluster_id and vm.cluster_id:
            return Verdict(
                f"VM {vm.name!r} ({vm.id}) is on {await called(self.prism, vm.cluster_id)}, worker VM {worker.name!r} "
                f"({worker.id}) on {await called(self.prism, worker.cluster_id)}: disks are hot-added within a "
                f"cluster; use a worker VM of the first"
            )
        locality = Locality.between(worker.host_id, vm.host_id)
        self._localities |= {disk.id: locality for disk in vm.disks}
        return YES

    def locality(self, vm: Vm) -> Locality:
        """Compare the hosts as they were when the VM was looked at."""
        known = (self._localities[disk.id] for disk in vm.disks if disk.id in self._localities)
        return next(known, Locality())

    async def leftovers(self, trace: Trace) -> Leftovers:
        """Return clones on the worker VM that is recorded, and on the one that was given."""
        return await hotadd_clones.leftovers(self.prism, trace, also_on=self.worker_id)

    async def added_disks(self, vm: Vm, history: History) -> dict[str, str]:
        """Return the clones that captures hot-added to the VM: it is a worker VM."""
        return await hotadd_clones.added_disks(self.prism, vm, history)

    @asynccontextmanager
    async def attach(self, disk_point: DiskPoint, size: int) -> AsyncIterator[Attached]:
        """Give the block device of a clone of the disk; remove the clone on exit, also when cancelled."""
        # One that is cancelled half-way is taken back by Prism's side, which alone knows how far it came.
        attached = await self.prism.attach_disk(self.worker_id, disk_point)
        async with taken_away(
            partial(self.prism.detach_disk, attached), partial(_not_detached, attached), timeout_s=DETACH_TIMEOUT_S
        ):
            try:
                device = await self._device(attached, size)
            except WrongSize as failure:
                if attached.is_told:
                    raise
                raise NotOurs(_may_be_foreign(attached, failure)) from failure
            yield Attached(file_location(device), self._localities.get(disk_point.disk_id, Locality()))

    async def _device(self, attached: AttachedDisk, size: int) -> Path:
        """Wait until the guest sees the disk in its full size."""
        if not is_uuid(attached.vmdisk_id):
            raise AttachError(f"Prism calls the file of a hot-added disk {attached.vmdisk_id!r}, which is not a UUID")
        suffix = attached.vmdisk_id.replace("-", "_").lower()
        folder = self.options.device_dir
        found = await wait_for_device(folder, suffix, timeout_s=self._appear_timeout_s, poll_s=self._poll_s)
        if found is None:
            raise AttachError(
                f"no device named ...{suffix} appeared in {folder} within {self._appear_timeout_s:g} s after the disk "
                f"was hot-added to VM {self.worker_id}: is this machine that VM (--worker)?"
            )
        device, found_size = found
        check_size(device, found_size, size)
        return device


def _not_detached(attached: AttachedDisk, error: BaseException) -> str:
    return (
        f"a clone was left behind: disk {attached.id} could not be removed from VM {attached.worker_id}: {error}; "
        f"`ntx sweep --worker VM` tries again"
    )


def _may_be_foreign(attached: AttachedDisk, error: WrongSize) -> str:
    return (
        f"{error}; Prism does not say what disk {attached.id} of VM {attached.worker_id} comes from, and somebody else "
        f"may have added it: it stays there; remove it by hand in Prism if nobody needs it"
    )
