"""Which family it becomes is found out by asking."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

import ntxengine.prism
from ntxengine.errors import CredentialsError, OptionsError, PrismBusy, PrismConnectionError, PrismError
from ntxengine.prism.findings import Findings, Revisions
from ntxengine.prism.http.endpoint import Endpoint, Secret
from ntxengine.prism.models import Family
from ntxengine.prism.open import open_cluster
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.faults import HttpFault
from tests.prism.hostile import PASSWORD, HandClock, Hostile, reply
from tests.prism.steps import until

VMS, POINTS, GROUPS = "/ahv/config/vms", "/config/recovery-points", "/config/volume-groups"


def at(url: str, sim: Simulator, password: str | None = None) -> Endpoint:
    return Endpoint(url, sim.username, Secret(password or sim.password), str(sim.ca_file))


async def family_of(endpoint: Endpoint, family: Family | None = None) -> str:
    central, element = None if family == "v3" else endpoint, None if family == "v4" else endpoint
    return (await found(central, element)).family


async def found(central: Endpoint | None, element: Endpoint | None) -> Findings:
    async with await open_cluster(central, element, clock=HandClock().clock) as cluster:
        return cluster.findings


async def test_prism_central_is_v4_and_prism_element_is_v3(sim: Simulator) -> None:
    for url, family in ((sim.central_url, "v4"), (sim.element_url, "v3")):
        endpoint = at(url, sim)
        async with await ntxengine.prism.connect(endpoint, endpoint) as cluster:
            assert cluster.findings.family == family


async def test_a_family_can_be_forced(sim: Simulator) -> None:
    assert await family_of(at(sim.central_url, sim), "v4") == "v4"
    assert await family_of(at(sim.element_url, sim), "v3") == "v3"


@pytest.mark.parametrize(("endpoint", "family"), [("central", "v3"), ("element", "v4")])
async def test_a_family_that_is_not_there_cannot_be_forced(sim: Simulator, endpoint: str, family: Family) -> None:
    url = sim.central_url if endpoint == "central" else sim.element_url

    with pytest.raises(PrismError, match=f"cannot be used by {family}: "):
        await family_of(at(url, sim), family)


async def test_a_prism_central_without_v4_sends_to_the_element(config: SimConfig, tmp_path: Path) -> None:
    config.families = ["v3"]
    async with Simulator(config, tmp_path / "old") as sim:
        with pytest.raises(PrismError, match=r"name a Prism Element.*--element, --element-username"):
            await family_of(at(sim.central_url, sim))


async def test_an_element_without_snapshots_can_do_neither(sim: Simulator) -> None:
    sim.faults.http.append(HttpFault(path="/data/changed_regions", status=404, count=-1))

    with pytest.raises(PrismError, match=r"neither v4 .* nor v3 snapshots .*changed_regions: HTTP 404"):
        await family_of(at(sim.element_url, sim))


async def test_the_lower_of_two_revisions_is_spoken(config: SimConfig, tmp_path: Path) -> None:
    config.revisions = {"vmm": "v4.0", "dataprotection": "v4.3"}
    async with Simulator(config, tmp_path / "old") as sim:
        assert await family_of(at(sim.central_url, sim)) == "v4"

    spoken = {one.path for one in sim.requests if "/v4." in one.path}
    assert spoken == {f"/api/vmm/v4.0{VMS}", f"/api/dataprotection/v4.0{POINTS}", f"/api/volumes/v4.0{GROUPS}"}


async def test_a_server_that_does_not_tell_its_revision_is_tried_downward(sim: Simulator) -> None:
    sim.faults.http += [
        HttpFault(path="unversioned/info", status=404, count=-1),
        HttpFault(path=r"/vmm/v4\.1/", status=404, count=-1),
    ]

    assert await family_of(at(sim.central_url, sim)) == "v4"

    assert [one.path for one in sim.requests if one.path.endswith(VMS)] == [
        f"/api/vmm/v4.1{VMS}",
        f"/api/vmm/v4.0{VMS}",
    ]


async def test_a_list_of_clusters_that_is_forbidden_does_not_matter(sim: Simulator) -> None:
    sim.faults.http.append(HttpFault(path="/clusters/list", status=403, count=-1))

    assert await family_of(at(sim.central_url, sim)) == "v4"
    assert await family_of(at(sim.element_url, sim)) == "v3"


async def test_a_wrong_password_is_said_after_one_request(sim: Simulator) -> None:
    with pytest.raises(CredentialsError):
        await family_of(at(sim.central_url, sim, "wrong"))

    assert len(sim.requests) == 1


async def test_an_untrusted_certificate_is_said_with_its_remedy(sim: Simulator) -> None:
    with pytest.raises(PrismConnectionError, match="--ca-file"):
        await family_of(Endpoint(sim.central_url, sim.username, Secret(sim.password)))


async def test_insecure_is_of_one_endpoint_and_not_of_the_elements_that_it_names(sim: Simulator) -> None:
    endpoint = Endpoint(sim.central_url, sim.username, Secret(sim.password), insecure=True)

    assert await family_of(endpoint) == "v4"
    assert not endpoint.element_trust.insecure


async def test_a_ca_file_that_is_not_there_is_a_wrong_option(sim: Simulator, tmp_path: Path) -> None:
    with pytest.raises(OptionsError):
        await family_of(Endpoint(sim.central_url, "admin", Secret("x"), str(tmp_path / "none.pem")))


@pytest.mark.parametrize(("path", "family"), [("/ahv/config/vms", "v4"), ("/vm_snapshots/list", "v3")])
async def test_a_server_that_fails_while_it_is_asked_is_asked_again_later(
    sim: Simulator, path: str, family: Family
) -> None:
    url = sim.central_url if family == "v4" else sim.element_url
    sim.faults.http.append(HttpFault(path=path, status=500, count=-1))

    with pytest.raises(PrismBusy, match=r"could not be asked what it can: .*HTTP 500.*: try again") as refused:
        await family_of(at(url, sim), family)

    assert refused.value.exit_code == 75
    assert "--" not in str(refused.value)


async def test_one_failure_while_probing_costs_nothing(sim: Simulator) -> None:
    sim.faults.http.append(HttpFault(path="/ahv/config/vms", status=500))

    assert await family_of(at(sim.central_url, sim), "v4") == "v4"


async def test_a_prism_central_that_fails_is_not_taken_for_one_without_v4(sim: Simulator) -> None:
    sim.faults.http.append(HttpFault(path="/recovery-points", status=500, count=-1))

    with pytest.raises(PrismBusy, match="try again"):
        await found(at(sim.central_url, sim), at(sim.element_url, sim, sim.element_password))


@pytest.mark.parametrize("status", [403, 500])
async def test_a_central_that_does_not_say_what_it_is_and_fails_is_not_left_for_the_element(
    sim: Simulator, status: int
) -> None:
    sim.faults.http += [
        HttpFault(path="/clusters/list", status=status, count=-1),
        HttpFault(path="/ahv/config/vms", status=500, count=-1),
    ]

    with pytest.raises(PrismBusy, match=r"/ahv/config/vms.*HTTP 500.*: try again"):
        await found(at(sim.central_url, sim), at(sim.element_url, sim, sim.element_password))


async def test_an_element_that_fails_is_not_taken_for_one_without_v3(config: SimConfig, tmp_path: Path) -> None:
    config.families = ["v3"]
    async with Simulator(config, tmp_path / "old") as sim:
        element = at(sim.element_url, sim)
        sim.faults.http.append(HttpFault(path="/vm_snapshots/list", status=502, count=-1))
        for central in (element, at(sim.central_url, sim)):
            with pytest.raises(PrismBusy, match=r"/vm_snapshots/list.*HTTP 502.*: try again"):
                await found(central, element)


async def test_an_account_that_may_not_is_told_which_role_it_lacks(sim: Simulator) -> None:
    sim.faults.http.append(HttpFault(path="/ahv/config/vms", status=403, count=-1))

    with pytest.raises(PrismError, match=r"cannot be used by v4: .*this account may not: .*Backup Admin"):
        await family_of(at(sim.central_url, sim), "v4")


async def test_a_revision_that_a_server_dropped_is_left_for_a_newer_one(sim: Simulator) -> None:
    sim.faults.http += [
        HttpFault(path=r"/vmm/v4\.[01]/", status=404, count=-1),
        HttpFault(path=r"/dataprotection/v4\.0/", status=404, count=-1),
    ]
    sim.config.revisions = {"vmm": "v4.3", "dataprotection": "v4.2"}

    revisions = (await found(at(sim.central_url, sim), None)).revisions

    assert revisions is not None
    assert (revisions.vmm, revisions.dataprotection) == ("v4.2", "v4.1")
    assert revisions.can_hot_add


async def test_the_way_is_said_with_its_reason(sim: Simulator) -> None:
    central, element = at(sim.central_url, sim), at(sim.element_url, sim, sim.element_password)

    assert (await found(central, None)).why.startswith("v4 of a Prism Central (vmm v4.1")
    assert (await found(None, element)).why == "v3 of a Prism Element (v4: not asked for)"
    assert "it is a Prism Element" in (await found(element, element)).why


# -- what is found out is kept


async def test_what_was_found_at_a_prism_central_is_kept(config: SimConfig, tmp_path: Path) -> None:
    config.revisions = {"vmm": "v4.0", "dataprotection": "v4.3"}
    async with Simulator(config, tmp_path / "old") as sim:
        old = await found(at(sim.central_url, sim), None)
        new = await found(None, at(sim.element_url, sim))

    assert (old.family, old.is_central, old.no_v3) == ("v4", True, "not asked for")
    assert old.revisions == Revisions("v4.0", "v4.0", "v4.0", "v4.0")
    assert old.server_revisions is not None
    assert old.server_revisions.dataprotection == "v4.3"
    assert not old.can_hot_add
    assert not old.tells_paths
    assert old.no_volume_groups == new.no_volume_groups == ""
    assert (new.family, new.is_central, new.no_v4) == ("v3", False, "not asked for")
    assert new.can_hot_add
    assert new.tells_paths


async def test_with_two_endpoints_v4_is_spoken_and_the_element_is_a_finding(sim: Simulator) -> None:
    both = await found(at(sim.central_url, sim), at(sim.element_url, sim, sim.element_password))
    refused = await found(at(sim.central_url, sim), at(sim.element_url, sim, "wrong"))

    assert (both.family, both.is_element_usable, both.no_v3) == ("v4", True, "")
    assert (refused.family, refused.is_element_usable) == ("v4", False)
    assert "was refused" in refused.no_v3


async def test_with_two_endpoints_the_element_stands_in_for_a_central_without_v4(
    config: SimConfig, tmp_path: Path
) -> None:
    config.families = ["v3"]
    async with Simulator(config, tmp_path / "old") as sim:
        central = at(sim.central_url, sim)
        assert (await found(central, at(sim.element_url, sim))).family == "v3"
        with pytest.raises(CredentialsError):
            await found(central, at(sim.element_url, sim, "wrong"))
        sim.faults.http.append(HttpFault(path="/data/changed_regions", status=404, count=-1))
        with pytest.raises(PrismError, match=r"Prism Central .* has no v4 .*, and Prism Element .* has no v3"):
            await found(central, at(sim.element_url, sim))


async def test_a_transport_plays_the_cluster_without_a_network() -> None:
    def play(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("unversioned/info"):
            return httpx.Response(200, json={"data": "v4.2"})
        return httpx.Response(200, json={"data": []}, headers={"X-NTNX-Env": "pc", "X-NTNX-Product": "prism"})

    endpoint = Endpoint("https://pc.example", "admin", Secret(PASSWORD))

    async with await ntxengine.prism.connect(endpoint, transport=httpx.MockTransport(play)) as cluster:
        assert await cluster.prism.vms() == []
        assert cluster.findings.product == "prism"
        assert cluster.findings.server_revisions == Revisions("v4.2", "v4.2", "v4.2", "v4.2")


async def test_without_an_endpoint_there_is_nothing_to_connect_to() -> None:
    with pytest.raises(OptionsError, match="no Prism is given"):
        await ntxengine.prism.connect()


# -- answers that the simulator does not give


async def probed(hostile: Hostile, ca_file: str, family: Family | None = None) -> str:
    return await family_of(Endpoint(f"https://127.0.0.1:{hostile.port}", "admin", Secret(PASSWORD), ca_file), family)


def clusters_with(service_list: list[str] | None) -> list[Any]:
    return [{"status": {"resources": {"config": {"service_list": service_list}}}}, {}, {"status": {"resources": {}}}]


def central(hostile: Hostile, revision: Any = "v4.3") -> None:
    clusters = clusters_with(["PRISM_CENTRAL"])
    hostile.on("POST /clusters/list", reply(200, {"entities": clusters}))
    hostile.on("OPTIONS /unversioned/info", reply(200, {"data": revision}))
    hostile.on(f"GET {VMS}", reply(200, {"data": []}))
    hostile.on(f"GET {POINTS}", reply(200, {"data": []}))


async def test_prism_central_is_known_by_its_clusters_where_the_header_is_missing(
    hostile: Hostile, ca_file: str
) -> None:
    central(hostile)

    assert await probed(hostile, ca_file) == "v4"


@pytest.mark.parametrize("clusters", [[], None, clusters_with(None), clusters_with([])])
async def test_what_does_not_tell_what_it_is_is_asked_for_v4(
    hostile: Hostile, ca_file: str, clusters: list[Any] | None
) -> None:
    central(hostile)
    hostile.on("POST /clusters/list", reply(200, {"entities": clusters}))

    assert await probed(hostile, ca_file) == "v4"


async def test_what_says_that_it_is_an_element_is_not_asked_for_v4(hostile: Hostile, ca_file: str) -> None:
    central(hostile)
    hostile.on("POST /clusters/list", reply(200, {"entities": clusters_with(["AOS"])}))

    with pytest.raises(PrismError, match="it is a Prism Element"):
        await probed(hostile, ca_file)

    assert not hostile.asked_for(VMS)


@pytest.mark.parametrize(
    ("revision", "spoken"), [("v4.0.b1", None), ("v4.1.a2", "v4.0"), ("v4.9", "v4.1"), ("../../x", "v4.1")]
)
async def test_a_revision_in_the_making_is_not_spoken(
    hostile: Hostile, ca_file: str, revision: str, spoken: str | None
) -> None:
    central(hostile, revision)

    if spoken is None:
        with pytest.raises(PrismError, match="no finished v4"):
            await probed(hostile, ca_file)
    else:
        assert await probed(hostile, ca_file) == "v4"
        assert [one.path.partition("?")[0] for one in hostile.asked_for(VMS)] == [f"/api/vmm/{spoken}{VMS}"]


@pytest.mark.parametrize(
    ("newest", "said"),
    [
        (reply(500, {"message": "passing"}), (PrismBusy, r"v4\.2/ahv/config/vms: HTTP 500.*: try again")),
        (
            reply(403, {"message": "no"}),
            (PrismError, r"v4\.2/ahv/config/vms: HTTP 403.*: this account may not: .*Backup Admin"),
        ),
        (reply(404, {"message": "gone"}), (PrismError, r"v4\.1/ahv/config/vms: HTTP 404")),
    ],
    ids=["500", "403", "404"],
)
async def test_a_revision_that_is_not_there_does_not_hide_what_the_next_one_says(
    hostile: Hostile, ca_file: str, newest: bytes, said: tuple[type[PrismError], str]
) -> None:
    for revision in ("v4.1", "v4.0"):
        hostile.on(f"GET /{revision}{VMS}", reply(404, {}))
    hostile.on(f"GET /v4.2{VMS}", newest)
    central(hostile, "v4.2")

    with pytest.raises(PrismError, match=said[1]) as refused:
        await probed(hostile, ca_file, "v4")

    assert type(refused.value) is said[0]
    assert len(hostile.asked_for(f"v4.1{VMS}")) == 1


async def test_a_revision_that_is_no_text_is_refused(hostile: Hostile, ca_file: str) -> None:
    central(hostile, {"a": 1})

    with pytest.raises(Exception, match="unversioned/info") as refused:
        await probed(hostile, ca_file)

    assert isinstance(refused.value, PrismError)


async def test_an_interrupted_probe_closes_its_connections(hostile: Hostile, ca_file: str) -> None:
    hostile.on("POST /clusters/list", b"hang")
    running = asyncio.create_task(probed(hostile, ca_file))
    await until(lambda: bool(hostile.asked))

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
