"""iSCSI against a real target: the disk that was asked for is read, and nothing is left, whatever goes wrong."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from ntxengine.attach import AttachOptions, Iscsi, Leftovers, Trace, initiator, iscsi
from ntxengine.attach.export import Export
from ntxengine.attach.initiator import Waiting
from ntxengine.attach.iscsi import group_name
from ntxengine.dataplane.location import Location
from ntxengine.errors import AttachError, OptionsError, PrismError
from ntxengine.prism.cluster import Prism
from ntxengine.prism.findings import Findings, Revisions
from ntxengine.prism.models import Disk, DiskPoint, Vm, VolumeGroup
from tests.support.iscsi import VolumeGroupsOf, silent_server, tgtd
from tests.support.processes import Process, children
from tests.support.servers import kill_server

V4 = Findings("v4", revisions=Revisions("v4.1", "v4.0", "v4.0"))
SIZE = 3 * 1024**2 + 512
NAME = "ntx-0a0a0a0a-20261129T075643Z-abcdef"
POINT = DiskPoint(id="Point-A", disk_id="disk-a", recovery_point_id="rp", recovery_point_name=NAME)
OTHER = DiskPoint(id="Point-B", disk_id="disk-b", recovery_point_id="rp", recovery_point_name=NAME)
DISKS = tuple(Disk(point.disk_id, SIZE, "scsi", index, "c") for index, point in enumerate((POINT, OTHER)))
VM = Vm("vm", "db01", "on", "cluster", "host", disks=DISKS)
QUICK = Waiting(appear_s=1, answer_s=2, poll_s=0.05)


@pytest.fixture
def prism(tmp_path: Path) -> Iterator[VolumeGroupsOf]:
    files = {point.id: tmp_path / point.id for point in (POINT, OTHER)}
    for path in files.values():
        path.write_bytes(os.urandom(SIZE))
    with tgtd(tmp_path) as server:
        yield VolumeGroupsOf(server, files)


async def made(prism: VolumeGroupsOf, *, waiting: Waiting = QUICK, data_services: str = "") -> Iscsi:
    attacher = Iscsi(cast(Prism, prism), AttachOptions(data_services=data_services), waiting=waiting)
    assert await attacher.can_serve(V4)
    assert await attacher.can_serve_vm(VM)
    return attacher


async def read(attacher: Iscsi, point: DiskPoint = POINT, size: int = SIZE) -> bytes:
    async with attacher.attach(point, size) as attached:
        return await asyncio.to_thread(content, attached.location.text)


def content(uri: str) -> bytes:
    return subprocess.run(["nbdcopy", uri, "-"], check=True, capture_output=True).stdout


def qemu_nbds() -> list[Process]:
    """Return the qemu-nbd processes of this process that read from a target."""
    return children('"driver": "iscsi"')


def assert_nothing_is_left(prism: VolumeGroupsOf) -> None:
    assert prism.groups == {}
    assert qemu_nbds() == []


async def test_the_disk_is_read_and_its_volume_group_removed(prism: VolumeGroupsOf) -> None:
    attacher = await made(prism)

    data = await read(attacher)

    assert data == prism.files[POINT.id].read_bytes()
    assert prism.calls == ["make", "admit", "remove"]
    assert prism.removed == [group_name(NAME, POINT.id)]
    assert_nothing_is_left(prism)


async def test_several_disks_are_read_at_once_by_names_of_their_own(prism: VolumeGroupsOf) -> None:
    attacher = await made(prism)

    async with attacher.attach(POINT, SIZE) as first, attacher.attach(OTHER, SIZE) as second:
        both = await asyncio.gather(
            asyncio.to_thread(content, first.location.text), asyncio.to_thread(content, second.location.text)
        )

    assert both == [prism.files[POINT.id].read_bytes(), prism.files[OTHER.id].read_bytes()]
    assert len(set(prism.initiators)) == 2
    assert all(len(name) <= 64 for name in prism.initiators)
    assert_nothing_is_left(prism)


async def test_nothing_can_be_written_and_no_secret_is_an_argument(prism: VolumeGroupsOf) -> None:
    attacher = await made(prism)

    async with attacher.attach(POINT, SIZE) as attached:
        commands = qemu_nbds()
        shown = subprocess.run(["nbdinfo", "--json", attached.location.text], capture_output=True, check=True).stdout

    [secret] = prism.secrets.values()
    assert json.loads(shown)["exports"][0]["is_read_only"] is True
    assert len(commands) == 1
    assert secret not in commands[0].command
    assert 12 <= len(secret) <= 16
    assert secret.isalnum()


async def test_a_disk_that_appears_late_is_waited_for(prism: VolumeGroupsOf) -> None:
    attacher = await made(prism, waiting=Waiting(appear_s=10, answer_s=5, poll_s=0.05))

    async def admit(group: VolumeGroup, initiator: str, secret: str) -> None:
        prism.server.add_target(prism.groups[group.id].target, user=initiator, secret=secret)
        loop = asyncio.get_running_loop()
        loop.call_later(0.3, prism.server.add_lun, prism.groups[group.id].target, prism.files[group.id])

    prism.admit_initiator = admit  # type: ignore[method-assign]

    assert await read(attacher) == prism.files[POINT.id].read_bytes()
    assert_nothing_is_left(prism)


async def test_a_login_that_is_handed_on_is_followed(prism: VolumeGroupsOf, tmp_path: Path) -> None:
    attacher = await made(prism)
    (tmp_path / "cvm").mkdir()
    with tgtd(tmp_path / "cvm", port=3205) as cvm:

        async def admit(group: VolumeGroup, initiator: str, secret: str) -> None:
            target = prism.groups[group.id].target
            cvm.add_target(target, user=initiator, secret=secret, file=prism.files[group.id])
            prism.server.add_target(target)
            prism.server.tell("bind", "target", "--tid", "1", "-I", "ALL")
            prism.server.redirect(target, cvm.portal)

        prism.admit_initiator = admit  # type: ignore[method-assign]

        assert await read(attacher) == prism.files[POINT.id].read_bytes()
        assert_nothing_is_left(prism)


def wrong_secret(prism: VolumeGroupsOf) -> None:
    prism.change_secret = lambda secret: "another-one12"


def no_disk(prism: VolumeGroupsOf) -> None:
    prism.offers_disk = False


def nobody_admitted(prism: VolumeGroupsOf) -> None:
    prism.change_initiator = lambda initiator: f"{initiator}x"


def another_size(prism: VolumeGroupsOf) -> None:
    os.truncate(prism.files[POINT.id], SIZE + 512)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (wrong_secret, "refuses the CHAP secret"),
        (no_disk, "does not have the disk .waited 1 s"),
        (nobody_admitted, "no such target for us, although .* admitted to it.*--data-services"),
        (another_size, "this is not that disk, or its size was changed"),
    ],
)
async def test_what_goes_wrong_is_one_clear_line_and_leaves_nothing(
    break_it: Callable[[VolumeGroupsOf], None], says: str, prism: VolumeGroupsOf
) -> None:
    attacher = await made(prism)
    break_it(prism)

    with pytest.raises(AttachError, match=says) as caught:
        await read(attacher)

    assert "\n" not in str(caught.value)
    assert not any(secret in str(caught.value) for secret in prism.secrets.values())
    assert_nothing_is_left(prism)


async def test_a_disk_that_came_after_the_look_is_refused(prism: VolumeGroupsOf) -> None:
    attacher = await made(prism)

    with pytest.raises(AttachError, match=r"disk disk-c was not there when its VM was looked at; try again"):
        await read(attacher, replace(POINT, disk_id="disk-c"))

    assert prism.calls == []


async def test_data_services_that_went_away_after_the_freeze_are_said(
    prism: VolumeGroupsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_problem(*_: object) -> str:
        return ""

    monkeypatch.setattr(iscsi, "portal_problem", no_problem)
    with silent_server() as (host, port):
        attacher = await made(prism, data_services=f"{host}:{port}")

        with pytest.raises(AttachError, match=r"no answer in 2 s: let TCP 3260 through.*3205"):
            await read(attacher)
        assert_nothing_is_left(prism)

    with pytest.raises(AttachError, match="no connection: let TCP 3260"):
        await read(attacher, OTHER)
    assert_nothing_is_left(prism)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("", "cluster 'prod' .cluster. has no data services address.*--data-services"),
        ("127.0.0.1:1", "no connection to 127.0.0.1:1"),
        ("nowhere.invalid", "looking up nowhere.invalid failed: "),
    ],
)
async def test_before_the_freeze_it_is_said_that_data_services_cannot_be_used(
    option: str, says: str, prism: VolumeGroupsOf
) -> None:
    prism.address = ""
    attacher = Iscsi(cast(Prism, prism), AttachOptions(data_services=option), waiting=QUICK)

    verdict = await attacher.can_serve_vm(VM)

    assert re.search(says, verdict.reason)
    assert prism.calls == []


async def test_data_services_are_looked_at_once_for_several_vms(
    prism: VolumeGroupsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []

    async def no_answer(portal: object, _: str) -> str:
        looked.append(portal)
        return "no answer"

    monkeypatch.setattr(iscsi, "portal_problem", no_answer)
    attacher = Iscsi(cast(Prism, prism), AttachOptions(), waiting=QUICK)

    verdicts = await asyncio.gather(*(attacher.can_serve_vm(VM) for _ in range(5)))

    assert [verdict.reason for verdict in verdicts] == ["data services of cluster 'prod' (cluster): no answer"] * 5
    assert len(looked) == 1


async def test_whoever_tells_no_address_is_helped_by_the_option(prism: VolumeGroupsOf) -> None:
    prism.address = ""

    attacher = await made(prism, data_services=prism.server.portal)

    assert await read(attacher) == prism.files[POINT.id].read_bytes()


async def test_a_disk_that_never_has_a_size_is_said(prism: VolumeGroupsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def empty(*_: object, **__: object) -> AsyncIterator[Export]:
        yield Export(Location("nbd_unix", "x"), 0)

    monkeypatch.setattr(initiator, "export_of", empty)
    attacher = await made(prism, waiting=Waiting(appear_s=0.1, poll_s=0.02))

    with pytest.raises(
        AttachError, match=r"without a size: try again, or another way .--source. .waited 0\.1 s for it"
    ):
        await read(attacher)

    assert_nothing_is_left(prism)


async def test_where_no_volume_group_can_be_made_the_reason_is_given(prism: VolumeGroupsOf) -> None:
    prism.no_volume_groups = "volume groups: too old"

    assert (await Iscsi(cast(Prism, prism), AttachOptions()).can_serve(V4)).reason == "volume groups: too old"


async def test_a_vm_whose_cluster_is_not_told_is_refused_before_it_is_frozen(prism: VolumeGroupsOf) -> None:
    attacher = Iscsi(cast(Prism, prism), AttachOptions(data_services=prism.server.portal))

    verdict = await attacher.can_serve_vm(replace(VM, cluster_id=""))

    assert verdict.reason.startswith("Prism does not tell the cluster of VM 'db01' (vm)")
    assert prism.calls == []


async def test_an_address_that_is_none_is_an_error_of_the_options(prism: VolumeGroupsOf) -> None:
    with pytest.raises(OptionsError, match="--data-services: 'a b' is not HOST or HOST:PORT"):
        await Iscsi(cast(Prism, prism), AttachOptions(data_services="a b")).can_serve(V4)


async def test_one_who_is_cancelled_leaves_nothing(prism: VolumeGroupsOf) -> None:
    attacher = await made(prism)
    attached = asyncio.Event()

    async def hold() -> None:
        async with attacher.attach(POINT, SIZE):
            attached.set()
            await asyncio.sleep(600)

    task = asyncio.create_task(hold())
    await attached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert_nothing_is_left(prism)


async def test_a_group_that_stays_is_told_of_with_the_remedy(
    prism: VolumeGroupsOf, caplog: pytest.LogCaptureFixture
) -> None:
    attacher = await made(prism)

    async def refuse(group: VolumeGroup) -> None:
        raise PrismError("not today")

    prism.remove_volume_group = refuse  # type: ignore[method-assign]

    with pytest.raises(AttachError, match=r"volume group ntx-.* could not be removed: not today; `ntx sweep`"):
        await read(attacher)
    with pytest.raises(AttachError, match="not that disk"):
        await read(attacher, OTHER, SIZE - 512)
    assert "not today; `ntx sweep` removes it" in caplog.text
    assert qemu_nbds() == []


async def test_a_qemu_nbd_that_is_killed_leaves_nothing(prism: VolumeGroupsOf) -> None:
    attacher = await made(prism)

    async with attacher.attach(POINT, SIZE) as attached:
        kill_server(attached.location.text)

    assert_nothing_is_left(prism)


async def test_only_groups_of_recorded_disks_are_leftovers(prism: VolumeGroupsOf) -> None:
    attacher = await made(prism)
    ours = await prism.make_volume_group(POINT, name=group_name(NAME, POINT.id), cluster_id="c", secret="s")
    await prism.make_volume_group(OTHER, name=group_name(NAME, OTHER.id), cluster_id="c", secret="s")
    await prism.make_volume_group(OTHER, name=f"{NAME}-of-somebody", cluster_id="c", secret="s")

    left = await attacher.leftovers(Trace("", (POINT.id,), NAME, "iscsi"))

    assert [(leftover.kind, leftover.id, leftover.name) for leftover in left.found] == [
        ("volume-group", ours.id, ours.name)
    ]
    await left.found[0].remove()
    assert prism.removed == [ours.name]


@pytest.mark.parametrize("trace", [Trace("", (POINT.id,), NAME, "hotadd"), Trace("", (POINT.id,))])
async def test_nobody_is_asked_for_groups_that_no_capture_can_have_made(trace: Trace, prism: VolumeGroupsOf) -> None:
    async def refuse(name_prefix: str) -> list[VolumeGroup]:
        raise PrismError("no right to see volume groups")

    prism.volume_groups = refuse  # type: ignore[method-assign]
    attacher = Iscsi(cast(Prism, prism), AttachOptions())

    assert await attacher.leftovers(trace) == Leftovers()
    [(place, error)] = (await attacher.leftovers(Trace("", (POINT.id,), NAME, "iscsi"))).unseen
    assert (place, str(error)) == ("volume groups", "no right to see volume groups")
