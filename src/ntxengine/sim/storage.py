"""The files: live disks, frozen copies, hot-added clones.

    STATE/containers/<container>/.acropolis/vmdisk/<vmdisk uuid>                          live: link to the given file
    STATE/containers/<container>/.snapshot/<nn>/<triple>/.acropolis/vmdisk/<vmdisk uuid>  frozen by v3
    STATE/recovery-points/<recovery point>/<disk recovery point>                          frozen by v4
    STATE/volume-groups/<volume group>/<disk>                                             cloned for iSCSI
    STATE/clones/<vmdisk uuid>  and  STATE/dev/by-id/scsi-SNUTANIX_NFS_...                hot-added

Every name comes from a uuid or a container of the configuration, never from what a user called a VM.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ntxengine.errors import OptionsError
from ntxengine.sim.config import DiskConfig
from ntxengine.units import MIB

_FICLONE = 0x40049409
_COPY_SIZE = 8 * MIB


class Layout:
    """Where everything is below the state directory."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.containers = state / "containers"
        self.recovery_points = state / "recovery-points"
        self.clones = state / "clones"
        self.volume_groups = state / "volume-groups"
        self.devices = state / "dev" / "by-id"

    def make(self, containers: list[str]) -> None:
        """Create the folders; what exists stays."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.recovery_points, self.clones, self.devices, self.volume_groups):
            folder.mkdir(parents=True, exist_ok=True)
        for name in containers:
            (self.containers / name / ".acropolis" / "vmdisk").mkdir(parents=True, exist_ok=True)
            (self.containers / name / ".snapshot").mkdir(exist_ok=True)

    def live_path(self, container: str, vmdisk: str) -> str:
        """Return the storage path of a live disk: `/container/.acropolis/vmdisk/uuid`."""
        return f"/{container}/.acropolis/vmdisk/{vmdisk}"

    def snapshot_path(self, container: str, triple: str, vmdisk: str) -> str:
        """Return the storage path of a file of a v3 snapshot; `nn` is the end of the snapshot's number."""
        serial = int(triple.rsplit("-", 1)[1])
        return f"/{container}/.snapshot/{serial % 100:02d}/{triple}/.acropolis/vmdisk/{vmdisk}"

    def file(self, storage_path: str) -> Path:
        """Return the file that a storage path of ours names."""
        return self.containers / storage_path.lstrip("/")

    def device(self, vmdisk: str, serial: int) -> Path:
        """Return the link by which the guest finds a hot-added disk."""
        return self.devices / f"scsi-SNUTANIX_NFS_{serial}_0_{serial}_{vmdisk.replace('-', '_')}"


def open_disk(disk: DiskConfig, what: str) -> int:
    """Return the size of a configured disk, creating it sparse if it is missing and has a size.

    Errors: OptionsError if it is missing, empty or no regular file.
    """
    path = disk.path
    if not path.exists():
        if disk.size is None:
            raise OptionsError(f"simulator: {what}: disk file {path} does not exist: create it, or give its size")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.truncate(disk.size)
    if not path.is_file():
        raise OptionsError(f"simulator: {what}: {path} is no regular file")
    size = path.stat().st_size
    if size == 0:
        raise OptionsError(f"simulator: {what}: disk file {path} is empty")
    return size


def link(target: Path, name: Path) -> None:
    """Make `name` a symbolic link to `target`, replacing an older one."""
    new = name.with_name(name.name + ".new")
    new.unlink(missing_ok=True)
    new.symlink_to(target.resolve())
    new.replace(name)


def copy_file(source: Path, target: Path, *, writable: bool) -> None:
    """Copy the bytes of `source` now: by reflink where the file system can, else its data segments only."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb", buffering=0) as old, target.open("xb", buffering=0) as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            _copy_sparse(old.fileno(), new.fileno())
    target.chmod(0o600 if writable else 0o444)


def _copy_sparse(source: int, target: int) -> None:
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    for start, end in data_segments(source, 0, size):
        offset = start
        while offset < end:
            done = _copy_range(source, target, offset, min(_COPY_SIZE, end - offset))
            if done == 0:
                break
            offset += done


def _copy_range(source: int, target: int, offset: int, length: int) -> int:
    try:
        return os.copy_file_range(source, target, length, offset, offset)
    except OSError as exc:
        if exc.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise
    return os.pwrite(target, os.pread(source, length, offset), offset)


def data_segments(file: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the allocated ranges of `file` within [start, end); all of it where holes are not told."""
    offset = start
    while offset < end:
        try:
            data = os.lseek(file, offset, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return
            yield offset, end
            return
        if data >= end:
            return
        hole = min(os.lseek(file, data, os.SEEK_HOLE), end)
        yield max(data, offset), hole
        offset = hole


def remove_file(path: Path, *, below: Path) -> None:
    """Remove a file and the folders above it that are empty then, up to `below`."""
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == below or below not in folder.parents:
            return
        try:
            folder.rmdir()
        except OSError:
            return


def remove_strays(folder: Path, keep: set[Path]) -> None:
    """Remove every file and link below `folder` that is not in `keep`: what a killed simulator left."""
    if not folder.is_dir():
        return
    for path in [*folder.rglob("*")]:
        if (path.is_file() or path.is_symlink()) and path not in keep:
            path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            with contextlib.suppress(OSError):
                shutil.rmtree(path)
