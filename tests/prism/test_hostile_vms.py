"""A Prism Central whose lists of VMs cannot be true."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from ntxengine.errors import NtxError, PrismAnswerError
from ntxengine.prism.v4.central import CentralPrism
from tests.prism.hostile import Asked, Hostile, reply

A, B = (str(uuid.UUID(int=number)) for number in range(1, 3))
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
async def test_a_vm_that_cannot_be_true_is_refused_by_field(
    hostile: Hostile, prism: CentralPrism, entity: Any, field: str
) -> None:
    hostile.on(f"GET {VMS}", reply(200, {"data": [entity]}))

    with pytest.raises(PrismAnswerError, match=VMS) as refused:
        await prism.vms()

    assert field in str(refused.value)


async def test_unknown_fields_and_missing_ones_are_taken(hostile: Hostile, prism: CentralPrism) -> None:
    entity = vm(name="a\n\x00" + "\u00e9" * 250, powerState="SLEEPING", novelty={"a": [1]}, disks=None)
    hostile.on(f"GET {VMS}", reply(200, {"data": [entity], "extra": 1}))

    found = await prism.vms()

    assert [(one.name, one.power_state, one.disks) for one in found] == [(entity["name"], "unknown", ())]
    assert found[0].config == entity


async def test_a_list_that_grows_for_ever_ends_as_an_error(
    hostile: Hostile, prism: CentralPrism, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always_more(asked: Asked) -> bytes:
        return reply(200, {"data": [vm()], "metadata": {"totalAvailableResults": 10**9}})

    monkeypatch.setattr("ntxengine.prism.v4.tasks.MAX_PAGES", 5)
    hostile.on(f"GET {VMS}", always_more)

    with pytest.raises(PrismAnswerError, match="the list does not end"):
        await prism.vms()


async def test_every_error_is_one_of_ours(hostile: Hostile, prism: CentralPrism) -> None:
    for body in (b"", b"null", b"[]", b'"x"', b'{"data": 5}', b"\xff", b"[" * 100_000, b'{"data": [[[]]]}'):
        hostile.on(f"GET {VMS}", reply(200, body))

        with pytest.raises(NtxError) as refused:
            await prism.vms()

        assert str(refused.value).isprintable()
