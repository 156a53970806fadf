"""Volume groups that callers make of frozen bytes: both families, their rules, their faults."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from ntxengine.sim import SimConfig, Simulator, target
from ntxengine.sim.clusters import ClusterConfig
from ntxengine.sim.faults import ETAG_RULES
from tests.sim.iscsi import GROUPS, NAME, SECRET, attach, body, delete, detach, make, needs_tgtd, read
from tests.sim.lab import V2, Json, Lab, disk_name, snapshot_path


@needs_tgtd
async def test_a_group_reads_the_frozen_bytes(lab: Lab, tmp_path: Path) -> None:
    lab.write(0, 5000, b"frozen")
    point = await lab.disk()
    lab.write(0, 5000, b"later!")
    group = await make(lab, point[2])
    assert (await attach(lab, group))["status"] == "SUCCEEDED"

    complaint = await read(lab, group, tmp_path / "out")

    assert complaint == ""
    assert (tmp_path / "out").read_bytes() == lab.sim.frozen_path(point[2]).read_bytes()
    [disk] = (await lab.central.get(f"{GROUPS}/{group}/disks")).json()["data"]
    assert (disk["index"], disk["diskSizeBytes"]) == (1, 1 << 20)
    assert disk["diskDataSourceReference"]["extId"] == point[2]
    told = (await lab.central.get(f"{GROUPS}/{group}")).json()["data"]
    assert told["targetName"] == f"ntx-{group}"
    assert "secret" not in json.dumps(told)


@needs_tgtd
async def test_only_who_was_let_in_reads_and_only_with_its_secret(lab: Lab, tmp_path: Path) -> None:
    group = await make(lab, (await lab.disk())[2])
    assert "not found" in await read(lab, group, tmp_path / "out")
    await attach(lab, group)

    assert "Authentication failure" in await read(lab, group, tmp_path / "out", secret="another4reader")
    assert "not found" in await read(lab, group, tmp_path / "out", name=NAME + "2")
    assert await read(lab, group, tmp_path / "out") == ""

    await detach(lab, group)
    assert "not found" in await read(lab, group, tmp_path / "out")


@needs_tgtd
async def test_several_groups_are_served_at_once(lab: Lab, tmp_path: Path) -> None:
    lab.write(1, 0, b"second")
    point = await lab.point()
    groups = [await make(lab, disk_name(point, number)[2]) for number in (0, 1)]
    for number, group in enumerate(groups):
        await attach(lab, group, f"{NAME}-{number}")

    results = await asyncio.gather(
        *(read(lab, group, tmp_path / group, name=f"{NAME}-{number}") for number, group in enumerate(groups))
    )

    assert results == ["", ""]
    assert [(tmp_path / group).read_bytes()[:6] for group in groups] == [bytes(6), b"second"]


@needs_tgtd
async def test_a_group_that_is_deleted_is_gone_with_its_bytes_and_its_target(lab: Lab, tmp_path: Path) -> None:
    group = await make(lab, (await lab.disk())[2])
    name = lab.sim.world.state.made_groups[group].target
    await attach(lab, group)
    refused = await delete(lab, group)
    await detach(lab, group)

    task = await lab.task(await delete(lab, group))

    assert refused.status_code == 409
    assert task["status"] == "SUCCEEDED"
    assert (await lab.central.get(f"{GROUPS}/{group}")).status_code == 404
    assert list((tmp_path / "state/volume-groups").iterdir()) == []
    assert "Could not open" in await read(lab, name, tmp_path / "out")


@needs_tgtd
async def test_v2_makes_a_group_of_a_snapshot_file(lab: Lab, tmp_path: Path) -> None:
    lab.write(0, 9000, b"frozen")
    path = snapshot_path(await lab.snapshot())
    chap = [{"auth_type": "CHAP", "password": SECRET}]
    disk = {"clone_config": {"disk_address": {"ndfs_filepath": path}}}
    wanted = {"name": "group", "usage_type": "TEMPORARY", "enabled_authentications": chap, "disk_list": [disk]}
    made = await lab.element.post(f"{V2}/volume_groups", json=wanted)
    await lab.poll(made.json()["task_uuid"])
    [group] = (await lab.element.get(f"{V2}/volume_groups")).json()["entities"]
    one = f"{V2}/volume_groups/{group['uuid']}"
    client = {"client_address": NAME, "enabled_authentications": chap}

    opened = await lab.element.post(f"{one}/open", json={"iscsi_client": client, "operation": "ATTACH"})

    assert opened.json() == {"value": True}
    assert await read(lab, group["uuid"], tmp_path / "out") == ""
    assert (tmp_path / "out").read_bytes()[9000:9006] == b"frozen"
    assert group["iscsi_target"] == f"iqn.2010-06.com.nutanix:vg-{group['uuid']}"
    assert [disk["index"] for disk in group["disk_list"]] == [1]
    assert [one["iscsi_initiator_name"] for one in (await lab.element.get(one)).json()["attachment_list"]] == [NAME]
    assert (await lab.element.delete(one)).status_code == 422
    closed = await lab.element.post(f"{one}/close", json={"iscsi_client": client, "operation": "DETACH"})
    assert closed.json() == {"value": True}
    await lab.poll((await lab.element.delete(one)).json()["task_uuid"])
    assert (await lab.element.get(one)).status_code == 404


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"usageType": "SOME"}, "usageType"),
        ({"targetPrefix": "a b"}, "targetPrefix"),
        ({"targetName": "short", "targetPrefix": None}, "targetName"),
        ({"iscsiFeatures": {"enabledAuthentications": "CHAP", "targetSecret": "short"}}, "targetSecret"),
        ({"iscsiFeatures": {"targetSecret": "secret4target1"}}, "targetSecret"),
        ({"disks": [{"index": 0, "diskDataSourceReference": {}}]}, "disks.index"),
        ({"size": 1}, "size"),
    ],
)
async def test_a_body_that_does_not_fit_the_schema_is_refused(lab: Lab, change: Json, place: str) -> None:
    answer = await lab.central.post(GROUPS, json=body(lab, (await lab.disk())[2], **change))

    assert answer.status_code == 400
    [wrong] = answer.json()["data"]["error"]["validationErrorMessages"]
    assert wrong["attributePath"] == place
    assert lab.sim.world.state.made_groups == {}


async def test_one_initiator_has_one_secret_and_a_group_one_initiator(lab: Lab) -> None:
    point = await lab.point()
    first, second = [await make(lab, disk_name(point, number)[2]) for number in (0, 1)]
    await attach(lab, first)

    other_secret = await attach(lab, second, secret="another4reader")
    other_name = await attach(lab, first, NAME + "2")

    assert (other_secret["status"], other_name["status"]) == ("FAILED", "FAILED")
    assert (await attach(lab, second))["status"] == "SUCCEEDED"


@pytest.mark.parametrize("rule", sorted(ETAG_RULES))
async def test_etags_of_groups_follow_the_rule(lab: Lab, rule: str) -> None:
    lab.sim.faults.etags = rule
    group = await make(lab, (await lab.disk())[2])
    told = (await lab.central.get(f"{GROUPS}/{group}")).headers.get("etag")

    bare = await lab.central.delete(f"{GROUPS}/{group}")
    stale = await lab.central.delete(f"{GROUPS}/{group}", headers={"If-Match": "stale"})

    assert (told is not None) == ETAG_RULES[rule].vm_tells
    assert bare.status_code == (202 if ETAG_RULES[rule].takes_none else 428)
    assert stale.status_code in (404, 412)


async def test_groups_are_filtered_by_name(lab: Lab) -> None:
    point = await lab.disk()
    for name in ("ntx-a", "ntx-b", "other"):
        await make(lab, point[2], name=name)

    async def names(text: str) -> list[str]:
        answer = await lab.central.get(GROUPS, params={"$filter": text, "$orderby": "name"})
        return [one["name"] for one in answer.json()["data"]]

    assert await names("startswith(name,'ntx-')") == ["ntx-a", "ntx-b"]
    assert await names("name eq 'other'") == ["other"]


async def told(lab: Lab) -> tuple[str | None, str | None, str | None]:
    """Return the data services IP as v4, v3 and v2 tell it."""
    cluster = lab.sim.world.cluster_id
    network = (await lab.central.get(f"/api/clustermgmt/v4.0/config/clusters/{cluster}")).json()["data"]["network"]
    v4 = network.get("externalDataServiceIp")
    v3 = (await lab.element.get(f"/api/nutanix/v3/clusters/{cluster}")).json()["status"]["resources"]["network"]
    v2 = (await lab.element.get(f"{V2}/cluster")).json()["cluster_external_data_services_ipaddress"]
    return v4 and v4["ipv4"]["value"], v3.get("external_data_services_ip"), v2


async def test_the_data_services_ip_is_told_by_all_families(lab: Lab, tmp_path: Path) -> None:
    address = lab.sim.world.target.address

    assert await told(lab) == (address, address, address)
    lab.sim.faults.volumes = ["no_data_services"]
    assert await told(lab) == (None, None, None)
    lab.sim.faults.volumes = ["unreachable_data_services"]
    assert set(await told(lab)) == {"127.0.0.250"}
    assert target._address(tmp_path / "other") != address


@needs_tgtd
async def test_faults_of_groups(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = lab.sim.faults
    point = await lab.disk()

    faults.volumes = ["no_target_name", "wrong_secret", "unlisted", "deletion_refused"]
    group = await make(lab, point[2])
    await attach(lab, group)

    assert (await lab.central.get(f"{GROUPS}/{group}")).json()["data"]["targetName"] is None
    assert (await lab.central.get(GROUPS)).json()["data"] == []
    assert "Authentication failure" in await read(lab, group, tmp_path / "out")
    await detach(lab, group)
    assert (await lab.task(await delete(lab, group)))["status"] == "FAILED"
    faults.volumes = []
    assert (await lab.task(await delete(lab, group)))["status"] == "SUCCEEDED"


async def test_a_task_that_fails_after_the_work_leaves_the_group(lab: Lab) -> None:
    lab.sim.faults.fail_tasks["create_group"] = 1

    task = await lab.task(await lab.central.post(GROUPS, json=body(lab, (await lab.disk())[2])))

    assert task["status"] == "FAILED"
    assert len(lab.sim.world.made_groups()) == 1


async def test_the_same_request_id_makes_one_group(lab: Lab) -> None:
    point = await lab.disk()
    headers = {"NTNX-Request-Id": "7a7a7a7a-0000-4000-8000-000000000000"}

    first, second = [await lab.central.post(GROUPS, json=body(lab, point[2]), headers=headers) for _ in range(2)]

    assert first.json()["data"]["extId"] == second.json()["data"]["extId"]
    await lab.task(first)
    assert len(lab.sim.world.made_groups()) == 1


async def test_a_group_is_on_the_cluster_of_its_disk(config: SimConfig, tmp_path: Path) -> None:
    config.clusters = [ClusterConfig("pe2", "127.0.0.9")]
    async with Simulator(config, tmp_path / "two") as sim:
        lab = Lab(sim)
        first, second = sim.world.clusters
        point = await lab.disk()
        group = await make(lab, point[2])

        wrong = await lab.central.post(GROUPS, json=body(lab, point[2], clusterReference=second.id))

        told = (await lab.central.get(f"{GROUPS}/{group}")).json()["data"]["clusterReference"]
        await lab.aclose()
    assert wrong.status_code == 404
    assert told == first.id
