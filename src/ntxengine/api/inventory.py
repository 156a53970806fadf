"""The VMs that a person wants to see or to capture, one after another as Prism tells of them, and what is known.

What is wanted is compared here, whatever a server could filter: filters are known to be ignored without a word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from ntxengine.capture import DiskStorage, Storage, can_be_application_consistent, slowest_tier
from ntxengine.errors import NotFoundError, OptionsError
from ntxengine.prism import Cluster, OddVm, Prism, Vm
from ntxengine.prism.models import ClusterFacts, DiskUsage

MAX_NAMED = 20
"""How many clusters one message names."""


@dataclass(frozen=True)
class VmFilter:
    """Which VMs are wanted: all, where nothing is said.

    `cluster` is the name or the UUID of one.  `categories` are written `key=value`: a VM must have one of the values of
    each key that is given.  `powered_on`: it is on.  `guest_tools`: it has Guest Tools that are enabled, unless Prism
    says that it has none.
    Errors: OptionsError (a category without key or value).
    """

    cluster: str = ""
    categories: tuple[str, ...] = ()
    powered_on: bool = False
    guest_tools: bool = False

    def __post_init__(self) -> None:
        for category in self.categories:
            if not all(category.partition("=")):
                raise OptionsError(f"category {category!r} is not written KEY=VALUE")

    def wants(self, vm: Vm) -> bool | None:
        """Return whether a VM is one of those, wherever it is; None if its categories are not told so far."""
        tools = vm.guest_tools
        if self.powered_on and vm.power_state != "on":
            return False
        if self.guest_tools and False in (tools.installed, tools.enabled):
            return False
        if all(values & set(vm.categories or ()) for values in self._by_key().values()):
            return True
        return None if vm.may_have_other_categories else False

    def _by_key(self) -> Mapping[str, set[str]]:
        by_key: defaultdict[str, set[str]] = defaultdict(set)
        for category in self.categories:
            by_key[category.partition("=")[0]].add(category)
        return by_key


class Clusters:
    """The clusters that VMs are on: each is asked for once."""

    def __init__(self, prism: Prism) -> None:
        self._prism = prism
        self._found: dict[str, ClusterFacts] = {}

    async def get(self, cluster_id: str) -> ClusterFacts:
        """Return what is told of a cluster."""
        if cluster_id not in self._found:
            self._found[cluster_id] = await self._prism.cluster(cluster_id) if cluster_id else ClusterFacts("")
        return self._found[cluster_id]

    @property
    def known(self) -> str:
        """Those that were seen, by name, or by UUID where no name is told."""
        names = sorted(one.name or one.id for one in self._found.values() if one.id)
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        return ", ".join(names[:MAX_NAMED]) + more or "no cluster"


async def search_vms(cluster: Cluster, wanted: VmFilter, clusters: Clusters | None = None) -> AsyncIterator[Vm | OddVm]:
    """Yield the VMs that are wanted as pages of them arrive; and all that cannot be read: nobody knows of those.

    An OddVm is also one of which nobody knows whether it has a category that is wanted.

    Errors: NotFoundError if no VM is on `wanted.cluster`; PrismError, also where categories may not be read.
    """
    clusters = clusters or Clusters(cluster.prism)
    was_seen = not wanted.cluster
    async for vm in cluster.prism.stream_vms(categories=wanted.categories):
        if isinstance(vm, OddVm):
            yield vm
            continue
        if wanted.cluster:
            facts = await clusters.get(vm.cluster_id)
            if wanted.cluster.lower() != facts.id.lower() and wanted.cluster != facts.name:
                continue
            was_seen = True
        is_wanted = wanted.wants(vm)
        if is_wanted is None:
            yield OddVm(vm.id, vm.name, "Prism does not tell all of its categories")
        elif is_wanted:
            yield vm
    if not was_seen:
        raise NotFoundError(
            f"no VM that this account may see is on a cluster named {wanted.cluster!r}: VMs are on {clusters.known}"
        )


@dataclass(frozen=True)
class VmDetails:
    """What is known of a VM beside itself.

    `storage` and `usage` are by `Disk.id`.  `can_be_application_consistent` is None where Prism does not say all that
    decides it; `why_not` says why not, or what it does not say.
    """

    cluster: ClusterFacts
    storage: Mapping[str, DiskStorage]
    usage: Mapping[str, DiskUsage]
    can_be_application_consistent: bool | None
    why_not: str


class DetailReader:
    """Finds details of VMs: what many of them share is asked for once."""

    def __init__(self, prism: Prism, clusters: Clusters) -> None:
        self._prism = prism
        self._clusters = clusters
        self._storage = Storage(prism)
        self._usage: Mapping[str, DiskUsage] | None = None

    async def read(self, vm: Vm) -> VmDetails:
        """Return what is known of a VM; what is not told is unknown."""
        cluster = await self._clusters.get(vm.cluster_id)
        if self._usage is None:
            self._usage = await self._prism.disk_usage()
        words = await self._storage.words_of(cluster)
        storage, used = {}, {}
        for disk in vm.disks:
            used[disk.id] = self._usage.get(disk.id, DiskUsage())
            tier = slowest_tier(used[disk.id].tiers or words)
            storage[disk.id] = DiskStorage(await self._storage.container_of(disk), tier)
        can_be, why_not = can_be_application_consistent(vm)
        return VmDetails(cluster, storage, used, can_be, why_not)
