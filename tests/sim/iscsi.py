"""Steps of the tests with volume groups: make them, let initiators in, read them as qemu does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.sim.lab import Json, Lab

GROUPS = "/api/volumes/v4.0/config/volume-groups"
NAME = "iqn.2026-01.io.ntxengine:reader"
SECRET = "secret4reader1"
needs_tgtd = pytest.mark.usefixtures("tgtd")


def body(lab: Lab, disk_point: str, **changes: object) -> Json:
    reference = {"extId": disk_point, "entityType": "DISK_RECOVERY_POINT"}
    return {
        "name": "group",
        "clusterReference": lab.sim.world.cluster_id,
        "usageType": "TEMPORARY",
        "isHidden": True,
        "targetPrefix": "ntx",
        "iscsiFeatures": {"enabledAuthentications": "CHAP", "targetSecret": "secret4target1"},
        "disks": [{"diskDataSourceReference": reference}],
        **changes,
    }


async def make(lab: Lab, disk_point: str, **changes: object) -> str:
    """Make a volume group and return its id."""
    task = await lab.task(await lab.central.post(GROUPS, json=body(lab, disk_point, **changes)))
    assert task["status"] == "SUCCEEDED", task
    [found] = [one["extId"] for one in task["entitiesAffected"] if one["rel"] == "volumes:config:volume-group"]
    return str(found)


async def etag(lab: Lab, group: str) -> dict[str, str]:
    return {"If-Match": (await lab.central.get(f"{GROUPS}/{group}")).headers["etag"]}


async def attach(lab: Lab, group: str, name: str = NAME, secret: str = SECRET) -> Json:
    client = {"iscsiInitiatorName": name, "enabledAuthentications": "CHAP", "clientSecret": secret}
    path = f"{GROUPS}/{group}/$actions/attach-iscsi-client"
    return await lab.task(await lab.central.post(path, json=client, headers=await etag(lab, group)))


async def detach(lab: Lab, group: str) -> Json:
    [client] = (await lab.central.get(f"{GROUPS}/{group}/external-iscsi-attachments")).json()["data"]
    path = f"{GROUPS}/{group}/$actions/detach-iscsi-client"
    one = {"extId": client["extId"]}
    return await lab.task(await lab.central.post(path, json=one, headers=await etag(lab, group)))


async def delete(lab: Lab, group: str) -> httpx.Response:
    return await lab.central.delete(f"{GROUPS}/{group}", headers=await etag(lab, group))


async def read(lab: Lab, group: str, out: Path, *, name: str = NAME, secret: str = SECRET) -> str:
    """Read the whole disk of a group into a file, as an initiator does; return what qemu complains of."""
    target_name = lab.sim.world.state.made_groups[group].target if group in lab.sim.world.state.made_groups else group
    options = (
        f"driver=iscsi,transport=tcp,portal={lab.sim.world.target.address}:3260,lun=1,"
        f"target=iqn.2010-06.com.nutanix:{target_name},user={name},password-secret=chap,initiator-name={name}"
    )
    process = await asyncio.create_subprocess_exec(
        "qemu-img", "convert", "--object", f"secret,id=chap,data={secret}", "--image-opts", options, str(out),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    return said.decode()
