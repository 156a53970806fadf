"""Volume groups of both families through the simulator: made, opened, found, deleted, and what goes wrong."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ntxengine.errors import (
    NotFoundError,
    NtxError,
    OptionsError,
    PrismAnswerError,
    PrismConnectionError,
    PrismError,
    TaskFailed,
)
from ntxengine.prism import Family, VolumeGroup
from ntxengine.prism.http.session import Session
from ntxengine.prism.tasks import may_pass
from ntxengine.sim import Simulator
from ntxengine.sim.faults import HttpFault, ListFault
from tests.prism.conftest import Connect
from tests.prism.groups import CREATED, GROUP, INITIATOR, OTHER, SECRET, changed, families, frozen, left, make
from tests.prism.steps import ABSENT, until


@families
async def test_a_group_is_made_opened_and_removed(sim: Simulator, connect: Connect, family: Family) -> None:
    async with connect(family) as prism:
        assert prism.no_volume_groups == ""
        group = await make(prism)
        [made] = sim.world.made_groups()
        await prism.admit_initiator(group, INITIATOR, OTHER)
        opened = [(one.name, one.secret) for one in made.initiators]
        listed = await prism.volume_groups("ntx-1-")
        await prism.remove_volume_group(group)
        await prism.remove_volume_group(group)

    assert group.name == made.name == "ntx-1-0a0b0c0d"
    assert group.cluster_id == sim.world.cluster_id
    assert group.target == f"iqn.2010-06.com.nutanix:ntx-{made.id}"
    assert group.lun == made.disks[0].index == 1
    assert (made.usage, made.is_hidden, made.is_shared, made.secret) == ("TEMPORARY", True, False, SECRET)
    assert opened == [(INITIATOR, OTHER)]
    assert [one.id for one in listed] == [group.id]
    assert left(sim) == 0


@families
async def test_the_cluster_tells_its_data_services_ip(sim: Simulator, connect: Connect, family: Family) -> None:
    cluster = sim.world.cluster_id
    async with connect(family) as prism:
        address = await prism.data_services(cluster)
        sim.faults.volumes = ["no_data_services"]
        nothing = await prism.data_services(cluster)
        sim.faults.volumes = []
        sim.faults.answers = [
            changed("/cluster$", "cluster_external_data_services_ipaddress", "a,b"),
            changed("/clusters/", "data.network.externalDataServiceIp.ipv4.value", "x=y"),
        ]
        hostile = await prism.data_services(cluster)
        sim.faults.http.append(HttpFault(path="/cluster", status=403, count=-1))
        forbidden = await prism.data_services(cluster)

    assert address == sim.world.target.address
    assert (nothing, hostile, forbidden) == ("", "", "")


@families
async def test_a_busy_prism_has_not_said_that_there_is_no_data_services_ip(
    sim: Simulator, connect: Connect, family: Family
) -> None:
    async with connect(family) as prism:
        sim.faults.http.append(HttpFault(path="/clusters?(/|$)", status=503, count=-1))
        with pytest.raises(PrismError, match="503") as failed:
            await prism.data_services(sim.world.cluster_id)

    assert may_pass(failed.value)


@families
async def test_only_names_that_begin_so_are_found(sim: Simulator, connect: Connect, family: Family) -> None:
    sim.faults.lists.append(ListFault(path="volume-groups$", kind="ignore_filter", count=-1))
    async with connect(family) as prism:
        disk, cluster = await frozen(prism)
        for name in ("ntx-1-a", "ntx-12-b", "a ntx-1-c", "ntx-1-d"):
            await prism.make_volume_group(disk, name=name, cluster_id=cluster, secret=SECRET)

        found = await prism.volume_groups("ntx-1-")

        sim.faults.answers = [
            changed("/volume_groups$", "entities.*.iscsi_target", "odd, odd"),
            changed("/volume-groups$", "data.*.targetName", "odd, odd"),
        ]
        again = await prism.volume_groups("ntx-1-")

    assert sorted(group.name for group in found) == ["ntx-1-a", "ntx-1-d"]
    assert again == found


@families
async def test_a_server_that_gives_fewer_than_there_are_hides_none(
    sim: Simulator, connect: Connect, family: Family
) -> None:
    """Made, found, and undone: a list that is cut is not one that has nothing."""
    pages = ListFault(path="volume.groups$|/virtual_disks$", kind="page_cap", value=2, count=-1)
    sim.faults.lists.append(pages)
    async with connect(family) as prism:
        disk, cluster = await frozen(prism)
        names = [f"ntx-1-{number}" for number in range(5)]
        for name in names:
            await prism.make_volume_group(disk, name=name, cluster_id=cluster, secret=SECRET)
        found = await prism.volume_groups("ntx-1-")
        sim.faults.fail_tasks["create_group"] = 1
        with pytest.raises(TaskFailed):
            await prism.make_volume_group(disk, name="ntx-2-0", cluster_id=cluster, secret=SECRET)
        usage = await prism.disk_usage()

    assert sorted(group.name for group in found) == names
    assert left(sim) == 5
    assert family == "v4" or len(usage) == 3


@families
@pytest.mark.parametrize("name", ["", "x" * 257])
async def test_what_no_group_can_be_made_of_is_refused(
    sim: Simulator, connect: Connect, family: Family, name: str
) -> None:
    async with connect(family) as prism:
        disk, cluster = await frozen(prism)
        before = len(sim.requests)

        with pytest.raises(OptionsError, match="the name of a volume group has 1 to 256 characters"):
            await prism.make_volume_group(disk, name=name, cluster_id=cluster, secret=SECRET)
        for secret in ("", "short", "has a blank in", "x" * 17):
            with pytest.raises(OptionsError, match="12 to 16 letters and digits") as refused:
                await prism.make_volume_group(disk, name="n", cluster_id=cluster, secret=secret)
            assert not secret or secret not in str(refused.value)
        group = VolumeGroup(ABSENT, "n", cluster)
        for initiator in ("", "root", "iqn.2026-01.io.ntx:" + "x" * 64, "iqn.2026-01.io.ntx:a,b"):
            with pytest.raises(OptionsError, match="no name of an iSCSI initiator"):
                await prism.admit_initiator(group, initiator, OTHER)

    assert len(sim.requests) == before


@families
async def test_what_is_not_there_is_not_found(sim: Simulator, connect: Connect, family: Family) -> None:
    async with connect(family) as prism:
        disk, cluster = await frozen(prism)
        sim.lose_recovery_points()

        with pytest.raises((NotFoundError, PrismError)):
            await prism.make_volume_group(disk, name="n", cluster_id=cluster, secret=SECRET)
        with pytest.raises(NotFoundError):
            await prism.admit_initiator(VolumeGroup(ABSENT, "n", cluster), INITIATOR, OTHER)
        await prism.remove_volume_group(VolumeGroup(ABSENT, "n", cluster))

    assert left(sim) == 0


@families
@pytest.mark.parametrize("fault", ["no_target_name", "hostile"])
async def test_a_target_without_a_usable_name_is_an_error_and_leaves_nothing(
    sim: Simulator, connect: Connect, family: Family, fault: str
) -> None:
    words = "does not tell the name of its iSCSI target"
    if fault == "hostile":
        words = "'iqn.x:a,lun=7' is no name of an iSCSI target"
        sim.faults.answers = [
            changed(r"/volume_groups/[\da-f-]{36}$", "iscsi_target", "iqn.x:a,lun=7"),
            changed(GROUP, "data.targetName", "iqn.x:a,lun=7"),
        ]
    else:
        sim.faults.volumes = [fault]
    async with connect(family) as prism:
        disk, cluster = await frozen(prism)
        with pytest.raises(PrismAnswerError, match=words):
            await prism.make_volume_group(disk, name="n", cluster_id=cluster, secret=SECRET)

    assert left(sim) == 0


@families
async def test_a_deletion_that_is_refused_is_an_error(sim: Simulator, connect: Connect, family: Family) -> None:
    async with connect(family) as prism:
        group = await make(prism)
        sim.faults.volumes = ["deletion_refused"]

        with pytest.raises(TaskFailed, match=r"deletion of volume group .*may not be deleted"):
            await prism.remove_volume_group(group)

    assert left(sim) == 1


@families
async def test_a_deletion_whose_task_fails_after_the_work_is_done(
    sim: Simulator, connect: Connect, family: Family
) -> None:
    sim.faults.fail_tasks["delete_group"] = 1
    async with connect(family) as prism:
        await prism.remove_volume_group(await make(prism))

    assert left(sim) == 0


@families
async def test_a_group_with_another_name_is_left_alone(sim: Simulator, connect: Connect, family: Family) -> None:
    async with connect(family) as prism:
        group = await make(prism)
        theirs = VolumeGroup(group.id, "ntx-2-0a0b0c0d", group.cluster_id)

        with pytest.raises(PrismAnswerError, match="is called 'ntx-1-0a0b0c0d': it is left alone"):
            await prism.remove_volume_group(theirs)

    assert left(sim) == 1


@families
async def test_initiators_that_somebody_else_let_in_are_taken_off(
    sim: Simulator, connect: Connect, family: Family
) -> None:
    async with connect(family) as prism:
        group = await make(prism)
        sim.world.state.made_groups[group.id].is_shared = True
        for number in range(3):
            await prism.admit_initiator(group, f"{INITIATOR}-{number}", OTHER)

        await prism.remove_volume_group(group)

    assert left(sim) == 0


@families
@pytest.mark.parametrize("part", ["create", "admit", "remove"])
async def test_a_passing_failure_ends_nothing(sim: Simulator, connect: Connect, family: Family, part: str) -> None:
    async with connect(family) as prism:
        group = await make(prism)
        sim.faults.http = [HttpFault(path="/tasks/", status=503, count=2)]
        if part != "admit":
            sim.faults.http.append(HttpFault(path="volume.groups?/", status=404, count=1))
        if part == "create":
            await make(prism, "second")
        elif part == "admit":
            await prism.admit_initiator(group, INITIATOR, OTHER)
        else:
            await prism.remove_volume_group(group)

    assert left(sim) == {"create": 2, "admit": 1, "remove": 0}[part]


@families
async def test_no_secret_is_told(
    sim: Simulator, connect: Connect, family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that repeats what it was sent: at once, in a task, in a later answer."""
    told: list[str] = []
    with caplog.at_level(logging.DEBUG):
        async with connect(family) as prism:
            group = await make(prism)
            told.append(repr(group))
            await prism.admit_initiator(group, INITIATOR, OTHER)
            complaint = f"bad secrets {SECRET} and {OTHER}"
            sim.faults.fail_tasks["create_group"] = sim.faults.fail_tasks["delete_group"] = -1
            sim.faults.answers += [
                changed("/tasks/", "data.errorMessages", [{"message": complaint}]),
                changed("/tasks/", "meta_response", {"error_detail": complaint}),
            ]
            sim.faults.volumes = ["deletion_refused"]
            for asking in (make(prism, "second"), prism.remove_volume_group(group)):
                with pytest.raises(NtxError) as failed:
                    await asking
                told += [str(failed.value), repr(vars(failed.value))]

    assert "bad secrets *** and ***" in told[1]
    for text in (*told, caplog.text):
        assert SECRET not in text
        assert OTHER not in text


@families
async def test_a_secret_is_forgotten_when_its_group_is_gone(
    sim: Simulator, connect: Connect, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(Session, "forget", lambda _session, secret: forgotten.append(secret.reveal()))
    async with connect(family) as prism:
        disk, cluster = await frozen(prism)
        first, second = [
            await prism.make_volume_group(disk, name=name, cluster_id=cluster, secret=SECRET) for name in ("a", "b")
        ]
        await prism.admit_initiator(first, INITIATOR, OTHER)
        await prism.remove_volume_group(first)
        with_two = list(forgotten)
        await prism.remove_volume_group(second)
        with_none = list(forgotten)
        sim.faults.fail_tasks["create_group"] = 1
        with pytest.raises(TaskFailed):
            await make(prism, "c")
        after_undo = list(forgotten)
        sim.faults.http.append(HttpFault(path=CREATED[family], method="POST", status=400))
        with pytest.raises(PrismError, match="HTTP 400"):
            await make(prism, "d")

    assert with_two == [OTHER]
    assert with_none == [OTHER, SECRET]
    assert after_undo == [OTHER, SECRET, SECRET]
    assert forgotten == [OTHER, SECRET, SECRET, SECRET]


@families
async def test_a_connection_that_breaks_leaves_nothing(sim: Simulator, connect: Connect, family: Family) -> None:
    async with connect(family) as prism:
        disk, cluster = await frozen(prism)
        sim.faults.http.append(HttpFault(path=CREATED[family], method="POST", delay_s=0.3))
        running = asyncio.create_task(prism.make_volume_group(disk, name="n", cluster_id=cluster, secret=SECRET))
        await until(lambda: sim.faults.http[0].count == 0)

        running.cancel()
        with pytest.raises((asyncio.CancelledError, PrismConnectionError)):
            await running

    assert left(sim) == 0
