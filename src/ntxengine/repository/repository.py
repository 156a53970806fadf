"""The face of a repository: what may take long is awaited, and runs in a thread that ends before its caller goes on.

    async with repository.lock(vm_id) as lock:                # nobody else captures this VM
        unfinished = await repository.begin(lock, parent)     # the lock is proof
        await unfinished.add_disk(...)
        point = await unfinished.commit(record)               # or abort()

A cancellation waits for the thread and takes back what that has made: no lock and no unfinished point is left behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import RepositoryError
from ntxengine.images.qemu_nbd import QemuNbd
from ntxengine.images.served import ImageFile
from ntxengine.repository import cluster_record, distrust, layout, leftovers, retention_file, sampled, scan, site, sums
from ntxengine.repository.adopt import adopt
from ntxengine.repository.chain import Chains
from ntxengine.repository.cluster_record import ClusterRecord, Records, Sharing
from ntxengine.repository.distrust import Marks
from ntxengine.repository.health import Health
from ntxengine.repository.interrupted import Interrupted
from ntxengine.repository.leftovers import Leftovers
from ntxengine.repository.lock import VmLock
from ntxengine.repository.point import Point, PointDisk
from ntxengine.repository.reading import reading
from ntxengine.repository.retention import Retention
from ntxengine.repository.store import PointStore, VmSummary
from ntxengine.repository.stored import StoredSample
from ntxengine.repository.unfinished import BlockingUnfinishedPoint
from ntxengine.repository.unfinished_point import UnfinishedPoint
from ntxengine.repository.vm_names import NamedVm
from ntxengine.units import utc_now


class Repository:
    """A repository.  Every question reads the directory; several tasks, threads and processes may work at once."""

    def __init__(self, store: PointStore) -> None:
        """Not for callers: see `open` and `create`."""
        self._store = store
        self.path = store.path
        self.id = store.id

    @classmethod
    async def create(cls, path: Path | str, *, clock: Callable[[], datetime] = utc_now) -> Repository:
        """Make a repository in a new or empty directory.

        Errors: RepositoryError if there is something else, or a repository already; TargetError.
        """
        return cls(await to_thread_joined(PointStore.create, path, clock=clock))

    @staticmethod
    async def check_creatable(path: Path | str) -> None:
        """Refuse a directory that `create` would; nothing is made.  Errors: as `create`."""
        await to_thread_joined(PointStore.check_creatable, path)

    @classmethod
    async def open(
        cls,
        path: Path | str,
        create: bool = False,
        *,
        renews_catalog: bool = True,
        clock: Callable[[], datetime] = utc_now,
    ) -> Repository:
        """Open a repository, also a read-only one; with `create`, make it where there is none.

        `renews_catalog`: as for PointStore.open.
        Errors: NotFoundError if there is none; RepositoryError if it is damaged, or of a newer version.
        """
        opened = await to_thread_joined(PointStore.open, path, create, renews_catalog=renews_catalog, clock=clock)
        return cls(opened)

    @classmethod
    async def adopt(cls, path: Path | str) -> Repository:
        """Make a copy of a repository, or one whose marker is lost, a repository of its own, with a new id.

        What recovery points of the former one are on a cluster is its business from now on.
        Errors: NotFoundError, RepositoryError; LockedError while a VM of it is being captured; TargetError.
        """
        return cls(await to_thread_joined(adopt, path))

    # ------------------------------------------------------------------------------------------------ questions

    async def vms(self) -> list[VmSummary]:
        """Return the VMs that have points, by name."""
        return await to_thread_joined(self._store.vms)

    async def vm_ids(self) -> list[str]:
        """Return the ids of the VMs that have a folder here, also of those without a point."""
        folders = await to_thread_joined(scan.vm_folders, self.path)
        return [folder.name for folder in folders]

    async def points(self, vm_id: str | None = None, *, with_forgotten: bool = False) -> list[Point]:
        """Return the whole and readable points of one VM or of all, oldest first.  Damaged ones are logged."""
        return await to_thread_joined(self._store.points, vm_id, with_forgotten=with_forgotten)

    async def health(self, vm_id: str | None = None, *, from_catalog: bool = True) -> Health:
        """Return which points of one VM or of all can be read whole.

        `from_catalog`: believe what it remembers of each point.json, which may have rotted since.
        """
        return await to_thread_joined(self._store.health, vm_id, from_catalog=from_catalog)

    async def health_of_newest(self, vm_id: str) -> Health:
        """Return the health of the newest point of a VM, read from its folder; of all of them if it cannot be read."""
        return await to_thread_joined(self._store.health_of_newest, vm_id)

    async def find_problem(self, point: Point, disks: Sequence[PointDisk] | None = None) -> str:
        """Return why a point cannot be read whole, or these disks of it; "" if it can."""
        return await to_thread_joined(self._store.find_problem, point, disks)

    async def marks(self, point: Point, disks: Sequence[PointDisk]) -> Marks:
        """Return which of these disks of a point may lack changes, as an audit found."""
        wanted = {(point.id, disk.disk_id) for disk in disks}
        try:
            found = await to_thread_joined(distrust.read, point.path.parent)
        except RepositoryError as error:
            return Marks(problem=str(error))
        return Marks(tuple(each for each in found if (each.point_id, each.disk_id) in wanted))

    async def retention(self, vm_id: str) -> Retention:
        """Return what was said of the points of a VM: tags, holds, and which are forgotten.

        Errors: RepositoryError if the file of it is damaged: nothing may be forgotten or removed then.
        """
        return await to_thread_joined(retention_file.read, self._store.folder_of(vm_id))

    async def samples(self, point: Point) -> dict[str, StoredSample]:
        """Return how far the samples of the disks of a point are, by disk id.  Never fails: see sampled.read."""
        return await to_thread_joined(sampled.of_point, point)

    async def keep_samples(self, point: Point, samples: Sequence[StoredSample]) -> None:
        """Remember how far they are now.  Errors: TargetError."""
        await to_thread_joined(sampled.keep, point, samples)

    async def fingerprint(self, point: Point, disk: PointDisk, images: Sequence[Path]) -> str:
        """Return what changes when a file changes that a disk is read from.  Errors: RepositoryError."""
        return await to_thread_joined(sampled.fingerprint, [*images, point.manifest_path(disk)])

    async def find_file_problems(self, point: Point) -> list[str]:
        """Return what is wrong with the files beside the disks and point.json, one line for each."""
        return await to_thread_joined(sums.find_problems, point.path)

    async def find_vm(self, name: str) -> NamedVm:
        """Return the VM with this UUID, or that is or was called so.

        Errors: NotFoundError if there is none; OptionsError if there are several.
        """
        return await to_thread_joined(self._store.find_vm, name)

    def longest_chain(self, vm_id: str) -> int:
        """Return how many images plain qemu can open on top of each other in the folder of a VM."""
        return self._store.longest_chain(vm_id)

    async def damaged(self) -> list[RepositoryError]:
        """Return why each point that is not listed cannot be read, and what is no folder of a VM or a point."""
        return await to_thread_joined(self._store.damaged)

    async def point(self, point_id: str, *, checked: bool = True) -> Point:
        """Return a point by its id or the beginning of it, as its folder has it now.

        `checked`: only if point.json is what was written.
        Errors: NotFoundError if there is none, or several, or it is forgotten and not named by its whole id;
                RepositoryError if it is damaged.
        """
        return await to_thread_joined(self._store.point, point_id, checked=checked)

    async def find_folder(self, point_id: str) -> Path:
        """Return the folder of a point by its id or the beginning of it, also of one that cannot be read.

        Errors: NotFoundError if there is none, or several, or it is forgotten and not named by its whole id.
        """
        return await to_thread_joined(self._store.find_folder, point_id)

    async def read_point(self, folder: Path, *, checked: bool = True) -> Point:
        """Return the point in a folder as it is now, whatever the catalog remembers; `checked` as for `point`.

        Errors: RepositoryError if it is damaged.
        """
        return (await to_thread_joined(scan.read_point, folder, checked=checked))[0]

    async def newest(self, vm_id: str) -> Point | None:
        """Return the newest point of a VM that is not forgotten, as its folder has it now; None if it has none.

        Errors: RepositoryError if it is damaged.
        """
        return await to_thread_joined(self._store.newest, vm_id)

    async def last_id(self, vm_id: str) -> str | None:
        """Return the last id that the VM's folder holds, also of a point that is damaged."""
        return await to_thread_joined(self._store.last_id, vm_id)

    async def last_listed_id(self, vm_id: str) -> str | None:
        """Return the same, but of a point that is not forgotten."""
        return await to_thread_joined(self._store.last_listed_id, vm_id)

    async def chain(self, point: Point, *, chains: Chains | None = None) -> list[Point]:
        """Return the points that `point` is made of, the root first, itself last.

        `chains` remembers what was read for other points.
        Errors: RepositoryError if one is missing or damaged.
        """
        return await to_thread_joined(self._store.chain, point, chains=chains)

    async def images(self, point: Point, disk: PointDisk, *, chains: Chains | None = None) -> tuple[Path, ...]:
        """Return the images of a disk, newest first down to the root, each checked against its point.

        `chains` remembers what was read for other points.
        Errors: RepositoryError if an image is missing, or is not what its point says.
        """
        return await to_thread_joined(self._store.images, point, disk, chains=chains)

    async def bytes_allocated(self, point: Point, disk: PointDisk) -> int:
        """Return what all images of a disk take on their file system.  Errors: as `images`."""
        return await to_thread_joined(self._store.bytes_allocated, point, disk)

    async def manifest(self, point: Point, disk: PointDisk) -> Manifest:
        """Open the manifest of a disk, checked against its point.  The caller closes it.

        Errors: RepositoryError if it is missing, damaged, or that of something else.
        """
        return await acquire_in_thread(partial(self._store.manifest, point, disk), give_back=Manifest.close)

    async def vm_config(self, point: Point, *, checked: bool = True) -> bytes | None:
        """Return the configuration of the VM as Prism gave it, None if the point was made without.

        `checked`: only if it is what was written.
        Errors: RepositoryError naming what is missing or damaged.
        """
        return await to_thread_joined(sums.read_companion, point.path, layout.VM_FILE, checked=checked)

    @asynccontextmanager
    async def serve(self, point: Point, disk: PointDisk, *, connections: int = 1) -> AsyncIterator[QemuNbd]:
        """Serve a disk of a point, read-only.  Its export has whole sectors: see PointDisk.size.

        Errors: as `images` and QemuNbd.
        """
        async with reading([point]):
            now = await self.read_point(point.path)
            path, *below = await self.images(now, now.disk(disk.disk_id))
            async with QemuNbd(ImageFile(path, backing=below), read_only=True, connections=connections) as server:
                yield server

    # -------------------------------------------------------------------------------------------------- changes

    @asynccontextmanager
    async def lock(self, vm_id: str) -> AsyncIterator[VmLock]:
        """Hold the lock of a VM, which keeps other captures of it out, also those of this process.

        Errors: LockedError naming the process that has it; TargetError if nothing can be written here.
        """
        lock = await acquire_in_thread(partial(self._store.acquire, vm_id), give_back=VmLock.release)
        try:
            yield lock
        finally:
            await to_thread_joined(lock.release)

    async def begin(self, lock: VmLock, parent: Point | None) -> UnfinishedPoint:
        """Begin a point of the VM that is locked, on top of `parent` or of nothing, and remove what killed captures of
        this VM have left, also what could be gone on with.  The lock is held until the point was committed or aborted.

        Errors: RepositoryError (the lock was given back, or is not of this VM and repository; the parent is not the
                VM's newest point); TargetError.
        """
        begun = await acquire_in_thread(
            partial(self._store.begin, lock, parent), give_back=BlockingUnfinishedPoint.abort
        )
        return UnfinishedPoint(begun)

    async def change_retention(self, vm_id: str, decide: Callable[[Retention], Retention]) -> Retention:
        """Replace what was said of the points of a VM, durably; return what `decide` made of it.

        It has a lock of its own, so a capture may run meanwhile; `decide` runs in a thread.
        Errors: as retention_file.change.
        """
        return await to_thread_joined(retention_file.change, self._store.folder_of(vm_id), decide)

    async def drop_retention_of_gone(self, lock: VmLock) -> list[str]:
        """Leave out what was said of forgotten points whose folders are gone; return their ids.

        Errors: as retention_file.drop_gone; RepositoryError (the lock, as `begin`).
        """
        return await to_thread_joined(retention_file.drop_gone, self._store.check_lock(lock))

    async def begin_copy(self, lock: VmLock, point: Point, parent: Point | None) -> UnfinishedPoint:
        """Begin the point of another repository; it is left, not aborted, where it is to be gone on with.

        Errors: as PointStore.begin_copy.
        """
        return UnfinishedPoint(await to_thread_joined(self._store.begin_copy, lock, point, parent))

    def check_lock(self, lock: VmLock) -> Path:
        """Return the folder of the VM that is locked.  Errors: RepositoryError (as `begin`)."""
        return self._store.check_lock(lock)

    async def interrupted(self, vm_id: str | None = None) -> list[Interrupted]:
        """Return the captures of a VM, or of all, that were interrupted, oldest first.  One that runs looks so, too."""
        return await to_thread_joined(self._store.interrupted, vm_id)

    async def is_locked(self, vm_id: str) -> bool:
        """Say whether somebody captures a VM at this moment, or that cannot be found out."""
        return await to_thread_joined(self._store.is_locked, vm_id)

    async def reopen(self, lock: VmLock, found: Interrupted, parent: Point | None) -> UnfinishedPoint:
        """Go on with the point of an interrupted capture of the VM that is locked; remove all else that was left.

        Errors: as PointStore.reopen.
        """
        return UnfinishedPoint(await to_thread_joined(self._store.reopen, lock, found, parent))

    async def sweep(
        self, *, dry_run: bool = False, is_kept: Callable[[Interrupted], bool] = lambda _: False
    ) -> Leftovers:
        """Remove what killed captures left here, but of no VM that is being captured, and nothing that is kept."""
        return await to_thread_joined(leftovers.sweep, self.path, dry_run=dry_run, is_kept=is_kept)

    # ----------------------------------------------------------------------------------- what it is, and the cluster

    async def find_mismatch(self) -> str:
        """Return why this seems to be a copy of another repository, "" if it does not."""
        return await to_thread_joined(site.find_mismatch, self.path)

    async def settle_site(self) -> str:
        """As find_mismatch; where there is none, record where the repository is now.  Errors: TargetError."""
        return await to_thread_joined(site.settle, self.path)

    def new_point_id(self) -> str:
        """Return an id for what is made on the cluster without a point: an export."""
        return self._store.new_point_id()

    def recovery_point_name(self, point_id: str = "") -> str:
        """Return the name that the recovery point of a point has on the cluster, or what all such names begin with."""
        return cluster_record.name_prefix(self.id) + point_id

    def shared_point_name(self, point_id: str) -> str:
        """Return the name of a recovery point of several VMs, after the point of one of them."""
        return cluster_record.shared_name(self.id, point_id)

    async def sharing(self, vm_id: str, record: ClusterRecord) -> Sharing:
        """Return who else needs what a record of a VM tells of."""
        return await to_thread_joined(cluster_record.sharing, self.path, vm_id, record, self._store.is_locked)

    async def cluster_records(self, vm_id: str) -> Records:
        """Return what is recorded that captures of a VM made on the cluster, oldest first."""
        return await to_thread_joined(cluster_record.read, self.path / vm_id.lower())

    async def has_cluster_records(self, vm_id: str) -> bool:
        """Say whether there are any, readable or not."""
        return await to_thread_joined(cluster_record.exist, self.path / vm_id.lower())

    async def write_cluster_record(self, lock: VmLock, record: ClusterRecord) -> None:
        """Write or replace a record, durably.  Errors: TargetError, RepositoryError (also: the lock, as `begin`)."""
        await to_thread_joined(cluster_record.write, self._store.check_lock(lock), record)

    async def remove_cluster_record(self, lock: VmLock, record: ClusterRecord) -> None:
        """Remove a record: the cluster is clean.  Errors: TargetError, RepositoryError (the lock, as `begin`)."""
        await to_thread_joined(cluster_record.remove, self._store.check_lock(lock), record)


async def sweep_files(folder: Path, *, dry_run: bool = False) -> Leftovers:
    """Remove what interrupted creations of a repository left in a folder, whatever it is now."""
    return await to_thread_joined(leftovers.sweep_files, folder, dry_run=dry_run)
