"""The simulated cluster: what it holds and the questions that every API asks of it.

All of it runs in one event loop; only the copying and comparing of bytes goes to threads.  `disk_lock` is held while
a recovery point freezes its disks: a test that writes to several disks at one moment takes it too.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import msgspec

from ntxengine.errors import OptionsError
from ntxengine.sim import ids, storage
from ntxengine.sim.clusters import Cluster
from ntxengine.sim.config import DiskConfig, SimConfig, VmConfig
from ntxengine.sim.faults.volumes import VolumeRules, volume_rules
from ntxengine.sim.model import (
    Clone,
    FileKind,
    FrozenFile,
    GroupDisk,
    GroupPoint,
    LiveFile,
    MadeGroup,
    Point,
    State,
    Vm,
    VmPoint,
)
from ntxengine.sim.storage import Layout
from ntxengine.sim.target import Target
from ntxengine.sim.tasks import Tasks


class World:
    """Cluster, VMs, recovery points, tasks."""

    def __init__(self, config: SimConfig, state_dir: Path, clock: Callable[[], float]) -> None:
        config.check()
        self.config = config
        self.clock = clock
        self.layout = Layout(state_dir)
        self.clusters = [Cluster(one) for one in config.all_clusters()]
        self.layout.make([container.name for one in self.clusters for container in one.config.containers])
        self.disk_lock = threading.Lock()
        self._save_lock = threading.Lock()
        self.central_id = ids.fixed(config.central_name, "central")
        self.vms = {vm.id: vm for vm in self._make_vms()}
        self._state_file = state_dir / "state.json"
        self.state = self._load()
        self.tasks = Tasks(config, self.state, clock, self.save)
        self.target = Target(state_dir)
        self._clean()

    # -- start

    def _make_vms(self) -> list[Vm]:
        configs = list(self.config.vms)
        worker = self.config.worker
        if worker is not None and all(vm.name != worker for vm in configs):
            configs.append(VmConfig(worker))
        seen: defaultdict[str, int] = defaultdict(int)
        result = []
        for number, config in enumerate(configs):
            vm_id = config.id or ids.fixed(self.config.cluster_name, "vm", config.name, seen[config.name])
            seen[config.name] += 1
            cluster = next(one for one in self.clusters if one.name == (config.cluster or self.cluster.name))
            host = cluster.hosts[number % len(cluster.hosts)]
            result.append(Vm(vm_id, config, cluster, host, self._make_files(vm_id, config, cluster)))
        if len({vm.id for vm in result}) != len(result):
            raise OptionsError("simulator: two VMs have the same id")
        return result

    def _make_files(self, vm_id: str, config: VmConfig, cluster: Cluster) -> tuple[LiveFile, ...]:
        taken = {(disk.bus, disk.index) for disk in [*config.disks, *config.cdroms]}
        files: list[LiveFile] = []

        def add(kind: FileKind, disk: DiskConfig, index: int) -> None:
            storage.open_disk(disk, f"VM {config.name!r}")
            address = (disk.bus, index)
            vmdisk = ids.fixed(vm_id, "vmdisk", kind, *(address if disk.file_name is None else (disk.file_name,)))
            device = ids.fixed(vm_id, "device", kind, *(address if disk.device is None else (disk.device,)))
            storage.link(disk.path, self.layout.file(self.layout.live_path(disk.container, vmdisk)))
            files.append(LiveFile(kind, vmdisk, device, disk.bus, index, disk.container, disk.path, cluster))

        groups: tuple[tuple[FileKind, list[DiskConfig]], ...] = (("disk", config.disks), ("cdrom", config.cdroms))
        for kind, disks in groups:
            for disk in disks:
                index = disk.index
                if index is None:
                    index = next(number for number in range(257) if (disk.bus, number) not in taken)
                    taken.add((disk.bus, index))
                add(kind, disk, index)
        if config.nvram is not None:
            add("nvram", config.nvram, 0)
        return tuple(files)

    def _load(self) -> State:
        if not self._state_file.exists():
            return State()
        try:
            return msgspec.json.decode(self._state_file.read_bytes(), type=State)
        except msgspec.MsgspecError as exc:
            raise OptionsError(f"simulator state {self._state_file} is damaged ({exc}): remove the directory") from exc

    def save(self) -> None:
        """Write the state: whole or not at all."""
        with self._save_lock:
            new = self._state_file.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(self.state))
            new.replace(self._state_file)

    def _clean(self) -> None:
        """Settle what a killed simulator left: unfinished tasks, half-frozen points, files of neither."""
        for task in self.state.tasks.values():
            if not task.is_done:
                task.status, task.completed = "FAILED", self.clock()
                task.error, task.error_code = "Interrupted by a restart", "DP-10000"
        self.state.points = {point.id: point for point in self.state.points.values() if point.is_frozen}
        kept = {self.frozen_file(file) for point in self.state.points.values() for file in point.files}
        storage.remove_strays(self.layout.recovery_points, kept)
        for name in {container.name for one in self.clusters for container in one.config.containers}:
            storage.remove_strays(self.layout.containers / name / ".snapshot", kept)
        ready = [clone for clone in self.state.clones.values() if clone.is_ready and clone.vm_id in self.vms]
        clones = {clone.vmdisk: clone for clone in ready}
        self.state.clones = clones
        storage.remove_strays(self.layout.clones, {self.layout.clones / vmdisk for vmdisk in clones})
        links = {self.layout.device(clone.vmdisk, clone.serial) for clone in clones.values()}
        storage.remove_strays(self.layout.devices, links)
        self.state.made_groups = {group.id: group for group in self.made_groups()}
        kept = {self.group_file(group, disk) for group in self.made_groups() for disk in group.disks}
        storage.remove_strays(self.layout.volume_groups, kept)
        self.expire()
        self.save()

    # -- questions

    @property
    def worker(self) -> Vm | None:
        """The VM that disks are hot-added to."""
        return next((vm for vm in self.vms.values() if vm.name == self.config.worker), None)

    @property
    def cluster(self) -> Cluster:
        """The first cluster."""
        return self.clusters[0]

    @property
    def cluster_id(self) -> str:
        """The uuid of the first cluster."""
        return self.cluster.id

    def container_id(self, name: str, cluster: Cluster | None = None) -> str:
        """Return the uuid of a storage container, of the first cluster if none is given."""
        return (cluster or self.cluster).container_id(name)

    @property
    def categories(self) -> list[str]:
        """All categories, `key=value`."""
        return sorted({*self.config.categories, *(one for vm in self.vms.values() for one in vm.config.categories)})

    def category_id(self, category: str) -> str:
        """Return the uuid of a category."""
        return ids.fixed(self.config.central_name, "category", category)

    def vms_of(self, cluster: Cluster | None) -> list[Vm]:
        """Return the VMs of a cluster, of all if none is given."""
        return [vm for vm in self.vms.values() if cluster is None or vm.cluster is cluster]

    def cluster_of(self, vm_id: str) -> Cluster:
        """Return the cluster of a VM; one that is not known counts as one of the first cluster."""
        vm = self.vms.get(vm_id)
        return self.cluster if vm is None else vm.cluster

    def cluster_with_point(self, point: Point) -> Cluster:
        """Return the cluster that a recovery point is on: that of its VMs, the first one if it has none."""
        return self.cluster_of(point.vms[0].vm_id) if point.vms else self.cluster

    def cluster_with(self, disk_point: str) -> Cluster:
        """Return the cluster that a v4 disk recovery point is on."""
        found = self.find_frozen(disk_point)
        return self.cluster if found is None else self.cluster_with_point(found[0])

    def clones_of(self, vm_id: str) -> list[Clone]:
        """Return the hot-added disks of a VM, oldest first."""
        found = [clone for clone in self.state.clones.values() if clone.vm_id == vm_id and clone.is_ready]
        return sorted(found, key=lambda clone: clone.serial)

    def disks_of(self, vm: Vm) -> list[LiveFile]:
        """Return the data disks of a VM, hot-added ones last."""
        own = [file for file in vm.files if file.kind == "disk"]
        return own + [self.clone_file(clone) for clone in self.clones_of(vm.id)]

    def files_of(self, vm: Vm) -> list[LiveFile]:
        """Return every file that a recovery point of a VM holds."""
        return [*vm.files, *(self.clone_file(clone) for clone in self.clones_of(vm.id))]

    def clone_file(self, clone: Clone) -> LiveFile:
        """Return a hot-added disk as a disk of its VM."""
        path = self.layout.clones / clone.vmdisk
        cluster = self.cluster_of(clone.vm_id)
        return LiveFile("disk", clone.vmdisk, clone.device, clone.bus, clone.index, clone.container, path, cluster)

    def vm_etag(self, vm: Vm) -> str:
        """Return the version of a VM: changes with its power, and when a disk is added or removed."""
        return ids.etag(vm.id, vm.config.power, *(clone.vmdisk for clone in self.clones_of(vm.id)))

    def frozen_file(self, file: FrozenFile) -> Path:
        """Return where frozen bytes are."""
        return self.layout.state / file.file

    def points(self, family: str) -> list[Point]:
        """Return the recovery points of a family that are frozen, oldest first."""
        found = [point for point in self.state.points.values() if point.family == family and point.is_frozen]
        return sorted(found, key=lambda point: (point.created, point.id))

    def find_frozen(self, disk_point: str) -> tuple[Point, VmPoint | GroupPoint, FrozenFile] | None:
        """Return the v4 disk recovery point of this id, wherever it is."""
        for point in self.points("v4"):
            for part in point.parts:
                for file in part.files:
                    if file.id == disk_point:
                        return point, part, file
        return None

    def find_snapshot_path(self, path: str) -> FrozenFile | None:
        """Return the v3 frozen file that was announced under exactly this path."""
        for point in self.points("v3"):
            for vm_point in point.vms:
                for file in vm_point.files:
                    if file.snapshot_path == path:
                        return file
        return None

    # -- volume groups

    @property
    def volume_rules(self) -> VolumeRules:
        """How volume groups are dealt with."""
        return volume_rules(self.config.faults.volumes)

    @property
    def data_services(self) -> str:
        """The address that the cluster tells for iSCSI, "" if none."""
        told = self.volume_rules.data_services
        return self.target.address if told is None else told

    def made_groups(self) -> list[MadeGroup]:
        """Return the volume groups that callers made, oldest first."""
        return [group for group in self.state.made_groups.values() if group.is_ready]

    def group_file(self, group: MadeGroup, disk: GroupDisk) -> Path:
        """Return where the bytes of a disk of a volume group are."""
        return self.layout.volume_groups / group.id / disk.id

    async def serve_group(self, group: MadeGroup) -> None:
        """Offer a volume group over iSCSI to the initiators that it has."""
        if group.id not in self.state.made_groups:
            return
        await self.target.serve(group, {disk.index: self.group_file(group, disk) for disk in group.disks})
        for initiator in group.initiators:
            await self.target.admit(group, initiator, self.volume_rules.given_secret(initiator.secret))

    # -- end of life

    def drop_group(self, group: MadeGroup) -> None:
        """Delete a volume group and its bytes."""
        self.state.made_groups.pop(group.id, None)
        for disk in group.disks:
            storage.remove_file(self.group_file(group, disk), below=self.layout.volume_groups)
        self.save()

    def expire(self) -> None:
        """Delete every recovery point whose time is over."""
        now = self.clock()
        for point in [*self.state.points.values()]:
            if point.is_frozen and point.expires is not None and point.expires <= now:
                self.drop(point)

    def drop(self, point: Point) -> None:
        """Delete a recovery point and its bytes."""
        self.state.points.pop(point.id, None)
        for file in point.files:
            snapshots = self.layout.containers / file.container / ".snapshot"
            below = snapshots if point.family == "v3" else self.layout.recovery_points
            storage.remove_file(self.frozen_file(file), below=below)
        self.save()
