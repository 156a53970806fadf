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
from ntxengine.errors import PrismBusy
from ntxengine.ids import is_uuid
from ntxengine.prism import Cluster, OddVm, Vm

log = logging.getLogger(__name__)

MAX_TOLD = 20


@dataclass(frozen=True)
class Choice:
    """Which VMs a job has: all that there are, where nothing is said.

    `vms` and `exclude` are names, names with `*` and `?`, or UUIDs.  `categories`: one of the values of each key, as
    `KEY=VALUE`; `clusters`: on one of them, by name or UUID; `within`: on this one at any rate, by UUID.  `worker` is
    this machine as a VM, which is left out unless `vms` names it.
    Errors: OptionsError (a category that is not written so).
    """

    vms: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    worker: str = ""
    within: str = ""

    def __post_init__(self) -> None:
        VmFilter(categories=self.categories)

    def wants(self, vm: Vm, cluster_name: str) -> bool | None:
        """Return whether the job has a VM; None if nobody knows which categories it has."""
        if self.vms and not _is_named(vm, self.vms):
            return False
        if _is_named(vm, self.exclude) or (self._is_worker(vm) and not {vm.name, vm.id} & set(self.vms)):
            return False
        cluster_id = vm.cluster_id.lower()
        if self.within and cluster_id != self.within.lower():
            return False
        if self.clusters and cluster_name not in self.clusters and cluster_id not in map(str.lower, self.clusters):
            return False
        if not vm.disks and not vm.groups:
            return False
        return VmFilter(categories=self.categories).wants(vm)

    def _is_worker(self, vm: Vm) -> bool:
        return bool(self.worker) and (self.worker == vm.name or self.worker.lower() == vm.id)

    @property
    def needs_cluster_names(self) -> bool:
        return not all(map(is_uuid, self.clusters))


def _is_named(vm: Vm, patterns: Iterable[str]) -> bool:
    return any(_is_called(vm, each) for each in patterns)


def _is_called(vm: Vm, pattern: str) -> bool:
    # Brackets are part of a name: only * and ? stand for others.
    return (
        vm.id == pattern.lower()
        or vm.name == pattern
        or (("*" in pattern or "?" in pattern) and fnmatchcase(vm.name, pattern.replace("[", "[[]")))
    )


class PrismInventory:
    """The VMs of these jobs, as Prism tells of them.  Calls: a page of VMs each 100, and three more each cluster."""

    def __init__(self, connection: Connection, choices: Mapping[str, Choice]) -> None:
        self._connection = connection
        self._choices = choices
        self._told: frozenset[str] = frozenset()
        self._missed: frozenset[str] = frozenset()

    async def vms(self) -> Mapping[str, Sequence[JobVm]]:
        """Return the VMs of each job, sorted by name.  What cannot be read, or names nothing, is told once.

        Errors: PrismError; PrismBusy also where a job names clusters, and Prism cannot tell now what they are called.
        """
        found: dict[str, dict[str, JobVm]] = {job: {} for job in self._choices}
        odd: dict[str, str] = {}
        unmet = {job: set(choice.vms) for job, choice in self._choices.items()}
        async with self._connection.use() as cluster:
            places = _Places(cluster, needs_names=any(each.needs_cluster_names for each in self._choices.values()))
            async for vm in self._listed(cluster):
                if isinstance(vm, OddVm):
                    odd[vm.id or vm.name] = f"{vm.name!r} ({vm.id or 'no id'}): {vm.reason}"
                    continue
                needs = await places.of(vm)
                for job, choice in self._choices.items():
                    unmet[job] -= {each for each in unmet[job] if _is_called(vm, each)}
                    is_wanted = choice.wants(vm, needs.cluster)
                    if is_wanted:
                        found[job][vm.id] = JobVm(vm.id, vm.name, needs)
                    elif is_wanted is None:
                        odd[vm.id] = f"{vm.name!r} ({vm.id}): Prism does not tell all of its categories"
        self._tell(odd)
        self._tell_missed(unmet, found)
        return {job: sorted(vms.values(), key=lambda vm: (vm.name, vm.id)) for job, vms in found.items()}

    def _listed(self, cluster: Cluster) -> AsyncIterator[Vm | OddVm]:
        categories = {category for choice in self._choices.values() for category in choice.categories}
        return cluster.prism.stream_vms(categories=sorted(categories))

    def _tell(self, odd: Mapping[str, str]) -> None:
        new = [odd[vm] for vm in odd if vm not in self._told]
        if new:
            more = f"; and {len(new) - MAX_TOLD} more" if len(new) > MAX_TOLD else ""
            log.warning("VMs that cannot be read are in no job: %s%s", "; ".join(new[:MAX_TOLD]), more)
        self._told = frozenset(odd)

    def _tell_missed(self, unmet: Mapping[str, set[str]], found: Mapping[str, Mapping[str, JobVm]]) -> None:
        missed = {}
        for job, names in unmet.items():
            if names:
                more = f" and {len(names) - MAX_TOLD} more" if len(names) > MAX_TOLD else ""
                missed[f"{job}\0{sorted(names)}"] = f"no VM is called {_quoted(names)}{more}"
            elif not found[job]:
                missed[job] = "no VM fits all that it says"
        for key, text in missed.items():
            if key not in self._missed:
                log.warning("job %r: %s", key.partition("\0")[0], text)
        self._missed = frozenset(missed)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(each) for each in sorted(names)[:MAX_TOLD])


class _Places:
    """Where VMs are, by the names that people know; by ids, where Prism does not tell those."""

    def __init__(self, cluster: Cluster, *, needs_names: bool) -> None:
        self._prism = cluster.prism
        self._needs_names = needs_names
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
        facts = await self._prism.cluster(cluster_id)
        if self._needs_names and facts.may_be_told_later:
            # Else its VMs would be in no job, until the next list.
            raise PrismBusy(f"Prism cannot tell now what cluster {cluster_id} is called, and jobs name clusters")
        self._clusters[cluster_id] = facts.name or cluster_id
        self._hosts.update({host.id: host.name or host.id for host in await self._prism.hosts(cluster_id)})
