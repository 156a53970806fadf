"""Answers about another thing than the one that was asked for: refused, and nothing of anybody else's is deleted."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from ntxengine.errors import NotFoundError, PrismAnswerError, PrismError, TaskFailed
from ntxengine.prism.cluster import Prism
from ntxengine.prism.http.session import Session
from ntxengine.prism.models import AttachedDisk, Disk, DiskPoint, Vm
from ntxengine.prism.v3.element import ElementPrism
from ntxengine.prism.v4.central import CentralPrism
from tests.prism.hostile import Hostile, reply

VM_ID, DISK_ID, POINT, VM_POINT, DISK_POINT, WORKER, OTHER, TASK_ID = (str(uuid.UUID(int=n)) for n in range(1, 9))
TASK = f"ZXJnb24=:{TASK_ID}"
VM = Vm(VM_ID, "vm", "on", "", None, (Disk(DISK_ID, 1024, "scsi", 0, ""),))
TWO = Vm(VM_ID, "vm", "on", "", None, (*VM.disks, Disk(OTHER, 1024, "scsi", 1, "")))
NAME = "ntx-1"
EXPIRES = datetime(2099, 1, 1, tzinfo=UTC)
LIVE, FROZEN = f"/default/.acropolis/vmdisk/{DISK_POINT}", f"/default/.snapshot/2/1-2-3/.acropolis/vmdisk/{DISK_POINT}"
ATTACHED = AttachedDisk(DISK_ID, DISK_ID, WORKER, DISK_POINT)


@pytest.fixture
def central(hostile_central: CentralPrism) -> CentralPrism:
    return hostile_central


@pytest.fixture
def element(session: Session) -> ElementPrism:
    return ElementPrism(session)


def deleted(hostile: Hostile) -> list[str]:
    return [one.path.rpartition("/")[2] for one in hostile.asked if one.method == "DELETE"]


def data(**fields: Any) -> bytes:
    return reply(200, {"data": fields})


def v4_point(point_id: str = POINT, name: str = NAME, vm_id: str = VM_ID, **fields: Any) -> bytes:
    points = [{"extId": VM_POINT, "vmExtId": vm_id}]
    return data(**{"extId": point_id, "name": name, "vmRecoveryPoints": points, **fields})


def v4_vm_point(*disks: tuple[str, str], vm_id: str = VM_ID, point_id: str = VM_POINT) -> bytes:
    listed = [{"diskExtId": disk, "diskRecoveryPointExtId": point} for disk, point in disks]
    return data(extId=point_id, vmExtId=vm_id, diskRecoveryPoints=listed)


def v3_snapshot(snapshot_id: str = POINT, vm_id: str = VM_ID, frozen: str = FROZEN, **status: Any) -> bytes:
    files = [{"file_path": LIVE, "snapshot_file_path": frozen}]
    said = {"state": "COMPLETE", "name": NAME, "resources": {"entity_uuid": vm_id}, "snapshot_file_list": files}
    status = {**said, **status}
    return reply(200, {"metadata": {"uuid": snapshot_id}, "status": status})


def v2_vm(vm_id: str = VM_ID, *, device: str = DISK_ID, more: Any = ()) -> bytes:
    listed = [{"disk_address": {"device_uuid": device, "vmdisk_uuid": DISK_POINT}, "size": 1024}, *more]
    return reply(200, {"uuid": vm_id, "vm_disk_info": listed})


async def create(prism: Prism) -> Any:
    return await prism.create_recovery_point(VM, name=NAME, consistency="crash", expires_at=EXPIRES)


Call = Callable[[Any], Awaitable[Any]]

ABOUT_ANOTHER: dict[str, tuple[Call, dict[str, bytes]]] = {
    "v4 VM": (lambda prism: prism.vm(VM_ID), {f"GET /vms/{VM_ID}": data(extId=OTHER)}),
    "v4 recovery point": (
        lambda prism: prism.recovery_point(POINT, VM),
        {f"GET /recovery-points/{POINT}": v4_point(OTHER)},
    ),
    "v4 VM recovery point": (
        lambda prism: prism.recovery_point(POINT, VM),
        {f"GET /{VM_POINT}": v4_vm_point(point_id=OTHER), f"GET /recovery-points/{POINT}": v4_point()},
    ),
    "v4 VM recovery point of another VM": (
        lambda prism: prism.recovery_point(POINT, VM),
        {f"GET /{VM_POINT}": v4_vm_point(vm_id=OTHER), f"GET /recovery-points/{POINT}": v4_point()},
    ),
    "v4 task": (
        lambda prism: prism.delete_recovery_point(POINT),
        {
            f"DELETE /recovery-points/{POINT}": reply(202, {"data": {"extId": TASK}}),
            f"GET {TASK_ID}": data(extId=f"ZXJnb24=:{OTHER}", status="SUCCEEDED"),
            f"GET /recovery-points/{POINT}": v4_point(),
        },
    ),
    "v4 disk of a worker VM": (
        lambda prism: prism.detach_disk(ATTACHED),
        {f"GET /disks/{DISK_ID}": reply(200, {"data": {"extId": OTHER}}, ETag="x")},
    ),
}
ABOUT_ANOTHER_V3: dict[str, tuple[Call, dict[str, bytes]]] = {
    "v3 VM": (lambda prism: prism.vm(VM_ID), {f"GET /v3/vms/{VM_ID}": reply(200, {"metadata": {"uuid": OTHER}})}),
    "v2 VM": (
        lambda prism: prism.vm(VM_ID),
        {
            f"GET /v3/vms/{VM_ID}": reply(200, {"metadata": {"uuid": VM_ID}, "status": {}}),
            f"GET /vms/{VM_ID}": v2_vm(OTHER),
        },
    ),
    "v3 snapshot": (
        lambda prism: prism.recovery_point(POINT, VM),
        {f"GET /vm_snapshots/{POINT}": v3_snapshot(OTHER), f"GET /vms/{VM_ID}": v2_vm()},
    ),
    "v2 worker VM": (lambda prism: prism.attached_disks(WORKER), {f"GET /vms/{WORKER}": v2_vm(OTHER)}),
    "v2 task": (
        lambda prism: prism.detach_disk(AttachedDisk(DISK_POINT, DISK_POINT, WORKER, FROZEN)),
        {
            f"GET /vms/{WORKER}": v2_vm(WORKER),
            "POST /detach": reply(201, {"task_uuid": TASK_ID}),
            f"GET /tasks/{TASK_ID}": reply(200, {"uuid": OTHER, "progress_status": "Succeeded"}),
        },
    ),
}


@pytest.mark.parametrize("name", ABOUT_ANOTHER)
async def test_an_answer_about_another_thing_is_refused(hostile: Hostile, central: CentralPrism, name: str) -> None:
    call, replies = ABOUT_ANOTHER[name]
    hostile.script.update({what: [answer] for what, answer in replies.items()})

    with pytest.raises(PrismAnswerError, match=f"the answer is about .*{OTHER}, not about"):
        await call(central)


@pytest.mark.parametrize("name", ABOUT_ANOTHER_V3)
async def test_an_answer_of_an_element_about_another_thing_is_refused(
    hostile: Hostile, element: ElementPrism, name: str
) -> None:
    call, replies = ABOUT_ANOTHER_V3[name]
    hostile.script.update({what: [answer] for what, answer in replies.items()})

    with pytest.raises(PrismAnswerError, match=f"the answer is about uuid {OTHER}, not about"):
        await call(element)


# -- recovery points that cannot be what they say


@pytest.mark.parametrize(
    ("disks", "text"),
    [
        ([(DISK_ID, DISK_POINT), (DISK_ID, POINT)], f"lists disk {DISK_ID} twice"),
        ([(DISK_ID, DISK_POINT), (OTHER, DISK_POINT)], "one disk recovery point for two disks"),
    ],
)
async def test_disk_points_that_cannot_be_told_apart_are_refused(
    hostile: Hostile, central: CentralPrism, disks: list[tuple[str, str]], text: str
) -> None:
    hostile.on(f"GET /{VM_POINT}", v4_vm_point(*disks))
    hostile.on(f"GET /recovery-points/{POINT}", v4_point())

    with pytest.raises(PrismAnswerError, match=text):
        await central.recovery_point(POINT, TWO)


async def test_a_recovery_point_that_holds_the_vm_twice_is_refused(hostile: Hostile, central: CentralPrism) -> None:
    twice = [{"extId": VM_POINT, "vmExtId": VM_ID}, {"extId": OTHER, "vmExtId": VM_ID}]
    hostile.on(f"GET /recovery-points/{POINT}", v4_point(vmRecoveryPoints=twice))

    with pytest.raises(PrismAnswerError, match="2 times"):
        await central.recovery_point(POINT, VM)


async def test_a_recovery_point_that_is_not_complete_cannot_be_used(hostile: Hostile, central: CentralPrism) -> None:
    hostile.on(f"GET /recovery-points/{POINT}", v4_point(status="EXPIRING"))

    with pytest.raises(NotFoundError, match="its status is EXPIRING"):
        await central.recovery_point(POINT, VM)


async def test_a_snapshot_file_of_another_disk_is_refused(hostile: Hostile, element: ElementPrism) -> None:
    hostile.on(f"GET /vm_snapshots/{POINT}", v3_snapshot(frozen=FROZEN.replace(DISK_POINT, OTHER)))
    hostile.on(f"GET /vms/{VM_ID}", v2_vm())

    with pytest.raises(PrismAnswerError, match=f"the file of another disk than {DISK_POINT}"):
        await element.recovery_point(POINT, VM)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"device_uuid": DISK_ID, "vmdisk_uuid": OTHER}, r"two storage files for disk scsi\.0"),
        ({"device_uuid": OTHER, "vmdisk_uuid": DISK_POINT}, "one storage file for two disks"),
    ],
)
async def test_storage_files_that_cannot_be_told_apart_are_refused(
    hostile: Hostile, element: ElementPrism, more: dict[str, str], text: str
) -> None:
    hostile.on(f"GET /vm_snapshots/{POINT}", v3_snapshot())
    hostile.on(f"GET /vms/{VM_ID}", v2_vm(more=[{"disk_address": more}]))

    with pytest.raises(PrismAnswerError, match=text):
        await element.recovery_point(POINT, TWO)


# -- what was made is another thing: refused, and left alone


async def test_a_task_that_names_another_recovery_point_deletes_only_ours(
    hostile: Hostile, central: CentralPrism
) -> None:
    details = [{"name": "recoveryPointExtId", "value": OTHER}]
    hostile.on("POST /recovery-points", reply(202, {"data": {"extId": TASK}}))
    hostile.on(f"GET {TASK_ID}", data(extId=TASK, status="SUCCEEDED", completionDetails=details))
    hostile.on(f"GET /{VM_POINT}", v4_vm_point((DISK_ID, DISK_POINT)))
    hostile.on(f"GET /recovery-points/{OTHER}", v4_point(OTHER, "somebody's"))
    ours = {"extId": POINT, "name": NAME, "vmRecoveryPoints": [{"extId": VM_POINT, "vmExtId": VM_ID}]}
    hostile.on("GET /recovery-points", reply(200, {"data": [ours]}))

    with pytest.raises(PrismAnswerError, match=f"names recovery point {OTHER}, .*when somebody deletes it in Prism$"):
        await create(central)

    assert deleted(hostile) == [POINT]


@pytest.mark.parametrize("found", [v4_point(OTHER, "somebody's"), v4_point(OTHER, vm_id=OTHER), reply(404, {})])
async def test_a_failed_task_that_names_another_recovery_point_deletes_nothing(
    hostile: Hostile, central: CentralPrism, found: bytes
) -> None:
    details = [{"name": "recoveryPointExtId", "value": OTHER}]
    hostile.on("POST /recovery-points", reply(202, {"data": {"extId": TASK}}))
    hostile.on(f"GET {TASK_ID}", data(status="FAILED", completionDetails=details))
    hostile.on(f"GET /recovery-points/{OTHER}", found)
    hostile.on("GET /recovery-points", reply(200, {"data": []}))

    with pytest.raises(TaskFailed):
        await create(central)

    assert deleted(hostile) == []


async def test_a_snapshot_made_with_another_id_is_left_alone_and_ours_looked_for(
    hostile: Hostile, element: ElementPrism
) -> None:
    hostile.on("POST /idempotence_identifiers", reply(200, {"uuid_list": [POINT]}))
    hostile.on("POST /vm_snapshots", reply(202, {"metadata": {"uuid": OTHER}}))
    hostile.on(f"GET /vm_snapshots/{POINT}", v3_snapshot())
    hostile.on(f"GET /vms/{VM_ID}", v2_vm())

    assert (await create(element)).id == POINT

    assert not [one for one in hostile.asked if OTHER in one.path]


@pytest.mark.parametrize("of", [{"name": "somebody's"}, {"vm_id": OTHER}])
async def test_a_snapshot_that_is_another_one_is_refused_and_left_alone(
    hostile: Hostile, element: ElementPrism, of: dict[str, str]
) -> None:
    hostile.on("POST /idempotence_identifiers", reply(404, {}))
    hostile.on("POST /vm_snapshots", reply(202, {"metadata": {"uuid": OTHER}}))
    hostile.on(f"GET /vm_snapshots/{OTHER}", v3_snapshot(OTHER, **of))
    hostile.on(f"GET /vms/{VM_ID}", v2_vm())

    with pytest.raises(PrismAnswerError, match="is another one"):
        await create(element)

    assert deleted(hostile) == []


@pytest.mark.parametrize(
    "status",
    [
        {"name": "somebody's", "state": "PENDING"},
        {"name": "somebody's", "state": "ERROR"},
        {"name": None, "state": "ERROR"},
        {"resources": None, "state": "ERROR"},
        {"name": None},
        {"resources": None},
        {"resources": {"entity_uuid": None}},
    ],
)
async def test_a_snapshot_that_is_not_told_to_be_ours_is_neither_taken_nor_deleted(
    hostile: Hostile, element: ElementPrism, status: dict[str, Any]
) -> None:
    hostile.on("POST /idempotence_identifiers", reply(404, {}))
    hostile.on("POST /vm_snapshots", reply(202, {"metadata": {"uuid": OTHER}}))
    hostile.on(f"GET /vm_snapshots/{OTHER}", v3_snapshot(OTHER, **status))
    hostile.on(f"DELETE /vm_snapshots/{OTHER}", reply(202, {}))
    hostile.on(f"GET /vms/{VM_ID}", v2_vm())

    with pytest.raises(PrismError):
        await create(element)

    assert deleted(hostile) == []


UNSEEN = f"snapshot '{NAME}' of VM {VM_ID}: not to be seen, but it may be made yet: `ntx sweep` removes it then"


async def test_a_snapshot_whose_id_we_chose_is_deleted_unseen(
    hostile: Hostile, element: ElementPrism, caplog: pytest.LogCaptureFixture
) -> None:
    hostile.on("POST /idempotence_identifiers", reply(200, {"uuid_list": [POINT]}))
    hostile.on("POST /vm_snapshots", reply(504, {}))
    hostile.on(f"DELETE /vm_snapshots/{POINT}", reply(202, {}))

    with pytest.raises(PrismError):
        await create(element)

    assert deleted(hostile) == [POINT]
    assert UNSEEN in caplog.messages


@pytest.mark.parametrize("made", [reply(504, {}), reply(202, {"metadata": {"uuid": OTHER}})], ids=["lost", "told"])
async def test_a_snapshot_that_is_not_seen_may_be_made_yet(
    hostile: Hostile, element: ElementPrism, caplog: pytest.LogCaptureFixture, made: bytes
) -> None:
    hostile.on("POST /idempotence_identifiers", reply(404, {}))
    hostile.on("POST /vm_snapshots", made)
    hostile.on("POST /vm_snapshots/list", reply(200, {"entities": []}))

    with pytest.raises(PrismError):
        await create(element)

    assert deleted(hostile) == []
    assert UNSEEN in caplog.messages
    assert not [text for text in caplog.messages if "left alone" in text]


async def test_no_identifier_at_all_is_refused(hostile: Hostile, element: ElementPrism) -> None:
    hostile.on("POST /idempotence_identifiers", reply(200, {"uuid_list": []}))

    with pytest.raises(PrismAnswerError, match="uuid_list"):
        await create(element)


async def test_a_disk_that_is_a_clone_of_something_else_is_not_removed(hostile: Hostile, central: CentralPrism) -> None:
    reference = {"$objectType": "vmm.v4.ahv.config.VmDiskRecoveryPointReference", "diskRecoveryPointExtId": OTHER}
    slot = {"extId": DISK_ID, "backingInfo": {"dataSource": {"reference": reference}}}
    hostile.on(f"GET /disks/{DISK_ID}", reply(200, {"data": slot}, ETag="x"))

    with pytest.raises(PrismAnswerError, match=f"comes from {OTHER}, not from {DISK_POINT}"):
        await central.detach_disk(ATTACHED)

    assert deleted(hostile) == []


# -- lists that are none


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": None, "metadata": {"flags": []}}])
async def test_a_list_that_is_not_there_is_not_an_empty_one(hostile: Hostile, central: CentralPrism, body: Any) -> None:
    hostile.on("GET /recovery-points", reply(200, body))

    with pytest.raises(PrismAnswerError, match="it says nothing"):
        await central.recovery_points()


async def test_an_empty_list_is_one_that_says_so(hostile: Hostile, central: CentralPrism) -> None:
    empty = {"data": None, "metadata": {"totalAvailableResults": 0}}
    hostile.on("GET /recovery-points", reply(200, {"data": []}), reply(200, empty))

    assert [await central.recovery_points() for _ in range(2)] == [[], []]


@pytest.mark.parametrize("body", [{}, {"entities": None}, {"metadata": {"kind": "vm_snapshot"}}])
async def test_a_list_of_v3_that_is_not_there_is_not_an_empty_one(
    hostile: Hostile, element: ElementPrism, body: Any
) -> None:
    hostile.on("POST /vm_snapshots/list", reply(200, body))

    with pytest.raises(PrismAnswerError, match="it says nothing"):
        await element.recovery_points()


async def test_a_worker_vm_without_a_list_of_disks_is_not_one_without_disks(
    hostile: Hostile, element: ElementPrism
) -> None:
    hostile.on(f"GET /vms/{WORKER}", reply(200, {"uuid": WORKER}))
    disk = DiskPoint(FROZEN, DISK_ID, POINT, path=FROZEN)

    for call in (
        element.detach_disk(AttachedDisk(DISK_POINT, DISK_POINT, WORKER, FROZEN)),
        element.attached_disks(WORKER),
        element.attach_disk(WORKER, disk),
    ):
        with pytest.raises(PrismError, match="no vm_disk_info"):
            await call

    assert {one.method for one in hostile.asked} == {"GET"}
