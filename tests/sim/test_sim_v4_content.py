"""Cluster discovery on Prism Central and the computation of changed regions on Prism Element."""

from __future__ import annotations

import base64
import json
import os
import uuid

import httpx
import pytest

from ntxengine.sim import SimConfig
from ntxengine.sim.faults import RegionFault
from tests.sim.lab import DP, Clock, Lab, compute_path, disk_name, extra_info, reference, request_id, triples


async def test_discovery_names_the_element_and_a_token_scoped_to_a_revision(lab: Lab) -> None:
    disk = await lab.disk()

    data = (await lab.discover(disk)).json()["data"]

    assert data["clusterIp"]["ipv4"]["value"] == "127.0.0.2"
    claims = json.loads(base64.urlsafe_b64decode(data["jwtToken"].split(".")[1] + "=="))
    assert claims["scope"] == "/api/dataprotection/v4.0/content"
    assert claims["exp"] - claims["iat"] == 900


async def test_a_diff_is_exact_in_sectors_and_tells_zeroed_from_regular(lab: Lab) -> None:
    lab.write(0, 0, os.urandom(65_536))
    old = await lab.disk()
    lab.write(0, 1024, b"x")
    lab.write(0, 4096, bytes(1000))
    lab.write(0, 900_090, b"y" * 10)
    new = await lab.disk()

    answer = await lab.compute(new, old)

    expected = [(1024, 512, "REGULAR"), (4096, 512, "ZEROED"), (4608, 512, "REGULAR"), (899_584, 1024, "REGULAR")]
    assert triples(answer) == expected
    assert "nextOffset" not in extra_info(answer)


async def test_a_block_size_rounds_outward(lab: Lab) -> None:
    old = await lab.disk()
    lab.write(0, 100_000, b"x")
    new = await lab.disk()

    found = {
        size: triples(await lab.compute(new, old, blockSizeByte=size)) for size in (32_768, 65_536, 131_072, 262_144)
    }

    assert found == {
        32_768: [(98_304, 32_768, "REGULAR")],
        65_536: [(65_536, 65_536, "REGULAR")],
        131_072: [(0, 131_072, "REGULAR")],
        262_144: [(0, 262_144, "REGULAR")],
    }


async def test_extra_info_is_by_name_among_other_names(lab: Lab) -> None:
    disk = await lab.disk()

    answer = await lab.compute(disk, offset=0, length=65_536)

    names = [pair["name"] for pair in answer.json()["metadata"]["extraInfo"]]
    assert names[0] not in ("nextOffset", "fileSize")
    assert extra_info(answer)["nextOffset"] == "65536"
    assert extra_info(answer)["fileSize"] == "1048576"


async def test_pages_follow_next_offset(lab: Lab) -> None:
    lab.sim.config.limits.regions_per_page = 3
    lab.sim.config.extra_info_as_text = False
    old = await lab.disk()
    for number in range(8):
        lab.write(0, number * 2048, b"x")
    new = await lab.disk()

    offset, sizes, found = 0, [], []
    while True:
        answer = await lab.compute(new, old, offset=offset)
        sizes.append(len(triples(answer)))
        found += [region[0] for region in triples(answer)]
        following = extra_info(answer).get("nextOffset")
        if following is None:
            break
        assert following > offset
        offset = following

    assert sizes == [3, 3, 2]
    assert found == [number * 2048 for number in range(8)]


@pytest.mark.parametrize(("last", "expected"), [("zero", "0"), ("null", None)])
async def test_the_last_page_may_say_zero_or_null(lab: Lab, config: SimConfig, last: str, expected: str | None) -> None:
    config.last_offset = "zero" if last == "zero" else "null"

    answer = await lab.compute(await lab.disk())

    assert extra_info(answer)["nextOffset"] == expected


async def test_without_reference_only_allocated_regions_come(lab: Lab) -> None:
    lab.write(0, 200_000, b"x")

    found = triples(await lab.compute(await lab.disk(), blockSizeByte=32_768))

    assert found == [(196_608, 32_768, "REGULAR")]


async def test_a_grown_disk_has_its_tail_reported(lab: Lab) -> None:
    old = await lab.disk()
    os.truncate(lab.sim.config.vms[0].disks[0].path, (1 << 20) + 8192)
    lab.write(0, (1 << 20) + 4096, b"x" * 4096)
    new = await lab.disk()

    found = triples(await lab.compute(new, old))

    assert found == [(1 << 20, 4096, "ZEROED"), ((1 << 20) + 4096, 4096, "REGULAR")]


@pytest.mark.parametrize(
    "body",
    [
        {"blockSizeByte": 4096},
        {"blockSizeByte": "65536"},
        {"offset": -1},
        {"offset": "0"},
        {"length": True},
        {"referenceRecoveryPointExtId": str(uuid.uuid4())},
        {"block_size": 65_536},
    ],
)
async def test_a_body_against_the_schema_is_400(lab: Lab, body: dict[str, object]) -> None:
    answer = await lab.compute(await lab.disk(), **body)

    assert answer.status_code == 400, answer.text


async def test_a_reference_of_another_disk_is_refused(lab: Lab) -> None:
    point = await lab.point()

    answer = await lab.compute(disk_name(point, 0), disk_name(point, 1))

    assert answer.status_code == 400


async def test_a_deleted_reference_is_404(lab: Lab) -> None:
    old, new = await lab.disk(), await lab.disk()
    await lab.task(await lab.central.delete(f"{DP}/{old[0]}", headers=request_id()))

    assert (await lab.compute(new, old)).status_code == 404


async def test_an_expired_reference_is_404(lab: Lab, clock: Clock) -> None:
    lab.sim.config.limits.token_s = 10_000
    old = await lab.disk(expirationTime="2027-01-15T08:01:40Z")
    new = await lab.disk()
    assert (await lab.compute(new, old)).status_code == 200

    clock.now += 200

    assert (await lab.compute(new, old)).status_code == 404


async def test_all_points_can_be_lost(lab: Lab) -> None:
    disk = await lab.disk()
    token = await lab.token(disk)
    frozen = lab.sim.frozen_path(disk[2])

    assert lab.sim.lose_recovery_points() == 1

    assert (await lab.compute(disk, token=token)).status_code == 404
    assert (await lab.discover(disk)).status_code == 404
    assert not frozen.exists()


async def test_central_does_not_compute(lab: Lab) -> None:
    disk = await lab.disk()

    answer = await lab.central.post(compute_path(disk), json={})

    assert answer.status_code == 501


async def test_only_the_cookie_opens_the_element(lab: Lab) -> None:
    disk = await lab.disk()
    token, url = await lab.token(disk), lab.sim.element_url + compute_path(disk)

    with_cookie = await lab.compute(disk, token=token)
    with_bearer = await lab.anyone.post(url, json={}, headers={"Authorization": f"Bearer {token}"})
    with_password = await lab.element.post(compute_path(disk), json={})
    with_nothing = await lab.anyone.post(url, json={})
    with_forgery = await lab.compute(disk, token=token[:-4] + "AAAA")

    answers = (with_cookie, with_bearer, with_password, with_nothing, with_forgery)
    assert [answer.status_code for answer in answers] == [200, 403, 401, 401, 401]


async def test_the_token_is_good_for_one_revision(lab: Lab, config: SimConfig) -> None:
    config.content_revision = "v4.1"
    disk = await lab.disk()
    token = await lab.token(disk)

    right = await lab.compute(disk, token=token, rev="v4.1")
    wrong = await lab.compute(disk, token=token, rev="v4.0")

    assert (right.status_code, wrong.status_code) == (200, 401)
    assert "Scope claim value does not match API base path" in wrong.text


async def test_the_token_ends_after_its_time(lab: Lab, clock: Clock) -> None:
    disk = await lab.disk()
    token = await lab.token(disk)

    clock.now += 899
    early = await lab.compute(disk, token=token)
    clock.now += 1
    late = await lab.compute(disk, token=token)

    assert (early.status_code, late.status_code) == (200, 401)


async def test_discovery_checks_its_spec(lab: Lab) -> None:
    disk, other = await lab.disk(), await lab.disk()
    spec = "dataprotection.v4.content.ComputeChangedRegionsClusterDiscoverSpec"
    unknown = (disk[0], disk[1], str(uuid.uuid4()))

    async def status(**changes: object) -> int:
        return (await lab.discover(disk, **changes)).status_code

    assert await status(operation="GUESS") == 400
    assert await status(spec={}) == 400
    assert await status(spec={"$objectType": spec, "diskRecoveryPoint": {}}) == 400
    assert await status(spec={"$objectType": spec, "diskRecoveryPoint": reference(other)}) == 400
    assert await status(spec={"$objectType": spec, "diskRecoveryPoint": reference(unknown)}) == 404


async def test_the_element_knows_nothing_else_of_v4(lab: Lab) -> None:
    paths = ("/api/vmm/v4.0/ahv/config/vms", DP, "/api/prism/v4.0/config/tasks")

    answers = [await lab.element.get(path) for path in paths]
    answers.append(await lab.element.options("/api/dataprotection/unversioned/info"))

    assert {answer.status_code for answer in answers} == {404}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("shuffle", [(4096, 512, "REGULAR"), (0, 512, "REGULAR")]),
        ("overlap", [(0, 512, "REGULAR"), (0, 512, "REGULAR"), (4096, 512, "REGULAR")]),
        ("past_end", [(0, 512, "REGULAR"), (4096, 512, "REGULAR"), ((1 << 20) - 512, 65_536, "REGULAR")]),
        ("unknown_type", [(0, 512, "SPARKLING"), (4096, 512, "SPARKLING")]),
    ],
)
async def test_pages_can_be_spoiled(lab: Lab, fault: RegionFault, expected: list[tuple[int, int, str]]) -> None:
    old = await lab.disk()
    lab.write(0, 0, b"x")
    lab.write(0, 4096, b"x")
    new = await lab.disk()
    lab.sim.faults.regions = fault

    answer: httpx.Response = await lab.compute(new, old)

    assert triples(answer) == expected


async def test_next_offset_can_be_stuck(lab: Lab) -> None:
    lab.sim.faults.regions = "stuck"
    disk = await lab.disk()

    found = [extra_info(await lab.compute(disk, offset=offset))["nextOffset"] for offset in (0, 512, 1024)]

    assert found == ["512", "512", "1024"]
