"""What the simulated cluster holds.  Plain data: `State` is what survives a restart (state.json)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ntxengine.sim.clusters import Cluster, Host
from ntxengine.sim.config import Family, VmConfig
from ntxengine.sim.faults import TaskKind

FileKind = Literal["disk", "cdrom", "nvram"]
TaskStatus = Literal["QUEUED", "RUNNING", "CANCELING", "SUCCEEDED", "FAILED", "CANCELED"]


@dataclass(frozen=True)
class LiveFile:
    """A file of a VM on the cluster's storage.  `vmdisk` names the file, `device` the slot in the VM: they differ.

    `cluster` is None for the first one.
    """

    kind: FileKind
    vmdisk: str
    device: str
    bus: str
    index: int
    container: str
    path: Path
    cluster: Cluster | None = None

    @property
    def size(self) -> int:
        """Size now: a disk may be grown while it is in use."""
        return self.path.stat().st_size


@dataclass(frozen=True)
class Vm:
    """A VM with its files; hot-added disks are `Clone`s in the state."""

    id: str
    config: VmConfig
    cluster: Cluster
    host: Host
    files: tuple[LiveFile, ...]

    @property
    def host_id(self) -> str:
        """The host that it runs on, when it does."""
        return self.host.id

    @property
    def name(self) -> str:
        """The name as the user typed it: data, never part of a path."""
        return self.config.name

    @property
    def can_quiesce(self) -> bool:
        """Say if an application-consistent point of this VM is possible."""
        tools = self.config.guest_tools
        return (
            tools is not None
            and self.config.power == "on"
            and False not in (tools.installed, tools.enabled, tools.reachable, tools.can_quiesce)
        )


@dataclass
class FrozenFile:
    """One file of a VM at the moment of a recovery point.  `file` is relative to the state directory.

    `live_path` and `snapshot_path` are paths on the cluster's storage; only v3 tells them.
    """

    id: str
    kind: FileKind
    vmdisk: str
    device: str
    container: str
    file: str
    live_path: str
    snapshot_path: str


@dataclass
class VmPoint:
    """One VM in a recovery point."""

    id: str
    vm_id: str
    files: list[FrozenFile] = field(default_factory=list)


@dataclass
class GroupPoint:
    """One volume group in a recovery point."""

    id: str
    group_id: str
    files: list[FrozenFile] = field(default_factory=list)


@dataclass
class Point:
    """A recovery point (v4) or a vm_snapshot (v3).  Times are seconds since 1970; `task` is the one that made it."""

    id: str
    family: Family
    name: str
    requested: str
    obtained: str
    created: float
    expires: float | None
    triple: str
    task: str
    vms: list[VmPoint] = field(default_factory=list)
    groups: list[GroupPoint] = field(default_factory=list)
    is_frozen: bool = False

    @property
    def parts(self) -> list[VmPoint | GroupPoint]:
        """The VMs and volume groups in it."""
        return [*self.vms, *self.groups]

    @property
    def files(self) -> list[FrozenFile]:
        """Every frozen file of it."""
        return [file for part in self.parts for file in part.files]


@dataclass
class Clone:
    """A disk hot-added to a VM: a writable copy of frozen bytes.  Not seen by anybody until it `is_ready`."""

    vm_id: str
    vmdisk: str
    device: str
    bus: str
    index: int
    container: str
    serial: int
    vm_point: str = ""
    group_point: str = ""
    disk_point: str = ""
    source_path: str = ""
    is_ready: bool = False


@dataclass
class GroupDisk:
    """A disk of a volume group: a copy of frozen bytes.  `source` is how its maker named what it is a clone of."""

    id: str
    index: int
    container: str
    source: str = ""


@dataclass
class Initiator:
    """An iSCSI initiator that may log in, by its name and its secret, if it has one."""

    id: str
    name: str
    secret: str = ""


@dataclass
class MadeGroup:
    """A volume group that a caller made of disks of recovery points.  Not seen by anybody until it `is_ready`.

    `target` is the name of its iSCSI target without the prefix of them all, `serial` its number there; `cluster` is the
    uuid of its cluster.
    """

    id: str
    name: str
    cluster: str
    serial: int
    target: str
    secret: str = ""
    usage: str = "USER"
    is_hidden: bool = False
    is_shared: bool = False
    disks: list[GroupDisk] = field(default_factory=list)
    initiators: list[Initiator] = field(default_factory=list)
    is_ready: bool = False


@dataclass
class Entity:
    """Something that a task touched."""

    rel: str
    kind: str
    id: str
    name: str = ""


@dataclass
class Task:
    """A long-running operation."""

    id: str
    kind: TaskKind
    operation: str
    created: float
    status: TaskStatus = "QUEUED"
    progress: int = 0
    started: float | None = None
    completed: float | None = None
    updated: float = 0
    entities: list[Entity] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)
    error: str = ""
    error_code: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def is_canceling(self) -> bool:
        """Say if it ends as soon as its work is done."""
        return self.status == "CANCELING"

    @property
    def is_done(self) -> bool:
        """Say if it will not change any more."""
        return self.status in ("SUCCEEDED", "FAILED", "CANCELED")


@dataclass
class Identifiers:
    """Uuids handed out by idempotence_identifiers."""

    client: str
    expires: float
    uuids: list[str]


@dataclass
class State:
    """Everything that survives a restart.

    LIMIT: tasks and request ids are kept for ever; a run with many thousands of them writes a large state.json.
    """

    version: int = 1
    next_snapshot: int = 101
    next_serial: int = 1
    points: dict[str, Point] = field(default_factory=dict)
    clones: dict[str, Clone] = field(default_factory=dict)
    made_groups: dict[str, MadeGroup] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    identifiers: dict[str, Identifiers] = field(default_factory=dict)
