"""The clusters behind Prism Central: each with hosts, storage containers and settings of its own.

The first is that of the configuration itself; `clusters` adds others, each with a Prism Element of its own.

    hosts: [{tiers: [pcie, hdd]}, {cvm: 10.0.0.12, compute_only: true}]
    nfs_allowed: ["10.0.0.0/255.255.255.0"]
    containers: [{name: default}, {name: fast, compression: true, nfs_allowed: ["10.9.9.9/255.255.255.255"]}]
    clusters:
      - {name: pe2, element_host: 127.0.0.12, hosts: [{tiers: [sata]}], containers: [{name: default, dedup: true}]}
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from ntxengine.errors import OptionsError
from ntxengine.sim import ids

Tier = Literal["pcie", "sata", "hdd"]
TIERS: dict[Tier, str] = {"pcie": "PCIE_SSD", "sata": "SATA_SSD", "hdd": "HDD"}
"""What v3 and v4 call them."""


@dataclass
class ContainerConfig:
    """A storage container and the settings that a capture reports.

    `nfs_allowed` are the clients that may mount it, None for those of its cluster.
    """

    name: str = "default"
    compression: bool = False
    compression_delay_s: int = 0
    dedup: bool = False
    encrypted: bool = False
    erasure_code: bool = False
    internal: bool = False
    replication_factor: int = 2
    nfs_allowed: list[str] | None = None


@dataclass
class HostConfig:
    """A host: the tiers of its disks, one of each, and its controller VM.  One that only computes has no disks."""

    tiers: list[Tier] = field(default_factory=lambda: ["pcie"])
    cvm: str | None = None
    compute_only: bool = False


def two_hosts() -> list[HostConfig]:
    """Return what a cluster has where nothing is said."""
    return [HostConfig(), HostConfig()]


@dataclass
class ClusterConfig:
    """A cluster; `element_host` is the address of its Prism Element.  `encrypted`: all of it, not a container alone."""

    name: str
    element_host: str
    hosts: list[HostConfig] = field(default_factory=two_hosts)
    containers: list[ContainerConfig] = field(default_factory=lambda: [ContainerConfig()])
    nfs_allowed: list[str] = field(default_factory=list)
    encrypted: bool = False


@dataclass(frozen=True)
class Host:
    """A host of a cluster."""

    id: str
    name: str
    cvm: str
    config: HostConfig

    @property
    def tiers(self) -> list[Tier]:
        """The tiers of its disks."""
        return [] if self.config.compute_only else self.config.tiers

    def disk_id(self, tier: Tier) -> str:
        """Return the uuid of its disk of a tier."""
        return ids.fixed(self.id, "disk", tier)


class Cluster:
    """A cluster as the world holds it.  Its controller VMs are at the addresses behind that of its Prism Element."""

    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self.name = config.name
        self.id = ids.fixed(config.name, "cluster")
        before, _, last = config.element_host.rpartition(".")
        self.hosts = [
            Host(
                id=ids.fixed(config.name, "host", number + 1),
                name=f"ahv-{number + 1}",
                cvm=host.cvm or (f"{before}.{int(last) + number}" if last.isdecimal() else "127.0.0.2"),
                config=host,
            )
            for number, host in enumerate(config.hosts)
        ]

    @property
    def storage_type(self) -> str:
        """What v2 calls the kinds of its disks together."""
        kinds = {"HDD" if tier == "hdd" else "FLASH" for host in self.hosts for tier in host.tiers}
        return "MIXED" if len(kinds) > 1 else f"ALL_{kinds.pop()}" if kinds else "ALL_FLASH"

    def container_id(self, name: str) -> str:
        """Return the uuid of a storage container."""
        return ids.fixed(self.name, "container", name)


def check(clusters: Iterable[ClusterConfig]) -> None:
    """Raise OptionsError if what makes up the clusters does not fit together."""
    found = list(clusters)
    for what, values in (("name", [one.name for one in found]), ("element_host", [one.element_host for one in found])):
        if len(set(values)) != len(values):
            raise OptionsError(f"simulator: two clusters have the same {what}")
    for cluster in found:
        if not cluster.hosts:
            raise OptionsError(f"simulator: cluster {cluster.name!r} has no host")
        names = [container.name for container in cluster.containers]
        if len(set(names)) != len(names):
            raise OptionsError("simulator: two storage containers have the same name")
        for name in names:
            if not name or "/" in name or "\0" in name or name.startswith("."):
                raise OptionsError(f"simulator: {name!r} cannot be the name of a storage container")
