"""A Prism Central whose lists of VMs cannot be true."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from ntxengine.errors import NtxError, PrismAnswerError
from ntxengine.prism.v4.central import CentralPrism
from tests.prism.hostile import Asked, Hostile, reply

A, B, C = (str(uuid.UUID(int=number)) for number in range(1, 4))
VMS = "/ahv/config/vms"


@pytest.fixture
def prism(hostile_central: CentralPrism) -> CentralPrism:
    return hostile_central


def vm(**fields: Any) -> dict[str, Any]:
    return {"extId": A, "name": "vm", **fields}


def disk(**fields: Any) -> dict[str, Any]:
    backing = {"diskExtId": B, "diskSizeBytes": 1024, **fields}
    return {"extId": B, "diskAddress": {"busType": "SCSI", "index": 0}, "backingInfo": backing}


@pytest.mark.parametrize(
    ("entity", "field"),
    [
        (vm(extId="../x"), "extId"),
        (vm(extId=None), "extId"),
        (vm(name=7), "name"),
        (vm(disks={}), "disks"),
        (vm(disks=[disk(diskSizeBytes=-1)]), "diskSizeBytes"),
        (vm(disks=[disk(diskSizeBytes="1024")]), "diskSizeBytes"),
        (vm(disks=[disk(diskSizeBytes=2**63)]), "diskSizeBytes"),
        (vm(disks=[disk(diskExtId="../x")]), "diskExtId"),
        (vm(disks=[disk(diskExtId=None)]), "diskExtId"),
        (vm(disks=[{"extId": B, "backingInfo": {"diskExtId": B, "diskSizeBytes": 1}}]), "diskAddress"),
        (vm(disks=[disk(), disk()]), "two disks have the same diskExtId"),
        ("text", "object"),
    ],
)
async def test_a_vm_that_cannot_be_true_hides_no_other_and_is_refused_by_field(
    hostile: Hostile, prism: CentralPrism, caplog: pytest.LogCaptureFixture, entity: Any, field: str
) -> None:
    other = {"extId": C, "name": "other"}
    hostile.on(f"GET {VMS}", reply(200, {"data": [entity, other], "metadata": {"totalAvailableResults": 2}}))
    hostile.on(f"GET {VMS}/{A}", reply(200, {"data": entity}))

    vms = await prism.vms()
    odd = (await prism.list_vms()).odd
    with pytest.raises(PrismAnswerError, match=VMS) as refused:
        await prism.vm(A)

    assert [vm.id for vm in vms] == [C]
    assert [field in vm.reason for vm in odd] == [True]
    assert field in str(refused.value)
    assert len([one for one in caplog.messages if "1 VM cannot be read" in one and field in one]) == 1


async def test_unknown_fields_and_missing_ones_are_taken(hostile: Hostile, prism: CentralPrism) -> None:
    entity = vm(name="a\n\x00" + "\u00e9" * 250, powerState="SLEEPING", novelty={"a": [1]}, disks=None)
    hostile.on(f"GET {VMS}", reply(200, {"data": [entity], "extra": 1}))

    hostile.on(f"GET {VMS}/{A}", reply(200, {"data": entity}))

    found = await prism.vms()
    alone = await prism.vm(A)

    assert [(one.name, one.power_state, one.disks) for one in found] == [(entity["name"], "unknown", ())]
    assert alone == found[0]
    assert alone.config == entity
    assert found[0].config == {}


async def test_a_list_that_grows_for_ever_ends_as_an_error(
    hostile: Hostile, prism: CentralPrism, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always_more(asked: Asked) -> bytes:
        return reply(200, {"data": [vm()], "metadata": {"totalAvailableResults": 10**9}})

    monkeypatch.setattr("ntxengine.prism.pages.MAX_PAGES", 5)
    hostile.on(f"GET {VMS}", always_more)

    with pytest.raises(PrismAnswerError, match="the list does not end"):
        await prism.vms()


async def test_every_error_is_one_of_ours(hostile: Hostile, prism: CentralPrism) -> None:
    for body in (b"", b"null", b"[]", b'"x"', b'{"data": 5}', b"\xff", b"[" * 100_000):
        hostile.on(f"GET {VMS}", reply(200, body))

        with pytest.raises(NtxError) as refused:
            await prism.vms()

        assert str(refused.value).isprintable()


async def test_a_disk_of_the_worker_vm_that_cannot_be_read_hides_no_other(
    hostile: Hostile, prism: CentralPrism, caplog: pytest.LogCaptureFixture
) -> None:
    source = {"$objectType": "vmm.v4.ahv.config.VmDiskRecoveryPointReference", "diskRecoveryPointExtId": C}
    clone = disk(dataSource={"reference": source})
    odd = [None, {"extId": "../x"}, {"extId": None}, 5]
    hostile.on("GET /disks", reply(200, {"data": [*odd, clone], "metadata": {"totalAvailableResults": 5}}))

    assert [found.source for found in await prism.attached_disks(A)] == [C]
    assert len([text for text in caplog.messages if "left out of a list" in text]) == 1


async def test_a_recovery_point_that_cannot_be_read_hides_no_other(
    hostile: Hostile, prism: CentralPrism, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [None, {"extId": "../x"}, {"extId": B, "vmRecoveryPoints": 7}]
    found = [*odd, {"extId": C, "name": "ntx"}]
    hostile.on("GET /recovery-points", reply(200, {"data": found, "metadata": {"totalAvailableResults": 4}}))

    assert [point.id for point in await prism.recovery_points()] == [C]
    assert len([text for text in caplog.messages if "left out of a list" in text]) == 1
