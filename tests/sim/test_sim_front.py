"""What every request meets: TLS, credentials, sessions, rates, faults, the log."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from ntxengine.sim import SimConfig, Simulator, front
from ntxengine.sim.faults import AnswerFault, HttpFault
from tests.sim.lab import DP, V2, V3, Clock, Lab

VMS = "/api/vmm/v4.0/ahv/config/vms"


async def test_the_certificate_is_trusted_only_with_our_authority(lab: Lab) -> None:
    async with httpx.AsyncClient() as client:
        for url in (lab.sim.central_url, lab.sim.element_url):
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get(url)

    local = f"https://localhost:{lab.sim.port}"
    assert (await lab.anyone.get(local)).status_code == 401
    assert ssl.create_default_context(cafile=str(lab.sim.ca_file)).cert_store_stats()["x509_ca"] == 1


@pytest.mark.parametrize("path", [VMS, f"{V2}/vms", f"{V3}/vms/x", "/nowhere"])
async def test_without_or_with_wrong_credentials_everything_is_401(lab: Lab, path: str) -> None:
    url = lab.sim.element_url + path

    nothing = await lab.anyone.get(url)
    wrong = await lab.anyone.get(url, auth=(lab.sim.username, "wrong"))
    stranger = await lab.anyone.get(url, headers={"Cookie": "NTNX_IGW_SESSION=made-up"})

    assert [answer.status_code for answer in (nothing, wrong, stranger)] == [401, 401, 401]


async def test_a_session_cookie_replaces_the_password_for_fifteen_minutes(lab: Lab, clock: Clock) -> None:
    first = await lab.anyone.get(lab.sim.central_url + VMS, auth=(lab.sim.username, lab.sim.password))
    assert "NTNX_IGW_SESSION" in first.headers["set-cookie"]

    clock.now += 899
    early = await lab.anyone.get(lab.sim.central_url + VMS)
    elsewhere = await lab.anyone.get(
        lab.sim.element_url + f"{V2}/vms", headers={"Cookie": f"NTNX_IGW_SESSION={first.cookies['NTNX_IGW_SESSION']}"}
    )
    clock.now += 2
    late = await lab.anyone.get(lab.sim.central_url + VMS)

    assert (early.status_code, elsewhere.status_code, late.status_code) == (200, 401, 401)


async def test_the_endpoints_may_have_separate_passwords(config: SimConfig, tmp_path: Path) -> None:
    config.password, config.element_password = "one", "two"
    async with Simulator(config, tmp_path / "state") as sim:
        lab = Lab(sim)
        own = [await lab.central.get(VMS), await lab.element.get(f"{V2}/vms")]
        crossed = [await lab.central.get(VMS, auth=("admin", "two")), await lab.element.get(V2, auth=("admin", "one"))]
        await lab.aclose()

    assert [answer.status_code for answer in own] == [200, 200]
    assert [answer.status_code for answer in crossed] == [401, 401]


async def test_the_endpoint_tells_what_it_is(lab: Lab) -> None:
    central, element = await lab.central.get(VMS), await lab.element.get(f"{V2}/cluster")

    assert (central.headers["X-Ntnx-Env"], element.headers["X-Ntnx-Env"]) == ("pc", "pe")
    assert central.headers["X-Ntnx-Product"].startswith("pc.")


async def test_rates_are_told_and_only_enforced_when_asked(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [1000.0]  # which does not end while requests are sent
    monkeypatch.setattr(front, "time", SimpleNamespace(time=time.time, monotonic=lambda: seconds[0]))
    told = [await lab.central.get(VMS) for _ in range(4)]
    lab.sim.config.limits.enforce_rates = True
    seconds[0] += 1
    held = [await lab.central.get(VMS) for _ in range(4)]
    other = await lab.central.get(DP)

    assert {answer.status_code for answer in told} == {200}
    assert held[0].headers["X-Api-Ratelimit-Limit"] == "2"
    assert [answer.status_code for answer in held] == [200, 200, 429, 429]
    assert held[1].headers["X-Api-Ratelimit-Remaining"] == "0"
    assert "Retry-After" not in held[2].headers
    assert other.status_code == 200


async def test_faults_answer_instead_for_as_many_calls_as_they_say(lab: Lab) -> None:
    lab.sim.faults.http += [
        HttpFault(path="/vms$", method="GET", endpoint="central", status=503, count=2),
        HttpFault(path=r"^/api/nutanix/v3/", status=500, count=1, plain=True, after=1),
    ]

    v4 = [(await lab.central.get(VMS)) for _ in range(3)]
    v3 = [await lab.element.post(f"{V3}/vms/list", json={}) for _ in range(3)]

    assert [answer.status_code for answer in v4] == [503, 503, 200]
    assert v4[0].json()["data"]["$objectType"] == "vmm.v4.error.ErrorResponse"
    assert [answer.status_code for answer in v3] == [200, 500, 200]
    assert v3[1].text == "Internal Server Error"


async def test_a_fault_may_only_delay(lab: Lab) -> None:
    lab.sim.faults.http.append(HttpFault(delay_s=0.2))
    started = time.monotonic()

    answer = await lab.central.get(VMS)

    assert answer.status_code == 200
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", f"{V3}/vms/00000000-0000-0000-0000-000000000000", 404),
        ("PUT", f"{V3}/vms/list", 405),
        ("POST", f"{V3}/vms/list", 415),
        ("GET", f"{V2}/vms/x", 404),
        ("GET", f"{V2}/vms?count=x", 400),
    ],
)
async def test_calls_that_do_not_exist_say_so_in_the_words_of_their_family(
    lab: Lab, method: str, path: str, status: int
) -> None:
    answer = await lab.element.request(method, path)

    assert answer.status_code == status
    body = answer.json()
    assert "message_list" in body if path.startswith(V3) else "error_code" in body


@pytest.mark.parametrize(("content", "status"), [(b"{", 400), (b"[]", 422), (b"", 422)])
async def test_bodies_that_are_no_object_are_refused(lab: Lab, content: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}

    v3 = await lab.element.post(f"{V3}/vms/list", content=content, headers=headers)
    v4 = await lab.central.post(f"{DP}/x/$actions/discover-cluster", content=content, headers=headers)

    assert (v3.status_code, v4.status_code) == (status, 400)


async def test_the_log_has_every_request_and_no_secret(lab: Lab) -> None:
    await lab.central.get(VMS, params={"$filter": "name eq 'x'"})
    await lab.anyone.get(lab.sim.element_url + "/x", auth=("admin", "hunter2"))

    assert list(lab.sim.requests) == [("central", "GET", VMS, 200), ("element", "GET", "/x", 401)]


async def test_answers_are_changed_before_they_go_out(lab: Lab) -> None:
    lab.sim.faults.answers += [
        AnswerFault("/ahv/config/vms$", kind="has_error"),
        AnswerFault("/ahv/config/vms$", kind="set", field="data.0.name", after=1),
        AnswerFault("/config/tasks$", kind="empty_body"),
    ]

    first, second, third = [(await lab.central.get(VMS)).json() for _ in range(3)]
    empty = await lab.central.get("/api/prism/v4.0/config/tasks")

    assert {"name": "hasError", "value": True} in first["metadata"]["flags"]
    assert (first["data"][0]["name"] is None, second["data"][0]["name"] is None) == (False, True)
    assert third["data"][0]["name"] == first["data"][0]["name"]
    assert (empty.status_code, empty.content) == (200, b"")
