"""A Prism Element that says one wrong thing each."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from ntxengine.errors import NotFoundError, PrismAnswerError, PrismError, TaskFailed
from ntxengine.prism.http.session import Session
from ntxengine.prism.models import AttachedDisk, Disk, DiskPoint, RecoveryPoint, Vm
from ntxengine.prism.tasks import MAX_ODD_ANSWERS, SETTLE_TIMEOUT_S
from ntxengine.prism.v3.element import ElementPrism
from tests.prism.hostile import Asked, HandClock, Hostile, reply

A, B, C, D = (str(uuid.UUID(int=number)) for number in range(1, 5))
LIVE = f"/default/.acropolis/vmdisk/{C}"
FROZEN = f"/default/.snapshot/21/1-2-921/.acropolis/vmdisk/{C}"
VM = Vm(A, "vm", "on", "", None, (Disk(B, 1024, "scsi", 0, ""),))
EXPIRES = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.fixture
def prism(session: Session) -> ElementPrism:
    return ElementPrism(session)


def files(**address: Any) -> bytes:
    named = {"device_uuid": B, "vmdisk_uuid": C, **address}
    return reply(200, {"uuid": A, "vm_disk_info": [{"disk_address": named, "size": 1024}]})


def snapshot(*listed: tuple[Any, Any], state: Any = "COMPLETE", **status: Any) -> bytes:
    found = [{"file_path": live, "snapshot_file_path": frozen} for live, frozen in listed]
    said = {"state": state, "snapshot_file_list": found, "resources": {"entity_uuid": A}, **status}
    return reply(200, {"metadata": {"uuid": D}, "status": said})


def ready(hostile: Hostile, *answers: bytes) -> None:
    hostile.on("POST /idempotence_identifiers", reply(200, {"uuid_list": [D]}))
    hostile.on("POST /vm_snapshots", reply(202, {"metadata": {"uuid": D}, "status": {"state": "PENDING"}}))
    hostile.on(f"GET /vm_snapshots/{D}", *answers)
    hostile.on(f"DELETE /vm_snapshots/{D}", reply(202, {}))
    hostile.on(f"GET /vms/{A}", files())


async def create(prism: ElementPrism) -> RecoveryPoint:
    return await prism.create_recovery_point(VM, name="ntx-1", consistency="crash", expires_at=EXPIRES)


def deleted(hostile: Hostile) -> int:
    return len([one for one in hostile.asked if one.method == "DELETE"])


async def test_a_snapshot_is_complete_only_with_its_files(hostile: Hostile, prism: ElementPrism) -> None:
    ready(hostile, snapshot(state="PENDING"), snapshot(), snapshot((LIVE, FROZEN)))

    point = await create(prism)

    assert [(disk.id, disk.path, disk.disk_id) for disk in point.disks] == [(FROZEN, FROZEN, B)]
    body = hostile.asked_for("/vm_snapshots")[0].json
    assert body["metadata"] == {"kind": "vm_snapshot", "uuid": D}
    assert body["spec"]["expiration_time_msecs"] == int(EXPIRES.timestamp()) * 1000


async def test_only_files_of_the_vms_data_disks_are_taken(hostile: Hostile, prism: ElementPrism) -> None:
    ready(
        hostile,
        snapshot(
            (f"/SelfServiceContainer/.acropolis/vmdisk/{A}", "/x/y"),
            (f"/default/.acropolis/nvram/{C}", "/x/y"),
            (f"/a/b/.acropolis/vmdisk/{C}", "/x/y"),
            (f"{LIVE}\n", "/x/y"),
            (None, None),
            (LIVE, FROZEN),
        ),
    )

    assert [disk.path for disk in (await create(prism)).disks] == [FROZEN]


@pytest.mark.parametrize(
    "path", ["relative/x", "/default/../../etc/shadow", "/default//x", "/default/./x", "/x", "/a/b\n", "", None, "/a/"]
)
async def test_a_snapshot_path_that_leads_elsewhere_is_refused_and_the_snapshot_removed(
    hostile: Hostile, prism: ElementPrism, path: str | None
) -> None:
    ready(hostile, snapshot((LIVE, path)))

    with pytest.raises(PrismAnswerError, match="snapshot_file_path"):
        await create(prism)

    assert deleted(hostile) == 1


async def test_a_disk_listed_twice_is_refused(hostile: Hostile, prism: ElementPrism) -> None:
    ready(hostile, snapshot((LIVE, FROZEN), (f"/other/.acropolis/vmdisk/{C}", FROZEN)))

    with pytest.raises(PrismAnswerError, match="twice"):
        await create(prism)


@pytest.mark.parametrize("state", ["ERROR", "kError", "FAILED"])
async def test_every_word_for_failure_is_understood(hostile: Hostile, prism: ElementPrism, state: str) -> None:
    ready(hostile, snapshot(state=state, message_list=[{"message": "no\nspace"}]))

    with pytest.raises(TaskFailed, match=f"{state}: no space"):
        await create(prism)

    assert deleted(hostile) == 1


async def test_one_that_exists_already_is_ours(hostile: Hostile, prism: ElementPrism) -> None:
    ready(hostile, snapshot((LIVE, FROZEN)))
    said = {"message_list": [{"reason": "ENTITY_ALREADY_EXISTS", "message": "there"}]}
    hostile.on("POST /vm_snapshots", reply(504, {}), reply(409, said))

    assert (await create(prism)).id == D


@pytest.mark.parametrize("found", ["../x", "", None, 5])
async def test_a_snapshot_id_that_is_none_never_gets_into_a_path(
    hostile: Hostile, prism: ElementPrism, found: Any
) -> None:
    hostile.on("POST /idempotence_identifiers", reply(404, {}))
    hostile.on("POST /vm_snapshots", reply(202, {"metadata": {"uuid": found}}))
    hostile.on("POST /vm_snapshots/list", reply(200, {"entities": []}))

    with pytest.raises(PrismAnswerError, match="uuid"):
        await create(prism)

    assert {one.path for one in hostile.asked if one.method != "POST"} == set()


async def test_a_refused_create_asks_nothing_more(hostile: Hostile, prism: ElementPrism) -> None:
    ready(hostile)
    hostile.on("POST /vm_snapshots", reply(422, {}))

    with pytest.raises(PrismError):
        await create(prism)

    assert len(hostile.asked) == 2


async def test_a_failure_right_after_the_last_look_does_not_end_the_clean_up(
    hostile: Hostile, prism: ElementPrism, clock: HandClock
) -> None:
    asked_s: list[float] = []
    failures = [reply(500, {})] * 4

    def pending(_asked: Asked) -> bytes:
        """Never be ready; fail, oftener than a request is repeated, as soon as nobody waits for it any more."""
        asked_s.append(clock.time_s)
        if len(asked_s) > 1 and asked_s[-2] >= asked_s[0] + SETTLE_TIMEOUT_S and failures:
            return failures.pop()
        return reply(404, {}) if deleted(hostile) else snapshot(state="PENDING")

    ready(hostile, *[snapshot(state=5)] * MAX_ODD_ANSWERS, pending)

    with pytest.raises(PrismAnswerError):
        await create(prism)

    assert failures == []
    assert deleted(hostile) == 1


async def test_a_snapshot_that_had_failed_is_deleted_like_any_other(hostile: Hostile, prism: ElementPrism) -> None:
    ready(hostile, snapshot(state="ERROR"), snapshot(state="ERROR"), reply(404, {}))

    await prism.delete_recovery_point(D)

    assert deleted(hostile) == 1


async def test_a_snapshot_that_fails_while_it_is_deleted_is_a_failure(hostile: Hostile, prism: ElementPrism) -> None:
    ready(hostile, snapshot((LIVE, FROZEN)), snapshot(state="ERROR"))

    with pytest.raises(TaskFailed, match="deletion of snapshot"):
        await prism.delete_recovery_point(D)


async def test_a_snapshot_that_is_not_complete_cannot_be_a_reference(hostile: Hostile, prism: ElementPrism) -> None:
    hostile.on(f"GET /vm_snapshots/{D}", snapshot((LIVE, FROZEN), state="DELETE_PENDING"))

    with pytest.raises(NotFoundError, match="DELETE_PENDING"):
        await prism.recovery_point(D, VM)


@pytest.mark.parametrize("msecs", [10**18, -(10**18), 10**30, -1, 0, True, 1.5, 1e300, "soon", None, [1], {}])
async def test_an_expiry_that_is_no_time_is_left_out(hostile: Hostile, prism: ElementPrism, msecs: Any) -> None:
    hostile.on(f"GET /vm_snapshots/{D}", snapshot((LIVE, FROZEN), expiration_time_msecs=msecs))
    hostile.on(f"GET /vms/{A}", files())

    assert (await prism.recovery_point(D, VM)).expires_at is None


async def test_the_first_page_leaves_out_the_reference_and_sends_numbers(hostile: Hostile, prism: ElementPrism) -> None:
    disk = DiskPoint(FROZEN, B, D, path=FROZEN)
    older = DiskPoint(LIVE, B, D, path=LIVE)
    last = reply(200, {"region_list": [], "file_size": 1024})
    hostile.on("POST /data/changed_regions", reply(200, {"file_size": 1024, "next_offset": 512}), last)

    assert len([one async for one in prism.changed_regions(disk, None)]) == 2
    assert len([one async for one in prism.changed_regions(disk, older)]) == 1

    bodies = [one.json for one in hostile.asked]
    assert bodies == [
        {"snapshot_file_path": FROZEN, "start_offset": 0},
        {"snapshot_file_path": FROZEN, "start_offset": 512},
        {"snapshot_file_path": FROZEN, "start_offset": 0, "reference_snapshot_file_path": LIVE},
    ]


async def test_a_400_with_entity_not_found_is_not_found(hostile: Hostile, prism: ElementPrism) -> None:
    said = {"message_list": [{"reason": "ENTITY_NOT_FOUND", "message": "kInvalidValue: Snapshot file pathname"}]}
    hostile.on("POST /data/changed_regions", reply(400, said))

    with pytest.raises(NotFoundError, match="kInvalidValue"):
        await anext(aiter(prism.changed_regions(DiskPoint(FROZEN, B, D, path=FROZEN), None)))


# -- VMs


def vm(**resources: Any) -> dict[str, Any]:
    return {"metadata": {"uuid": A}, "status": {"name": "vm", "resources": resources}}


def disk(**fields: Any) -> dict[str, Any]:
    address = {"adapter_type": "SCSI", "device_index": 0}
    return {
        "uuid": B,
        "disk_size_bytes": 1024,
        "device_properties": {"device_type": "DISK", "disk_address": address},
        **fields,
    }


@pytest.mark.parametrize(
    ("entity", "field"),
    [
        ({**vm(), "metadata": {"uuid": "../x"}}, "uuid"),
        ({"metadata": {"uuid": A}}, "status"),
        (vm(disk_list=[disk(disk_size_bytes=-1)]), "disk_size_bytes"),
        (vm(disk_list=[disk(disk_size_bytes="1024")]), "disk_size_bytes"),
        (vm(disk_list=[disk(disk_size_bytes=None, disk_size_mib=1)]), "disk_size_bytes"),
        (vm(disk_list=[disk(uuid="../x")]), "uuid"),
        (vm(disk_list=[disk(device_properties=None)]), "adapter_type"),
        (vm(disk_list=[disk(), disk()]), "two disks have the same uuid"),
        (5, "object"),
    ],
)
async def test_a_vm_that_cannot_be_true_hides_no_other_and_is_refused_by_field(
    hostile: Hostile, prism: ElementPrism, caplog: pytest.LogCaptureFixture, entity: Any, field: str
) -> None:
    other = {"metadata": {"uuid": C}, "status": {"name": "other", "resources": {}}}
    hostile.on("POST /vms/list", reply(200, {"entities": [entity, other], "metadata": {"total_matches": 2}}))
    hostile.on(f"GET /v3/vms/{A}", reply(200, entity))
    hostile.on(f"GET /v2.0/vms/{A}", reply(200, {"uuid": A}))

    vms = await prism.vms()
    odd = (await prism.list_vms()).odd
    with pytest.raises(PrismAnswerError) as refused:
        await prism.vm(A)

    assert [found.id for found in vms] == [C]
    assert [field in found.reason for found in odd] == [True]
    assert field in str(refused.value)
    assert len([one for one in caplog.messages if "1 VM cannot be read" in one and field in one]) == 1


async def test_a_vm_without_a_name_is_listed_and_found_by_id(hostile: Hostile, prism: ElementPrism) -> None:
    nameless = {"metadata": {"uuid": A}, "status": {"name": None, "resources": {}}}
    hostile.on("POST /vms/list", reply(200, {"entities": [nameless], "metadata": {"total_matches": 1}}))

    assert [(found.id, found.name) for found in await prism.vms()] == [(A, "")]


async def test_the_size_that_v3_does_not_tell_is_asked_of_v2(hostile: Hostile, prism: ElementPrism) -> None:
    sizeless = vm(disk_list=[disk(disk_size_bytes=None)])
    hostile.on("POST /vms/list", reply(200, {"entities": [sizeless], "metadata": {"total_matches": 1}}))
    slot = {"disk_address": {"device_uuid": B}, "size": 4096}
    hostile.on(f"GET /v2.0/vms/{A}", reply(200, {"uuid": A, "vm_disk_info": [slot]}))

    assert [[one.size for one in found.disks] for found in await prism.vms()] == [[4096]]


async def test_a_vm_that_v2_does_not_tell_of_comes_without_its_files(hostile: Hostile, prism: ElementPrism) -> None:
    hostile.on(f"GET /v3/vms/{A}", reply(200, vm(disk_list=[disk()])))
    hostile.on(f"GET /v2.0/vms/{A}", reply(200, {"uuid": A, "vm_disk_info": None}))

    assert [one.vmdisk_id for one in (await prism.vm(A)).disks] == [None]


async def test_a_list_that_changes_while_paging_gives_every_vm_once(hostile: Hostile, prism: ElementPrism) -> None:
    def named(vm_id: str, total: int) -> bytes:
        entity = {"metadata": {"uuid": vm_id}, "status": {"name": vm_id, "resources": {}}}
        return reply(200, {"entities": [entity], "metadata": {"total_matches": total}})

    hostile.on("POST /vms/list", named(A, 2), named(A, 3), named(B, 3))

    assert [found.id for found in await prism.vms()] == [A, B]
    assert [one.json["offset"] for one in hostile.asked_for("/vms/list")][:3] == [0, 1, 2]


# -- hot-add


def worker(*slots: tuple[str, str | None]) -> bytes:
    found = [
        {"disk_address": {"vmdisk_uuid": name, "device_uuid": name}, "source_disk_address": {"ndfs_filepath": path}}
        for name, path in slots
    ]
    return reply(200, {"uuid": B, "vm_disk_info": found})


async def test_a_new_disk_that_comes_from_elsewhere_is_not_ours(hostile: Hostile, prism: ElementPrism) -> None:
    hostile.on(f"GET /vms/{B}", worker(), worker((C, f"{FROZEN}x"), (D, None)))
    hostile.on("POST /attach", reply(201, {"task_uuid": A}))
    hostile.on(f"GET /tasks/{A}", reply(200, {"progress_status": "SUCCEEDED"}))

    with pytest.raises(PrismAnswerError, match="0 new disks"):
        await prism.attach_disk(B, DiskPoint(FROZEN, B, D, path=FROZEN))

    assert not hostile.asked_for("/detach")


@pytest.mark.parametrize("status", ["Succeeded", "SUCCEEDED", "succeeded"])
async def test_a_task_of_v2_is_understood_in_every_spelling(hostile: Hostile, prism: ElementPrism, status: str) -> None:
    hostile.on(f"GET /vms/{B}", worker(), worker((C, FROZEN)))
    hostile.on("POST /attach", reply(201, {"task_uuid": A}))
    hostile.on(f"GET /tasks/{A}", reply(200, {"progress_status": "Queued"}), reply(200, {"progress_status": status}))

    assert await prism.attach_disk(B, DiskPoint(FROZEN, B, D, path=FROZEN)) == AttachedDisk(C, C, B, FROZEN)

    clone = hostile.asked_for("/attach")[0].json["vm_disks"][0]["vm_disk_clone"]
    assert clone == {"disk_address": {"device_bus": "SCSI", "ndfs_filepath": FROZEN}}


async def test_an_attach_whose_answer_is_lost_is_found_and_not_asked_for_again(
    hostile: Hostile, prism: ElementPrism
) -> None:
    hostile.on(f"GET /vms/{B}", worker(), worker(), worker((C, FROZEN)))
    hostile.on("POST /attach", reply(504, {}))

    assert await prism.attach_disk(B, DiskPoint(FROZEN, B, D, path=FROZEN)) == AttachedDisk(C, C, B, FROZEN)

    assert len(hostile.asked_for("/attach")) == 1
    assert not hostile.asked_for("/detach")


async def test_an_attach_whose_answer_is_lost_and_that_is_not_clear_is_taken_off(
    hostile: Hostile, prism: ElementPrism
) -> None:
    hostile.on(f"GET /vms/{B}", worker(), worker((C, FROZEN), (D, FROZEN)))
    hostile.on("POST /attach", reply(504, {}))
    hostile.on("POST /detach", reply(201, {"task_uuid": A}))
    hostile.on(f"GET /tasks/{A}", reply(200, {"progress_status": "Succeeded"}))

    with pytest.raises(PrismAnswerError, match="2 new disks"):
        await prism.attach_disk(B, DiskPoint(FROZEN, B, D, path=FROZEN))

    assert len(hostile.asked_for("/attach")) == 1
    taken_off = [one.json["vm_disks"][0]["disk_address"] for one in hostile.asked_for("/detach")]
    assert taken_off == [{"vmdisk_uuid": C}, {"vmdisk_uuid": D}]


async def test_only_clones_of_snapshot_files_count_as_attached(hostile: Hostile, prism: ElementPrism) -> None:
    hostile.on(f"GET /vms/{B}", worker((A, None), (C, FROZEN), (D, LIVE), ("../x", FROZEN)))

    assert await prism.attached_disks(B) == [AttachedDisk(C, C, B, FROZEN)]


async def test_a_disk_of_the_worker_vm_that_cannot_be_read_hides_no_other(
    hostile: Hostile, prism: ElementPrism, caplog: pytest.LogCaptureFixture
) -> None:
    clone = {"disk_address": {"vmdisk_uuid": C}, "source_disk_address": {"ndfs_filepath": FROZEN}}
    odd = [None, {"size": -1}, {"disk_address": 7}, "x"]
    hostile.on(f"GET /vms/{B}", reply(200, {"uuid": B, "vm_disk_info": [*odd, clone]}))

    assert await prism.attached_disks(B) == [AttachedDisk(C, C, B, FROZEN)]
    assert [text for text in caplog.messages if "4 of its disks cannot be read" in text]
