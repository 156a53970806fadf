"""Restoring: the disks of a point as files, or onto devices and servers.

    look at all places -> write all disks at once, and compare -> sync -> perhaps read back -> rename all files

A file is written under another name and appears whole, and none before all disks are.  A device or a server is written
in place: what a restore that failed leaves there is worthless.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.concurrency.parallel import map_limited
from ntxengine.dataplane.buffers import split_buffers
from ntxengine.dataplane.copy import CopyOptions, OnProgress
from ntxengine.errors import RepositoryError, SourceError, ToolError
from ntxengine.events import DiskDone, Emitter, OnEvent, ProgressAdapter, Stage, StageBegan, Subject, Warned, log_event
from ntxengine.files import durable
from ntxengine.files import unfinished as unfinished_file
from ntxengine.repository import VM_FILE, Marks, Point, PointDisk, Repository, reading
from ntxengine.restore.disk import Written, read_back, write_disk
from ntxengine.restore.disk_work import DiskWork
from ntxengine.restore.folder import make_folder, only_us
from ntxengine.restore.losses import BadRange
from ntxengine.restore.options import RestoreFormat, RestoreOptions
from ntxengine.restore.targets import Destination, Kind, Request, check_outside, check_replaceable, check_room


@dataclass(frozen=True)
class RestoredDisk:
    """A disk that is there.

    `target` is as it was named, or the path of a file in the directory; `path` is that of a file or a device.  `size`
    is that of the file, the device or the export, `bytes_allocated` the file's, None of anything else.
    `bytes_written` differed from what was there, `bytes_left` did not; None where that was not looked at.
    `is_checked`: each block was compared when it was written; `is_verified`: and what was read back, too.
    With keep_going: `problem` is why nothing of it could be compared, or what of the point is damaged that tells of it;
    `bad_ranges` are the first of `bad_ranges_total` that are not what was captured, `bad_bytes` all of them together.
    """

    disk: PointDisk
    target: str
    kind: Kind
    format: RestoreFormat
    path: Path | None
    size: int
    bytes_allocated: int | None
    bytes_written: int | None
    bytes_left: int | None
    is_checked: bool
    is_verified: bool
    seconds: float
    problem: str = ""
    bad_ranges: tuple[BadRange, ...] = ()
    bad_ranges_total: int = 0
    bad_bytes: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether all of it is what was captured, as far as that was to be found out."""
        return not self.problem and not self.bad_ranges_total


@dataclass(frozen=True)
class FailedDisk:
    """A disk of which nothing could be restored, with keep_going."""

    disk: PointDisk
    target: str
    problem: str


@dataclass(frozen=True)
class RestoreReport:
    """What was restored.  `marks` tell which of these disks may lack changes; `left_out` are disks of the point that
    nobody asked for.

    `format` is that of files in the directory.  `config` is None where it was not restored: for a point without one,
    without a directory, and if it is damaged: `config_problem` says so then.  With keep_going `problem` is what is
    damaged of the record of the point, and `failed` are disks of which nothing could be read.
    """

    point: Point
    format: RestoreFormat
    disks: tuple[RestoredDisk, ...]
    failed: tuple[FailedDisk, ...]
    problem: str
    left_out: tuple[PointDisk, ...]
    config: Path | None
    config_problem: str
    seconds: float
    marks: Marks

    @property
    def is_whole(self) -> bool:
        """Whether all that was asked for is there, and what was captured."""
        return not self.failed and not self.problem and all(disk.is_whole for disk in self.disks)


async def restore(
    repository: Repository,
    point: Point,
    directory: Path | str | None = None,
    *,
    disks: Sequence[str] = (),
    targets: Mapping[str, str] | None = None,
    options: RestoreOptions | None = None,
    on_event: OnEvent = log_event,
) -> RestoreReport:
    """Write disks of `point`, named by id or label, each to its target, the others and the VM's configuration into
    `directory`.

    `targets`: a file, a block device or the URI of an NBD server, by disk.  `disks` are restored beside those; none
    named: with a directory all, without one those of `targets` alone.
    A raw file has exactly the disk's size; a QCOW2 image has whole sectors.  No file that differs from the digests of
    the capture gets its name, unless it is not to be checked.
    Errors: NotFoundError (no such disk), OptionsError (a file exists already, a device is too small, no place for
            files), LockedError, RepositoryError (the point is damaged), ChecksumMismatch, SourceError (an image cannot
            be read), TargetError (file system full), NbdError, TransferTimeout, ToolError; what `on_event` raises.
            No file appears then.
    """
    options = options or RestoreOptions()
    began_s = time.monotonic()
    request = Request(None if directory is None else Path(directory).absolute(), disks, targets or {})
    async with reading([point], checked=options.is_strict):
        point, problem = await _read_point(repository, point, options)
        places = await plan(repository, point, request, options)
        emit = Emitter(on_event)
        with _kept_by_us(request.directory), emit.first():
            marks = await repository.marks(point, [each.disk for each in places])
            await _warn_of_distrust(repository, point, marks, emit)
            return await _Restore(repository, point, request.directory, options, emit, began_s, problem).run(
                places, marks
            )


async def _read_point(repository: Repository, point: Point, options: RestoreOptions) -> tuple[Point, str]:
    """Return the point, whatever the catalog remembers, and what is damaged of its record where that ends nothing."""
    try:
        return await repository.read_point(point.path, checked=options.check), ""
    except RepositoryError as exc:
        if not options.keep_going:
            raise
        return await repository.read_point(point.path, checked=False), str(exc)


async def plan(repository: Repository, point: Point, request: Request, options: RestoreOptions) -> list[Destination]:
    """Return where each disk goes, all of them looked at; what is written in place was opened.  Nothing is changed.

    Errors: as restore.
    """
    places = await to_thread_joined(request.destinations, point, options)
    await to_thread_joined(check_outside, places, request.directory, repository.path)

    async def look(each: Destination) -> Destination:
        return each if each.is_made else dataclasses.replace(each, room=await check_room(each, options))

    return await map_limited(places, look, at_once=options.parallel)


@contextmanager
def _kept_by_us(folder: Path | None) -> Iterator[None]:
    if folder is None:
        yield
        return
    make_folder(folder)
    with only_us(folder):
        yield


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


class _Restore:
    """The steps, with what they share."""

    def __init__(
        self,
        repository: Repository,
        point: Point,
        folder: Path | None,
        options: RestoreOptions,
        emit: Emitter,
        began_s: float,
        problem: str,
    ) -> None:
        self._repository = repository
        self._point = point
        self._folder = folder
        self._options = options
        self._emit = emit
        self._began_s = began_s
        self._problem = problem
        self._copying = CopyOptions()
        self._held = ExitStack()
        self._unfinished: dict[Path, Path] = {}

    async def run(self, places: list[Destination], marks: Marks) -> RestoreReport:
        config, config_problem = await self._read_config()
        config_path = None if self._folder is None or config is None else self._folder / VM_FILE
        keeps_config = config is None or config_path is None or _holds(config_path, config)
        if config_path is not None and not keeps_config:
            check_replaceable(config_path, self._options, "choose another directory")
        self._copying = self._limits(len(places))
        with self._held:
            try:
                done = await map_limited(places, self._restore_or_fail, at_once=self._options.parallel)
                _require_some(done)
                if config is not None and config_path is not None and not keeps_config:
                    durable.write_file(self._begin(config_path), config)
                self._restrict()
                await to_thread_joined(self._publish)
            finally:
                for unfinished in self._unfinished.values():
                    with suppress(FileNotFoundError):
                        unfinished_file.remove(unfinished)
        wanted = {each.disk.disk_id for each in places}
        return RestoreReport(
            point=self._point,
            format=self._options.format or "raw",
            disks=tuple(each for each in done if isinstance(each, RestoredDisk)),
            failed=tuple(each for each in done if isinstance(each, FailedDisk)),
            problem=self._problem,
            left_out=tuple(disk for disk in self._point.disks if disk.disk_id not in wanted),
            config=config_path,
            config_problem=config_problem,
            seconds=time.monotonic() - self._began_s,
            marks=marks,
        )

    async def _restore_or_fail(self, place: Destination) -> RestoredDisk | FailedDisk:
        """Restore a disk; with keep_going one that cannot be read at all does not keep the others from it."""
        try:
            return await self._restore_disk(place)
        except (RepositoryError, SourceError, ToolError) as error:
            if not self._options.keep_going:
                raise
            if place.is_made and (unfinished := self._unfinished.pop(place.file, None)):
                with suppress(FileNotFoundError):
                    unfinished_file.remove(unfinished)
            self._emit(DiskDone(problem=str(error), **self._subject(place.disk)))
            return FailedDisk(place.disk, place.text, str(error))

    async def _restore_disk(self, place: Destination) -> RestoredDisk:
        began_s = time.monotonic()
        subject = self._subject(place.disk)
        work = DiskWork(
            self._repository,
            self._point,
            place,
            self._begin_file(place) if place.is_made else None,
            self._options,
            self._copying,
            tell=lambda text: self._emit(Warned(text=text, **subject)),
        )

        def progress_of(stage: Stage) -> OnProgress:
            self._emit(StageBegan(stage=stage, **subject))
            return ProgressAdapter(self._emit, stage, subject)

        written = await write_disk(work, progress_of)
        with written.losses or nullcontext():
            if place.kind == "file":
                await to_thread_joined(durable.sync, work.path or place.file)
            is_verified = self._options.verify and written.is_checked
            if is_verified:
                await read_back(work, progress_of(Stage.VERIFY), written.losses)
            restored = self._restored(work, written, is_verified=is_verified, began_s=began_s)
        self._emit(DiskDone(problem=restored.problem, **subject))
        return restored

    def _restored(self, work: DiskWork, written: Written, *, is_verified: bool, began_s: float) -> RestoredDisk:
        place, losses = work.destination, written.losses
        status = (work.path or place.file).stat() if place.kind == "file" else None
        bytes_written = written.bytes_written
        return RestoredDisk(
            disk=place.disk,
            target=place.text,
            kind=place.kind,
            format=place.format,
            path=place.path,
            size=place.room if status is None else status.st_size,
            bytes_allocated=None if status is None else status.st_blocks * 512,
            bytes_written=bytes_written,
            bytes_left=None if bytes_written is None else place.disk.size - bytes_written,
            is_checked=written.is_checked,
            is_verified=is_verified,
            seconds=time.monotonic() - began_s,
            problem=written.problem,
            bad_ranges=() if losses is None else tuple(losses.ranges),
            bad_ranges_total=0 if losses is None else losses.count,
            bad_bytes=0 if losses is None else losses.bytes,
        )

    def _limits(self, disks: int) -> CopyOptions:
        options = CopyOptions(bandwidth=self._options.bandwidth, flush_timeout_s=self._options.flush_timeout_s)
        return split_buffers(options, min(self._options.parallel, disks))

    # -------------------------------------------------------------------------------------------------- files

    def _begin_file(self, place: Destination) -> Path:
        if place.in_directory:
            return self._begin(place.file)
        # A folder that is not ours alone: others may work in it, each file is held by itself.
        try:
            unfinished = self._held.enter_context(unfinished_file.begun(place.file))
        except OSError as exc:
            raise durable.write_error(place.file, "making the file", exc) from exc
        self._unfinished[place.file] = unfinished
        durable.restrict(unfinished)
        return unfinished

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

    def _restrict(self) -> None:
        """Keep what was made from everybody else, and say where a file system does not."""
        folders = {final.parent for final, path in self._unfinished.items() if not durable.restrict(path)}
        for folder in sorted(folders):
            self._emit(Warned(**self._subject(), text=f"{folder}: {durable.NO_MODES}"))

    def _publish(self) -> None:
        for final, unfinished in self._unfinished.items():
            if self._options.may_replace:
                durable.replace(unfinished, final)
            else:
                durable.rename(unfinished, final)
        for folder in {final.parent for final in self._unfinished}:
            durable.sync_folder(folder)

    async def _read_config(self) -> tuple[bytes | None, str]:
        """Return the configuration, and what is wrong with it: that does not keep the disks from being restored."""
        if self._folder is None:
            return None, ""
        try:
            return await self._repository.vm_config(self._point, checked=self._options.check), ""
        except RepositoryError as exc:
            return None, str(exc)

    def _subject(self, disk: PointDisk | None = None) -> Subject:
        point = self._point
        subject: Subject = {"vm_id": point.vm_id, "vm_name": point.vm_name, "point_id": point.id}
        return subject if disk is None else {**subject, "disk_id": disk.disk_id, "disk_label": disk.label}


def _holds(path: Path, contents: bytes) -> bool:
    """Say whether the configuration is there already: another disk of the same point was restored before."""
    with suppress(RepositoryError):
        return durable.read_file(path, limit=len(contents)) == contents
    return False


def _require_some(done: Sequence[RestoredDisk | FailedDisk]) -> None:
    """Raise if of all disks nothing could be read.  Errors: RepositoryError."""
    failed = [each for each in done if isinstance(each, FailedDisk)]
    if failed and len(failed) == len(done):
        more = f"; and so it is with {len(failed) - 1} more" if len(failed) > 1 else ""
        raise RepositoryError(f"{failed[0].problem}{more}")
