"""Recovery points, tasks and lists of v4 on Prism Central."""

from __future__ import annotations

import asyncio
import stat
import threading
import time
import uuid
from datetime import UTC, datetime

import pytest

from ntxengine.sim import SimConfig
from tests.sim.lab import DP, Clock, Json, Lab, disk_name, request_id


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


async def test_a_recovery_point_keeps_the_bytes_of_its_moment(lab: Lab) -> None:
    lab.write(0, 4096, b"before")
    point = await lab.point()
    lab.write(0, 4096, b"after!")

    frozen = lab.sim.frozen_path(disk_name(point)[2])

    assert frozen.read_bytes()[4096:4102] == b"before"
    assert stat.S_IMODE(frozen.stat().st_mode) == 0o444


async def test_the_new_id_comes_from_the_completion_details_of_the_task(lab: Lab) -> None:
    answer = await lab.post_point(name="nightly")

    task = await lab.task(answer)

    assert answer.json()["data"]["$objectType"] == "prism.v4.config.TaskReference"
    assert task["extId"].startswith("ZXJnb24=:")
    [detail] = task["completionDetails"]
    assert detail["name"] == "recoveryPointExtId"
    found = (await lab.central.get(f"{DP}/{detail['value']}")).json()["data"]
    assert (found["name"], found["status"], found["recoveryPointType"]) == ("nightly", "COMPLETE", "CRASH_CONSISTENT")
    assert found["vmRecoveryPoints"][0]["vmExtId"] == lab.vm


async def test_there_are_more_disk_points_than_data_disks(lab: Lab) -> None:
    vm = (await lab.central.get(f"/api/vmm/v4.0/ahv/config/vms/{lab.vm}")).json()["data"]

    point = await lab.point()

    frozen = {disk["diskExtId"] for disk in point["vmRecoveryPoints"][0]["diskRecoveryPoints"]}
    disks = {disk["backingInfo"]["diskExtId"] for disk in vm["disks"]}
    assert len(disks) == 2
    assert len(frozen) == 4
    assert disks < frozen


async def test_disks_may_be_missing_in_the_top_level_answer(lab: Lab) -> None:
    lab.sim.config.disks_in_recovery_point = False

    point = await lab.point()

    [vm_point] = point["vmRecoveryPoints"]
    assert vm_point["diskRecoveryPoints"] is None
    path = f"{DP}/{point['extId']}/vm-recovery-points/{vm_point['extId']}"
    assert len((await lab.central.get(path)).json()["data"]["diskRecoveryPoints"]) == 4


@pytest.mark.parametrize("headers", [{}, {"NTNX-Request-Id": "not-a-uuid"}])
async def test_create_and_delete_need_a_request_id(lab: Lab, headers: dict[str, str]) -> None:
    point = await lab.point()

    created = await lab.central.post(DP, json={"vmRecoveryPoints": [{"vmExtId": lab.vm}]}, headers=headers)
    deleted = await lab.central.delete(f"{DP}/{point['extId']}", headers=headers)

    assert (created.status_code, deleted.status_code) == (400, 400)
    assert created.json()["data"]["error"]["$objectType"] == "dataprotection.v4.error.SchemaValidationError"


async def test_the_same_request_id_does_the_work_once(lab: Lab) -> None:
    headers, body = request_id(), {"name": "once", "vmRecoveryPoints": [{"vmExtId": lab.vm}]}
    first = await lab.central.post(DP, json=body, headers=headers)
    second = await lab.central.post(DP, json=body, headers=headers)
    await lab.task(second)
    point = (await lab.central.get(DP)).json()["data"][0]["extId"]

    headers = request_id()
    gone = [await lab.task(await lab.central.delete(f"{DP}/{point}", headers=headers)) for _ in range(2)]

    assert first.json()["data"] == second.json()["data"]
    assert gone[0] == gone[1]
    assert (await lab.central.get(DP)).json()["metadata"]["totalAvailableResults"] == 0


async def test_a_deleted_point_and_its_bytes_are_gone(lab: Lab) -> None:
    point = await lab.point()
    frozen = lab.sim.frozen_path(disk_name(point)[2])

    await lab.task(await lab.central.delete(f"{DP}/{point['extId']}", headers=request_id()))

    answer = await lab.central.get(f"{DP}/{point['extId']}")
    assert answer.status_code == 404
    [error] = answer.json()["data"]["error"]
    assert error["errorGroup"] == "RECOVERY_POINT_NOT_FOUND_ERROR"
    assert not frozen.exists()
    again = await lab.central.delete(f"{DP}/{point['extId']}", headers=request_id())
    assert again.status_code == 404


async def test_a_point_goes_when_its_time_is_over_and_not_earlier(lab: Lab, clock: Clock) -> None:
    point = await lab.point(expirationTime=at(clock.now + 100))
    frozen = lab.sim.frozen_path(disk_name(point)[2])

    clock.now += 99
    early = await lab.central.get(f"{DP}/{point['extId']}")
    clock.now += 1
    late = await lab.central.get(f"{DP}/{point['extId']}")

    assert (early.status_code, late.status_code) == (200, 404)
    assert not frozen.exists()


async def test_the_expiry_can_be_moved(lab: Lab, clock: Clock) -> None:
    point = await lab.point(expirationTime=at(clock.now + 100))
    path = f"{DP}/{point['extId']}/$actions/set-expiration-time"

    await lab.task(await lab.central.post(path, json={"expirationTime": at(clock.now + 1000)}))
    clock.now += 500

    found = (await lab.central.get(f"{DP}/{point['extId']}")).json()["data"]
    assert datetime.fromisoformat(found["expirationTime"]).timestamp() == clock.now + 500


@pytest.mark.parametrize(
    "body",
    [
        {"expirationTime": "2001-01-01T00:00:00Z"},
        {"expirationTime": "tomorrow"},
        {"recoveryPointType": "PERFECT"},
        {"name": "n" * 257},
        {"vmRecoveryPoints": []},
        {"vmRecoveryPoints": [{"vmExtId": "x"}]},
        {"vmRecoveryPoints": [{"vmExtId": str(uuid.UUID(int=1))}] * 33},
        {"surprise": 1},
    ],
)
async def test_a_body_against_the_schema_is_400(lab: Lab, body: dict[str, object]) -> None:
    answer = await lab.post_point(**body)

    assert answer.status_code == 400, answer.text
    assert "SchemaValidationError" in answer.text


async def test_an_unknown_vm_is_404(lab: Lab) -> None:
    answer = await lab.post_point(vmRecoveryPoints=[{"vmExtId": str(uuid.uuid4())}])

    assert answer.status_code == 404
    assert answer.json()["metadata"]["flags"][0] == {
        "$objectType": "common.v1.config.Flag",
        "name": "hasError",
        "value": True,
    }


async def test_guest_tools_allow_an_application_consistent_point(lab: Lab) -> None:
    vss = {"$objectType": "dataprotection.v4.common.VssProperties", "backupType": "COPY_BACKUP"}

    point = await lab.point(
        recoveryPointType="APPLICATION_CONSISTENT",
        vmRecoveryPoints=[{"vmExtId": lab.vm, "applicationConsistentProperties": vss}],
    )

    assert point["recoveryPointType"] == "APPLICATION_CONSISTENT"


@pytest.mark.parametrize("reason", ["off", "not reachable", "fault"])
async def test_a_guest_that_cannot_quiesce_gives_a_crash_consistent_point_and_a_warning(lab: Lab, reason: str) -> None:
    vm = lab.sim.config.vms[0]
    assert vm.guest_tools is not None
    if reason == "off":
        vm.power = "off"
    elif reason == "not reachable":
        vm.guest_tools.reachable = False
    else:
        lab.sim.faults.downgrade_consistency = True

    task = await lab.task(await lab.post_point(recoveryPointType="APPLICATION_CONSISTENT"))

    point = (await lab.central.get(DP)).json()["data"][0]
    assert point["recoveryPointType"] == "CRASH_CONSISTENT"
    assert task["warnings"][0]["severity"] == "WARNING"


async def test_a_guest_that_cannot_quiesce_may_also_fail_the_task_or_be_claimed(lab: Lab) -> None:
    lab.sim.config.vms[0].power = "off"

    lab.sim.config.cannot_quiesce = "fail"
    failed = await lab.task(await lab.post_point(recoveryPointType="APPLICATION_CONSISTENT"))
    lab.sim.config.cannot_quiesce = "claim"
    claimed = await lab.point(recoveryPointType="APPLICATION_CONSISTENT")

    assert failed["status"] == "FAILED"
    assert claimed["recoveryPointType"] == "APPLICATION_CONSISTENT"
    assert [p["extId"] for p in (await lab.central.get(DP)).json()["data"]] == [claimed["extId"]]


async def test_lists_are_paged_filtered_sorted_and_selected(lab: Lab) -> None:
    for name in ("b", "a'x", "c"):
        await lab.point(name=name)

    async def get(**query: str) -> list[str]:
        answer = await lab.central.get(DP, params={f"${key}": value for key, value in query.items()})
        assert answer.status_code == 200, answer.text
        return [point["name"] for point in answer.json()["data"]]

    assert sorted(await get()) == ["a'x", "b", "c"]
    assert await get(orderby="name desc", limit="2") == ["c", "b"]
    assert await get(orderby="name desc", limit="2", page="1") == ["a'x"]
    assert await get(page="9") == []
    assert await get(filter="name eq 'a''x'") == ["a'x"]
    assert await get(filter="startswith(name,'b') and name eq 'b'") == ["b"]
    assert len(await get(filter=f"vmRecoveryPoints/any(v:v/vmExtId eq '{lab.vm}')")) == 3
    answer = await lab.central.get(DP, params={"$limit": "2", "$page": "0", "$select": "name"})
    metadata = answer.json()["metadata"]
    assert metadata["totalAvailableResults"] == 3
    assert {link["rel"] for link in metadata["links"]} == {"first", "self", "last", "next"}
    assert "status" not in answer.json()["data"][0]


@pytest.mark.parametrize(
    "query", ["$limit=0", "$limit=101", "$limit=x", "$page=-1", "$filter=name like 'x'", "$filter=no eq 'x'"]
)
async def test_a_list_parameter_out_of_range_is_400(lab: Lab, query: str) -> None:
    await lab.point()

    answer = await lab.central.get(f"{DP}?{query}")

    assert answer.status_code == 400


async def test_a_task_id_may_come_url_encoded_and_must_have_its_prefix(lab: Lab) -> None:
    task = await lab.task(await lab.post_point())

    encoded = await lab.central.get(
        "/api/prism/v4.0/config/tasks/" + task["extId"].replace("=", "%3D").replace(":", "%3A")
    )
    bare = await lab.central.get("/api/prism/v4.0/config/tasks/" + task["extId"].partition(":")[2])

    assert (encoded.status_code, bare.status_code) == (200, 404)


async def test_a_task_that_fails_has_done_its_work(lab: Lab) -> None:
    lab.sim.faults.fail_tasks["create"] = 1

    task = await lab.task(await lab.post_point(name="orphan"))

    assert task["status"] == "FAILED"
    assert "completionDetails" not in task
    assert task["errorMessages"][0]["code"] == "DP-10000"
    assert [point["name"] for point in (await lab.central.get(DP)).json()["data"]] == ["orphan"]
    assert (await lab.task(await lab.post_point()))["status"] == "SUCCEEDED"


async def test_a_stuck_task_never_ends(lab: Lab) -> None:
    lab.sim.faults.stuck_tasks["create"] = -1
    answer = await lab.post_point()
    task = answer.json()["data"]["extId"].partition(":")[2]

    assert not await lab.sim.world.tasks.wait([task], 0.2)

    assert lab.sim.world.state.tasks[task].status == "RUNNING"


async def test_revisions_above_the_server_s_are_404(config: SimConfig, lab: Lab) -> None:
    probe = await lab.central.options("/api/vmm/unversioned/info")
    answers = {minor: (await lab.central.get(f"/api/vmm/v4.{minor}/ahv/config/vms")).status_code for minor in range(6)}
    config.revisions["vmm"] = "v4.1"
    capped = await lab.central.options("/api/vmm/unversioned/info")
    above = await lab.central.get("/api/vmm/v4.2/ahv/config/vms")

    assert probe.json() == {"data": "v4.4"}
    assert answers == {0: 200, 1: 200, 2: 200, 3: 200, 4: 200, 5: 404}
    assert capped.json() == {"data": "v4.1"}
    assert above.status_code == 404


async def test_clusters_hosts_and_containers_are_listed(lab: Lab) -> None:
    clusters = (await lab.central.get("/api/clustermgmt/v4.0/config/clusters")).json()["data"]
    element = next(c for c in clusters if "AOS" in c["config"]["clusterFunction"])
    hosts = (await lab.central.get(f"/api/clustermgmt/v4.0/config/clusters/{element['extId']}/hosts")).json()["data"]
    [container] = (await lab.central.get("/api/clustermgmt/v4.0/config/storage-containers")).json()["data"]

    assert len(clusters) == 2
    assert element["config"]["buildInfo"]["version"] not in element["config"]["buildInfo"]["fullVersion"].split("-")
    assert len(hosts) == 2
    assert container["extId"] is None
    assert container["containerExtId"]


async def test_all_disks_are_frozen_at_one_moment(lab: Lab) -> None:
    stop, written = threading.Event(), threading.Semaphore(0)

    def guest() -> None:
        number = 0
        paths = [disk.path for disk in lab.sim.config.vms[0].disks]
        while not stop.is_set():
            number += 1
            with lab.sim.disk_lock:
                for path in paths:
                    with path.open("r+b") as file:
                        file.write(number.to_bytes(8, "little"))
            written.release()
            time.sleep(0.0005)

    async def point_of_something_new() -> Json:
        while written.acquire(blocking=False):
            pass
        await asyncio.to_thread(written.acquire)
        return await lab.point()

    writer = threading.Thread(target=guest)
    writer.start()
    points = [await point_of_something_new() for _ in range(5)]
    stop.set()
    writer.join()

    moments = [[lab.sim.frozen_path(disk_name(point, disk)[2]).read_bytes()[:8] for disk in (0, 1)] for point in points]
    assert all(first == second for first, second in moments)
    assert len({first for first, _ in moments}) == 5
