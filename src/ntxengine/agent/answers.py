"""What an agent tells of itself, as its socket and `ntx status --json` give it; docs/schema/status.json describes it.

Both sides use these: the agent makes them, commands read them.  A field that is missing has its default, and one that
is not known is passed over, so that an agent and a command of different versions understand each other.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from ntxengine.agent.kinds import CAPTURE
from ntxengine.agent.levels import Finding
from ntxengine.agent.records import Anomaly, Figures


class JobStatus(msgspec.Struct, kw_only=True):
    """A job.  `failing` are VMs whose last run failed."""

    job: str
    vms: int = 0
    running: int = 0
    waiting: int = 0
    failing: int = 0
    is_paused: bool = False
    next_start_at: datetime | None = None


class Failure(msgspec.Struct, kw_only=True):
    """What a run failed with: class, one line, and what a command would have ended with."""

    class_: str = msgspec.field(name="class", default="")
    message: str = ""
    exit_code: int = 1


class RunStatus(msgspec.Struct, kw_only=True):
    """A run, as documents.py tells it."""

    run_id: str
    job: str
    vm_id: str
    vm_name: str
    state: str
    started_at: datetime
    trigger: str = ""
    attempt: int = 1
    stage: str = ""
    ended_at: datetime | None = None
    seconds: float = 0.0
    stages_s: dict[str, float] = {}
    work: str = CAPTURE.name
    point_id: str | None = None
    replica_id: str | None = None
    generation: int | None = None
    bytes_done: int = 0
    bytes_total: int = 0
    bottleneck: str = ""
    figures: Figures | None = None
    warnings: list[str] = []
    problems: list[str] = []
    anomalies: list[Anomaly] = []
    error: Failure | None = None


class Wait(msgspec.Struct, kw_only=True):
    """A run that is due and waits, and why."""

    job: str
    vm_id: str
    vm_name: str
    since: datetime
    reason: str
    is_asked_for: bool = False


class Held(msgspec.Struct, kw_only=True):
    """What no run begins for, for so many seconds more."""

    scope: str
    reason: str
    since: datetime
    seconds_left: float = 0.0


class Paused(msgspec.Struct, kw_only=True):
    """What is paused: `all`, `job NAME`, `vm UUID`; of a VM that there is, with its name."""

    subject: str
    vm_name: str = ""
    since: datetime


class Asked(msgspec.Struct, kw_only=True):
    """A run that was asked for and has not begun."""

    job: str
    vm_id: str
    since: datetime


class VmStatus(msgspec.Struct, kw_only=True):
    """A VM of a job."""

    job: str
    vm_id: str
    vm_name: str
    is_running: bool = False
    captured_at: datetime | None = None
    failures: int = 0
    next_start_at: datetime | None = None


class BandwidthStatus(msgspec.Struct, kw_only=True):
    """The limit of the process: what holds now in bytes a second (0: none), by which timetable; processors, 0 to 1.

    `is_changed`: a person said so, and it holds until a reload.
    """

    rate: int = 0
    timetable: str = "off"
    is_changed: bool = False
    cpu_limit: float = 0.0


class Status(msgspec.Struct, kw_only=True):
    """How an agent is.  `vm_count` are VMs of jobs, each once."""

    version: str
    now: datetime
    started_at: datetime
    state_folder: str = ""
    is_stopping: bool = False
    level: str = "ok"
    findings: list[Finding] = []
    bandwidth: BandwidthStatus = msgspec.field(default_factory=BandwidthStatus)
    jobs: list[JobStatus] = []
    vm_count: int = 0
    running: list[RunStatus] = []
    waiting: list[Wait] = []
    waiting_count: int = 0
    held: list[Held] = []
    paused: list[Paused] = []
    asked: list[Asked] = []
    vms: list[VmStatus] | None = None
