"""The VMs that a person wants to see or to capture, one after another as Prism tells of them, and what is known.

What is wanted is compared here, whatever a server could filter: filters are known to be ignored without a word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from ntxengine.capture import DiskStorage, can_be_application_consistent, storage_of
from ntxengine.errors import NotFoundError, OptionsError, PrismBusy
from ntxengine.ids import is_uuid
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


async def search_vms(cluster: Cluster, wanted: VmFilter) -> AsyncIterator[Vm | OddVm]:
    """Yield the VMs that are wanted as pages of them arrive; and all that cannot be read: nobody knows of those.

    An OddVm is also one of which nobody knows whether it has a category that is wanted.
    Errors: NotFoundError if no VM is on `wanted.cluster`; PrismBusy if the names of clusters cannot be told now;
            PrismError, also where categories may not be read.
    """
    seen: dict[str, ClusterFacts] = {}
    async for vm in cluster.prism.stream_vms(categories=wanted.categories):
        if isinstance(vm, OddVm):
            yield vm
            continue
        if wanted.cluster:
            facts = seen[vm.cluster_id] = await cluster.prism.cluster(vm.cluster_id)
            if not _is_called(facts, wanted.cluster):
                continue
        is_wanted = wanted.wants(vm)
        if is_wanted is None:
            yield OddVm(vm.id, vm.name, "Prism does not tell all of its categories")
        elif is_wanted:
            yield vm
    if wanted.cluster and not any(_is_called(facts, wanted.cluster) for facts in seen.values()):
        raise NotFoundError(
            f"no VM that this account may see is on a cluster named {wanted.cluster!r}: VMs are on {_names(seen)}"
        )


def _is_called(cluster: ClusterFacts, name: str) -> bool:
    if name.lower() == cluster.id.lower():
        return True
    if cluster.may_be_told_later and not is_uuid(name):
        raise PrismBusy(
            f"Prism cannot tell now what cluster {cluster.id} is called: whether it is {name!r} is not known; try"
            f" later, or name the cluster by its UUID"
        )
    return name == cluster.name


def _names(clusters: Mapping[str, ClusterFacts]) -> str:
    """Name clusters, by UUID where no name is told."""
    names = sorted(one.name or one.id for one in clusters.values() if one.id)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more or "no cluster"


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


async def details_of(prism: Prism, vm: Vm) -> VmDetails:
    """Return what is known of a VM; what is not told is unknown."""
    cluster, usage = await prism.cluster(vm.cluster_id), await prism.disk_usage()
    return VmDetails(
        cluster,
        await storage_of(prism, vm, cluster, usage),
        {disk.id: usage.get(disk.id, DiskUsage()) for disk in vm.disks},
        *can_be_application_consistent(vm),
    )
