"""What use cases tell while they work: typed events, through one callback.

    capture  StageBegan(PLAN) Planned  StageBegan(FREEZE)
             per disk: CHANGES ATTACH, perhaps AUDIT, COPY VERIFY, Progressed, DiskDone
             StageBegan(COMMIT) PointCommitted  StageBegan(RELEASE)             a failure: StageBegan(UNDO)
    replicate  as capture, for a target that packs PACK before COMMIT; GenerationCommitted
    export   StageBegan(PLAN) Planned  StageBegan(FREEZE)   per disk: CHANGES, then ATTACH SERVE
             StageBegan(NOTIFY) StageBegan(WAIT)  StageBegan(RELEASE)                 a failure: StageBegan(UNDO)
    replicate  as capture, without PointCommitted; an OVA: StageBegan(PACK), Progressed before COMMIT
    cutover    replicate, perhaps StageBegan(SHUT_DOWN), replicate again       a failure: StageBegan(POWER_ON)
    restore  per disk: StageBegan(RESTORE), perhaps StageBegan(VERIFY), Progressed, DiskDone
             in place: StageBegan(COMPARE), and RESTORE only if something differs
    verify   per point: StageBegan(VERIFY)   per disk: Progressed, DiskDone
    prune    per point and disk: StageBegan(MERGE) StageBegan(VERIFY), Progressed; Removed for each point
    sync     per point and disk: StageBegan(COPY) StageBegan(VERIFY), Progressed; PointCommitted for each point
    check    per VM: StageBegan(CHECK), then as verify
    sweep    StageBegan(SWEEP), Removed for each thing

What takes a moment (forget, tag, hold, compare, stats) tells none: what it returns says all.

A callback is called from the event loop, often: it must be quick.  What it raises ends the use case as any error does:
what is not committed is undone, nothing more is told, and the caller gets just that exception.  Raised when the point
is committed already, it leaves the point where it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypedDict

log = logging.getLogger(__name__)


class Stage(StrEnum):
    """A step of a use case."""

    PLAN = "plan"
    FREEZE = "freeze"
    CHANGES = "changes"
    ATTACH = "attach"
    AUDIT = "audit"
    COPY = "copy"
    VERIFY = "verify"
    SERVE = "serve"
    NOTIFY = "notify"
    WAIT = "wait"
    SHUT_DOWN = "shut-down"
    POWER_ON = "power-on"
    COMMIT = "commit"
    RELEASE = "release"
    UNDO = "undo"
    COMPARE = "compare"
    RESTORE = "restore"
    MERGE = "merge"
    PACK = "pack"
    CHECK = "check"
    SWEEP = "sweep"


class Subject(TypedDict, total=False):
    """What an event is about: fields that every event has."""

    vm_id: str
    vm_name: str
    point_id: str
    disk_id: str
    disk_label: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """What all events have: the VM, point and disk that they are about; "" where they are about none, or all."""

    vm_id: str = ""
    vm_name: str = ""
    point_id: str = ""
    disk_id: str = ""
    disk_label: str = ""


@dataclass(frozen=True, kw_only=True)
class StageBegan(Event):
    """A step begins.  `consistency` is what FREEZE asks for, `recovery_point_id` what RELEASE deletes."""

    stage: Stage
    consistency: str = ""
    recovery_point_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    """It is decided what to capture.

    `parent_id` is the point that the new one goes on top of, None if it stands alone.  `consistency` will be asked for,
    `consistency_reason` says why not application ("" if it is, or was not wanted).
    """

    parent_id: str | None
    consistency: str
    consistency_reason: str


@dataclass(frozen=True, kw_only=True)
class Progressed(Event):
    """How far a stage of a disk is, in bytes: `bytes_done` of `bytes_total` (0: unknown).

    `bottleneck` is what the threads waited for most ("" for nothing), `bottleneck_share` its share of their time, 0..1.
    `is_flushing`: everything was sent, and the target makes sure of it.
    """

    stage: Stage
    bytes_total: int
    bytes_done: int
    bytes_read: int
    seconds: float
    bottleneck: str
    bottleneck_share: float
    is_flushing: bool


@dataclass(frozen=True, kw_only=True)
class DiskDone(Event):
    """A disk is done; `problem` says what verify found wrong with it, "" if nothing."""

    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class PointCommitted(Event):
    """The point is there, and stays."""


@dataclass(frozen=True, kw_only=True)
class GenerationCommitted(Event):
    """A generation of a replica is the one that there is."""

    replica_id: str
    generation: int


@dataclass(frozen=True, kw_only=True)
class StartedOver(Event):
    """All that was done is undone, and the capture begins anew with a full point, because of `reason`."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Removed(Event):
    """One thing is removed, or would be (`dry_run`): by a sweep, whose Swept has that `kind`, `id` and `name`, or by a
    prune, of the kind `point`.
    """

    kind: str
    id: str
    name: str
    dry_run: bool


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """We degrade and go on; `text` says to what, why, and what it costs."""

    text: str


OnEvent = Callable[[Event], None]


class Amounts(Protocol):
    """What of a transfer's progress is told (ntxengine.dataplane has it)."""

    @property
    def bytes_total(self) -> int: ...
    @property
    def bytes_done(self) -> int: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def bottleneck(self) -> str: ...
    @property
    def bottleneck_share(self) -> float: ...
    @property
    def is_flushing(self) -> bool: ...


class Emitter:
    """Tells the events of one run of a use case.  Once the callback has raised it is not called again."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._failure: BaseException | None = None

    def __call__(self, event: Event) -> None:
        """Tell an event.  Errors: whatever the callback raises, the first time."""
        if self._failure is not None:
            return
        try:
            self._on_event(event)
        except BaseException as error:
            self._failure = error
            raise

    @property
    def has_failed(self) -> bool:
        """Whether the callback has raised."""
        return self._failure is not None

    def raise_failure(self) -> None:
        """Raise what the callback raised, if it did: on its way it may have been taken for an error of a disk."""
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def first(self) -> Iterator[None]:
        """Raise what the callback raised, whatever became of it on its way."""
        try:
            yield
        finally:
            self.raise_failure()


class ProgressAdapter:
    """Makes events of what the data plane counts in one stage of one disk: give it as `on_progress`."""

    def __init__(self, emit: OnEvent, stage: Stage, subject: Subject) -> None:
        self._emit = emit
        self._stage = stage
        self._subject = subject

    def __call__(self, progress: Amounts) -> None:
        self._emit(
            Progressed(
                **self._subject,
                stage=self._stage,
                bytes_total=progress.bytes_total,
                bytes_done=progress.bytes_done,
                bytes_read=progress.bytes_read,
                seconds=progress.seconds,
                bottleneck=progress.bottleneck,
                bottleneck_share=progress.bottleneck_share,
                is_flushing=progress.is_flushing,
            )
        )


def log_event(event: Event) -> None:
    """Write to the log what a person would want to find there: what is told if nobody listens."""
    name = event.disk_label or event.point_id or event.vm_name or event.vm_id
    if isinstance(event, Warned):
        log.warning("%s", event.text)
    elif isinstance(event, StageBegan):
        log.info("%s: %s", event.stage, name or "begins")
    elif isinstance(event, Removed):
        log.info("%s: %s %s", "would be removed" if event.dry_run else "removed", event.kind, event.id)
    elif not isinstance(event, Progressed):  # too often for a log
        log.info("%s: %s", type(event).__name__, name)
