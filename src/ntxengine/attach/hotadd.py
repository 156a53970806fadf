"""Hot-add: this machine is a VM of the cluster, and a clone of the disk is added to it.

    prism.attach_disk --> the kernel finds it --> udev names it after its file on storage --> read --> detach_disk
                          /dev/disk/by-id/scsi-SNUTANIX_NFS_0_0_0_<vmdisk id with _ for ->

The clone is new and writable, and we only read it.  LVM and automatic mounting on this machine must be kept off it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ntxengine.attach.base import check_size, readable_size
from ntxengine.concurrency.completion import call_with_timeout, run_to_completion
from ntxengine.errors import AttachError, NtxError, machine_error
from ntxengine.ids import is_uuid
from ntxengine.prism.models import AttachedDisk, DiskPoint, Prism

log = logging.getLogger(__name__)

DEVICE_DIR = Path("/dev/disk/by-id")
APPEAR_TIMEOUT_S = 60.0
"""From the end of Prism's task to a device of full size: udev on a busy machine."""
DETACH_TIMEOUT_S = 120.0
POLL_S = 0.1


class HotAdd:
    """Adds clones to the VM `worker_id`, which is this machine."""

    def __init__(
        self,
        prism: Prism,
        worker_id: str,
        *,
        device_dir: Path = DEVICE_DIR,
        appear_timeout_s: float = APPEAR_TIMEOUT_S,
        poll_s: float = POLL_S,
    ) -> None:
        self._prism = prism
        self.worker_id = worker_id
        self._device_dir = device_dir
        self._appear_timeout_s = appear_timeout_s
        self._poll_s = poll_s

    @asynccontextmanager
    async def attach(self, disk_point: DiskPoint, size: int) -> AsyncIterator[str]:
        """Give the block device of a clone of the disk; remove the clone on exit, also when cancelled."""
        # One that is cancelled half-way is taken back by Prism's side, which alone knows how far it came.
        attached = await self._prism.attach_disk(self.worker_id, disk_point)
        try:
            device = await self._device(attached, size)
            yield str(device)
        except BaseException:
            try:
                await run_to_completion(self._prism.detach_disk(attached), timeout_s=DETACH_TIMEOUT_S)
            except (NtxError, TimeoutError) as error:
                log.warning("%s; `ntx sweep` removes it", _not_detached(attached, error))
            raise
        try:
            await run_to_completion(self._prism.detach_disk(attached), timeout_s=DETACH_TIMEOUT_S)
        except (NtxError, TimeoutError) as error:
            raise AttachError(_not_detached(attached, error)) from error

    async def _device(self, attached: AttachedDisk, size: int) -> Path:
        """Wait until the guest sees the disk in its full size."""
        if not is_uuid(attached.vmdisk_id):
            raise AttachError(f"Prism calls the file of a hot-added disk {attached.vmdisk_id!r}, which is not a UUID")
        suffix = attached.vmdisk_id.replace("-", "_").lower()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._appear_timeout_s
        while True:
            left_s = max(deadline - loop.time(), self._poll_s)
            try:
                found = await call_with_timeout(lambda: _find(self._device_dir, suffix), left_s)
            except TimeoutError:
                found = None
            except OSError as error:
                action = f"cannot read the hot-added disk in {self._device_dir}"
                raise machine_error(action, error) or AttachError(f"{action}: {error}") from error
            # The name may be there before the capacity is.
            if found is not None and found[1] > 0:
                check_size(found[0], found[1], size)
                return found[0]
            if loop.time() >= deadline:
                raise AttachError(
                    f"no device named ...{suffix} appeared in {self._device_dir} within {self._appear_timeout_s:g} s "
                    f"after the disk was hot-added to VM {self.worker_id}: is this machine that VM (--worker)?"
                )
            await asyncio.sleep(self._poll_s)


def _not_detached(attached: AttachedDisk, error: BaseException) -> str:
    return f"disk {attached.id} could not be removed from VM {attached.worker_id}: {error}"


def _find(device_dir: Path, suffix: str) -> tuple[Path, int] | None:
    """Return the device whose name ends with `suffix`, and its size; None while there is none.

    Several names may lead to one device; one name for two devices is refused.  Partitions end otherwise (`-part1`).
    """
    devices: set[Path] = set()
    for entry in device_dir.iterdir():
        if entry.name.lower().endswith(suffix):
            try:
                devices.add(entry.resolve(strict=True))
            except FileNotFoundError:  # udev is at work
                continue
    if not devices:
        return None
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise AttachError(f"{device_dir} has more than one device named ...{suffix}: {names}")
    device = devices.pop()
    return device, readable_size(device)
