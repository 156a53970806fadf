"""A Prism Central, and a Prism Element, that say one wrong thing each about volume groups: nobody else's is deleted."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from ntxengine.errors import NotFoundError, OptionsError, PrismAnswerError, PrismError, PrismStatusError, TaskFailed
from ntxengine.prism import DiskPoint, VolumeGroup
from ntxengine.prism.findings import Revisions
from ntxengine.prism.http.session import Session
from ntxengine.prism.models import GroupSlot, Vm
from ntxengine.prism.v3.element import ElementPrism
from ntxengine.prism.v4.central import CentralPrism
from tests.prism.groups import INITIATOR, OTHER, SECRET
from tests.prism.hostile import Asked, Hostile, reply

A, B, C, D = (str(uuid.UUID(int=number)) for number in range(1, 5))
TASK = f"ZXJnb24=:{D}"
NAME = "ntx-1-0a0b0c0d"
GROUPS = "/volume-groups"
PATH = f"/default/.snapshot/21/1-2-921/.acropolis/vmdisk/{C}"
DISK = DiskPoint(id=C, disk_id=B, recovery_point_id=D, path=PATH)


@pytest.fixture
def prism(session: Session) -> CentralPrism:
    async def no_element(_host: str) -> Session:
        raise AssertionError("nobody asks the element")

    return CentralPrism(session, Revisions(volumes="v4.0"), no_element)


@pytest.fixture
def element(session: Session) -> ElementPrism:
    return ElementPrism(session)


def task(status: str = "SUCCEEDED", affected: Any = A, **said: Any) -> bytes:
    entities = [{"extId": affected, "rel": "volumes:config:volume-group"}] if affected is not None else None
    return reply(200, {"data": {"extId": TASK, "status": status, "entitiesAffected": entities, **said}})


def group(group_id: str = A, name: Any = NAME, **said: Any) -> dict[str, Any]:
    return {"extId": group_id, "name": name, "clusterReference": B, "targetName": f"ntx-{group_id}", **said}


def one(group_id: str = A, name: Any = NAME, **said: Any) -> bytes:
    return reply(200, {"data": group(group_id, name, **said)}, ETag="W/1")


def many(*items: Any) -> bytes:
    return reply(200, {"data": list(items), "metadata": {"totalAvailableResults": len(items)}})


def accepted() -> bytes:
    return reply(202, {"data": {"extId": TASK}})


def ready(hostile: Hostile, *listed: Any, **changes: bytes) -> None:
    """Play a creation of group A that goes well, but for `changes`."""
    hostile.on(f"POST {GROUPS}", accepted())
    hostile.on(f"GET /tasks/{TASK.replace(':', '%3A').replace('=', '%3D')}", changes.get("task", task()))
    hostile.on(f"GET {GROUPS}", many(*listed))
    hostile.on(f"GET {GROUPS}/{A}", changes.get("group", one()))
    hostile.on(f"GET {GROUPS}/{A}/disks", changes.get("disks", many({"extId": C, "index": 0})))
    hostile.on(f"GET {GROUPS}/{A}/external-iscsi-attachments", changes.get("clients", many()))
    hostile.on(f"DELETE {GROUPS}/{A}", accepted())


async def make(prism: CentralPrism | ElementPrism) -> VolumeGroup:
    return await prism.make_volume_group(DISK, name=NAME, cluster_id=B, secret=SECRET)


def deleted(hostile: Hostile) -> set[str]:
    return {asked.path.rpartition("/")[2] for asked in hostile.asked if asked.method == "DELETE"}


async def test_what_is_sent_and_what_is_made_of_it(hostile: Hostile, prism: CentralPrism) -> None:
    ready(hostile)

    made = await make(prism)

    assert made == VolumeGroup(A, NAME, B, f"iqn.2010-06.com.nutanix:ntx-{A}", 0)
    [sent] = [asked.json for asked in hostile.asked if asked.method == "POST"]
    assert sent["iscsiFeatures"] == {"enabledAuthentications": "CHAP", "targetSecret": SECRET}
    assert sent["usageType"] == "TEMPORARY"
    assert sent["isHidden"] is True
    assert not deleted(hostile)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"group": one(name="somebody else's")}, "the task names volume group .*another name"),
        ({"group": one(B)}, "the answer is about extId"),
        ({"group": one(targetName="iqn.x:a b")}, "is no name of an iSCSI target"),
        ({"group": one(targetName="a\nb")}, "is no name of an iSCSI target"),
        ({"group": one(targetName="x" * 300)}, "is no name of an iSCSI target"),
        ({"group": one(targetName=None)}, "does not tell the name of its iSCSI target"),
        ({"group": one(targetName="")}, "does not tell the name of its iSCSI target"),
        ({"disks": many({"extId": C, "index": 0}, {"extId": D, "index": 1})}, "it has 2 disks"),
        ({"disks": many({"extId": C, "index": None})}, "one without a number"),
        ({"disks": many({"extId": C, "index": -1})}, "one without a number"),
        ({"disks": many()}, "lists no disk"),
        ({"disks": reply(200, {"data": {}})}, "does not fit"),
        ({"task": task(affected="../../vms")}, "without the id of a volume group"),
        ({"task": task(affected=None)}, "without the id of a volume group"),
    ],
)
async def test_one_wrong_thing_is_an_error_and_deletes_nobody_elses(
    hostile: Hostile, prism: CentralPrism, changes: dict[str, bytes], reason: str
) -> None:
    theirs = [group(D, "somebody else's"), group(C, NAME + "0"), group(B, None)]
    ready(hostile, *theirs, **changes)

    with pytest.raises(PrismError, match=reason):
        await make(prism)

    assert deleted(hostile) <= {A}
    if "another name" in reason:
        assert not deleted(hostile)


async def test_a_group_that_is_renamed_meanwhile_is_neither_used_nor_deleted(
    hostile: Hostile, prism: CentralPrism
) -> None:
    ready(hostile)
    hostile.on(f"GET {GROUPS}/{A}", one(), one(name="theirs now"))

    with pytest.raises(PrismAnswerError, match=f"{A} was renamed to 'theirs now' meanwhile"):
        await make(prism)

    assert not deleted(hostile)


@pytest.mark.parametrize("told", [[C, A], [C], []])
async def test_a_task_that_names_another_group_too_is_no_error(
    hostile: Hostile, prism: CentralPrism, told: list[str]
) -> None:
    """The group that it was cloned from, for one."""
    entities = [{"extId": group_id, "rel": "volumes:config:volume-group"} for group_id in told]
    said = reply(200, {"data": {"extId": TASK, "status": "SUCCEEDED", "entitiesAffected": entities}})
    ready(hostile, group(C, "src"), group(A), task=said)
    hostile.on(f"GET {GROUPS}/{C}", one(C, "src"))

    made = await make(prism)

    assert made.id == A
    assert not deleted(hostile)


async def test_of_two_groups_of_our_name_both_are_removed(hostile: Hostile, prism: CentralPrism) -> None:
    """The name is of this one alone, so a second one was made for us.  That one cannot be deleted spares no other."""
    ready(hostile, group(A), group(D), task=task("FAILED", affected=None))
    for group_id in (A, D):
        hostile.on(f"GET {GROUPS}/{group_id}", one(group_id), one(group_id), one(group_id), reply(404, {}))
        hostile.on(f"GET {GROUPS}/{group_id}/external-iscsi-attachments", many())
        hostile.on(f"DELETE {GROUPS}/{group_id}", accepted())

    with pytest.raises(TaskFailed):
        await make(prism)

    assert deleted(hostile) == {A, D}


async def test_a_group_on_another_cluster_is_not_ours(hostile: Hostile, prism: CentralPrism) -> None:
    ready(hostile, group(D, clusterReference=C), task=task("FAILED", affected=None))

    with pytest.raises(TaskFailed):
        await make(prism)

    assert not deleted(hostile)


async def test_a_client_that_is_still_attached_is_said(hostile: Hostile, prism: CentralPrism) -> None:
    ready(hostile, clients=many({"extId": C}))
    hostile.on(
        f"POST {GROUPS}/{A}/$actions/detach-iscsi-client", reply(409, {"data": {"error": [{"message": "busy"}]}})
    )

    with pytest.raises(PrismError, match=r"removal of an iSCSI client from volume group .*busy"):
        await prism.remove_volume_group(VolumeGroup(A, NAME, B))

    assert not deleted(hostile)


async def test_a_group_that_is_not_there_any_more_is_removed(hostile: Hostile, prism: CentralPrism) -> None:
    await prism.remove_volume_group(VolumeGroup(A, NAME, B))
    with pytest.raises(NotFoundError):
        await prism.remove_volume_group(VolumeGroup("../x", NAME, B))

    assert not deleted(hostile)


async def test_a_success_that_is_none_is_an_error(hostile: Hostile, prism: CentralPrism) -> None:
    ready(hostile)
    hostile.on(f"POST {GROUPS}/{A}/$actions/attach-iscsi-client", reply(200, {"data": {"error": [{"message": "no"}]}}))

    with pytest.raises((PrismAnswerError, PrismStatusError)) as failed:
        await prism.admit_initiator(VolumeGroup(A, NAME, B), INITIATOR, OTHER)

    assert OTHER not in str(failed.value)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"extId": D, "index": 0}, "two of its disks have one index"),
        ({"extId": D, "index": None}, "it cannot be read: .*index"),
        ({"extId": D, "index": 1, "diskSizeBytes": None}, "it cannot be read: .*diskSizeBytes"),
        ({"extId": D, "index": 1, "diskSizeBytes": -1}, "it cannot be read: .*diskSizeBytes"),
        ({"extId": D, "index": 1}, ""),
    ],
)
async def test_disks_of_an_attached_group_that_cannot_be_told_apart_are_an_obstacle(
    hostile: Hostile, prism: CentralPrism, other: dict[str, Any], reason: str
) -> None:
    size = {"diskSizeBytes": 1024}
    hostile.on(f"GET {GROUPS}/{A}", one())
    hostile.on(f"GET {GROUPS}/{A}/disks", many({"extId": C, "index": 0, **size}, {**size, **other}))

    [found] = await prism.attached_groups(Vm(B, "vm", "on", "", None, (), groups=(GroupSlot(A, "scsi.1"),)))

    assert re.match(reason, found.obstacle)
    assert len(found.disks) == (0 if reason else 2)


# -- a Prism Element


def v2(group_id: str = A, name: Any = NAME, **said: Any) -> dict[str, Any]:
    disks = [{"index": 0, "vmdisk_uuid": C}]
    return {"uuid": group_id, "name": name, "iscsi_target": f"ntx-{group_id}", "disk_list": disks, **said}


def ready_v2(hostile: Hostile, *listed: Any, status: str = "Succeeded") -> None:
    def created(_asked: Asked) -> bytes:
        hostile.on("GET /volume_groups", reply(200, {"entities": list(listed)}))
        return reply(201, {"task_uuid": D})

    hostile.on("POST /volume_groups", created)
    hostile.on("GET /volume_groups", reply(200, {"entities": []}))
    hostile.on(f"GET /tasks/{D}", reply(200, {"uuid": D, "progress_status": status}))
    for item in listed:
        if isinstance(item, dict) and item.get("uuid"):
            path = f"/volume_groups/{item['uuid']}"
            hostile.on(f"GET {path}", reply(200, item))
            hostile.on(f"POST {path}/close", reply(201, {"value": True}))
            hostile.on(f"DELETE {path}", reply(201, {"task_uuid": D}))


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        ([], "no volume group of this name is listed"),
        ([v2(), v2(D)], "2 volume groups have this name"),
        ([v2(disk_list=[])], "it has no disk"),
        ([v2(disk_list=[{"index": None}])], "one without a number"),
        ([v2(disk_list=[{"index": 0}, {"index": 1}])], "it has 2 disks"),
        ([v2(iscsi_target=None)], "does not tell the name of its iSCSI target"),
        ([v2(iscsi_target="a,b")], "is no name of an iSCSI target"),
        ([v2(is_deleted=True)], "no volume group of this name is listed"),
        (["odd", None, {"uuid": 7}, v2(name=None)], "no volume group of this name is listed"),
    ],
)
async def test_one_wrong_thing_of_v2_is_an_error_and_deletes_nobody_elses(
    hostile: Hostile, element: ElementPrism, listed: list[Any], reason: str
) -> None:
    ready_v2(hostile, *listed, v2(C, NAME + "0"), v2(B, "somebody else's"))

    with pytest.raises(PrismError, match=reason):
        await make(element)

    assert deleted(hostile) == {item["uuid"] for item in listed if isinstance(item, dict) and item.get("name") == NAME
                                and not item.get("is_deleted")}  # fmt: skip


async def test_v2_that_does_not_open_a_group_is_an_error(hostile: Hostile, element: ElementPrism) -> None:
    for answer in ({"value": False}, {"value": None}, {}):
        hostile.on(f"POST /volume_groups/{A}/open", reply(201, answer))

        with pytest.raises(PrismAnswerError, match="Prism did not open it to an iSCSI client"):
            await element.admit_initiator(VolumeGroup(A, NAME, B), INITIATOR, OTHER)


async def test_a_disk_without_a_storage_path_makes_no_group(hostile: Hostile, element: ElementPrism) -> None:
    disk = DiskPoint(id=C, disk_id=B, recovery_point_id=D)

    with pytest.raises(OptionsError, match=f"recovery point disk {C} has no storage path"):
        await element.make_volume_group(disk, name=NAME, cluster_id=B, secret=SECRET)

    assert not hostile.asked
