"""Going on with a capture that was interrupted: whether it can be, and what it was.

    the recovery point is still there, and holds the same disks  |
    the plan is what it was: parent, disks, options, way         |-> reopen the unfinished point, copy what lacks
    what the killed capture left attached is removed             |
    anything else                                                 -> a new capture, with a warning that says why

What cannot be found out now (Prism does not answer) is an error: what was copied stays, for the next time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from ntxengine.attach import Attacher
from ntxengine.capture.copying import CannotResume
from ntxengine.capture.freeze import Frozen, check_frozen
from ntxengine.capture.options import CaptureOptions
from ntxengine.capture.plan import CapturePlan, DiskPlan, stored_disk_point
from ntxengine.capture.recorded import remove_attached
from ntxengine.capture.report import stored_guest_tools
from ntxengine.dataplane.retry import is_lost_connection
from ntxengine.errors import (
    AttachError,
    Cancelled,
    ChecksumMismatch,
    LockedError,
    NotFoundError,
    NtxError,
    OptionsError,
    PlaceError,
    PrismAnswerError,
    PrismBusy,
    PrismConnectionError,
    PrismError,
    PrismTimeout,
    RepositoryError,
    TargetError,
)
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import RecoveryPoint
from ntxengine.repository import (
    RESUME_FORMAT,
    RESUME_VERSION,
    ClusterRecord,
    Interrupted,
    Repository,
    StoredResume,
    StoredResumeDisk,
    UnfinishedPoint,
    VmLock,
)
from ntxengine.units import format_size, format_time, utc_now

log = logging.getLogger(__name__)

MOST_IN_VAIN = 3
"""Failures in a row that got no further, for a reason that does not pass: then nobody goes on."""

_AUDIT = " --audit"
"""Alone no reason to begin anew: what is copied is right without, and a later capture audits."""

_NEARLY = timedelta(minutes=10)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the last: of a limit (ulimit -f) that can be raised
_OVER_SOON = (asyncio.CancelledError, Cancelled, AttachError, PrismBusy, PrismConnectionError, PrismTimeout)
_ON_THE_WAY_THERE = (LockedError, NotFoundError, PrismError)
"""What a capture that begins anew would meet, too: it says nothing against what was copied."""


@dataclass(frozen=True)
class Resumption:
    """What a capture goes on with: its point, its plan as it was made, and what is recorded of the cluster."""

    unfinished: UnfinishedPoint
    plan: CapturePlan
    frozen: Frozen
    record: ClusterRecord
    resume: StoredResume


class _Differs(NtxError):
    """It cannot be gone on with; the message says why."""


def asked(options: CaptureOptions) -> str:
    """Return the options that decide what a point is, as words."""
    words = [f"--consistency {options.consistency}"]
    words += [word for word, is_asked in (("--full", options.full), ("--scan", options.scan)) if is_asked]
    words += [] if options.volume_groups else ["--no-volume-groups"]
    words += [f"--writer {options.image.writer}"] if options.image.writer != "own" else []
    words += [f"--compress {options.image.compression}"] if options.image.compression else []
    words += ["--compress-again"] if options.compress_again else []
    return " ".join(words) + (_AUDIT if options.audit is not None else "")


def resume_of(plan: CapturePlan, unfinished: UnfinishedPoint, frozen: Frozen, options: CaptureOptions) -> StoredResume:
    """Return what has to be known to go on with a capture of a VM that is frozen now."""
    point, now = frozen.point, utc_now()
    return StoredResume(
        format=RESUME_FORMAT,
        version=RESUME_VERSION,
        point_id=unfinished.id,
        vm_id=plan.vm.id.lower(),
        vm_name=plan.vm.name,
        parent_id=None if plan.parent is None else plan.parent.id,
        recovery_point_id=point.id,
        frozen_at=point.created_at or now,
        expires_at=point.expires_at or now + options.expiry,
        asked=asked(options),
        consistency=point.consistency,
        consistency_reason=frozen.consistency_reason,
        disks=tuple(
            StoredResumeDisk(
                disk_id=disk_id.lower(),
                label=each.disk.label,
                size=each.disk.size,
                point=stored_disk_point(frozen.disks[disk_id]),
            )
            for disk_id, each in ((each.disk.id, each) for each in plan.disks)
        ),
        excluded=plan.vm.excluded,
        quiescing=plan.quiescing,
        guest_tools=stored_guest_tools(plan.vm.guest_tools),
        vm_config=dict(plan.vm.config),
    )


async def is_kept(error: BaseException, unfinished: UnfinishedPoint, resume: StoredResume | None) -> bool:
    """Say whether what was copied is kept, for the next capture to go on with, when one ends with `error`.

    What stopped it may be over by then: a signal, a lost connection, no room for the image, a busy cluster.  One that
    was gone on with already, as `resume` tells, is kept whatever stops it, but for bytes that are wrong, and until its
    copy has failed in vain too often.
    """
    if isinstance(error, ChecksumMismatch | CannotResume) or not await unfinished.has_progress():
        return False
    if _passes(error):
        return True
    if resume is None:
        return False
    if isinstance(error, _ON_THE_WAY_THERE):
        return True
    got_further = await unfinished.bytes_stored() > resume.bytes_done
    in_vain = 0 if got_further else resume.in_vain + 1
    if in_vain >= MOST_IN_VAIN:
        log.warning(
            "point %s, which was gone on with, failed %d times in a row without getting further: it is given up, and "
            "the next capture begins anew",
            unfinished.id,
            in_vain,
        )
        return False
    with suppress(TargetError):  # it is counted the next time
        await unfinished.keep_in_vain(in_vain)
    return True


def _passes(error: BaseException) -> bool:
    is_full = isinstance(error, PlaceError) and error.errno in _NO_ROOM
    return is_full or isinstance(error, _OVER_SOON) or is_lost_connection(error)


class Resumer:
    """Looks for an interrupted capture of a VM that is locked, and prepares to go on with it."""

    def __init__(
        self,
        prism: Prism,
        repository: Repository,
        lock: VmLock,
        options: CaptureOptions,
        attacher: Attacher,
        warn: Callable[[str], None],
    ) -> None:
        self._prism = prism
        self._repository = repository
        self._lock = lock
        self._options = options
        self._attacher = attacher
        self._warn = warn

    async def find(self, plan: CapturePlan) -> Resumption | None:
        """Return what to go on with, None if there is nothing, or it cannot be: a warning says why.

        Errors: PrismError (whether it can be is not known now); TargetError.
        """
        newest = await self._newest(plan)
        if newest is None:
            return None
        try:
            return await self._prepare(plan, newest)
        except (_Differs, RepositoryError) as error:
            self._tell_given_up(plan, newest, str(error))
            return None

    async def require_none(self, plan: CapturePlan) -> None:
        """Refuse to give up what the VM could go on with alone: VMs that are frozen at one moment all begin anew.

        Errors: OptionsError.
        """
        newest = await self._newest(plan)
        if newest is None:
            return
        if self._options.resume and newest.can_be_resumed(utc_now()):
            raise OptionsError(
                f"VM {plan.vm.name!r} cannot be frozen with others now: its capture was interrupted, and "
                f"{_copied(newest)} (point {newest.point_id}): capture it alone to go on with it, or give it up "
                f"(--no-resume); nothing was frozen"
            )
        self._tell_given_up(plan, newest, newest.problem or "it is frozen with other VMs now")

    async def _newest(self, plan: CapturePlan) -> Interrupted | None:
        found = [each for each in await self._repository.interrupted(plan.vm.id) if each.has_record]
        return found[-1] if found else None

    def _tell_given_up(self, plan: CapturePlan, found: Interrupted, why: str) -> None:
        self._warn(
            f"VM {plan.vm.name!r}: the capture that was interrupted (point {found.point_id}) is given up, and a new "
            f"one begins: {why}"
        )

    async def _prepare(self, plan: CapturePlan, found: Interrupted) -> Resumption:
        resume = self._readable(found)
        self._compare(plan, resume)
        record = await self._recorded(resume)
        try:
            point = await self._prism.recovery_point(resume.recovery_point_id, plan.vm)
        except NotFoundError as error:
            raise _Differs(f"its recovery point is gone: {error}") from error
        plan = _as_frozen(plan, resume)
        frozen = self._frozen(plan, point, record, resume)
        for problem in await remove_attached(self._prism, self._repository, self._lock, record):
            self._warn(f"what the interrupted capture left attached was not removed: {problem}; `ntx sweep` does it")
        expires_at = await self._extended(point)
        resume = dataclasses.replace(
            resume, times=resume.times + 1, expires_at=expires_at or resume.expires_at, bytes_done=found.bytes_done
        )
        unfinished = await self._repository.reopen(self._lock, found, plan.parent)
        await unfinished.keep_resume(resume)
        self._warn(
            f"VM {plan.vm.name!r}: goes on with point {resume.point_id}, whose capture was interrupted: it will hold "
            f"the VM as it was frozen at {format_time(resume.frozen_at)}, not as it is now; {_copied(found)} already; "
            f"--no-resume begins anew"
        )
        if _AUDIT in asked(self._options) and _AUDIT not in resume.asked:
            self._warn(f"VM {plan.vm.name!r}: disks that were begun without --audit are not audited now")
        return Resumption(unfinished, plan, frozen, record, resume)

    async def _extended(self, point: RecoveryPoint) -> datetime | None:
        """Let the cluster keep the recovery point as long as if it were new; return until when it does, if it tells."""
        wanted = utc_now() + self._options.expiry
        if point.expires_at is None or point.expires_at >= wanted - _NEARLY:
            return point.expires_at
        try:
            await self._prism.extend_recovery_point(point, wanted)
        except (PrismError, NotFoundError) as error:
            self._warn(
                f"recovery point {point.id} is kept until {format_time(point.expires_at)} only, and that cannot be "
                f"changed: {error}; what is not copied by then is lost"
            )
            return point.expires_at
        return wanted

    def _readable(self, found: Interrupted) -> StoredResume:
        if found.resume is None:
            raise _Differs(found.problem)
        if not self._options.resume:
            raise _Differs("so it was asked (--no-resume)")
        if not found.can_be_resumed(utc_now()):
            raise _Differs(f"its recovery point was kept until {format_time(found.resume.expires_at)} only")
        return found.resume

    def _compare(self, plan: CapturePlan, resume: StoredResume) -> None:
        """Compare what was planned then with what would be planned now."""
        now = asked(self._options)
        if resume.asked.replace(_AUDIT, "") != now.replace(_AUDIT, ""):
            raise _Differs(f"other options were given: {resume.asked} then, {now} now")
        parent_id = None if plan.parent is None else plan.parent.id
        if resume.parent_id != parent_id:
            raise _Differs(
                f"it went on top of {resume.parent_id or 'nothing'}, a new one goes on {parent_id or 'nothing'}"
            )
        before = {(disk.disk_id, disk.label) for disk in resume.disks}
        if before != {(each.disk.id.lower(), each.disk.label) for each in plan.disks}:
            raise _Differs("the VM has other disks now")

    async def _recorded(self, resume: StoredResume) -> ClusterRecord:
        """Return what this directory records of it on the cluster: nothing else is ours to work on."""
        records = await self._repository.cluster_records(self._lock.vm_id)
        record = next((each for each in records.own if each.point_id == resume.point_id), None)
        if record is None or record.recovery_point_id != resume.recovery_point_id or record.together:
            raise _Differs("this directory does not record its recovery point")
        if (record.source, record.worker_id) != (self._attacher.name, self._attacher.worker_id):
            raise _Differs(f"its disks were read in another way: {record.source}")
        return record

    def _frozen(self, plan: CapturePlan, point: RecoveryPoint, record: ClusterRecord, resume: StoredResume) -> Frozen:
        """Check that the recovery point is the one that was made, with the disks that were in it."""
        if point.name != record.name or point.held_vm_ids != {resume.vm_id}:
            raise _Differs(f"recovery point {point.id} is {point.name!r} now")
        point = dataclasses.replace(point, created_at=resume.frozen_at)
        try:
            frozen = check_frozen(plan, point, record.name, self._options, lambda _: None)
        except PrismAnswerError as error:
            raise _Differs(str(error)) from error
        told = {disk_id.lower(): stored_disk_point(disk) for disk_id, disk in frozen.disks.items()}
        if point.consistency != resume.consistency or told != {disk.disk_id: disk.point for disk in resume.disks}:
            raise _Differs(f"recovery point {point.id} holds other disks than it held")
        return dataclasses.replace(frozen, consistency_reason=resume.consistency_reason)


def _copied(found: Interrupted) -> str:
    return f"{format_size(found.bytes_done)} of {format_size(found.bytes_total)} are copied"


def _as_frozen(plan: CapturePlan, resume: StoredResume) -> CapturePlan:
    """Return the plan with the VM as it was when it was frozen."""
    sizes = {disk.disk_id: disk.size for disk in resume.disks}

    def as_frozen(each: DiskPlan) -> DiskPlan:
        return dataclasses.replace(each, disk=dataclasses.replace(each.disk, size=sizes[each.disk.id.lower()]))

    disks = tuple(as_frozen(each) for each in plan.disks)
    vm = dataclasses.replace(
        plan.vm,
        name=resume.vm_name,
        config=resume.vm_config,
        excluded=resume.excluded,
        disks=tuple(each.disk for each in disks),
    )
    return dataclasses.replace(plan, vm=vm, disks=disks, quiescing=resume.quiescing)
