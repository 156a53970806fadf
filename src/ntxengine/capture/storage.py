"""On what the disks of a VM lie: the storage container of each, and the tier, as far as Prism tells.

No API names the tier of a part of a disk, so the slowest of those that its cluster has decides how a copy begins; it
finds the rest out by trying.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ntxengine.dataplane.tier import Tier, tier_of
from ntxengine.prism.cluster import Facts
from ntxengine.prism.models import ClusterFacts, Container, Disk, Vm

_SLOWEST_FIRST = (Tier.CLOUD, Tier.ARCHIVE, Tier.HYBRID, Tier.SSD)


UNKNOWN = Container("", "")


@dataclass(frozen=True)
class DiskStorage:
    """Where a disk lies; `tier` is None where nobody tells it."""

    container: Container = UNKNOWN
    tier: Tier | None = None


def slowest_tier(words: Iterable[str]) -> Tier | None:
    """Return the slowest of the tiers that Prism names, None if it names none that we know."""
    named = {tier_of(word) for word in words}
    return next((tier for tier in _SLOWEST_FIRST if tier in named), None)


class Storage:
    """What is told of the storage of clusters: asked when it is first wanted, and once, also where it failed."""

    def __init__(self, prism: Facts) -> None:
        self._prism = prism
        self._containers: dict[str, Container] | None = None
        self._words: dict[str, list[str]] = {}

    async def container_of(self, disk: Disk) -> Container:
        """Return the storage container of a disk: with no more than its id and name where nothing is told of it."""
        if self._containers is None:
            self._containers = {container.id: container for container in await self._prism.containers()}
        return self._containers.get(disk.container_id) or Container(disk.container_id, disk.container_name or "")

    async def words_of(self, cluster: ClusterFacts) -> list[str]:
        """Return Prism's words for what a cluster stores on."""
        if cluster.id not in self._words:
            of_hosts = [tier for host in await self._prism.hosts(cluster.id) for tier in host.tiers]
            self._words[cluster.id] = [word for word in (cluster.storage_type, *of_hosts) if word]
        return self._words[cluster.id]


async def storage_of(prism: Facts, vm: Vm, cluster: ClusterFacts) -> dict[str, DiskStorage]:
    """Return where the disks of `vm` lie, by `Disk.id`.  Never fails: what is not told is unknown."""
    storage = Storage(prism)
    tier = slowest_tier(await storage.words_of(cluster))
    return {disk.id: DiskStorage(await storage.container_of(disk), tier) for disk in vm.disks}
