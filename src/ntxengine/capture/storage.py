"""On what the disks of a VM lie: the storage container of each, and the tier, as far as Prism tells.

No API names the tier of a part of a disk, so the slowest of those that its cluster has decides how a copy begins: how
large its requests are, and how many are in flight until it is seen what more bring.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ntxengine.dataplane.tier import Tier, tier_of
from ntxengine.prism.cluster import Facts, storage_words_of
from ntxengine.prism.models import ClusterFacts, Container, DiskUsage, Vm

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


async def storage_of(
    prism: Facts, vm: Vm, cluster: ClusterFacts, usage: Mapping[str, DiskUsage]
) -> dict[str, DiskStorage]:
    """Return where the disks of `vm` lie, by `Disk.id`.  Never fails: what is not told is unknown.

    `usage` may tell the tiers of a disk itself; else those of its cluster count.
    """
    containers = {container.id: container for container in await prism.containers()}
    words = await storage_words_of(prism, cluster)
    return {
        disk.id: DiskStorage(
            containers.get(disk.container_id) or Container(disk.container_id, disk.container_name or ""),
            slowest_tier(usage.get(disk.id, DiskUsage()).tiers or words),
        )
        for disk in vm.disks
    }
