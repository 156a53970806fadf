"""Verifying a point: every disk is read back through its whole chain and compared with the digests of its capture.

A disk that is wrong does not keep the others from being looked at: the verdict names each, with the offsets.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.concurrency.parallel import map_limited
from ntxengine.dataplane.buffers import split_buffers
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import OptionsError, RepositoryError, TargetError
from ntxengine.events import DiskDone, Emitter, OnEvent, ProgressAdapter, Stage, StageBegan, Subject, log_event
from ntxengine.repository import Chains, Marks, Point, PointDisk, Repository, StoredSample, is_point_id, reading
from ntxengine.units import utc_now
from ntxengine.verify.disk import Below, verify_disk
from ntxengine.verify.sampling import Sampling, sample_disk
from ntxengine.verify.verdict import DiskVerdict

__all__ = ["DiskVerdict", "PointVerdict", "verify_point", "verify_points"]

log = logging.getLogger(__name__)

_LEAST_S = 1e-3
"""For a point whose time is over already: it is opened, and some of it is read."""


@dataclass(frozen=True)
class PointVerdict:
    """What was found of a point, in the order of its disks.

    `problems` are those of the files beside the disks, one line for each; no disk is looked at if point.json is wrong.
    `marks` tell which disks are as captured, perhaps, and yet may lack changes: an audit found that the cluster had not
    told of all.
    """

    point: Point
    disks: tuple[DiskVerdict, ...]
    problems: tuple[str, ...] = ()
    marks: Marks = field(default_factory=Marks)

    @property
    def is_right(self) -> bool:
        """Whether all its disks are, and all that is recorded of it."""
        return not self.problems and all(disk.is_right for disk in self.disks)


async def verify_point(
    repository: Repository,
    point: Point,
    *,
    disks: Sequence[str] = (),
    options: CopyOptions | None = None,
    parallel: int = 4,
    sampling: Sampling | None = None,
) -> PointVerdict:
    """Verify one point: read back its disks (ids or labels; none named: all), `parallel` at a time, and compare.

    `sampling`: not all of them, but as much as it says; see verify_points.
    Errors: OptionsError (`parallel`), NotFoundError (no such disk), ToolError.  What is wrong with the point is in the
            verdict and not raised.
    """
    (verdict,) = await verify_points(
        repository, [(point, disks)], options=options, parallel=parallel, sampling=sampling
    )
    return verdict


async def verify_points(
    repository: Repository,
    chosen: Sequence[tuple[Point, Sequence[str]]],
    *,
    options: CopyOptions | None = None,
    parallel: int = 4,
    sampling: Sampling | None = None,
    on_event: OnEvent = log_event,
) -> list[PointVerdict]:
    """Read back disks of points (ids or labels; none named: all), `parallel` at a time, and what is recorded of them.

    What one point has below it is read once, if it is among them: those further down come first.  The verdicts are in
    the order of `chosen`.
    `sampling`: blocks chosen at random are read, those that no sample before has read, through the whole chain of each
    point; how far the samples are is kept in the repository, as long as it can be written to.
    Errors: OptionsError (`parallel`), NotFoundError (no such disk), ToolError; what `on_event` raises.  What is wrong
            with a point is in its verdict and not raised.
    """
    if parallel < 1:
        raise OptionsError(f"parallel {parallel}: at least one disk at a time")
    emit = Emitter(on_event)
    verification = _Verification(repository, options or CopyOptions(), parallel, emit)
    budget = None if sampling is None else _Budget(sampling, sum(point.size for point, _ in chosen))
    verdicts: dict[int, PointVerdict] = {}
    in_turn = sorted(range(len(chosen)), key=lambda number: (chosen[number][0].vm_id, chosen[number][0].id))
    for _, of_vm in groupby(in_turn, key=lambda number: chosen[number][0].vm_id):
        numbers = list(of_vm)
        async with reading([chosen[number][0] for number in numbers]):
            for number in numbers:
                point, disks = chosen[number]
                emit(StageBegan(stage=Stage.VERIFY, **_subject(point)))
                sample = None if budget is None else budget.next(point)
                verdicts[number] = await verification.verify(point, disks, sample)
    return [verdicts[number] for number in range(len(chosen))]


def _subject(point: Point, disk: PointDisk | None = None) -> Subject:
    subject: Subject = {"vm_id": point.vm_id, "vm_name": point.vm_name, "point_id": point.id}
    return subject if disk is None else {**subject, "disk_id": disk.disk_id, "disk_label": disk.label}


class _Budget:
    """Divides the time of a sample among the points that follow, by their sizes: what one leaves the others get."""

    def __init__(self, sampling: Sampling, size: int) -> None:
        self._sampling = sampling
        self._size = size
        self._end = None if sampling.seconds is None else sampling.clock() + sampling.seconds

    def next(self, point: Point) -> Sampling:
        """Return how much to read of a point."""
        if self._end is None:
            return self._sampling
        left_s = self._end - self._sampling.clock()
        part = point.size / self._size if self._size else 1.0
        self._size -= point.size
        return replace(self._sampling, seconds=max(_LEAST_S, left_s * part))


@dataclass(frozen=True)
class _Sample:
    """How much to read of each disk of a point, and how far the samples before have got, by disk id."""

    sampling: Sampling
    before: Mapping[str, StoredSample]


def _for_each(sampling: Sampling, disks: int, parallel: int) -> Sampling:
    """Return how much to read of each of so many disks, `parallel` at a time."""
    if sampling.seconds is None or disks <= parallel:
        return sampling
    return replace(sampling, seconds=sampling.seconds * parallel / disks)


class _Verification:
    """What is known of the points that were verified already."""

    def __init__(self, repository: Repository, options: CopyOptions, parallel: int, emit: Emitter) -> None:
        self._repository = repository
        self._options = options
        self._parallel = parallel
        self._emit = emit
        self._chains = Chains()
        self._known: dict[tuple[Path, str], DiskVerdict] = {}
        self._told: set[str] = set()

    async def verify(self, point: Point, names: Sequence[str], sampling: Sampling | None) -> PointVerdict:
        try:
            point = await self._repository.read_point(point.path)  # whatever the catalog remembers
        except RepositoryError as exc:
            self._told.add(str(exc))
            return PointVerdict(point, (), (str(exc),))
        wanted = list(dict.fromkeys(point.disk(name) for name in names)) if names else list(point.disks)
        options = split_buffers(self._options, min(self._parallel, len(wanted)))
        sample = None
        if sampling is not None:
            sample = _Sample(_for_each(sampling, len(wanted), self._parallel), await self._repository.samples(point))

        async def verify_one(disk: PointDisk) -> DiskVerdict:
            return await self._verify_disk(point, disk, options, sample)

        problems = await self._repository.find_file_problems(point)
        marks = await self._repository.marks(point, wanted)
        disks = await map_limited(wanted, verify_one, at_once=self._parallel)
        for verdict in disks:
            if verdict.report is not None and verdict.sampled is None:
                self._known[point.path, verdict.disk.disk_id] = verdict
        await self._keep_samples(point, disks)
        return PointVerdict(point, tuple(disks), tuple(problems), marks)

    async def _keep_samples(self, point: Point, disks: Sequence[DiskVerdict]) -> None:
        """Remember how far they are.  A repository that is read-only is verified all the same."""
        now = utc_now()
        samples = [each.sampled.stored(point, each.disk, now) for each in disks if each.sampled is not None]
        if not samples:
            return
        try:
            await self._repository.keep_samples(point, samples)
        except TargetError as error:
            log.warning("the next sample will read the same blocks again, this one is not remembered: %s", error)

    async def _verify_disk(
        self, point: Point, disk: PointDisk, options: CopyOptions, sample: _Sample | None
    ) -> DiskVerdict:
        subject = _subject(point, disk)
        on_progress = ProgressAdapter(self._emit, Stage.VERIFY, subject)
        if sample is None:
            below = await to_thread_joined(self._below, point, disk)
            verdict = await verify_disk(
                self._repository,
                point,
                disk,
                below=below,
                chains=self._chains,
                options=options,
                on_progress=on_progress,
            )
        else:
            verdict = await sample_disk(
                self._repository,
                point,
                disk,
                sample.sampling,
                before=sample.before.get(disk.disk_id),
                chains=self._chains,
                options=options,
                on_progress=on_progress,
            )
        # What a callback raised may look like damage: it must not become a verdict.
        self._emit.raise_failure()
        if verdict.problem and verdict.report is None:
            verdict = self._told_once(point, verdict)
        self._emit(DiskDone(problem=verdict.problem, **subject))
        return verdict

    def _told_once(self, point: Point, verdict: DiskVerdict) -> DiskVerdict:
        """Return a verdict that tells what is wrong with a point below only if nobody did."""
        problem = verdict.problem
        was_told = problem in self._told
        self._told.add(problem)
        # The errors of a chain begin with the file, or the folder, that they are about.
        below_id = re.split("[/:]", problem.removeprefix(f"{point.path.parent}/"), maxsplit=1)[0]
        if below_id == point.id or not is_point_id(below_id):
            return verdict
        short = f"cannot be read below, in point {below_id}"
        return replace(verdict, problem=short if was_told else f"{short}: {problem}", below_point_ids=(below_id,))

    def _below(self, point: Point, disk: PointDisk) -> Below | None:
        """Return the nearest point below that has been read, None if there is none, or nobody knows.  Blocks."""
        with suppress(RepositoryError):
            for depth, lower in enumerate(self._chains.walk(point)):
                verdict = self._known.get((lower.path, disk.disk_id)) if depth else None
                if verdict is not None:
                    return Below(lower, verdict.disk, depth, verdict.wrong)
                found = lower.find_disk(disk.disk_id)
                if found is None or not found.backing:
                    return None
        return None
