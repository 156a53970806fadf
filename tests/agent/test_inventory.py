"""Which VMs the jobs have: of a Prism that tells them twice, oddly, or not what clusters are called."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ntxengine.agent.connection import Connection
from ntxengine.agent.inventory import Choice, PrismInventory
from ntxengine.errors import PrismBusy
from ntxengine.prism import Cluster, Vm
from ntxengine.prism.models import ClusterFacts, Container, Disk, Host

CLUSTER = "0006187a-4e1d-4b5c-9f00-a1b2c3d4e5f6"


def vm(name: str, number: int = 0, **more: Any) -> Vm:
    disk = Disk("d", 1, "scsi", 0, "container-1")
    fields = {"cluster_id": CLUSTER, "host_id": "host-1", "disks": (disk,), **more}
    return Vm(f"0a000000-0000-4000-8000-{number or sum(name.encode()):012d}", name, "on", **fields)


class TellingPrism:
    """Tells of these VMs."""

    def __init__(self, *vms: Vm) -> None:
        self.told = vms
        self.facts = ClusterFacts(CLUSTER, "prod")

    async def stream_vms(self, categories: object = ()) -> AsyncIterator[Vm]:
        for each in self.told:
            yield each

    async def cluster(self, cluster_id: str) -> ClusterFacts:
        return self.facts

    async def hosts(self, cluster_id: str) -> list[Host]:
        return []

    async def containers(self) -> list[Container]:
        return []


def inventory(prism: TellingPrism, **choices: Choice) -> PrismInventory:
    @dataclasses.dataclass
    class Connected:
        prism: TellingPrism

    async def connect() -> Cluster:
        return Connected(prism)  # type: ignore[return-value]  # nothing else is asked of it

    return PrismInventory(Connection(connect), choices)


async def names(found: PrismInventory, job: str = "job") -> list[str]:
    return [each.name for each in (await found.vms())[job]]


async def test_a_vm_that_is_told_twice_is_one() -> None:
    prism = TellingPrism(vm("db01"), vm("web"), vm("db01"))

    assert await names(inventory(prism, job=Choice())) == ["db01", "web"]


async def test_brackets_are_letters_of_a_name() -> None:
    prism = TellingPrism(vm("db[1]"), vm("db1"), vm("db[12]"), vm("a\nb"))

    assert await names(inventory(prism, job=Choice(("db[1]",)))) == ["db[1]"]
    assert await names(inventory(prism, job=Choice(("db[*",)))) == ["db[12]", "db[1]"]
    assert await names(inventory(prism, job=Choice(("a?b",)))) == ["a\nb"]


async def test_a_vm_without_a_name_is_not_taken_for_a_worker_that_nobody_named() -> None:
    prism = TellingPrism(vm("", 7))

    assert await names(inventory(prism, job=Choice())) == [""]


@pytest.mark.parametrize("choice", [Choice(clusters=(CLUSTER.upper(),)), Choice(within=CLUSTER.upper())])
async def test_a_cluster_is_found_by_its_uuid_in_any_case(choice: Choice) -> None:
    assert await names(inventory(TellingPrism(vm("db01")), job=choice)) == ["db01"]


async def test_the_clusters_of_a_job_do_not_lead_out_of_the_one_of_all() -> None:
    other = Choice(clusters=("prod",), within="0006187a-0000-4b5c-9f00-a1b2c3d4e5f6")

    assert await names(inventory(TellingPrism(vm("db01")), job=other)) == []


async def test_no_vm_leaves_its_job_because_the_name_of_its_cluster_cannot_be_told_now() -> None:
    prism = TellingPrism(vm("db01"))
    prism.facts = ClusterFacts(CLUSTER, may_be_told_later=True)

    with pytest.raises(PrismBusy, match="cannot tell now what cluster"):
        await names(inventory(prism, job=Choice(clusters=("prod",))))
    assert await names(inventory(prism, job=Choice(clusters=(CLUSTER,)))) == ["db01"]


async def test_what_names_no_vm_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    prism = TellingPrism(vm("db01"), vm("web"))
    found = inventory(
        prism,
        typed=Choice(("db01", "db02", "mail*")),
        elsewhere=Choice(("db*",), clusters=("lab",)),
        fine=Choice(("db*", "web")),
    )

    with caplog.at_level(logging.WARNING):
        await found.vms()
        await found.vms()

    assert caplog.messages == [
        "job 'typed': no VM is called 'db02', 'mail*'",
        "job 'elsewhere': no VM fits all that it says",
    ]
