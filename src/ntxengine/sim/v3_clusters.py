"""API v3: clusters, their hosts and the disks of these, on both endpoints."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from ntxengine.sim.answers import Json
from ntxengine.sim.clusters import TIERS, Cluster, Host, Tier
from ntxengine.sim.front import Call, Route
from ntxengine.sim.v3_query import BASE, listing, one
from ntxengine.sim.v3_shapes import cluster_reference, entity, reference
from ntxengine.sim.world import World


def routes() -> list[Route]:
    """Return the operations."""
    return [
        Route("v3_list_clusters", "POST", f"{BASE}/clusters/list", _list_clusters),
        Route("v3_get_cluster", "GET", f"{BASE}/clusters/{{uuid}}", _get_cluster),
        Route("v3_list_hosts", "POST", f"{BASE}/hosts/list", _list_hosts),
        Route("v3_get_host", "GET", f"{BASE}/hosts/{{uuid}}", _get_host),
        Route("v3_list_disks", "POST", f"{BASE}/disks/list", _list_disks),
    ]


def _seen(call: Call) -> list[Cluster]:
    """Return the clusters that an endpoint knows: a Prism Element its own, Prism Central all."""
    return call.world.clusters if call.cluster is None else [call.cluster]


# -- clusters


def _cluster_json(world: World, cluster: Cluster) -> Json:
    status = _status(cluster.name, cluster.config.element_host, "AOS", world.config.aos)
    network = status["resources"]["network"]
    network["nfs_subnet_whitelist"] = cluster.config.nfs_allowed
    if world.data_services:
        network["external_data_services_ip"] = world.data_services
    return entity("cluster", cluster.id, status)


def _central_json(world: World) -> Json:
    """Return Prism Central, which lists itself as a cluster too."""
    config = world.config
    return entity(
        "cluster", world.central_id, _status(config.central_name, config.central_host, "PRISM_CENTRAL", "pc.7.5.1")
    )


def _status(name: str, ip: str, service: str, version: str) -> Json:
    return {
        "state": "COMPLETE",
        "name": name,
        "resources": {
            "config": {
                "service_list": [service],
                "build": {
                    "version": version,
                    "full_version": f"el8.5-release-simulated-{version}-stable-{'0' * 40}",
                    "commit_id": "0" * 40,
                    "short_commit_id": "0" * 6,
                    "build_type": "release",
                    "is_long_term_support": False,
                },
                "software_map": {"NOS": {"version": version, "status": "INSTALLED", "software_type": "NOS"}},
                "operation_mode": "NORMAL",
            },
            "network": {
                "external_ip": ip,
                "internal_subnet": "192.168.5.0/255.255.255.0",
                "nfs_subnet_whitelist": [],
            },
            "nodes": {"hypervisor_server_list": [{"ip": "127.0.0.1", "type": "AHV", "version": "10.0"}]},
        },
    }


def _clusters(call: Call) -> list[Json]:
    found = [_cluster_json(call.world, cluster) for cluster in _seen(call)]
    if call.cluster is not None:
        return found
    central = _central_json(call.world)
    return [central, *found] if call.world.config.central_first else [*found, central]


async def _list_clusters(call: Call) -> Response:
    return await listing(call, "cluster", lambda: _clusters(call))


async def _get_cluster(call: Call) -> Response:
    uuid = call.parts["uuid"]
    return JSONResponse(one([c for c in _clusters(call) if c["metadata"]["uuid"] == uuid], "cluster", uuid))


# -- hosts and their disks


def _host_json(cluster: Cluster, host: Host) -> Json:
    """Return a host with its controller VM."""
    status = {
        "name": host.name,
        "state": "COMPLETE",
        "cluster_reference": cluster_reference(cluster),
        "resources": {
            "controller_vm": {"ip": host.cvm},
            "hypervisor": {"ip": host.cvm, "num_vms": 1, "hypervisor_full_name": "Nutanix AHV"},
            "host_type": "COMPUTE_ONLY" if host.config.compute_only else "HYPER_CONVERGED",
            "monitoring_state": "MONITORED",
            "num_cpu_cores": 8,
        },
    }
    return entity("host", host.id, status)


def _disk_json(cluster: Cluster, host: Host, tier: Tier) -> Json:
    resources = {
        "storage_tier_type": TIERS[tier],
        "host_reference": reference("host", host.id, host.name),
        "size_bytes": 4 * 1024**4,
        "cluster_uuid": cluster.id,
    }
    status = {"state": "COMPLETE", "cluster_reference": cluster_reference(cluster), "resources": resources}
    return entity("disk", host.disk_id(tier), status)


def _hosts(call: Call) -> list[Json]:
    return [_host_json(cluster, host) for cluster in _seen(call) for host in cluster.hosts]


def _disks(call: Call) -> list[Json]:
    return [_disk_json(cluster, host, tier) for cluster in _seen(call) for host in cluster.hosts for tier in host.tiers]


async def _list_hosts(call: Call) -> Response:
    return await listing(call, "host", lambda: _hosts(call))


async def _get_host(call: Call) -> Response:
    uuid = call.parts["uuid"]
    return JSONResponse(one([h for h in _hosts(call) if h["metadata"]["uuid"] == uuid], "host", uuid))


async def _list_disks(call: Call) -> Response:
    return await listing(call, "disk", lambda: _disks(call))
