"""A repository: the points of many VMs below one directory, which may be moved, copied, or mounted read-only.

Everything here blocks: for threads, and for tests.  Whoever has an event loop takes Repository (repository.py).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import NotFoundError, NtxError, RepositoryError
from ntxengine.files import durable
from ntxengine.repository import filesystem, interrupted, layout, marker, retention_file, strays
from ntxengine.repository.catalog import Catalog, NewRow
from ntxengine.repository.chain import Chains, open_manifest
from ntxengine.repository.health import Health, examine
from ntxengine.repository.interrupted import Interrupted
from ntxengine.repository.lock import VmLock, is_held
from ntxengine.repository.point import Point, PointDisk
from ntxengine.repository.scan import Scan, read_point, scan, vm_folders
from ntxengine.repository.unfinished import BlockingUnfinishedPoint
from ntxengine.repository.vm_names import NamedVm, find_vm
from ntxengine.units import utc_now

log = logging.getLogger(__name__)

Now = Callable[[], datetime]


@dataclass(frozen=True)
class VmSummary:
    """A VM that has points.  `vm_name` is what it was called at the newest."""

    vm_id: str
    vm_name: str
    points: int
    newest: Point


class PointStore:
    """Reads the directory at every question: nothing is cached in the object, several processes may work at once."""

    def __init__(self, path: Path, repository_id: str, *, clock: Callable[[], datetime]) -> None:
        """Not for callers: see `open` and `create`."""
        self.path = path
        self.id = repository_id
        self._clock = clock
        self._warned: set[Path] = set()
        self._catalog = Catalog(path / layout.CATALOG_FILE, guard=path / layout.MARKER_FILE)

    @classmethod
    def create(cls, path: Path | str, *, clock: Now = utc_now) -> PointStore:
        """Make a repository in a new or empty directory.

        Errors: RepositoryError if there is something else, or a repository already; TargetError.
        """
        folder = _absolute(path)
        try:
            folder.mkdir(mode=durable.FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as exc:
            raise durable.write_error(folder, "making the repository", exc) from exc
        marker.check_creatable(folder)
        if not marker.write(folder):
            raise RepositoryError(f"{folder}: is a repository already: another process made it at this moment")
        repository = cls.open(folder, clock=clock)
        repository._catalog.update((), ())
        return repository

    @staticmethod
    def check_creatable(path: Path | str) -> None:
        """Refuse a directory that `create` would; nothing is made.  Errors: as `create`."""
        marker.check_creatable(_absolute(path))

    @classmethod
    def open(
        cls, path: Path | str, create: bool = False, *, renews_catalog: bool = True, clock: Now = utc_now
    ) -> PointStore:
        """Open a repository, also a read-only one; with `create`, make it where there is none.

        `renews_catalog`: look at every point that there is, for the catalog; not for whoever wants those of one VM.
        Errors: NotFoundError if there is none; RepositoryError if it is damaged, or of a newer version.
        """
        folder = _absolute(path)
        marker_path = folder / layout.MARKER_FILE
        if not marker_path.exists() and not marker_path.is_symlink():
            if create:
                with suppress(RepositoryError):
                    return cls.create(folder, clock=clock)
                if not marker_path.exists():
                    return cls.create(folder, clock=clock)  # not a race: say why it cannot be made
            else:
                raise NotFoundError(
                    f"{folder}: is not a repository: no {layout.MARKER_FILE} in it{marker.remedy(folder)}"
                )
        repository = cls(folder, marker.read(marker_path), clock=clock)
        if renews_catalog:
            repository._scan()
        return repository

    # ------------------------------------------------------------------------------------------------ questions

    def vms(self) -> list[VmSummary]:
        """Return the VMs that have points, by name."""
        by_vm: dict[str, list[Point]] = {}
        for point in self.points():
            by_vm.setdefault(point.vm_id, []).append(point)
        summaries = [VmSummary(vm, points[-1].vm_name, len(points), points[-1]) for vm, points in by_vm.items()]
        return sorted(summaries, key=lambda each: (each.vm_name, each.vm_id))

    def points(self, vm_id: str | None = None, *, with_forgotten: bool = False) -> list[Point]:
        """Return the whole and readable points of one VM or of all, oldest first.  Damaged ones are logged."""
        found = self._scan(None if vm_id is None else layout.checked_uuid(vm_id, "VM id"))
        hidden = set() if with_forgotten else self._hidden(found.folders())
        for folder, error in found.damaged.items():
            if folder not in hidden:
                log.warning("%s: this point is not listed", error)
        for error in found.strange.values():
            log.warning("%s: no point in it is listed", error)
        return [point for point in found.points if point.path not in hidden]

    def health(self, vm_id: str | None = None, *, from_catalog: bool = True) -> Health:
        """Return which points of one VM or of all can be read whole.

        `from_catalog`: believe what it remembers of each point.json, which may have rotted since.
        Blocks: a few small reads for each disk.
        """
        vm_id = None if vm_id is None else layout.checked_uuid(vm_id, "VM id")
        found = self._scan(vm_id) if from_catalog else scan(self.path, {}, vm_id)
        return examine(found.points, {**found.damaged, **found.strange})

    def health_of_newest(self, vm_id: str) -> Health:
        """Return the health of the newest point of a VM, read from its folder; of all of them if it cannot be read."""
        vm_id = layout.checked_uuid(vm_id, "VM id")
        newest = self.last_listed_id(vm_id)
        if newest is not None:
            with suppress(RepositoryError):
                return examine([read_point(self.path / vm_id / newest)[0]], {})
        return self.health(vm_id, from_catalog=False)

    def find_problem(self, point: Point, disks: Sequence[PointDisk] | None = None) -> str:
        """Return why a point cannot be read whole, or these disks of it; "" if it can.  Blocks: as `health`."""
        return examine([point], {}).problem(point, disks)

    def find_vm(self, name: str) -> NamedVm:
        """Return the VM with this UUID, or that is or was called so.

        Errors: NotFoundError if there is none; OptionsError if there are several.
        """
        found = self._scan()
        return find_vm(found.points, [*found.damaged, *found.strange], name)

    def folder_of(self, vm_id: str) -> Path:
        """Return the folder of a VM, there or not.  Errors: RepositoryError (no UUID; what is there is no folder)."""
        folder = self.path / layout.checked_uuid(vm_id, "VM id")
        durable.check_folder(folder)
        return folder

    def longest_chain(self, vm_id: str) -> int:
        """Return how many images plain qemu can open on top of each other in the folder of a VM."""
        return layout.longest_chain(self.path / vm_id)

    def damaged(self) -> list[RepositoryError]:
        """Return why each point that is not listed cannot be read, and what is no folder of a VM or a point."""
        found = self._scan()
        hidden = self._hidden(found.damaged)
        listed = [error for folder, error in found.damaged.items() if folder not in hidden]
        return [*listed, *found.strange.values()]

    def point(self, point_id: str, *, checked: bool = True) -> Point:
        """Return a point by its id or the beginning of it, read from its folder; `checked` as for read_point.

        Errors: as find_folder; RepositoryError if it is damaged.
        """
        return read_point(self.find_folder(point_id), checked=checked)[0]

    def find_folder(self, point_id: str) -> Path:
        """Return the folder of a point by its id or the beginning of it, also of one that cannot be read.

        Errors: NotFoundError if there is none, or several, or it is forgotten and not named by its whole id.
        """
        wanted = point_id.upper()
        every = [folder for folder in self._scan().folders() if wanted and folder.name.upper().startswith(wanted)]
        hidden = self._hidden(every)
        folders = [folder for folder in every if folder not in hidden or folder.name.upper() == wanted]
        if not folders:
            forgotten = f" that is not forgotten: write the whole id, {every[0].name}" if every else ""
            raise NotFoundError(f"{self.path}: no point {point_id[:80]!r}{forgotten}")
        if len(folders) > 1:
            some = ", ".join(folder.name for folder in folders[:3])
            raise NotFoundError(
                f"{self.path}: {len(folders)} points begin with {point_id!r} ({some}, ...): write more of it"
            )
        return folders[0]

    def newest(self, vm_id: str) -> Point | None:
        """Return the newest point of a VM that is not forgotten, read from its folder; None if it has none.

        Errors: RepositoryError if it is damaged, also where the catalog does not know yet.
        """
        points = self.points(vm_id)
        return read_point(points[-1].path)[0] if points else None

    def last_id(self, vm_id: str) -> str | None:
        """Return the last id that the VM's folder holds, also of a point that is damaged: ids are not given twice."""
        return max((folder.name for folder in self._scan(vm_id).folders()), default=None)

    def last_listed_id(self, vm_id: str) -> str | None:
        """Return the same, but of a point that is not forgotten."""
        folders = self._scan(vm_id).folders()
        hidden = self._hidden(folders)
        return max((folder.name for folder in folders if folder not in hidden), default=None)

    def chain(self, point: Point, *, chains: Chains | None = None) -> list[Point]:
        """Return the points that `point` is made of, the root first, itself last.

        `chains` remembers what was read for other points.
        Errors: RepositoryError if one is missing or damaged.
        """
        return (chains or Chains()).points_of(point)[::-1]

    def images(self, point: Point, disk: PointDisk, *, chains: Chains | None = None) -> tuple[Path, ...]:
        """Return the images of a disk, newest first down to the root, each checked against its point.

        `chains` remembers what was read for other points.  Blocks: a small read for each.
        Errors: RepositoryError if an image is missing, or is not what its point says.
        """
        return (chains or Chains()).images_of(point, disk)

    def bytes_allocated(self, point: Point, disk: PointDisk) -> int:
        """Return what all images of a disk take on their file system.  Errors: as `images`."""
        try:
            return sum(path.stat().st_blocks * 512 for path in self.images(point, disk))
        except OSError as exc:
            raise durable.read_error(point.path, exc) from exc

    def manifest(self, point: Point, disk: PointDisk) -> Manifest:
        """Open the manifest of a disk, checked against its point.  Blocks; the caller closes it.

        Errors: RepositoryError if it is missing, damaged, or that of something else.
        """
        return open_manifest(point.path, disk)

    # ------------------------------------------------------------------------------------------------ changes

    def acquire(self, vm_id: str) -> VmLock:
        """Take the lock of a VM, which keeps other captures of it out, also those of this process.

        Errors: LockedError naming the process that has it; TargetError if nothing can be written here.
        """
        vm_id = layout.checked_uuid(vm_id, "VM id")
        lock = VmLock(self.path / vm_id, f"{self.path}: VM {vm_id}")
        lock.acquire()
        return lock

    def is_locked(self, vm_id: str) -> bool:
        """Say whether somebody captures a VM at this moment, or that cannot be found out."""
        return is_held(self.path / layout.checked_uuid(vm_id, "VM id"))

    @contextmanager
    def lock(self, vm_id: str) -> Iterator[VmLock]:
        """Hold the lock of a VM: as `acquire`."""
        lock = self.acquire(vm_id)
        try:
            yield lock
        finally:
            lock.release()

    def new_point_id(self) -> str:
        return layout.new_point_id(self._clock(), after=None, token=secrets.token_hex(3))

    def begin(self, lock: VmLock, parent: Point | None) -> BlockingUnfinishedPoint:
        """Begin a point of the VM that is locked, on top of `parent` or of nothing, and remove what killed captures of
        this VM have left, also what could be gone on with (`interrupted`, `reopen`).

        Errors: RepositoryError (the lock was given back, or is of another repository; the parent is not the VM's newest
                point; as new_point_id); TargetError.
        """
        folder = self.check_lock(lock)
        strays.remove_unfinished(folder)
        newest = self._check_newest(folder.name, parent)
        point_id = layout.new_point_id(self._clock(), after=newest, token=secrets.token_hex(3))
        path = folder / f"{layout.UNFINISHED_PREFIX}{point_id}"
        durable.make_folder(path)
        try:
            warnings = filesystem.try_out(path)
        except BaseException:
            durable.remove_tree(path)
            raise
        return BlockingUnfinishedPoint(point_id, path, parent, lock=lock, committed=self._enter, warnings=warnings)

    def begin_copy(self, lock: VmLock, point: Point, parent: Point | None) -> BlockingUnfinishedPoint:
        """Begin the point of another repository, on top of `parent` or of nothing, or go on with an earlier try.

        Errors: RepositoryError (the lock, as `begin`; there is such a point; the parent is not older); TargetError.
        """
        folder = self.check_lock(lock)
        path = folder / f"{layout.UNFINISHED_PREFIX}{point.id}"
        if (folder / point.id).exists() or not layout.is_point_id(point.id):
            raise RepositoryError(f"{folder / point.id}: cannot be copied there: it is there already, or is no point")
        if parent is not None and (parent.vm_id != folder.name or parent.id >= point.id):
            raise RepositoryError(f"{path}: cannot be on top of point {parent.id} of VM {parent.vm_id}")
        durable.make_folder(path)
        interrupted.clean(path, {disk.disk_id for disk in point.disks})
        warnings = filesystem.try_out(path)
        return BlockingUnfinishedPoint(point.id, path, parent, lock=lock, committed=self._enter, warnings=warnings)

    def interrupted(self, vm_id: str | None = None) -> list[Interrupted]:
        """Return the captures of a VM, or of all, that were interrupted, oldest first.  One that runs looks so, too."""
        folders = vm_folders(self.path) if vm_id is None else [self.path / layout.checked_uuid(vm_id, "VM id")]
        return [each for folder in folders for each in interrupted.find(folder)]

    def reopen(self, lock: VmLock, found: Interrupted, parent: Point | None) -> BlockingUnfinishedPoint:
        """Go on with the point of an interrupted capture of the VM that is locked; remove all else that was left.

        Errors: RepositoryError (as `begin`; it is not on top of `parent`, or older than a point); TargetError.
        """
        folder = self.check_lock(lock)
        newest = self._check_newest(folder.name, parent)
        resume = found.resume
        if found.path.parent != folder or resume is None or resume.parent_id != (parent.id if parent else None):
            raise RepositoryError(f"{found.path}: cannot be gone on with: {found.problem or 'it is of other points'}")
        if newest is not None and found.point_id <= newest:
            raise RepositoryError(f"{found.path}: cannot be gone on with: point {newest} is newer")
        strays.remove_unfinished(folder, kept=[found.path])
        interrupted.clean(found.path, {disk.disk_id for disk in resume.disks})
        return BlockingUnfinishedPoint(
            found.point_id, found.path, parent, lock=lock, committed=self._enter, resume=resume
        )

    def _check_newest(self, vm_id: str, parent: Point | None) -> str | None:
        """Return the VM's newest point, which a parent has to be, or the newest that is not forgotten.

        One that is forgotten since the capture was planned is as good: nobody prunes while the VM is locked.
        Errors: RepositoryError.
        """
        newest = self.last_id(vm_id)
        if parent is not None and (parent.vm_id != vm_id or parent.id not in (newest, self.last_listed_id(vm_id))):
            raise RepositoryError(
                f"{self.path}: point {parent.id} of VM {parent.vm_id} is not the newest of VM {vm_id} "
                f"({newest or 'it has none'}): nothing can be put on top of it"
            )
        return newest

    def check_lock(self, lock: VmLock) -> Path:
        """Return the folder of the VM that is locked.

        Errors: RepositoryError if the lock was given back, or is of another repository.
        """
        lock.check_held()
        if lock.folder.parent != self.path:
            raise RepositoryError(f"{self.path}: the lock of {lock.folder} is of another repository")
        return lock.folder

    # ------------------------------------------------------------------------------------------------ inside

    def _scan(self, vm_id: str | None = None) -> Scan:
        # The catalog first: a point that is committed in between is then new, and not a row without a folder.
        rows = self._catalog.read(vm_id)
        found = scan(self.path, rows, vm_id)
        if found.new or found.gone:
            self._catalog.update(found.new, found.gone)
        return found

    def _hidden(self, folders: Iterable[Path]) -> set[Path]:
        """Return which of the folders of points are of forgotten ones; none of a VM of which nobody knows."""
        hidden: set[Path] = set()
        by_vm: dict[Path, list[Path]] = {}
        for folder in folders:
            by_vm.setdefault(folder.parent, []).append(folder)
        for vm, of_vm in by_vm.items():
            try:
                said = retention_file.read(vm)
            except RepositoryError as exc:
                if vm not in self._warned:
                    log.warning("%s: its forgotten points are listed, too", exc)
                self._warned.add(vm)
                continue
            hidden.update(folder for folder in of_vm if said.is_forgotten(folder.name))
        return hidden

    def _enter(self, point: Point) -> None:
        try:
            self._catalog.update([NewRow(*read_point(point.path))], [])
        except NtxError as exc:  # it is committed: whoever reads it next finds what is wrong
            log.warning("%s: not entered into the catalog", exc)


def _absolute(path: Path | str) -> Path:
    folder = Path(path).absolute()
    try:
        str(folder).encode()
    except UnicodeEncodeError as exc:
        raise RepositoryError(f"{str(folder)!r}: qemu opens only paths in UTF-8: choose another directory") from exc
    return folder
