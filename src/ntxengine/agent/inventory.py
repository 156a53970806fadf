"""Which VMs the jobs have, by one walk through the list of all that there are."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ntxengine.agent.connection import Connection
from ntxengine.agent.jobs import JobVm
from ntxengine.agent.queue import Needs
from ntxengine.api.inventory import VmFilter
from ntxengine.errors import PrismError
from ntxengine.prism import Cluster, OddVm, Vm

log = logging.getLogger(__name__)

MAX_TOLD = 20


@dataclass(frozen=True)
class Choice:
    """Which VMs a job has: all that there are, where nothing is said.

    `vms` and `exclude` are names, patterns of names (`web*`) or UUIDs.  `categories`: one of the values of each key, as
    `KEY=VALUE`; `clusters`: on one of them, by name or UUID.  `worker` is this machine as a VM, which is left out
    unless `vms` names it.
    Errors: OptionsError (a category that is not written so).
    """

    vms: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    worker: str = ""

    def __post_init__(self) -> None:
        VmFilter(categories=self.categories)

    def wants(self, vm: Vm, cluster_name: str) -> bool | None:
        """Return whether the job has a VM; None if nobody knows which categories it has."""
        if self.vms and not _is_named(vm, self.vms):
            return False
        if _is_named(vm, self.exclude) or (_is_named(vm, (self.worker,)) and not {vm.name, vm.id} & set(self.vms)):
            return False
        if self.clusters and not {cluster_name, vm.cluster_id} & set(self.clusters):
            return False
        if not vm.disks and not vm.groups:
            return False
        return VmFilter(categories=self.categories).wants(vm)


def _is_named(vm: Vm, patterns: Iterable[str]) -> bool:
    return any(vm.id == each.lower() or fnmatchcase(vm.name, each) for each in patterns)


class PrismInventory:
    """The VMs of these jobs, as Prism tells of them.  Calls: a page of VMs each 100, and three more each cluster."""

    def __init__(self, connection: Connection, choices: Mapping[str, Choice]) -> None:
        self._connection = connection
        self._choices = choices
        self._told: frozenset[str] = frozenset()

    async def vms(self) -> Mapping[str, Sequence[JobVm]]:
        """Return the VMs of each job, sorted by name.  VMs that cannot be read are told once.  Errors: PrismError."""
        found: dict[str, list[JobVm]] = {job: [] for job in self._choices}
        odd: dict[str, str] = {}
        async with self._connection.use() as cluster:
            places = _Places(cluster)
            async for vm in self._listed(cluster):
                if isinstance(vm, OddVm):
                    odd[vm.id or vm.name] = f"{vm.name!r} ({vm.id or 'no id'}): {vm.reason}"
                    continue
                needs = await places.of(vm)
                for job, choice in self._choices.items():
                    is_wanted = choice.wants(vm, needs.cluster)
                    if is_wanted:
                        found[job].append(JobVm(vm.id, vm.name, needs))
                    elif is_wanted is None:
                        odd[vm.id] = f"{vm.name!r} ({vm.id}): Prism does not tell all of its categories"
        self._tell(odd)
        return {job: sorted(vms, key=lambda vm: (vm.name, vm.id)) for job, vms in found.items()}

    def _listed(self, cluster: Cluster) -> AsyncIterator[Vm | OddVm]:
        categories = {category for choice in self._choices.values() for category in choice.categories}
        return cluster.prism.stream_vms(categories=sorted(categories))

    def _tell(self, odd: Mapping[str, str]) -> None:
        new = [odd[vm] for vm in odd if vm not in self._told]
        if new:
            more = f"; and {len(new) - MAX_TOLD} more" if len(new) > MAX_TOLD else ""
            log.warning("VMs that cannot be read are in no job: %s%s", "; ".join(new[:MAX_TOLD]), more)
        self._told = frozenset(odd)


class _Places:
    """Where VMs are, by the names that people know; by ids, where Prism does not tell those."""

    def __init__(self, cluster: Cluster) -> None:
        self._prism = cluster.prism
        self._clusters: dict[str, str] = {}
        self._hosts: dict[str, str] = {}
        self._containers: dict[str, str] | None = None

    async def of(self, vm: Vm) -> Needs:
        if vm.cluster_id not in self._clusters:
            await self._learn(vm.cluster_id)
        if self._containers is None:
            self._containers = {each.id: each.name for each in await self._prism.containers()}
        containers = [
            disk.container_name or self._containers.get(disk.container_id) or disk.container_id for disk in vm.disks
        ]
        host = vm.host_id or ""
        return Needs(
            cluster=self._clusters[vm.cluster_id],
            host=self._hosts.get(host, host),
            containers=tuple(dict.fromkeys(filter(None, containers))),
        )

    async def _learn(self, cluster_id: str) -> None:
        self._clusters[cluster_id] = cluster_id
        try:
            self._clusters[cluster_id] = (await self._prism.cluster(cluster_id)).name or cluster_id
            self._hosts.update({host.id: host.name or host.id for host in await self._prism.hosts(cluster_id)})
        except PrismError as error:
            log.debug("cluster %s: names are not known: %s", cluster_id, error)
