"""`projectExtId`: Prism Central asks for it where projects limit an account."""

from __future__ import annotations

import httpx
import msgspec
import pytest

from ntxengine.prism.findings import Revisions
from ntxengine.prism.http.endpoint import Endpoint, Secret
from ntxengine.prism.http.session import Session, tls_context
from ntxengine.prism.open import open_cluster
from ntxengine.prism.v4.api import CentralApi
from ntxengine.prism.v4.volumes_api import VolumesApi
from ntxengine.sim import Simulator
from tests.prism.hostile import HandClock
from tests.prism.steps import EXPIRES, freeze, subject

A, D = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000d"
TASK = f"ZXJnb24=:{D}"


@pytest.mark.parametrize("project", [None, D])
async def test_what_is_made_is_made_in_the_project_that_was_given(project: str | None, clock: HandClock) -> None:
    bodies = []

    def play(request: httpx.Request) -> httpx.Response:
        bodies.append(msgspec.json.decode(request.content))
        return httpx.Response(202, json={"data": {"extId": TASK}})

    tls = tls_context(None, insecure=True)
    transport = httpx.MockTransport(play)
    session = Session("pc", 9440, tls, account=None, timeout_s=5, clock=clock.clock, transport=transport)

    await CentralApi(session, Revisions(), project).create_recovery_point(
        {A: None}, (), "ntx-1", expires_at=EXPIRES, with_application=False
    )
    await VolumesApi(session, "v4.0", project).create_volume_group("ntx-1", A, D, Secret("abcDEF123456"))
    await session.aclose()

    assert [body.get("projectExtId") for body in bodies] == [project, project]


async def test_a_prism_central_takes_a_project(sim: Simulator, clock: HandClock) -> None:
    endpoint = Endpoint(sim.central_url, sim.username, Secret(sim.password), str(sim.ca_file), project=D)

    async with await open_cluster(endpoint, None, clock=clock.clock) as cluster:
        point = await freeze(cluster.prism, await subject(cluster.prism))

    assert point.disks
