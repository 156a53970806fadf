"""NFS and iSCSI: ports, allow-lists, the data services address; told before anything is attached."""

from __future__ import annotations

import dataclasses

import pytest

from ntxengine.attach.iscsiadm import Kernel
from ntxengine.images import qemu_img
from ntxengine.prism.models import ClusterFacts
from ntxengine.probe.check import Context
from ntxengine.probe.cluster import Computing
from ntxengine.probe.machine import Route
from ntxengine.probe.sources import is_allowed, look_at_iscsi, look_at_nfs
from tests.probe.lab import Lab

OPEN = Route("open", 0.001, "10.0.0.9")
CLOSED = Route("closed", 0.001, cause="connection refused")
SILENT = Route("silent", 5.0, cause="no answer within 5 s")


@pytest.fixture
async def context(lab: Lab) -> Context:
    """What is known when the ways to the bytes are looked at."""
    lab.element()
    found = await lab.probe()
    lab.machine.routes |= {2049: OPEN, 111: OPEN, 3260: OPEN, 3205: CLOSED}
    return found.context


def allow(context: Context, *addresses: str, inherited: bool = False) -> None:
    """Let all containers have this allow-list, or that of their cluster."""
    assert context.prism is not None
    containers = context.prism.containers

    async def changed():  # type: ignore[no-untyped-def]
        listed = None if inherited else addresses
        return [dataclasses.replace(each, nfs_allowed=listed, inherits_nfs=inherited) for each in await containers()]

    context.prism.containers = changed  # type: ignore[method-assign]
    context.clusters = [dataclasses.replace(each, nfs_allowed=addresses) for each in context.clusters]


def give(context: Context, **said: str) -> None:
    """Let a person say this of the ways to the bytes."""
    attach = dataclasses.replace(context.options.attach, **said)  # type: ignore[arg-type]
    context.options = dataclasses.replace(context.options, attach=attach)


@pytest.mark.parametrize("inherited", [False, True])
async def test_an_allow_list_with_this_machine_is_good(inherited: bool, context: Context) -> None:
    allow(context, "10.0.0.0/255.255.255.0", inherited=inherited)

    found = await look_at_nfs(context)

    assert found.status == "ok", found


@pytest.mark.parametrize("inherited", [False, True])
async def test_an_allow_list_without_this_machine_is_named_with_the_click(inherited: bool, context: Context) -> None:
    allow(context, "192.168.1.0/255.255.255.0", inherited=inherited)

    found = await look_at_nfs(context)

    assert found.status == "failed"
    assert "lacks 10.0.0.9" in found.text
    assert "Filesystem Whitelists: add 10.0.0.9/255.255.255.255" in found.remedy


@pytest.mark.parametrize(("port", "status"), [(2049, "failed"), (111, "warning")])
@pytest.mark.parametrize("route", [CLOSED, SILENT])
async def test_a_port_of_nfs_that_does_not_answer_is_named(
    port: int, status: str, route: Route, context: Context, lab: Lab
) -> None:
    allow(context, "10.0.0.9")
    lab.machine.routes[port] = route

    found = await look_at_nfs(context)

    assert found.status == status
    assert str(port) in found.text
    assert str(port) in found.remedy


@pytest.mark.parametrize(("route", "status"), [(SILENT, "warning"), (CLOSED, "ok")])
async def test_a_firewall_before_the_mount_service_is_named(
    route: Route, status: str, context: Context, lab: Lab
) -> None:
    allow(context, "10.0.0.9")
    lab.machine.routes[20048] = route

    found = await look_at_nfs(context)

    assert found.status == status
    assert ("20048" in found.text) == (status == "warning")


async def test_the_server_that_is_given_is_asked(context: Context) -> None:
    give(context, nfs_server="127.0.0.77")

    found = await look_at_nfs(context)

    assert found.facts["nfs_server"] == "127.0.0.77"


async def test_the_controller_vm_of_the_host_is_preferred(context: Context) -> None:
    found = await look_at_nfs(context)

    assert found.facts["nfs_server"] in ("127.0.0.2", "127.0.0.3")


def let_qemu_lack(driver: str, lab: Lab, *, kernel: str) -> None:
    """Let qemu here be without a block driver; `kernel` is what the kernel's iSCSI initiator lacks."""

    async def no_driver(name: str) -> str:
        return f"qemu has no {name} driver here: install the package qemu-block-extra" if name == driver else ""

    async def missing(_self: Kernel) -> str:
        return kernel

    lab.patch.setattr(qemu_img, "no_driver", no_driver)
    lab.patch.setattr(Kernel, "missing", missing)


@pytest.mark.parametrize("source", ["nfs", "iscsi"])
async def test_a_driver_that_lacks_is_named_once(source: str, lab: Lab) -> None:
    lab.element()
    lab.give(vm="")
    lab.give_attach(source=source, data_services="127.0.0.9")
    lab.machine.routes[3260] = OPEN
    let_qemu_lack(source, lab, kernel="iscsiadm is not installed")

    not_ok = await lab.not_ok()

    line = next(line for line in lab.told if line.key == f"source.{source}")
    assert not_ok == {f"source.{source}": "failed"}
    assert f"no {source} driver" in line.result.text
    assert "qemu-block-extra" in line.result.text
    assert line.result.remedy.startswith("as it says")


@pytest.mark.parametrize("source", ["iscsi", "auto"])
async def test_iscsi_by_the_kernel_needs_no_driver_of_qemu(source: str, lab: Lab) -> None:
    lab.give(vm="", worker="")
    lab.give_attach(source=source, data_services="127.0.0.9", containers=None)
    lab.machine.routes |= {3260: OPEN, 3205: CLOSED}
    let_qemu_lack("iscsi", lab, kernel="")

    found = await lab.probe()

    assert found.count("failed") == 0, lab.told
    assert found.context.source == "iscsi"


async def test_a_cluster_without_a_data_services_address_is_named(context: Context) -> None:
    async def none(_cluster_id: str) -> str:
        return ""

    assert context.prism is not None
    context.prism.data_services = none  # type: ignore[method-assign]

    found = await look_at_iscsi(context)

    assert found.status == "failed"
    assert "no data services IP" in found.text
    assert "iSCSI Data Services IP" in found.remedy


@pytest.mark.parametrize(
    ("ports", "status", "says"),
    [
        ({}, "ok", "answer"),
        ({3260: CLOSED}, "failed", "3260"),
        ({3260: SILENT}, "failed", "3260"),
        ({3205: SILENT}, "warning", "3205"),
    ],
)
async def test_ports_of_iscsi(ports: dict[int, Route], status: str, says: str, context: Context, lab: Lab) -> None:
    give(context, data_services="127.0.0.9")
    lab.machine.routes |= ports

    found = await look_at_iscsi(context)

    assert found.status == status
    assert says in found.text


@pytest.mark.parametrize(
    ("allowed", "is_so"),
    [
        (None, True),
        ((), False),
        (("10.0.0.9",), True),
        (("10.0.0.9/32",), True),
        (("10.0.0.9/255.255.255.255",), True),
        (("10.0.0.0/255.255.255.0",), True),
        (("10.0.1.0/24",), False),
        (("backup.example.com",), True),
        (("::1",), False),
    ],
)
def test_allow_lists(allowed: tuple[str, ...] | None, is_so: bool) -> None:
    assert is_allowed("10.0.0.9", allowed) == is_so


async def test_an_allow_list_that_is_not_told_is_not_said_to_have_this_machine(context: Context) -> None:
    assert context.prism is not None
    containers = context.prism.containers

    async def untold():  # type: ignore[no-untyped-def]
        return [dataclasses.replace(each, nfs_allowed=None, inherits_nfs=False) for each in await containers()]

    context.prism.containers = untold  # type: ignore[method-assign]

    found = await look_at_nfs(context)

    assert found.status == "ok"
    assert found.text.endswith("; no allow-list is known to lack 10.0.0.9")


async def test_a_container_of_the_cluster_that_the_vm_is_on_counts(context: Context) -> None:
    allow(context, "192.168.1.0/255.255.255.0")
    assert context.prism is not None
    containers = context.prism.containers

    async def internal():  # type: ignore[no-untyped-def]
        return [dataclasses.replace(each, is_internal=True) for each in await containers()]

    context.prism.containers = internal  # type: ignore[method-assign]

    assert (await look_at_nfs(context)).status == "failed"


async def test_a_server_that_no_capture_asks_is_not_looked_at(context: Context) -> None:
    assert context.prism is not None

    async def hosts(_cluster_id: str):  # type: ignore[no-untyped-def]
        return []

    async def cluster(cluster_id: str):  # type: ignore[no-untyped-def]
        return ClusterFacts(cluster_id, address="10.0.0.5")

    context.prism.hosts = hosts  # type: ignore[method-assign]
    context.prism.cluster = cluster  # type: ignore[method-assign]
    context.clusters = [dataclasses.replace(each, address="") for each in context.clusters]
    at_the_cluster = await look_at_nfs(context)
    context.vm = None
    nowhere = await look_at_nfs(context)

    assert at_the_cluster.facts["nfs_server"] == "10.0.0.5"
    assert (nowhere.status, nowhere.text) == ("failed", "no address of an NFS server is known")


async def test_an_ipv6_address_is_written_as_in_a_url(context: Context, lab: Lab) -> None:
    give(context, nfs_server="fd00::7", data_services="[fd00::8]")
    lab.machine.routes |= dict.fromkeys((2049, 3260), SILENT)
    (place,) = context.places
    port = place.inquiry.endpoint.port
    lab.machine.routes[port] = SILENT
    context.clusters = [dataclasses.replace(each, address="fd00::9") for each in context.clusters]

    nfs, iscsi = await look_at_nfs(context), await look_at_iscsi(context)
    computing = await Computing("cluster").run(context)

    assert "[fd00::7]:2049" in nfs.text
    assert "[fd00::8]:3260" in iscsi.text
    assert iscsi.facts["data_services"] == "[fd00::8]:3260"
    assert f"[fd00::9]:{port}" in computing.text
