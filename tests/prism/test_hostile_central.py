"""A Prism Central, and a Prism Element behind it, that say one wrong thing each."""

from __future__ import annotations

import base64
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from ntxengine.errors import CredentialsError, PrismAnswerError, PrismStatusError, TaskFailed
from ntxengine.prism.models import AttachedDisk, Disk, DiskGroup, DiskPoint, Vm
from ntxengine.prism.v4.central import CentralPrism
from tests.prism.hostile import PASSWORD, HandClock, Hostile, reply

A, B, C, D = (str(uuid.UUID(int=number)) for number in range(1, 5))
TASK = f"ZXJnb24=:{D}"
DISK = DiskPoint(id=A, disk_id=B, recovery_point_id=C, vm_point_id=D)
VM = Vm(A, "vm", "on", "", None, (Disk(B, 1024, "scsi", 0, ""),))
VMS, POINTS, DISCOVER, COMPUTE = "/ahv/config/vms", "/recovery-points", "discover-cluster", "compute-changed-regions"
EXPIRES = datetime(2099, 1, 1, tzinfo=UTC)
CONTENT = "/api/dataprotection/v4.0/content"


@pytest.fixture
def prism(hostile_central: CentralPrism) -> CentralPrism:
    return hostile_central


def jwt(**payload: Any) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'HS256'})}.{part(payload)}.c2ln"


def discovery(token: str | None = None, ip: Any = "127.0.0.2") -> bytes:
    address = ip if isinstance(ip, dict) else {"ipv4": {"value": ip}}
    return reply(200, {"data": {"clusterIp": address, "jwtToken": jwt(scope=CONTENT) if token is None else token}})


def page(next_offset: Any = None, regions: Any = ()) -> bytes:
    extra = [{"name": "nextOffset", "value": next_offset}, {"name": "fileSize", "value": "1048576"}]
    return reply(200, {"data": list(regions), "metadata": {"extraInfo": extra}})


async def walk(prism: CentralPrism) -> int:
    return len([one async for one in prism.changed_regions(DISK, None)])


async def create(prism: CentralPrism) -> Any:
    return await prism.create_recovery_point(VM, name="ntx-1", consistency="application", expires_at=EXPIRES)


# -- discovery and its token


async def test_the_element_gets_the_token_and_never_the_password(hostile: Hostile, prism: CentralPrism) -> None:
    token = jwt(scope=CONTENT)
    hostile.on(f"POST {DISCOVER}", discovery(token))
    hostile.on(f"POST {COMPUTE}", page("65536"), page(0))

    assert await walk(prism) == 2

    asked = hostile.asked_for(COMPUTE)
    assert [one.json["offset"] for one in asked] == [0, 65536]
    for one in asked:
        assert one.host == "127.0.0.2"
        assert one.headers["cookie"] == f"NTNX_IGW_SESSION={token}"
        assert "authorization" not in one.headers
        assert PASSWORD not in str(one)
        assert uuid.UUID(one.headers["ntnx-request-id"])
        assert not [key for key in one.json if key.startswith("reference")]


@pytest.mark.parametrize(
    ("payload", "revision"),
    [
        ({"scope": "/api/dataprotection/v4.2/content"}, "v4.2"),
        ({"scp": ["openid", "/api/dataprotection/v4.3/content/*"]}, "v4.3"),
        ({"aud": "https://x/api/dataprotection/v4.0.a1/content"}, "v4.0.a1"),
        ({"scope": "openid"}, "v4.0"),
        ({}, "v4.0"),
    ],
)
async def test_the_revision_comes_from_the_token(
    hostile: Hostile, prism: CentralPrism, payload: dict[str, Any], revision: str
) -> None:
    hostile.on(f"POST {DISCOVER}", discovery(jwt(**payload)))
    hostile.on(f"POST {COMPUTE}", page())

    await walk(prism)

    assert hostile.asked_for(COMPUTE)[0].path.startswith(f"/api/dataprotection/{revision}/content/recovery-points/{C}")


@pytest.mark.parametrize("scope", ["v4.0;x", "..", "v5.0", "v4.0%2f..", "v4", "V4.0"])
async def test_a_scope_with_an_odd_revision_is_refused(hostile: Hostile, prism: CentralPrism, scope: str) -> None:
    hostile.on(f"POST {DISCOVER}", discovery(jwt(scope=f"/api/dataprotection/{scope}/content")))

    with pytest.raises(PrismAnswerError, match="jwtToken is for revision"):
        await walk(prism)

    assert not hostile.asked_for(COMPUTE)


async def test_a_scope_that_the_element_refuses_is_a_matter_of_credentials(
    hostile: Hostile, prism: CentralPrism
) -> None:
    said = {"data": {"error": [{"code": "DP-1", "message": "Scope claim value does not match API base path"}]}}
    hostile.on(f"POST {DISCOVER}", discovery(jwt(scope="/api/vmm/v4.1/content")))
    hostile.on(f"POST {COMPUTE}", reply(401, said))

    with pytest.raises(CredentialsError, match="Scope claim value does not match API base path"):
        await walk(prism)

    assert len(hostile.asked_for(DISCOVER)) == 2


@pytest.mark.parametrize(
    "token",
    [
        "",
        "abc",
        "a.b",
        "a.!!.c",
        f"a.{base64.urlsafe_b64encode(b'[1]').decode()}.c",
        "a.b.c\r\nX-Evil: 1",
        "a.b.c; d=e",
    ],
)
async def test_a_token_that_is_none_is_refused_without_repeating_it(
    hostile: Hostile, prism: CentralPrism, token: str
) -> None:
    hostile.on(f"POST {DISCOVER}", discovery(token))

    with pytest.raises(PrismAnswerError, match="jwtToken") as refused:
        await walk(prism)

    assert not token or token not in str(refused.value)
    assert not hostile.asked_for(COMPUTE)


@pytest.mark.parametrize(
    "ip", ["evil.example", "127.0.0.2:80", "127.0.0.2/x", "127.1", "0.0.0.0", "224.0.0.1", "fe80::1%eth0", "", {}]
)
async def test_a_cluster_address_that_is_no_ip_is_refused(hostile: Hostile, prism: CentralPrism, ip: Any) -> None:
    hostile.on(f"POST {DISCOVER}", discovery(ip=ip))

    with pytest.raises(PrismAnswerError, match="clusterIp"):
        await walk(prism)


async def test_a_token_with_a_short_life_is_renewed_in_time(
    hostile: Hostile, prism: CentralPrism, clock: HandClock
) -> None:
    hostile.on(f"POST {DISCOVER}", discovery(jwt(scope=CONTENT, iat=100, exp=200)))
    hostile.on(f"POST {COMPUTE}", page("512"), page(0))
    pages = prism.changed_regions(DISK, None)
    await anext(pages)

    clock.time_s += 90
    assert [one async for one in pages]

    assert len(hostile.asked_for(DISCOVER)) == 2


@pytest.mark.parametrize(
    ("begin", "end"), [(0.5, 10**400), (-(10**400), 0), (1e308, -1e308), (True, False), ("1", "2"), (None, [])]
)
async def test_a_token_with_an_odd_life_is_used_for_the_usual_time(
    hostile: Hostile, prism: CentralPrism, begin: Any, end: Any
) -> None:
    hostile.on(f"POST {DISCOVER}", discovery(jwt(scope=CONTENT, iat=begin, exp=end)))
    hostile.on(f"POST {COMPUTE}", page(0))

    assert await walk(prism) == 1


async def test_a_redirect_of_the_element_is_not_followed(hostile: Hostile, prism: CentralPrism) -> None:
    hostile.on(f"POST {DISCOVER}", discovery())
    hostile.on(f"POST {COMPUTE}", reply(307, {}, Location="https://evil.example/"))

    with pytest.raises(PrismAnswerError, match="redirected"):
        await walk(prism)


async def test_the_wrong_endpoint_is_final(hostile: Hostile, prism: CentralPrism) -> None:
    hostile.on(f"POST {DISCOVER}", discovery())
    hostile.on(f"POST {COMPUTE}", reply(501, b"Not implemented"))

    with pytest.raises(PrismStatusError, match="501"):
        await walk(prism)

    assert len(hostile.asked_for(COMPUTE)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        page("65536", [{"offset": -1, "length": 1}]),
        page("x"),
        page(-5),
        reply(200, {"data": {"offset": 1}}),
        reply(200, b"not json"),
        reply(200, []),
    ],
)
async def test_a_page_that_cannot_be_true_names_the_call(hostile: Hostile, prism: CentralPrism, wrong: bytes) -> None:
    hostile.on(f"POST {DISCOVER}", discovery())
    hostile.on(f"POST {COMPUTE}", wrong)

    with pytest.raises(PrismAnswerError, match=COMPUTE):
        await walk(prism)


# -- ids that want to leave their place


@pytest.mark.parametrize("task_id", ["../../x", "ZXJnb24=:../..", f"{D}/../x", "", f"{D}\n", 5, None])
async def test_a_task_id_that_is_none_is_never_asked_about(hostile: Hostile, prism: CentralPrism, task_id: Any) -> None:
    hostile.on(f"POST {POINTS}", reply(202, {"data": {"extId": task_id}}))
    hostile.on(f"GET {POINTS}", reply(200, {"data": []}))

    with pytest.raises(PrismAnswerError, match="extId"):
        await create(prism)

    assert {one.path.partition("?")[0].rpartition("/")[2] for one in hostile.asked} == {"recovery-points"}


async def test_a_task_id_is_quoted(hostile: Hostile, prism: CentralPrism) -> None:
    hostile.on(f"POST {POINTS}", reply(202, {"data": {"extId": TASK}}))
    hostile.on(f"GET {D}", reply(200, {"data": {"status": "FAILED", "errorMessages": [{"message": "because"}]}}))
    hostile.on(f"GET {POINTS}", reply(200, {"data": []}))

    with pytest.raises(TaskFailed, match="FAILED: because"):
        await create(prism)

    assert hostile.asked_for(D)[0].path == f"/api/prism/v4.0/config/tasks/ZXJnb24%3D%3A{D}"


@pytest.mark.parametrize("point_id", ["../../vms", f"{A}/../{B}", "", "x"])
async def test_a_recovery_point_id_that_is_none_is_never_asked_about(
    hostile: Hostile, prism: CentralPrism, point_id: str
) -> None:
    details = [{"name": "recoveryPointExtId", "value": point_id}]
    hostile.on(f"POST {POINTS}", reply(202, {"data": {"extId": TASK}}))
    hostile.on(f"GET {D}", reply(200, {"data": {"status": "SUCCEEDED", "completionDetails": details}}))
    hostile.on(f"GET {POINTS}", reply(200, {"data": []}))

    with pytest.raises(PrismAnswerError, match="without the id of a recovery point"):
        await create(prism)

    assert ".." not in "".join(one.path for one in hostile.asked)


async def test_clean_up_leaves_recovery_points_of_other_names_and_vms(hostile: Hostile, prism: CentralPrism) -> None:
    listed = [
        {"extId": A, "name": "somebody's", "vmRecoveryPoints": [{"extId": B, "vmExtId": VM.id}]},
        {"extId": B, "name": "ntx-1", "vmRecoveryPoints": [{"extId": B, "vmExtId": C}]},
        {"extId": C, "name": "ntx-1", "vmRecoveryPoints": [{"extId": B, "vmExtId": VM.id}]},
    ]
    hostile.on(f"POST {POINTS}", reply(202, {"data": {"extId": TASK}}))
    hostile.on(f"GET {D}", reply(200, {"data": {"status": "FAILED"}}))
    hostile.on(f"GET {POINTS}", reply(200, {"data": listed}))

    with pytest.raises(TaskFailed):
        await create(prism)

    assert [one.path.rpartition("/")[2] for one in hostile.asked if one.method == "DELETE"] == [C]


async def test_a_create_is_sent_with_one_id_however_often_and_asks_for_a_copy_backup(
    hostile: Hostile, prism: CentralPrism
) -> None:
    hostile.on(f"POST {POINTS}", reply(504, {}), reply(500, b"Internal Server Error"), reply(403, {}))
    hostile.on(f"GET {POINTS}", reply(200, {"data": []}))  # an earlier try may have been executed: it is looked for

    with pytest.raises(PrismStatusError):
        await create(prism)

    posts = [one for one in hostile.asked if one.method == "POST"]
    assert len(posts) == 3
    assert len({one.headers["ntnx-request-id"] for one in posts}) == 1
    body = posts[0].json
    assert (body["name"], body["recoveryPointType"]) == ("ntx-1", "APPLICATION_CONSISTENT")
    assert body["expirationTime"] == "2099-01-01T00:00:00Z"
    assert body["vmRecoveryPoints"][0]["applicationConsistentProperties"]["backupType"] == "COPY_BACKUP"


async def test_a_create_whose_answer_is_lost_is_looked_for_by_name(hostile: Hostile, prism: CentralPrism) -> None:
    found = [{"extId": C, "name": "ntx-1", "vmRecoveryPoints": [{"extId": B, "vmExtId": VM.id}]}]
    hostile.on(f"POST {POINTS}", reply(202, b"{"))
    hostile.on(f"GET {POINTS}", reply(200, {"data": []}), reply(200, {"data": found}))

    with pytest.raises(PrismAnswerError):
        await create(prism)

    assert [one.path.rpartition("/")[2] for one in hostile.asked if one.method == "DELETE"] == [C]
    assert "%24filter=name%20eq%20%27ntx-1%27" in hostile.asked[1].path.replace("$filter", "%24filter")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"name": None}, f"names recovery point {C}, which has no name: it is neither used nor deleted"),
        ({}, f"unknown to Prism for 60 s: recovery point {C} lists no disk of VM {A}"),
    ],
)
async def test_a_recovery_point_without_a_name_or_disks_is_no_success(
    hostile: Hostile, prism: CentralPrism, said: dict[str, Any], reason: str
) -> None:
    part = {"extId": B, "vmExtId": VM.id, "diskRecoveryPoints": None}
    found = {"extId": C, "name": "ntx-1", "status": "COMPLETE", "vmRecoveryPoints": [part], **said}
    details = [{"name": "recoveryPointExtId", "value": C}]
    hostile.on(f"POST {POINTS}", reply(202, {"data": {"extId": TASK}}))
    hostile.on(f"GET {D}", reply(200, {"data": {"status": "SUCCEEDED", "completionDetails": details}}))
    hostile.on(f"GET {POINTS}/{C}/vm-recovery-points/{B}", reply(200, {"data": part}))
    hostile.on(f"GET {POINTS}/{C}", reply(200, {"data": found}))
    hostile.on(f"GET {POINTS}", reply(200, {"data": []}))

    with pytest.raises(PrismAnswerError, match=reason):
        await create(prism)

    deleted = [one.path.rpartition("/")[2] for one in hostile.asked if one.method == "DELETE"]
    assert set(deleted) == (set() if "name" in said else {C})


async def test_a_recovery_point_that_holds_a_group_twice_is_refused(hostile: Hostile, prism: CentralPrism) -> None:
    disk = Disk(B, 1024, "scsi", 0, "", group=DiskGroup(C, "data"))
    vm = Vm(A, "vm", "on", "", None, (disk,))
    held = [{"diskExtId": B, "diskRecoveryPointExtId": D}]
    groups = [{"extId": one, "volumeGroupExtId": C, "diskRecoveryPoints": held} for one in (A, B)]
    part = {"extId": B, "vmExtId": A}
    found = {"extId": D, "vmRecoveryPoints": [part], "volumeGroupRecoveryPoints": groups}
    hostile.on(f"GET {POINTS}/{D}/vm-recovery-points/{B}", reply(200, {"data": part}))
    hostile.on(f"GET {POINTS}/{D}", reply(200, {"data": found}))

    with pytest.raises(PrismAnswerError, match=f"holds volume group {C} more than once"):
        await prism.recovery_point(D, vm)


@pytest.mark.parametrize(("source", "is_taken"), [(DISK.id, True), (None, True), (B, False)])
async def test_only_a_new_disk_that_may_be_ours_is_taken(
    hostile: Hostile, prism: CentralPrism, source: str | None, is_taken: bool
) -> None:
    backing: dict[str, Any] = {"diskExtId": C, "diskSizeBytes": 1}
    if source is not None:
        kind = "vmm.v4.ahv.config.VmDiskRecoveryPointReference"
        backing["dataSource"] = {"reference": {"$objectType": kind, "diskRecoveryPointExtId": source}}
    new = [{"extId": C, "backingInfo": backing}]
    hostile.on("GET /disks", reply(200, {"data": []}), reply(200, {"data": new}))
    hostile.on("POST /disks", reply(202, {"data": {"extId": TASK}}))
    hostile.on(f"GET {D}", reply(200, {"data": {"status": "SUCCEEDED"}}))

    if is_taken:
        assert await prism.attach_disk(B, DISK) == AttachedDisk(C, C, B, DISK.id, is_told=source is not None)
    else:
        with pytest.raises(PrismAnswerError, match="which one is not clear"):
            await prism.attach_disk(B, DISK)

    assert not [one for one in hostile.asked if one.method == "DELETE"]


async def test_a_stale_version_that_only_the_task_tells_is_read_again(hostile: Hostile, prism: CentralPrism) -> None:
    stale = {"status": "FAILED", "legacyErrorMessage": "Etag mismatch: entity was modified"}
    slot = {"data": {"extId": C}}
    hostile.on(f"GET {C}", reply(200, slot, ETag="one"), reply(200, slot, ETag="two"))
    hostile.on(f"DELETE {C}", reply(202, {"data": {"extId": TASK}}))
    hostile.on(f"GET {D}", reply(200, {"data": stale}), reply(200, {"data": {"status": "SUCCEEDED"}}))

    await prism.detach_disk(AttachedDisk(C, C, B, A))

    deleted = [one.headers["if-match"] for one in hostile.asked if one.method == "DELETE"]
    assert deleted == ["one", "two"]
