"""Restoring: the disks of a point as plain files.  Each appears whole, and none before all of them are.

    write <name>.ntx-unfinished, all disks at once, and compare -> sync -> perhaps read back -> rename all

Names come from the address of a disk (`scsi.0.raw`), cleaned, so that a restored VM is easy to put together by hand.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.concurrency.parallel import map_limited
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.bandwidth import Bandwidth, Rate
from ntxengine.dataplane.buffers import split_buffers
from ntxengine.dataplane.location import Location
from ntxengine.dataplane.open import open_source
from ntxengine.dataplane.options import FLUSH_TIMEOUT_S, CopyOptions
from ntxengine.errors import LockedError, OptionsError, RepositoryError
from ntxengine.events import DiskDone, Emitter, OnEvent, ProgressAdapter, Stage, StageBegan, Subject, Warned, log_event
from ntxengine.files import durable
from ntxengine.files import unfinished as unfinished_file
from ntxengine.files.locks import take
from ntxengine.images.choice import ImageOptions
from ntxengine.images.open import open_image
from ntxengine.repository import VM_FILE, Marks, Point, PointDisk, Repository
from ntxengine.restore.disk import DiskFile, RestoreFormat, write_disk

RESTORE_FORMATS: tuple[RestoreFormat, ...] = get_args(RestoreFormat)

_MAX_NAME = 64
_STRANGE = re.compile(r"[^a-z0-9.-]+")
_FALLBACK_PREFIX = "disk-"


@dataclass(frozen=True)
class RestoreOptions:
    """How to restore.

    `overwrite`: replace files that exist.  `verify`: read every restored disk back, too, and compare it with the
    digests that the capture recorded.  `check` off: write what is there, compared with nothing, to save what can be
    saved.  `parallel`: disks at a time.  `bandwidth` (of all disks together) and `flush_timeout_s`: as CopyOptions has
    them.  `image`: how QCOW2 images are written.
    """

    format: RestoreFormat = "raw"
    overwrite: bool = False
    verify: bool = False
    check: bool = True
    parallel: int = 4
    bandwidth: Rate | Bandwidth = 0
    flush_timeout_s: float = FLUSH_TIMEOUT_S
    image: ImageOptions = field(default_factory=ImageOptions)

    def __post_init__(self) -> None:
        if self.format not in RESTORE_FORMATS:
            raise OptionsError(f"format {self.format!r}: must be one of {', '.join(RESTORE_FORMATS)}")
        if self.format != "qcow2" and self.image != ImageOptions():
            raise OptionsError("a writer or a compression was given, and they are of QCOW2 images: choose that format")
        if self.verify and not self.check:
            raise OptionsError("reading back to verify, and comparing nothing: the two contradict each other")
        if self.parallel < 1:
            raise OptionsError(f"parallel {self.parallel}: at least one disk at a time")
        # Refuses what is no limit, before a folder is made.
        copying = CopyOptions(bandwidth=self.bandwidth, flush_timeout_s=self.flush_timeout_s)
        object.__setattr__(self, "bandwidth", copying.bandwidth)  # one, whatever is restored with these options


@dataclass(frozen=True)
class RestoredDisk:
    """A disk that is there.  `size` and `bytes_allocated` are the file's.

    `is_checked`: each block was compared when it was written; `is_verified`: and what was read back, too.
    """

    disk: PointDisk
    path: Path
    size: int
    bytes_allocated: int
    is_checked: bool
    is_verified: bool
    seconds: float


@dataclass(frozen=True)
class RestoreReport:
    """What was restored, in the order of the point.  `marks` tell which of these disks may lack changes.

    `config` is None for a point without a configuration, and for one whose configuration is damaged: `config_problem`
    says so then.
    """

    point: Point
    format: RestoreFormat
    disks: tuple[RestoredDisk, ...]
    config: Path | None
    config_problem: str
    seconds: float
    marks: Marks


async def restore(
    repository: Repository,
    point: Point,
    directory: Path | str,
    *,
    disks: Sequence[str] = (),
    options: RestoreOptions | None = None,
    on_event: OnEvent = log_event,
) -> RestoreReport:
    """Write disks of `point` (ids or labels; none named: all) and the VM's configuration into `directory`.

    A raw file has exactly the disk's size; a QCOW2 image has whole sectors.  Nothing that differs from the digests of
    the capture gets its name, unless it is not to be checked.
    Errors: NotFoundError (no such disk), OptionsError (a file exists already, no place for files), LockedError,
            RepositoryError (the point is damaged), ChecksumMismatch, SourceError (an image cannot be read),
            TargetError (file system full), TransferTimeout, ToolError; what `on_event` raises.  No file appears then.
    """
    options = options or RestoreOptions()
    began_s = time.monotonic()
    point = await repository.read_point(point.path, checked=options.check)  # whatever the catalog remembers
    wanted = list(dict.fromkeys(point.disk(name) for name in disks)) if disks else list(point.disks)
    folder = _make_directory(directory, repository)
    emit = Emitter(on_event)
    with _only_us(folder), emit.first():
        marks = await repository.marks(point, wanted)
        await _warn_of_distrust(repository, point, marks, emit)
        return await _Restore(repository, point, folder, options, emit, began_s).run(wanted, marks)


async def _warn_of_distrust(repository: Repository, point: Point, marks: Marks, emit: Emitter) -> None:
    """Say of disks that they may lack changes, which no digest can show, and which point has them for sure."""
    subject: Subject = {"vm_id": point.vm_id, "vm_name": point.vm_name, "point_id": point.id}
    if marks.problem:
        emit(Warned(text=marks.problem, **subject))
    if not marks.distrusted:
        return
    health = await repository.health(point.vm_id)
    for mark in marks.distrusted:
        right = health.right_since(mark)
        since = (
            f"all of it was read for point {right.id}; later ones are right only as far as audits and scans looked"
            if right
            else "for no point since was all of it read: capture the VM again with --scan"
        )
        text = (
            f"disk {mark.label} ({mark.disk_id}) of point {point.id} may lack changes (tracking distrusted): the "
            f"audit of {mark.found_by} found that the cluster had not told of all; {since}"
        )
        of_disk: Subject = {**subject, "disk_id": mark.disk_id, "disk_label": mark.label}
        emit(Warned(text=text, **of_disk))


def file_names(point: Point, format: RestoreFormat) -> dict[str, str]:
    """Return the file name of every disk of `point`, by disk id.

    Shape:  [a-z0-9.-] only, no two alike: a label that is not unique once cleaned, or looks like an id, gives way to
            the disk's id.  The same whichever disks are restored.
    """
    labels = {disk.disk_id: _clean(disk.label) for disk in point.disks}
    taken = list(labels.values())
    usable = {label for label in taken if label and taken.count(label) == 1 and not label.startswith(_FALLBACK_PREFIX)}
    return {
        disk_id: f"{label if label in usable else _FALLBACK_PREFIX + disk_id}.{format}"
        for disk_id, label in labels.items()
    }


def _clean(label: str) -> str:
    return _STRANGE.sub("-", label.lower()).strip(".-")[:_MAX_NAME]


class _Restore:
    """The steps, with what they share."""

    def __init__(
        self,
        repository: Repository,
        point: Point,
        folder: Path,
        options: RestoreOptions,
        emit: Emitter,
        began_s: float,
    ) -> None:
        self._repository = repository
        self._point = point
        self._folder = folder
        self._options = options
        self._emit = emit
        self._began_s = began_s
        self._names = file_names(point, options.format)
        self._unfinished: dict[Path, Path] = {}

    async def run(self, disks: list[PointDisk], marks: Marks) -> RestoreReport:
        config, config_problem = await self._read_config()
        config_path = self._folder / VM_FILE
        keeps_config = config is None or _holds(config_path, config)
        self._check_free([self._path(disk) for disk in disks] + ([] if keeps_config else [config_path]))
        try:
            restored = tuple(await map_limited(disks, self._restore_disk, at_once=self._options.parallel))
            if config is not None and not keeps_config:
                durable.write_file(self._begin(config_path), config)
            if not all(durable.restrict(path) for path in self._unfinished.values()):
                self._emit(Warned(**self._subject(), text=f"{self._folder}: {durable.NO_MODES}"))
            await to_thread_joined(self._publish)
        finally:
            for unfinished in self._unfinished.values():
                with suppress(FileNotFoundError):
                    unfinished_file.remove(unfinished)
        return RestoreReport(
            point=self._point,
            format=self._options.format,
            disks=restored,
            config=None if config is None else config_path,
            config_problem=config_problem,
            seconds=time.monotonic() - self._began_s,
            marks=marks,
        )

    async def _restore_disk(self, disk: PointDisk) -> RestoredDisk:
        began_s = time.monotonic()
        final = self._path(disk)
        unfinished = self._begin(final)
        subject = self._subject(disk)
        self._emit(StageBegan(stage=Stage.RESTORE, **subject))
        await write_disk(
            self._repository,
            DiskFile(self._point, disk, unfinished, self._options.format, self._options.check, self._options.image),
            options=self._copying(),
            on_progress=ProgressAdapter(self._emit, Stage.RESTORE, subject),
        )
        await to_thread_joined(durable.sync, unfinished)
        if self._options.verify:
            self._emit(StageBegan(stage=Stage.VERIFY, **subject))
            await self._verify(disk, unfinished)
        self._emit(DiskDone(**subject))
        status = unfinished.stat()
        return RestoredDisk(
            disk=disk,
            path=final,
            size=status.st_size,
            bytes_allocated=status.st_blocks * 512,
            is_checked=self._options.check,
            is_verified=self._options.verify,
            seconds=time.monotonic() - began_s,
        )

    async def _verify(self, disk: PointDisk, path: Path) -> None:
        with await self._repository.manifest(self._point, disk) as manifest:
            async with self._open(path) as device:
                await dataplane.verify(
                    device,
                    manifest,
                    trusts_zeros=self._options.format == "qcow2",
                    options=self._copying(),
                    on_progress=ProgressAdapter(self._emit, Stage.VERIFY, self._subject(disk)),
                )

    @asynccontextmanager
    async def _open(self, path: Path) -> AsyncIterator[Device]:
        if self._options.format == "raw":
            async with open_source(Location("file", str(path), path=str(path))) as device:
                yield device
        else:
            async with open_image((path,), connections=CopyOptions().most_connections) as device:
                yield device

    def _copying(self) -> CopyOptions:
        options = CopyOptions(bandwidth=self._options.bandwidth, flush_timeout_s=self._options.flush_timeout_s)
        return split_buffers(options, min(self._options.parallel, len(self._names)))

    def _path(self, disk: PointDisk) -> Path:
        return self._folder / self._names[disk.disk_id]

    def _begin(self, final: Path) -> Path:
        """Return where to write what will become `final`, with nothing there that a killed restore has left."""
        unfinished = final.with_name(final.name + unfinished_file.SUFFIX)
        try:
            with suppress(FileNotFoundError):
                unfinished_file.remove(unfinished)
        except OSError as exc:
            raise durable.write_error(unfinished, "removing", exc) from exc
        self._unfinished[final] = unfinished
        return unfinished

    def _check_free(self, paths: list[Path]) -> None:
        for path in paths:
            if not os.path.lexists(path):
                continue
            if not path.is_symlink() and not path.is_file():
                raise OptionsError(f"{path}: exists and is not a file: choose another directory")
            if not self._options.overwrite:
                raise OptionsError(f"{path}: exists already: allow it to be overwritten, or choose another directory")

    async def _read_config(self) -> tuple[bytes | None, str]:
        """Return the configuration, and what is wrong with it: that does not keep the disks from being restored."""
        try:
            return await self._repository.vm_config(self._point, checked=self._options.check), ""
        except RepositoryError as exc:
            return None, str(exc)

    def _publish(self) -> None:
        for final, unfinished in self._unfinished.items():
            if self._options.overwrite:
                durable.replace(unfinished, final)
            else:
                durable.rename(unfinished, final)
        durable.sync_folder(self._folder)

    def _subject(self, disk: PointDisk | None = None) -> Subject:
        point = self._point
        subject: Subject = {"vm_id": point.vm_id, "vm_name": point.vm_name, "point_id": point.id}
        return subject if disk is None else {**subject, "disk_id": disk.disk_id, "disk_label": disk.label}


def _make_directory(directory: Path | str, repository: Repository) -> Path:
    folder = Path(directory).absolute()
    if folder.resolve().is_relative_to(repository.path.resolve()):
        raise OptionsError(f"{folder}: lies in the repository itself: choose a directory outside of {repository.path}")
    try:
        str(folder).encode()
        folder.mkdir(parents=True, exist_ok=True)
    except UnicodeEncodeError as exc:
        raise OptionsError(f"{str(folder)!r}: qemu opens only paths in UTF-8: choose another directory") from exc
    except FileExistsError as exc:
        raise OptionsError(f"{folder}: is not a directory") from exc
    except OSError as exc:
        raise durable.write_error(folder, "making the directory", exc) from exc
    return folder


@contextmanager
def _only_us(folder: Path) -> Iterator[None]:
    """Keep other restores out of the directory, without a file of ours in it."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise durable.write_error(folder, "opening the directory", exc) from exc
    try:
        try:
            take(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise LockedError(f"{folder}: another restore writes into it: wait until that has ended") from exc
        except OSError:
            pass  # no locks on directories here (NFS): nobody is kept out
        yield
    finally:
        os.close(fd)


def _holds(path: Path, contents: bytes) -> bool:
    """Say whether the configuration is there already: another disk of the same point was restored before."""
    with suppress(RepositoryError):
        return durable.read_file(path, limit=len(contents)) == contents
    return False
