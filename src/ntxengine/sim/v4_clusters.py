"""API v4 on Prism Central: clusters, their hosts and storage containers, networks, and categories."""

from __future__ import annotations

import ipaddress
from typing import Any

from starlette.responses import Response

from ntxengine.sim import hardware, ids
from ntxengine.sim.answers import Json
from ntxengine.sim.clusters import TIERS, Cluster, ContainerConfig, Host
from ntxengine.sim.front import Call, Route
from ntxengine.sim.v4_query import info_route, listing, not_found, one, route
from ntxengine.sim.v4_shapes import address, typed
from ntxengine.sim.world import World

_CLU = "clustermgmt.v4.config"
_NET = "networking.v4.config"
_PRI = "prism.v4.config"


def routes() -> list[Route]:
    """Return the operations."""
    clusters, containers, categories = "config/clusters", "config/storage-containers", "config/categories"
    return [
        info_route("clustermgmt"),
        info_route("networking"),
        route("get_subnet", "GET", "networking", "config/subnets/{subnet}", _get_subnet),
        route("list_clusters", "GET", "clustermgmt", clusters, _list_clusters),
        route("get_cluster", "GET", "clustermgmt", clusters + "/{cluster}", _get_cluster),
        route("list_cluster_hosts", "GET", "clustermgmt", clusters + "/{cluster}/hosts", _list_cluster_hosts),
        route("list_hosts", "GET", "clustermgmt", "config/hosts", _list_hosts),
        route("list_containers", "GET", "clustermgmt", containers, _list_containers),
        route("get_container", "GET", "clustermgmt", containers + "/{container}", _get_container),
        route("list_categories", "GET", "prism", categories, _list_categories),
        route("get_category", "GET", "prism", categories + "/{category}", _get_category),
    ]


# -- networks


async def _get_subnet(call: Call) -> Response:
    names = {nic.network for vm in call.world.vms.values() for nic in vm.config.hardware.nics}
    name = next((each for each in names if hardware.network_id(each) == call.parts["subnet"]), None)
    if name is None:
        raise not_found("subnet", call.parts["subnet"], code="NET-10404", group="SUBNET_NOT_FOUND")
    data = typed(f"{_NET}.Subnet", extId=call.parts["subnet"], name=name, subnetType="VLAN")
    return one(call, f"{_NET}.GetSubnetApiResponse", data)


# -- clusters


def _cluster_json(world: World, cluster: Cluster) -> Json:
    network = typed(
        f"{_CLU}.ClusterNetworkReference",
        externalAddress=address(cluster.config.element_host),
        nfsSubnetWhitelist=cluster.config.nfs_allowed,
    )
    if world.data_services:
        network["externalDataServiceIp"] = address(world.data_services)
    nodes = [
        typed(
            f"{_CLU}.NodeListItemReference",
            controllerVmIp=address(host.cvm),
            hostIp=address(host.cvm),
            nodeUuid=host.id,
        )
        for host in cluster.hosts
    ]
    return typed(
        f"{_CLU}.Cluster",
        extId=cluster.id,
        name=cluster.name,
        config=_config(world.config.aos, function="AOS", software="NOS", hypervisors=["AHV"], **_encryption(cluster)),
        network=network,
        nodes=typed(f"{_CLU}.NodeReference", numberOfNodes=len(nodes), nodeList=nodes),
        vmCount=len(world.vms_of(cluster)),
    )


def _central_json(world: World) -> Json:
    """Return Prism Central, which is listed as a cluster too."""
    network = typed(f"{_CLU}.ClusterNetworkReference", externalAddress=address(world.config.central_host))
    return typed(
        f"{_CLU}.Cluster",
        extId=world.central_id,
        name=world.config.central_name,
        config=_config("pc.7.5.1", function="PRISM_CENTRAL", software="PRISM_CENTRAL", hypervisors=[]),
        network=network,
        nodes=typed(f"{_CLU}.NodeReference", numberOfNodes=0, nodeList=[]),
        vmCount=0,
    )


def _encryption(cluster: Cluster) -> Json:
    """Return how it encrypts: the whole cluster, or containers; the lists are null where nothing is."""
    scope = "CLUSTER" if cluster.config.encrypted else "CONTAINER"
    is_used = cluster.config.encrypted or any(each.encrypted for each in cluster.config.containers)
    return {
        "encryptionOption": ["SOFTWARE"] if is_used else None,
        "encryptionScope": [scope] if is_used else None,
        "encryptionInTransitStatus": "DISABLED",
    }


def _config(version: str, *, function: str, software: str, hypervisors: list[str], **more: Any) -> Json:
    build = typed(
        f"{_CLU}.BuildReference",
        version=".".join(version.split(".")[: 3 if version.startswith("pc.") else 2]),
        fullVersion=f"el8.5-release-simulated-{version}-stable-{'0' * 40}",
        buildType="release",
        commitId="0" * 40,
        shortCommitId="0" * 6,
    )
    return typed(
        f"{_CLU}.ClusterConfigReference",
        buildInfo=build,
        clusterFunction=[function],
        clusterSoftwareMap=[typed(f"{_CLU}.SoftwareMapReference", softwareType=software, version=version)],
        hypervisorTypes=hypervisors,
        isLts=False,
        **more,
    )


def _clusters(world: World) -> list[Json]:
    found = [_cluster_json(world, cluster) for cluster in world.clusters]
    central = _central_json(world)
    return [central, *found] if world.config.central_first else [*found, central]


async def _list_clusters(call: Call) -> Response:
    return listing(call, f"{_CLU}.ListClustersApiResponse", f"{_CLU}.Cluster", _clusters(call.world))


async def _get_cluster(call: Call) -> Response:
    uuid = call.parts["cluster"]
    found = [cluster for cluster in _clusters(call.world) if cluster["extId"] == uuid]
    if not found:
        raise not_found("cluster", uuid, code="CLU-10404")
    return one(call, f"{_CLU}.GetClusterApiResponse", found[0], etag=ids.etag("cluster", uuid))


# -- hosts


def _host_json(cluster: Cluster, host: Host) -> Json:
    """Return a host with its controller VM and its disks."""
    disks = [
        typed(f"{_CLU}.DiskReference", uuid=host.disk_id(tier), storageTier=TIERS[tier], sizeInBytes=4 * 1024**4)
        for tier in host.tiers
    ]
    return typed(
        f"{_CLU}.Host",
        extId=host.id,
        hostName=host.name,
        hostType="COMPUTE_ONLY" if host.config.compute_only else "HYPER_CONVERGED",
        cluster=typed(f"{_CLU}.ClusterReference", uuid=cluster.id, name=cluster.name),
        controllerVm=typed(
            f"{_CLU}.ControllerVmReference", externalAddress=address(host.cvm), isInMaintenanceMode=False
        ),
        hypervisor=typed(f"{_CLU}.HypervisorReference", externalAddress=address(host.cvm), type="AHV"),
        disk=disks,
        nodeStatus="NORMAL",
        maintenanceState="normal",
    )


async def _list_cluster_hosts(call: Call) -> Response:
    found = [cluster for cluster in call.world.clusters if cluster.id == call.parts["cluster"]]
    if not found:
        raise not_found("cluster", call.parts["cluster"], code="CLU-10404")
    entities = [_host_json(found[0], host) for host in found[0].hosts]
    return listing(call, f"{_CLU}.ListHostsByClusterIdApiResponse", f"{_CLU}.Host", entities)


async def _list_hosts(call: Call) -> Response:
    entities = [_host_json(cluster, host) for cluster in call.world.clusters for host in cluster.hosts]
    return listing(call, f"{_CLU}.ListHostsApiResponse", f"{_CLU}.Host", entities)


# -- storage containers


def _container_json(cluster: Cluster, container: ContainerConfig) -> Json:
    """Return a storage container: its id is in `containerExtId`, `extId` is null as recorded."""
    return typed(
        f"{_CLU}.StorageContainer",
        extId=None,
        containerExtId=cluster.container_id(container.name),
        name=container.name,
        clusterExtId=cluster.id,
        clusterName=cluster.name,
        isCompressionEnabled=container.compression,
        compressionDelaySecs=container.compression_delay_s,
        onDiskDedup="POST_PROCESS" if container.dedup else "OFF",
        cacheDeduplication="ON" if container.dedup else "OFF",
        erasureCode="ON" if container.erasure_code else "OFF",
        replicationFactor=container.replication_factor,
        maxCapacityBytes=10 * 1024**4,
        nfsWhitelistAddress=[_client_json(client) for client in container.nfs_allowed or ()],
        isNfsWhitelistInherited=container.nfs_allowed is None,
        isInternal=container.internal,
        isEncrypted=container.encrypted,
    )


def _client_json(text: str) -> Json:
    """Return a client as v4 has it: v2 writes the mask where v4 has the length of the prefix."""
    network = ipaddress.ip_network(text, strict=False)
    ipv4 = typed("common.v1.config.IPv4Address", value=str(network.network_address), prefixLength=network.prefixlen)
    return typed("common.v1.config.IPAddressOrFQDN", ipv4=ipv4)


def _containers(world: World) -> list[Json]:
    return [_container_json(cluster, one) for cluster in world.clusters for one in cluster.config.containers]


async def _list_containers(call: Call) -> Response:
    kind = f"{_CLU}.ListStorageContainersApiResponse"
    return listing(call, kind, f"{_CLU}.StorageContainer", _containers(call.world))


async def _get_container(call: Call) -> Response:
    uuid = call.parts["container"]
    found = [container for container in _containers(call.world) if container["containerExtId"] == uuid]
    if not found:
        raise not_found("storage container", uuid, code="CLU-10404")
    etag = ids.etag("storage container", uuid)
    return one(call, f"{_CLU}.GetStorageContainerApiResponse", found[0], etag=etag)


# -- categories


def _category_json(world: World, category: str) -> Json:
    key, _, value = category.partition("=")
    return typed(
        f"{_PRI}.Category", extId=world.category_id(category), key=key, value=value, type="USER", description=None
    )


async def _list_categories(call: Call) -> Response:
    entities = [_category_json(call.world, category) for category in call.world.categories]
    return listing(call, f"{_PRI}.ListCategoriesApiResponse", f"{_PRI}.Category", entities)


async def _get_category(call: Call) -> Response:
    uuid = call.parts["category"]
    found = [category for category in call.world.categories if call.world.category_id(category) == uuid]
    if not found:
        raise not_found("category", uuid, code="PRI-10404")
    data = _category_json(call.world, found[0])
    return one(call, f"{_PRI}.GetCategoryApiResponse", data, etag=ids.etag("category", uuid))
