"""Clusters, storage containers and hosts as v4 tells of them (clustermgmt), and the names of networks (networking).

v4 has no word for what a cluster stores on; the tiers of its hosts' disks say it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Collection
from functools import partial
from typing import Any

from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.parse import Uuid, bytes_from, ip_address_from, yes_or_no
from ntxengine.prism.http.session import Answer
from ntxengine.prism.kept import MAX_LISTED, Kept
from ntxengine.prism.listing import readable
from ntxengine.prism.models import NO_FACTS, NO_FACTS_NOW, ClusterFacts, Container, Host
from ntxengine.prism.v4.api import CentralApi
from ntxengine.prism.v4.pages import entities
from ntxengine.prism.v4.schema import Camel
from ntxengine.prism.v4.schema_discovery import IpAddress


class _PrefixedAddress(Camel):
    value: str | None = None
    prefix_length: int | None = None

    @property
    def text(self) -> str:
        """The address, with the length of its prefix if that is told."""
        prefix = "" if self.prefix_length is None else f"/{self.prefix_length}"
        return f"{self.value}{prefix}" if self.value else ""


class _Name(Camel):
    value: str | None = None


class _Client(Camel):
    """Somebody who may mount: an address, a network or a name."""

    ipv4: _PrefixedAddress | None = None
    ipv6: _PrefixedAddress | None = None
    fqdn: _Name | None = None

    @property
    def text(self) -> str:
        """It, as people write it; "" if nothing is told."""
        for given in (self.ipv4, self.ipv6):
            if given is not None and given.text:
                return one_line(given.text)
        return one_line((self.fqdn.value if self.fqdn else None) or "")


class StorageContainerState(Camel):
    """A storage container; its `extId` is null in recordings."""

    container_ext_id: Uuid | None = None
    ext_id: Uuid | None = None
    name: str | None = None
    cluster_ext_id: str | None = None
    is_compression_enabled: bool | None = None
    on_disk_dedup: str | None = None
    erasure_code: str | None = None
    is_encrypted: bool | None = None
    is_software_encryption_enabled: bool | None = None
    is_internal: bool | None = None
    is_nfs_whitelist_inherited: bool | None = None
    nfs_whitelist_address: list[_Client] | None = None
    max_capacity_bytes: Any = None

    def __post_init__(self) -> None:
        if self.container_ext_id is None and self.ext_id is None:
            raise ValueError("neither `containerExtId` nor `extId`")

    def model(self) -> Container:
        """Return it as our model, with its own list of clients if it has one."""
        own = [client.text for client in self.nfs_whitelist_address or ()]
        is_encrypted = {self.is_encrypted, self.is_software_encryption_enabled}
        return Container(
            id=self.container_ext_id or self.ext_id or "",
            name=one_line(self.name or ""),
            cluster_id=self.cluster_ext_id or "",
            is_compressed=self.is_compression_enabled,
            has_dedup=yes_or_no(self.on_disk_dedup, yes="POST_PROCESS"),
            is_encrypted=True if True in is_encrypted else False if False in is_encrypted else None,
            is_erasure_coded=yes_or_no(self.erasure_code, yes="ON"),
            is_internal=self.is_internal,
            inherits_nfs=self.is_nfs_whitelist_inherited,
            nfs_allowed=tuple(filter(None, own)) if self.is_nfs_whitelist_inherited is False else None,
            capacity=bytes_from(self.max_capacity_bytes),
        )


class _Disk(Camel):
    storage_tier: str | None = None


class _ControllerVm(Camel):
    external_address: IpAddress | None = None


class HostState(Camel):
    """A host with its controller VM and its disks."""

    ext_id: Uuid
    host_name: str | None = None
    controller_vm: _ControllerVm | None = None
    disk: list[_Disk] | None = None

    def model(self, cluster_id: str) -> Host:
        """Return it as our model."""
        address = (self.controller_vm.external_address if self.controller_vm else None) or IpAddress()
        tiers = dict.fromkeys(one_line(disk.storage_tier) for disk in self.disk or () if disk.storage_tier)
        return Host(
            id=self.ext_id,
            name=one_line(self.host_name or ""),
            cluster_id=cluster_id,
            cvm_address=ip_address_from(address.text),
            tiers=tuple(tiers),
        )


class _Subnet(Camel):
    name: str | None = None


class _SubnetAnswer(Camel):
    data: _Subnet


class CentralFacts:
    """What Prism Central tells of clusters, storage containers, hosts and networks."""

    def __init__(self, api: CentralApi) -> None:
        self._api = api
        clock = api.session.clock
        self._clusters = Kept(clock, NO_FACTS, NO_FACTS_NOW)
        self._containers: Kept[list[Container]] = Kept(clock, [])
        self._hosts: Kept[list[Host]] = Kept(clock, [])
        self._networks = Kept(clock, "")

    async def cluster(self, cluster_id: str) -> ClusterFacts:
        """Return what is told of a cluster."""
        found = NO_FACTS
        if cluster_id:
            found = await self._clusters.get(f"cluster {cluster_id}", lambda: self._ask_cluster(cluster_id))
        return dataclasses.replace(found, id=cluster_id)

    async def containers(self) -> list[Container]:
        """Return the storage containers."""
        return list(await self._containers.get("storage containers", self._ask_containers))

    async def hosts(self, cluster_id: str) -> list[Host]:
        """Return the hosts of a cluster."""
        return list(await self._hosts.get(f"hosts of cluster {cluster_id}", lambda: self._ask_hosts(cluster_id)))

    async def network_names(self, network_ids: Collection[str]) -> dict[str, str]:
        """Return the names of networks by their ids, of those that have one."""
        names = {}
        for each in sorted(network_ids):
            if name := await self._networks.get(f"network {each}", partial(self._ask_network, each)):
                names[each] = name
        return names

    async def _ask_network(self, network_id: str) -> str:
        found = (await self._api.get_subnet(network_id)).decode(_SubnetAnswer).data
        return one_line(found.name or "")

    async def _ask_cluster(self, cluster_id: str) -> ClusterFacts:
        return (await self._api.get_cluster(cluster_id)).facts(cluster_id)

    async def _ask_containers(self) -> list[Container]:
        listed = entities(self._api.list_storage_containers, order_by="name")
        states = await readable(listed, StorageContainerState, what="storage container", limit=MAX_LISTED)
        return sorted((state.model() for state in states), key=lambda one: (one.name, one.id))

    async def _ask_hosts(self, cluster_id: str) -> list[Host]:
        def listing(page: int, limit: int, *, filter_text: str, order_by: str) -> Awaitable[Answer]:
            return self._api.list_hosts(cluster_id, page, limit, filter_text=filter_text, order_by=order_by)

        states = await readable(entities(listing, order_by="hostName"), HostState, what="host", limit=MAX_LISTED)
        return sorted((state.model(cluster_id) for state in states), key=lambda one: (one.name, one.id))
