"""What the simulator plays: clusters, containers, VMs, credentials, limits and faults.

A `SimConfig` is made in Python or read from YAML; both forms have the same names.

    cluster_name: pe1
    vms:
      - name: db01
        power: on
        guest_tools: {installed: true, enabled: true, reachable: true, can_quiesce: true}
        disks:
          - {path: disks/db01-a.raw}
          - {path: disks/db01-b.raw, size: 64MiB, bus: scsi, index: 3, container: fast}
        cdroms: [{path: disks/tools.iso, size: 1MiB}]
        nvram: {path: disks/db01.nvram, size: 64KiB}
    volume_groups:
      - {name: db-data, vms: [db01], disks: [{path: disks/group0.raw, size: 64MiB}]}
    faults: {fail_tasks: {create: 1}, http: [{path: changed_regions, status: 503, count: 2}]}
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from ntxengine.errors import OptionsError
from ntxengine.sim import clusters, odd, roles
from ntxengine.sim.clusters import ClusterConfig, ContainerConfig, HostConfig, two_hosts
from ntxengine.sim.faults import Faults
from ntxengine.sim.hardware import HardwareConfig
from ntxengine.units import MIB, parse_size

Power = Literal["on", "off", "paused"]
Bus = Literal["scsi", "ide", "pci", "sata", "spapr"]
Family = Literal["v3", "v4"]

_T = TypeVar("_T")

WORKER_NAME = "ntx-worker"


@dataclass
class DiskConfig:
    """A file that plays a disk.  If it does not exist and `size` is given, it is created sparse.

    `device` and `file_name` are what its ids are made of, where the address shall not be: a disk that is made anew at
    an old address has others, one that moves to another address keeps them.  `file_name` alone is another file on
    storage behind the same device, which only v3 tells apart.
    """

    path: Path
    size: int | None = None
    bus: Bus = "scsi"
    index: int | None = None
    container: str = "default"
    device: str | None = None
    file_name: str | None = None


@dataclass
class GuestToolsConfig:
    """State of Nutanix Guest Tools in a VM.  What is None is null in the answers, and true behind them.

    `os` is the guest's system in the words of Guest Tools; vmm 4.3 says it in `guestInfo` when `has_guest_info`.
    """

    installed: bool | None = True
    enabled: bool | None = True
    reachable: bool | None = True
    can_quiesce: bool | None = True
    version: str = "4.1"
    os: str | None = "linux:64:Debian GNU/Linux 12"
    has_guest_info: bool = False


@dataclass
class VmConfig:
    """A VM.  `id` fixes its uuid; otherwise it comes from the cluster's and the VM's name.

    `nvram` is an extra file that a snapshot lists although it is no disk of the VM; `volume_groups` is how many
    volume groups without a disk are attached; those with disks are in SimConfig.  `odd` is what is odd about what is
    told of it (odd.py).  `cluster` is the one that it is on, None for the first; `categories` are written `key=value`.
    `hardware` is what it is made of besides (hardware.py).  `ignores_shutdown`: its guest does not answer to ACPI.
    """

    name: str
    disks: list[DiskConfig] = field(default_factory=list)
    cdroms: list[DiskConfig] = field(default_factory=list)
    nvram: DiskConfig | None = None
    power: Power = "on"
    guest_tools: GuestToolsConfig | None = None
    volume_groups: int = 0
    id: str | None = None
    hypervisor: Literal["AHV", "ESX", "HyperV"] = "AHV"
    odd: list[str] = field(default_factory=list)
    cluster: str | None = None
    categories: list[str] = field(default_factory=list)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    ignores_shutdown: bool = False


@dataclass
class GroupConfig:
    """A volume group, and the names of the VMs that it is attached to.  It may be changed while the simulator runs.

    The `index` of a disk is that in the group, else its place in the list.  `chap`: its clients authenticate;
    `external`: its disks lie on storage of somebody else.
    """

    name: str
    disks: list[DiskConfig] = field(default_factory=list)
    vms: list[str] = field(default_factory=list)
    is_shared: bool = False
    chap: bool = False
    external: bool = False


@dataclass
class LimitsConfig:
    """Page sizes, life times and rates."""

    regions_per_page: int = 10_000
    v3_page: int = 500
    session_s: float = 900
    token_s: float = 900
    enforce_rates: bool = False
    requests_per_s: int = 40
    api_requests_per_s: int = 10
    api_rates: dict[str, int] = field(default_factory=lambda: {"list_vms": 2})
    task_s: float = 0
    """How long a task stays RUNNING after its work is done."""


@dataclass
class SimConfig:
    """Everything the simulator plays; see the module's head for the YAML form.

    `revisions` caps the v4 revision of a name space: a higher one in a path is 404, and OPTIONS answers the cap;
    `*` is for all that are not named.
    `content_revision` is the revision in the scope of the token of discover-cluster.  `disks_in_recovery_point` False
    makes `diskRecoveryPoints` of VMs null in the top-level GET, `group_disks_in_recovery_point` False those of volume
    groups, which nothing else tells.  `cannot_quiesce` is what an application-consistent request
    becomes when Guest Tools cannot: a crash-consistent point, a failed task, or a point that claims it nevertheless.
    `style` recorded gives the answers the form that recordings of clusters have (recorded.py).
    `roles` are the roles of the account, by `central` and `element` (roles.py); it may do everything without.
    `central_first` lists Prism Central before the cluster; it is listed as a cluster too.
    `aos` is the version of the cluster.
    `api_key` is the key of a service account; Prism Central takes it for v4.
    `containers`, `hosts`, `nfs_allowed` and `encrypted` are of the first cluster, `clusters` are others (clusters.py).
    `nfs` serves the containers of the first cluster over NFS (nfs.py), to whom `nfs_allowed` names.
    `categories` are those that there are besides the ones of VMs, `key=value`.
    `point_usage` are the bytes that each recovery point is said to hold alone (v4); None: null, as it was recorded.
    `worker` is the VM that disks are hot-added to; it is added to `vms` when no VM has that name; None adds none.
    """

    vms: list[VmConfig] = field(default_factory=list)
    volume_groups: list[GroupConfig] = field(default_factory=list)
    containers: list[ContainerConfig] = field(default_factory=lambda: [ContainerConfig()])
    hosts: list[HostConfig] = field(default_factory=two_hosts)
    nfs_allowed: list[str] = field(default_factory=list)
    encrypted: bool = False
    nfs: bool = False
    clusters: list[ClusterConfig] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    cluster_name: str = "pe1"
    central_name: str = "pc1"
    worker: str | None = WORKER_NAME
    username: str = "admin"
    password: str | None = None
    element_password: str | None = None
    api_key: str | None = None
    roles: dict[str, str] = field(default_factory=dict)
    central_first: bool = False
    aos: str = "7.5.1.2"
    families: list[Family] = field(default_factory=lambda: ["v3", "v4"])
    revisions: dict[str, str] = field(default_factory=dict)
    content_revision: str = "v4.0"
    disks_in_recovery_point: bool = True
    point_usage: int | None = None
    group_disks_in_recovery_point: bool = True
    cannot_quiesce: Literal["downgrade", "fail", "claim"] = "downgrade"
    style: Literal["plain", "recorded"] = "plain"
    extra_info_as_text: bool = True
    last_offset: Literal["absent", "zero", "null"] = "absent"
    etag_header: Literal["ETag", "X-Ntnx-Etag"] = "ETag"
    central_host: str = "127.0.0.1"
    element_host: str = "127.0.0.2"
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    faults: Faults = field(default_factory=Faults)

    @classmethod
    def from_yaml(cls, path: Path) -> SimConfig:
        """Read a configuration; relative disk paths are relative to the file.

        Errors: OptionsError, one line, naming the file and the key.
        """
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as exc:
            raise OptionsError(f"simulator configuration {path}: cannot be read: {exc.strerror}") from exc
        except (yaml.YAMLError, UnicodeDecodeError) as exc:
            raise OptionsError(f"simulator configuration {path}: is not YAML: {' '.join(str(exc).split())}") from exc
        config = _build(cls, {} if raw is None else raw, f"simulator configuration {path}", "")
        for vm in config.vms:
            for disk in vm_files(vm):
                disk.path = path.parent / disk.path
        for group in config.volume_groups:
            for disk in group.disks:
                disk.path = path.parent / disk.path
        return config

    def check(self) -> None:
        """Raise OptionsError if the parts do not fit together."""
        clusters.check(self.all_clusters())
        containers = {one.name: [container.name for container in one.containers] for one in self.all_clusters()}
        for vm in self.vms:
            where = vm.cluster or self.cluster_name
            if where not in containers:
                raise OptionsError(f"simulator: VM {vm.name!r}: cluster {where!r} does not exist")
            self._check_vm(vm, containers[where])
        for category in (*self.categories, *(category for vm in self.vms for category in vm.categories)):
            if not all(category.partition("=")):
                raise OptionsError(f"simulator: category {category!r} is not written key=value")
        for group in self.volume_groups:
            for disk in group.disks:
                if disk.container not in containers[self.cluster_name]:
                    place = f"simulator: volume group {group.name!r}"
                    raise OptionsError(f"{place}: storage container {disk.container!r} does not exist")
        self.faults.check()
        roles.check(self.roles, self.faults.lacking_rights)

    def all_clusters(self) -> list[ClusterConfig]:
        """Return every cluster, the first one first."""
        first = ClusterConfig(
            self.cluster_name, self.element_host, self.hosts, self.containers, self.nfs_allowed, self.encrypted
        )
        return [first, *self.clusters]

    def _check_vm(self, vm: VmConfig, containers: list[str]) -> None:
        odd.check(vm.odd)
        taken: set[tuple[str, int]] = set()
        for disk in vm.disks + vm.cdroms:
            if disk.container not in containers:
                raise OptionsError(f"simulator: VM {vm.name!r}: storage container {disk.container!r} does not exist")
            if disk.index is not None:
                if (disk.bus, disk.index) in taken:
                    raise OptionsError(f"simulator: VM {vm.name!r}: two disks at {disk.bus}.{disk.index}")
                taken.add((disk.bus, disk.index))


def vm_files(vm: VmConfig) -> list[DiskConfig]:
    """Return every file of a VM: disks, CD-ROMs, NVRAM."""
    return [*vm.disks, *vm.cdroms, *([vm.nvram] if vm.nvram else [])]


def demo_config(folder: Path) -> SimConfig:
    """Return one VM `demo` with two sparse disks below `folder` and Guest Tools that can quiesce.

    The files are created once, with a few MiB of data in the first, and kept as they are when they exist.
    """
    system, data = folder / "demo-system.raw", folder / "demo-data.raw"
    folder.mkdir(parents=True, exist_ok=True)
    if not system.exists():
        system.write_bytes(b"".join(number.to_bytes(8, "little") * 512 for number in range(1, 2049)))
        with system.open("r+b") as file:
            file.truncate(256 * MIB)
    disks = [DiskConfig(system), DiskConfig(data, size=64 * MIB + 512)]
    return SimConfig(vms=[VmConfig("demo", disks=disks, guest_tools=GuestToolsConfig())])


def _build(cls: type[_T], raw: Any, where: str, key: str) -> _T:
    """Make a dataclass of a mapping: unknown keys and wrong types are OptionsError with the key's full name."""
    if not isinstance(raw, dict):
        raise OptionsError(f"{where}: {key or 'the file'} must be a mapping")
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, value in raw.items():
        full = f"{key}.{name}" if key else str(name)
        if name not in hints:
            raise OptionsError(f"{where}: {full} is not known; known are {', '.join(sorted(hints))}")
        values[name] = _convert(hints[name], value, where, full)
    try:
        return cls(**values)
    except TypeError as exc:
        raise OptionsError(f"{where}: {key}: {exc}") from exc


def _convert(hint: Any, value: Any, where: str, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(item for item in arguments if item is not type(None)), value, where, key)
    if origin is list and isinstance(value, list):
        return [_convert(arguments[0], item, where, f"{key}[{number}]") for number, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {str(name): _convert(arguments[1], item, where, f"{key}.{name}") for name, item in value.items()}
    if origin is Literal:
        # YAML 1.1 reads a bare on/off as a boolean.
        value = {True: "on", False: "off"}[value] if isinstance(value, bool) else value
        if value in arguments:
            return value
        raise OptionsError(f"{where}: {key} must be one of {', '.join(map(str, arguments))}, not {value!r}")
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, where, key)
    return _scalar(hint, value, where, key)


def _scalar(hint: Any, value: Any, where: str, key: str) -> Any:
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is int and isinstance(value, str):
        return parse_size(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    kind = getattr(hint, "__name__", str(hint))
    raise OptionsError(f"{where}: {key} must be of type {kind}, not {type(value).__name__}")
