"""What an endpoint shows and tells of itself, and what an account may: certificates, clocks, roles, rights."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest

from ntxengine.errors import OptionsError
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.faults import CERTIFICATE_FAULTS
from tests.sim.lab import DP, V3, Lab, request_id, small_config

CLUSTERS = "/api/clustermgmt/v4.0/config/clusters"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("expired", "expired"),
        ("not_yet", "not yet valid"),
        ("other_name", "not valid for '127.0.0.2'"),
        ("other_ca", "unable to get local issuer"),
        ("expires_soon", ""),
    ],
)
async def test_a_certificate_is_wrong_at_one_endpoint_only(kind: str, says: str, tmp_path: Path) -> None:
    config = small_config(tmp_path / "disks")
    config.faults.certificates["element"] = kind

    async with Simulator(config, tmp_path / "state") as sim:
        context = ssl.create_default_context(cafile=str(sim.ca_file))
        async with httpx.AsyncClient(verify=context) as client:
            central = await client.get(sim.central_url)
            try:
                element = str((await client.get(sim.element_url)).status_code)
            except httpx.ConnectError as exc:
                element = str(exc)

    assert kind in CERTIFICATE_FAULTS
    assert central.status_code == 401
    assert (says or "401") in element


async def test_the_clock_of_an_endpoint_is_ahead(lab: Lab) -> None:
    lab.sim.faults.clock_skew_s["element"] = 3600

    told = [(await lab.anyone.get(url)).headers["date"] for url in (lab.sim.central_url, lab.sim.element_url)]

    central, element = [(parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds() for text in told]
    assert abs(central) < 60
    assert abs(element - 3600) < 60


async def test_a_role_may_what_the_documents_say(lab: Lab) -> None:
    lab.sim.config.roles = {"central": "Backup Admin", "element": "Viewer"}
    cluster = lab.sim.world.cluster_id
    snapshot = {"metadata": {"kind": "vm_snapshot"}, "spec": {"name": "s", "resources": {"entity_uuid": lab.vm}}}

    statuses = [
        (await lab.post_point()).status_code,
        (await lab.central.get(CLUSTERS)).status_code,
        (await lab.central.get(f"{CLUSTERS}/{cluster}")).status_code,
        (await lab.element.post(f"{V3}/vms/list", json={"kind": "vm"})).status_code,
        (await lab.element.post(f"{V3}/vm_snapshots", json=snapshot)).status_code,
    ]

    assert statuses == [202, 403, 200, 200, 403]


async def test_a_single_right_lacks(lab: Lab) -> None:
    lab.sim.faults.lacking_rights.append("Delete Recovery Point")

    refused = await lab.central.delete(f"{DP}/{lab.vm}", headers=request_id())
    listed = await lab.central.get(DP)

    assert refused.status_code == 403
    assert "Delete Recovery Point" in refused.text
    assert listed.status_code == 200


async def test_prism_central_may_be_the_first_cluster(lab: Lab) -> None:
    lab.sim.config.central_first = True

    v4 = (await lab.central.get(CLUSTERS)).json()["data"][0]
    v3 = (await lab.central.post(f"{V3}/clusters/list", json={"kind": "cluster"})).json()["entities"][0]

    assert v4["config"]["clusterFunction"] == ["PRISM_CENTRAL"]
    assert v3["status"]["resources"]["config"]["service_list"] == ["PRISM_CENTRAL"]


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.roles.update(central="Janitor"),
        lambda config: config.roles.update(nowhere="Viewer"),
        lambda config: config.faults.lacking_rights.append("Sleep"),
        lambda config: config.faults.certificates.update(central="torn"),
        lambda config: config.faults.certificates.update(nowhere="expired"),
    ],
)
def test_what_is_not_known_is_refused(change: object, tmp_path: Path) -> None:
    config: SimConfig = small_config(tmp_path / "disks")
    assert callable(change)
    change(config)

    with pytest.raises(OptionsError, match=r"neither central nor element|is not known; known are"):
        config.check()
