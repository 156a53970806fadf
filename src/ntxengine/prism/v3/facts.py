"""The cluster and storage containers as v2 tells of them, hosts and their disks as v3 does."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.parse import Uuid, bytes_from, ip_address_from, yes_or_no
from ntxengine.prism.kept import MAX_LISTED, Kept
from ntxengine.prism.listing import readable
from ntxengine.prism.models import NO_FACTS, NO_FACTS_NOW, ClusterFacts, Container, DiskUsage, Host
from ntxengine.prism.v3.api import ElementApi
from ntxengine.prism.v3.pages import entities, v2_entities
from ntxengine.prism.v3.usage import usage_by_device


class _V2Container(msgspec.Struct):
    storage_container_uuid: Uuid
    name: str | None = None
    cluster_uuid: str | None = None
    compression_enabled: bool | None = None
    on_disk_dedup: str | None = None
    erasure_code: str | None = None
    encrypted: bool | None = None
    is_nutanix_managed: bool | None = None
    nfs_whitelist: list[str] | None = None
    nfs_whitelist_inherited: bool | None = None
    max_capacity: Any = None

    def model(self) -> Container:
        """Return it as our model, with its own list of clients if it has one."""
        own = tuple(map(one_line, self.nfs_whitelist or ()))
        return Container(
            id=self.storage_container_uuid,
            name=one_line(self.name or ""),
            cluster_id=self.cluster_uuid or "",
            is_compressed=self.compression_enabled,
            has_dedup=yes_or_no(self.on_disk_dedup, yes="POST_PROCESS"),
            is_encrypted=self.encrypted,
            is_erasure_coded=yes_or_no(self.erasure_code, yes="ON"),
            is_internal=self.is_nutanix_managed,
            inherits_nfs=self.nfs_whitelist_inherited,
            nfs_allowed=own if self.nfs_whitelist_inherited is False else None,
            capacity=bytes_from(self.max_capacity),
        )


class _Reference(msgspec.Struct):
    uuid: str | None = None


class _Metadata(msgspec.Struct):
    uuid: Uuid


class _ControllerVm(msgspec.Struct):
    ip: str | None = None


class _HostResources(msgspec.Struct):
    controller_vm: _ControllerVm | None = None


class _HostStatus(msgspec.Struct):
    name: str | None = None
    cluster_reference: _Reference | None = None
    resources: _HostResources | None = None


class _Host(msgspec.Struct):
    metadata: _Metadata
    status: _HostStatus | None = None

    def model(self, tiers: tuple[str, ...]) -> Host:
        """Return it as our model."""
        status = self.status or _HostStatus()
        controller = (status.resources.controller_vm if status.resources else None) or _ControllerVm()
        return Host(
            id=self.metadata.uuid,
            name=one_line(status.name or ""),
            cluster_id=(status.cluster_reference.uuid if status.cluster_reference else None) or "",
            cvm_address=ip_address_from(controller.ip or ""),
            tiers=tiers,
        )


class _DiskResources(msgspec.Struct):
    storage_tier_type: str | None = None
    host_reference: _Reference | None = None


class _DiskStatus(msgspec.Struct):
    resources: _DiskResources | None = None


class _Disk(msgspec.Struct):
    status: _DiskStatus | None = None


class ElementFacts:
    """What a Prism Element tells of its cluster, of storage containers and hosts."""

    def __init__(self, api: ElementApi) -> None:
        self._api = api
        clock = api.session.clock
        self._clusters = Kept(clock, NO_FACTS, NO_FACTS_NOW)
        self._containers: Kept[list[Container]] = Kept(clock, [])
        self._hosts: Kept[list[Host]] = Kept(clock, [])
        self._tiers: Kept[dict[str, dict[str, None]]] = Kept(clock, {})
        self._usage: Kept[dict[str, DiskUsage]] = Kept(clock, {})

    async def cluster(self, cluster_id: str) -> ClusterFacts:
        """Return what is told of the cluster, whatever VMs say that it is called by."""
        found = await self._clusters.get(f"cluster {cluster_id}", lambda: self._ask_cluster(cluster_id))
        return dataclasses.replace(found, id=cluster_id)

    async def containers(self) -> list[Container]:
        """Return the storage containers."""
        return list(await self._containers.get("storage containers", self._ask_containers))

    async def hosts(self, cluster_id: str) -> list[Host]:
        """Return the hosts of the cluster; none if it is asked for those of another."""
        found = await self._hosts.get("hosts", self._ask_hosts)
        return [host for host in found if host.cluster_id in ("", cluster_id)]

    async def disk_usage(self) -> Mapping[str, DiskUsage]:
        """Return what each disk takes, by its device uuid."""
        return await self._usage.get("what disks take", lambda: usage_by_device(self._api))

    async def _ask_cluster(self, cluster_id: str) -> ClusterFacts:
        return (await self._api.get_cluster_v2()).facts(cluster_id)

    async def _ask_containers(self) -> list[Container]:
        listed = v2_entities(self._api.list_storage_containers_v2)
        states = await readable(listed, _V2Container, what="storage container", limit=MAX_LISTED)
        return sorted((state.model() for state in states), key=lambda one: (one.name, one.id))

    async def _ask_hosts(self) -> list[Host]:
        hosts = await readable(entities(self._api, "host"), _Host, what="host", limit=MAX_LISTED)
        tiers = await self._tiers.get("disks of hosts", self._ask_tiers)
        found = [host.model(tuple(tiers.get(host.metadata.uuid, ()))) for host in hosts]
        return sorted(found, key=lambda one: (one.name, one.id))

    async def _ask_tiers(self) -> dict[str, dict[str, None]]:
        """Return Prism's words for the disks of each host, each word once."""
        tiers: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for disk in await readable(entities(self._api, "disk"), _Disk, what="disk", limit=MAX_LISTED):
            resources = (disk.status.resources if disk.status else None) or _DiskResources()
            host_id = resources.host_reference.uuid if resources.host_reference else None
            if host_id and resources.storage_tier_type:
                tiers[host_id][one_line(resources.storage_tier_type)] = None
        return dict(tiers)
