"""Entities as v4 writes them.  Every object carries its `$objectType`."""

from __future__ import annotations

from typing import Any

from ntxengine.sim import groups, hardware, ids
from ntxengine.sim.answers import Json, app_message, time_text
from ntxengine.sim.faults.tasks import spoil
from ntxengine.sim.model import FrozenFile, GroupPoint, LiveFile, Point, Task, Vm, VmPoint
from ntxengine.sim.odd import odd_v4
from ntxengine.sim.world import World

_CREATED = 1_767_225_600.0


def typed(kind: str, **values: Any) -> Json:
    """Return an object with its type."""
    return {"$objectType": kind, "$reserved": {"$fv": "v4.r1"}, **values}


def address(ip: str) -> Json:
    """Return an IP address."""
    return typed("common.v1.config.IPAddress", ipv4=typed("common.v1.config.IPv4Address", value=ip, prefixLength=32))


# -- vmm

_VMM = "vmm.v4.ahv.config"
_POWER = {"on": "ON", "off": "OFF", "paused": "PAUSED"}


def vm(world: World, vm: Vm) -> Json:
    """Return a VM.  CD-ROMs are not among its disks."""
    cdroms = [file for file in vm.files if file.kind == "cdrom"]
    result = typed(
        f"{_VMM}.Vm",
        extId=vm.id,
        name=vm.name,
        createTime=time_text(_CREATED),
        updateTime=time_text(_CREATED),
        **hardware.v4(vm.id, vm.config.hardware, has_nvram=vm.config.nvram is not None),
        powerState=_POWER[vm.config.power],
        cluster=typed(f"{_VMM}.ClusterReference", extId=vm.cluster.id),
        isAgentVm=False,
        isCrossClusterMigrationInProgress=False,
        protectionType="UNPROTECTED",
        categories=[typed(f"{_VMM}.CategoryReference", extId=world.category_id(one)) for one in vm.config.categories],
        disks=[disk(world, file) for file in world.disks_of(vm)] + _volume_groups(world, vm),
        cdRoms=[_cdrom(world, file) for file in cdroms],
    )
    if vm.config.power == "on":
        result["host"] = typed(f"{_VMM}.HostReference", extId=vm.host_id)
    if vm.config.guest_tools is not None:
        result["guestTools"] = guest_tools(vm)
    return odd_v4(result, vm.config.odd)


def guest_tools(vm: Vm) -> Json:
    """Return the state of Guest Tools; of a VM that never had them, nothing is installed."""
    tools = vm.config.guest_tools
    if tools is None:
        return typed(f"{_VMM}.GuestTools", isInstalled=False, isEnabled=False, isReachable=False)
    result = typed(
        f"{_VMM}.GuestTools",
        isInstalled=tools.installed,
        isEnabled=tools.enabled,
        isIsoInserted=False,
        isReachable=tools.reachable,
        isVssSnapshotCapable=tools.can_quiesce,
        version=tools.version,
        availableVersion=tools.version,
        capabilities=None if tools.can_quiesce is None else ["VSS_SNAPSHOT"] if tools.can_quiesce else [],
        guestOsVersion=None if tools.has_guest_info else tools.os,
    )
    if tools.has_guest_info:
        result["guestInfo"] = typed(f"{_VMM}.GuestInfo", guestOsFullName=tools.os)
    return result


def _backing(world: World, file: LiveFile) -> Json:
    backing = typed(
        f"{_VMM}.VmDisk",
        diskExtId=file.vmdisk,
        diskSizeBytes=file.size,
        storageContainer=typed(
            f"{_VMM}.VmDiskContainerReference", extId=world.container_id(file.container, file.cluster)
        ),
        storageConfig=typed(f"{_VMM}.VmDiskStorageConfig", isFlashModeEnabled=False),
        isMigrationInProgress=False,
    )
    clone = world.state.clones.get(file.vmdisk)
    if clone is not None and clone.disk_point:
        kind, field, part = "VmDiskRecoveryPointReference", "vmRecoveryPointExtId", clone.vm_point
        if clone.group_point:
            kind, field, part = (
                "VolumeDiskRecoveryPointReference",
                "volumeGroupRecoveryPointExtId",
                clone.group_point,
            )
        reference = typed(f"{_VMM}.{kind}", **{field: part or None}, diskRecoveryPointExtId=clone.disk_point)
        backing["dataSource"] = typed(f"{_VMM}.DataSource", reference=reference)
    return backing


def disk(world: World, file: LiveFile) -> Json:
    """Return a disk: `extId` is the same as `backingInfo.diskExtId`, as recorded from a cluster."""
    where = typed(f"{_VMM}.DiskAddress", busType=file.bus.upper(), index=file.index)
    return typed(f"{_VMM}.Disk", extId=file.vmdisk, diskAddress=where, backingInfo=_backing(world, file))


def _cdrom(world: World, file: LiveFile) -> Json:
    bus = file.bus.upper() if file.bus in ("ide", "sata") else "IDE"
    where = typed(f"{_VMM}.CdRomAddress", busType=bus, index=file.index)
    return typed(f"{_VMM}.CdRom", extId=file.vmdisk, diskAddress=where, backingInfo=_backing(world, file))


def _volume_groups(world: World, vm: Vm) -> list[Json]:
    result = []
    for slot, group in groups.attached(world, vm):
        where = typed(f"{_VMM}.DiskAddress", busType="SCSI", index=slot)
        backing = typed(f"{_VMM}.ADSFVolumeGroupReference", volumeGroupExtId=group.id)
        slot_id = ids.fixed(group.id, "slot", vm.id)
        result.append(typed(f"{_VMM}.Disk", extId=slot_id, diskAddress=where, backingInfo=backing))
    return result


# -- dataprotection

_DP = "dataprotection.v4"


def recovery_point(world: World, point: Point, *, with_disks: bool) -> Json:
    """Return a recovery point; without disks, `diskRecoveryPoints` is null as seen on some builds."""
    cluster_id = world.cluster_with_point(point).id
    source = typed(
        f"{_DP}.common.DisasterRecoveryLocation",
        domainManagerExtId=world.central_id,
        clusterExtIds=[cluster_id],
    )
    return typed(
        f"{_DP}.config.RecoveryPoint",
        extId=point.id,
        name=point.name,
        status="COMPLETE",
        recoveryPointType=point.obtained,
        creationTime=time_text(point.created),
        expirationTime=time_text(point.expires),
        locationAgnosticId=ids.fixed(point.id, "agnostic"),
        ownerExtId="00000000-0000-0000-0000-000000000000",
        isSecure=world.config.faults.secure_points,
        totalExclusiveUsageBytes=world.config.point_usage,
        sourceLocation=source,
        locationReferences=[typed(f"{_DP}.config.LocationReference", locationExtId=cluster_id)],
        vmRecoveryPoints=[vm_recovery_point(point, one, with_disks=with_disks) for one in point.vms],
        volumeGroupRecoveryPoints=[
            _group_recovery_point(point, one, with_disks=world.config.group_disks_in_recovery_point)
            for one in point.groups
        ],
    )


def vm_recovery_point(point: Point, vm_point: VmPoint, *, with_disks: bool) -> Json:
    """Return one VM in a recovery point: also disks that are no data disks of it."""
    return typed(
        f"{_DP}.config.VmRecoveryPoint",
        extId=vm_point.id,
        name=point.name,
        vmExtId=vm_point.vm_id,
        hypervisorType="AHV",
        status="COMPLETE",
        recoveryPointType=point.obtained,
        creationTime=time_text(point.created),
        expirationTime=time_text(point.expires),
        consistencyGroupExtId=None,
        applicationConsistentProperties=None,
        diskRecoveryPoints=_disk_recovery_points(vm_point.files) if with_disks else None,
    )


def _group_recovery_point(point: Point, group_point: GroupPoint, *, with_disks: bool) -> Json:
    return typed(
        f"{_DP}.config.VolumeGroupRecoveryPoint",
        extId=group_point.id,
        name=point.name,
        volumeGroupExtId=group_point.group_id,
        status="COMPLETE",
        recoveryPointType=point.obtained,
        creationTime=time_text(point.created),
        expirationTime=time_text(point.expires),
        consistencyGroupExtId=None,
        diskRecoveryPoints=_disk_recovery_points(group_point.files) if with_disks else None,
    )


def _disk_recovery_points(files: list[FrozenFile]) -> list[Json]:
    kind = f"{_DP}.common.DiskRecoveryPoint"
    return [typed(kind, diskRecoveryPointExtId=file.id, diskExtId=file.vmdisk) for file in files]


# -- prism


def task(world: World, task: Task) -> Json:
    """Return a task.  Its id is no uuid."""
    result = typed(
        "prism.v4.config.Task",
        extId=ids.task_id(task.id),
        operation=task.operation,
        operationDescription=task.operation,
        status=task.status,
        progressPercentage=task.progress,
        createdTime=time_text(task.created),
        startedTime=time_text(task.started),
        completedTime=time_text(task.completed),
        lastUpdatedTime=time_text(task.updated),
        isCancelable=world.config.faults.cancelable_tasks and not task.is_done,
        isBackgroundTask=False,
        clusterExtIds=[world.cluster_id],
        entitiesAffected=[
            typed("prism.v4.config.EntityReference", extId=e.id, rel=e.rel, name=e.name or None) for e in task.entities
        ],
        numberOfEntitiesAffected=len(task.entities),
        subTasks=[],
    )
    if task.is_done and task.details:
        details = [typed("common.v1.config.KVPair", name=name, value=value) for name, value in task.details.items()]
        result["completionDetails"] = details
    if task.error:
        result["errorMessages"] = [app_message("prism", task.error, task.error_code)]
        result["legacyErrorMessage"] = task.error
    if task.warnings:
        warnings = [app_message("prism", text, "DP-10410", severity="WARNING") for text in task.warnings]
        result["warnings"] = warnings
    return spoil(result, world.config.faults.tasks)
