"""API v3 on Prism Element: snapshots, changed regions, tasks, identifiers; and what Prism Central has of it."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

import pytest

from tests.sim.lab import V3, Clock, Lab, snapshot_path, triples

GRAMMAR = re.compile(r"/default/\.snapshot/(\d\d)/\d+-\d{16}-(\d+)/\.acropolis/vmdisk/[0-9a-f-]{36}")


async def test_a_snapshot_names_its_files_on_storage(lab: Lab) -> None:
    lab.write(0, 0, b"moment")

    snapshot = await lab.snapshot()
    lab.write(0, 0, b"after!")

    files = snapshot["status"]["snapshot_file_list"]
    assert len(files) == 4
    root = Path(lab.sim.env["NTX_CONTAINERS"])
    for file in files:
        found = GRAMMAR.fullmatch(file["snapshot_file_path"])
        assert found is not None
        assert found[1] == found[2][-2:]
        assert file["file_path"].rpartition("/")[2] == file["snapshot_file_path"].rpartition("/")[2]
        assert (root / file["snapshot_file_path"].lstrip("/")).is_file()
    assert (root / files[0]["snapshot_file_path"].lstrip("/")).read_bytes().startswith(b"moment")
    assert (root / files[0]["file_path"].lstrip("/")).read_bytes().startswith(b"after!")


async def test_the_task_is_a_text_in_the_answer_to_create_and_a_list_in_get(lab: Lab) -> None:
    spec = {"name": "s", "resources": {"entity_uuid": lab.vm}}

    created = await lab.element.post(f"{V3}/vm_snapshots", json={"metadata": {"kind": "vm_snapshot"}, "spec": spec})
    status = created.json()["status"]
    await lab.poll(status["execution_context"]["task_uuid"])
    got = (await lab.element.get(f"{V3}/vm_snapshots/{created.json()['metadata']['uuid']}")).json()

    assert (created.status_code, status["state"], status["snapshot_file_list"]) == (202, "PENDING", [])
    assert got["status"]["execution_context"]["task_uuid"] == [status["execution_context"]["task_uuid"]]


async def test_a_given_uuid_is_used_and_makes_create_repeatable(lab: Lab) -> None:
    issued = await lab.element.post(f"{V3}/idempotence_identifiers", json={"client_identifier": "me", "count": 2})
    again = await lab.element.post(f"{V3}/idempotence_identifiers", json={"client_identifier": "me", "count": 2})
    chosen = issued.json()["uuid_list"][0]
    body = {"metadata": {"kind": "vm_snapshot", "uuid": chosen}, "spec": {"resources": {"entity_uuid": lab.vm}}}

    first, second = [await lab.element.post(f"{V3}/vm_snapshots", json=body) for _ in range(2)]

    tasks = [answer.json()["status"]["execution_context"]["task_uuid"] for answer in (first, second)]
    assert issued.json() == again.json() == (await lab.element.get(f"{V3}/idempotence_identifiers/me")).json()
    assert first.json()["metadata"]["uuid"] == chosen
    assert tasks[0] == tasks[1]
    deleted = await lab.element.delete(f"{V3}/idempotence_identifiers/me")
    assert (deleted.status_code, deleted.json()) == (200, None)
    assert (await lab.element.get(f"{V3}/idempotence_identifiers/me")).status_code == 404


async def test_snapshots_are_listed_by_vm_and_deleted(lab: Lab) -> None:
    snapshot = await lab.snapshot(name="mine")
    path = Path(lab.sim.env["NTX_CONTAINERS"]) / snapshot_path(snapshot).lstrip("/")
    body = {"kind": "vm_snapshot", "filter": f"entity_uuid=={lab.vm}"}

    listed = (await lab.element.post(f"{V3}/vm_snapshots/list", json=body)).json()
    other = (await lab.element.post(f"{V3}/vm_snapshots/list", json={"filter": f"entity_uuid=={uuid.uuid4()}"})).json()
    deleted = await lab.element.delete(f"{V3}/vm_snapshots/{snapshot['metadata']['uuid']}")
    await lab.poll(deleted.json()["status"]["execution_context"]["task_uuid"])

    assert [entity["status"]["name"] for entity in listed["entities"]] == ["mine"]
    assert other["metadata"]["total_matches"] == 0
    assert (deleted.status_code, deleted.json()["status"]["state"]) == (202, "DELETE_PENDING")
    gone = await lab.element.get(f"{V3}/vm_snapshots/{snapshot['metadata']['uuid']}")
    assert gone.status_code == 404
    assert gone.json()["message_list"][0]["reason"] == "ENTITY_NOT_FOUND"
    assert not path.exists()
    assert list((Path(lab.sim.env["NTX_CONTAINERS"]) / "default" / ".snapshot").iterdir()) == []


async def test_a_snapshot_expires_and_its_expiry_can_be_moved(lab: Lab, clock: Clock) -> None:
    soon, later = (int((clock.now + seconds) * 1000) for seconds in (10, 1000))
    first, second = [await lab.snapshot(expiration_time_msecs=soon) for _ in range(2)]
    body = {"metadata": {"kind": "vm_snapshot"}, "spec": {"expiration_time_msecs": later}}

    moved = await lab.element.put(f"{V3}/vm_snapshots/{second['metadata']['uuid']}", json=body)
    await lab.poll(moved.json()["status"]["execution_context"]["task_uuid"])
    clock.now += 10

    gone = await lab.element.get(f"{V3}/vm_snapshots/{first['metadata']['uuid']}")
    kept = await lab.element.get(f"{V3}/vm_snapshots/{second['metadata']['uuid']}")
    assert (gone.status_code, kept.status_code) == (404, 200)
    assert kept.json()["status"]["expiration_time_msecs"] == later


async def test_a_diff_is_exact_in_sectors(lab: Lab) -> None:
    lab.write(0, 0, os.urandom(65_536))
    old = snapshot_path(await lab.snapshot())
    lab.write(0, 1024, bytes(600))
    lab.write(0, 8192, b"x")
    new = snapshot_path(await lab.snapshot())

    answer = await lab.regions(new, old)

    assert triples(answer) == [(1024, 512, "ZEROED"), (1536, 512, "REGULAR"), (8192, 512, "REGULAR")]
    assert answer.json()["file_size"] == 1 << 20
    assert "next_offset" not in answer.json()


async def test_nothing_changed_is_an_empty_list(lab: Lab) -> None:
    old, new = [snapshot_path(await lab.snapshot()) for _ in range(2)]

    assert (await lab.regions(new, old)).json() == {"region_list": [], "file_size": 1 << 20}


async def test_without_reference_sparse_regions_are_zeroed(lab: Lab) -> None:
    lab.write(0, 8192, b"x" * 4096)

    answer = await lab.regions(snapshot_path(await lab.snapshot()))

    end = 1 << 20
    assert triples(answer) == [(0, 8192, "ZEROED"), (8192, 4096, "REGULAR"), (12_288, end - 12_288, "ZEROED")]


async def test_next_offset_may_lie_beyond_the_end_asked_for(lab: Lab) -> None:
    old = snapshot_path(await lab.snapshot())
    lab.write(0, 0, b"x")
    lab.write(0, 500_000, b"x")
    new = snapshot_path(await lab.snapshot())

    first = await lab.regions(new, old, start_offset=0, end_offset=4096)
    last = await lab.regions(new, old, start_offset=499_712)

    assert triples(first) == [(0, 512, "REGULAR")]
    assert first.json()["next_offset"] == 499_712
    assert triples(last) == [(499_712, 512, "REGULAR")]
    assert "next_offset" not in last.json()


async def test_a_full_page_goes_on_at_the_next_change(lab: Lab) -> None:
    lab.sim.config.limits.regions_per_page = 2
    old = snapshot_path(await lab.snapshot())
    for number in range(3):
        lab.write(0, number * 100_352, b"x")
    new = snapshot_path(await lab.snapshot())

    answer = await lab.regions(new, old)

    assert triples(answer) == [(0, 512, "REGULAR"), (100_352, 512, "REGULAR")]
    assert answer.json()["next_offset"] == 200_704


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "'snapshot_file_path' is a required property"),
        ({"snapshot_file_path": "x", "reference_snapshot_file_path": None}, "None is not of type 'string'"),
        ({"snapshot_file_path": "x", "start_offset": "0"}, "'0' is not of type 'integer'"),
        ({"snapshot_file_path": "x", "start_offset": -1}, "minimum"),
        ({"snapshot_file_path": "x", "end": 1}, "'end' was unexpected"),
    ],
)
async def test_changed_regions_checks_its_schema(lab: Lab, body: dict[str, object], words: str) -> None:
    answer = await lab.element.post(f"{V3}/data/changed_regions", json=body)

    assert answer.status_code == 422
    assert answer.json()["state"] == "ERROR"
    assert words in answer.json()["message_list"][0]["message"]


async def test_paths_that_were_not_announced_are_400(lab: Lab) -> None:
    path = snapshot_path(await lab.snapshot())
    live = (await lab.snapshot())["status"]["snapshot_file_list"][0]["file_path"]

    built = [path.replace("/.snapshot/", "/.snapshot//"), path.replace("/01/", "/1/"), "/default/../x", live]
    answers = [await lab.regions(one) for one in built] + [await lab.regions(path, "/default/.snapshot/00/1-2-3/x")]

    assert {answer.status_code for answer in answers} == {400}
    assert answers[0].json()["message_list"][0]["reason"] == "ENTITY_NOT_FOUND"
    assert "kInvalidValue" in answers[0].json()["message_list"][0]["message"]


async def test_a_deleted_or_expired_reference_is_400(lab: Lab, clock: Clock) -> None:
    deleted = await lab.snapshot()
    expiring = await lab.snapshot(expiration_time_msecs=int((clock.now + 10) * 1000))
    new = snapshot_path(await lab.snapshot())
    answer = await lab.element.delete(f"{V3}/vm_snapshots/{deleted['metadata']['uuid']}")
    await lab.poll(answer.json()["status"]["execution_context"]["task_uuid"])
    clock.now += 10

    answers = [await lab.regions(new, snapshot_path(one)) for one in (deleted, expiring)]

    assert [answer.status_code for answer in answers] == [400, 400]


async def test_snapshots_and_regions_are_not_on_central(lab: Lab) -> None:
    calls = ("vm_snapshots", "vm_snapshots/list", "data/changed_regions")

    answers = [await lab.central.post(f"{V3}/{call}", json={}) for call in calls]

    assert {answer.status_code for answer in answers} == {404}


async def test_central_lists_itself_as_a_cluster(lab: Lab) -> None:
    def services(answer: dict[str, list[dict[str, dict[str, dict[str, dict[str, list[str]]]]]]]) -> list[list[str]]:
        return [entity["status"]["resources"]["config"]["service_list"] for entity in answer["entities"]]

    central = (await lab.central.post(f"{V3}/clusters/list", json={"kind": "cluster"})).json()
    element = (await lab.element.post(f"{V3}/clusters/list", json={"kind": "cluster"})).json()

    assert services(central) == [["AOS"], ["PRISM_CENTRAL"]]
    assert services(element) == [["AOS"]]


async def test_lists_are_paged_and_checked(lab: Lab) -> None:
    async def post(**body: object) -> tuple[int, list[str], int]:
        answer = await lab.element.post(f"{V3}/vms/list", json={"kind": "vm", **body})
        if answer.status_code != 200:
            return answer.status_code, [], 0
        found = answer.json()
        assert found["metadata"]["length"] == len(found["entities"])
        return 200, [vm["status"]["name"] for vm in found["entities"]], found["metadata"]["total_matches"]

    assert await post(sort_attribute="name", sort_order="DESCENDING") == (200, ["ntx-worker", "app"], 2)
    assert await post(length=1, offset=1) == (200, ["ntx-worker"], 2)
    assert await post(offset=7) == (200, [], 2)
    assert await post(filter="vm_name==app") == (200, ["app"], 1)
    for wrong in (
        {"length": 0},
        {"offset": "0"},
        {"kind": "host"},
        {"filter": "color==red"},
        {"filter": "app"},
        {"x": 1},
    ):
        assert (await post(**wrong))[0] == 422


async def test_application_consistency_follows_guest_tools(lab: Lab) -> None:
    able = await lab.snapshot(snapshot_type="APPLICATION_CONSISTENT")
    lab.sim.config.vms[0].power = "off"
    unable = await lab.snapshot(snapshot_type="APPLICATION_CONSISTENT")

    assert able["status"]["snapshot_type"] == "APPLICATION_CONSISTENT"
    assert unable["status"]["snapshot_type"] == "CRASH_CONSISTENT"


@pytest.mark.parametrize(
    "body",
    [
        {"spec": {}},
        {"metadata": {"kind": "vm"}, "spec": {}},
        {"metadata": {"kind": "vm_snapshot", "uuid": "x"}, "spec": {}},
        {"metadata": {"kind": "vm_snapshot"}, "spec": {"name": "n" * 65}},
        {"metadata": {"kind": "vm_snapshot"}, "spec": {"snapshot_type": "PERFECT"}},
        {"metadata": {"kind": "vm_snapshot"}, "spec": {"expiration_time_msecs": "0"}},
        {"metadata": {"kind": "vm_snapshot"}, "spec": {"resources": {"entity_uuid": "../x"}}},
    ],
)
async def test_create_checks_its_schema(lab: Lab, body: dict[str, object]) -> None:
    assert (await lab.element.post(f"{V3}/vm_snapshots", json=body)).status_code == 422


async def test_a_snapshot_whose_task_failed_is_in_error_and_not_listed(lab: Lab) -> None:
    lab.sim.faults.fail_tasks["create"] = 1
    body = {"metadata": {"kind": "vm_snapshot"}, "spec": {"resources": {"entity_uuid": lab.vm}}}

    created = await lab.element.post(f"{V3}/vm_snapshots", json=body)
    task = await lab.poll(created.json()["status"]["execution_context"]["task_uuid"])
    url = f"{V3}/vm_snapshots/{created.json()['metadata']['uuid']}"
    got = (await lab.element.get(url)).json()

    assert (task["status"], task["error_code"]) == ("FAILED", "DP-10000")
    assert got["status"]["state"] == "ERROR"
    assert (await lab.element.post(f"{V3}/vm_snapshots/list", json={})).json()["entities"] == []
    assert (await lab.element.delete(url)).status_code == 202


async def test_polling_a_stuck_task_times_out(lab: Lab) -> None:
    lab.sim.faults.stuck_tasks["create"] = 1
    body = {"metadata": {"kind": "vm_snapshot"}, "spec": {"resources": {"entity_uuid": lab.vm}}}
    created = await lab.element.post(f"{V3}/vm_snapshots", json=body)
    task = created.json()["status"]["execution_context"]["task_uuid"]

    polled = await lab.element.post(f"{V3}/tasks/poll", json={"poll_timeout_seconds": 0, "task_uuid_list": [task]})

    assert polled.json()["has_poll_timed_out"] is True
    assert (await lab.element.get(f"{V3}/tasks/{uuid.uuid4()}")).status_code == 404
