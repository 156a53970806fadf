"""One login at a time; a session that ends is renewed once; a wrong password is tried once; a key needs no login."""

from __future__ import annotations

import asyncio
import contextlib
import http.cookiejar
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from ntxengine.errors import CredentialsError, OptionsError, PrismStatusError
from ntxengine.prism.http.endpoint import Endpoint, Secret
from ntxengine.prism.http.login import REFUSED_FOR_S
from ntxengine.prism.http.session import Request, Session, tls_context
from ntxengine.prism.open import open_cluster
from ntxengine.sim import SimConfig, Simulator
from ntxengine.sim.config import VmConfig
from ntxengine.sim.faults import HttpFault
from tests.prism.hostile import HandClock, Hostile, reply
from tests.prism.test_http import GET, SESSION, sent

LIST = Request("POST", "/api/nutanix/v3/vms/list", body={"kind": "vm"})
KEY = "key-of-a-service-account"


class Calendar:
    """The clock of the cluster, moved by hand."""

    def __init__(self) -> None:
        self.time_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time_s


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
async def directory(tmp_path: Path, calendar: Calendar) -> AsyncIterator[Simulator]:
    """A cluster whose directory takes a moment for each login, and refuses parallel ones."""
    config = SimConfig(vms=[VmConfig("db01")], api_key=KEY)
    config.faults.logins.refuses_parallel = True
    config.faults.logins.takes_s = 0.05
    async with Simulator(config, tmp_path / "sim", clock=calendar) as sim:
        yield sim


@contextlib.asynccontextmanager
async def session_at(sim: Simulator, password: str | None = None) -> AsyncIterator[Session]:
    account = Endpoint(sim.element_url, sim.username, Secret(password or sim.password), str(sim.ca_file))
    tls = tls_context(str(sim.ca_file), insecure=False)
    session = Session(account.host, account.port, tls, account=account, timeout_s=30)
    try:
        yield session
    finally:
        await session.aclose()


def logins(sim: Simulator) -> int:
    return sim.front("element").directory.logins


def refused(sim: Simulator) -> list[int]:
    return [one.status for one in sim.requests if one.status in (401, 403)]


async def test_sixteen_first_requests_are_one_login(directory: Simulator) -> None:
    async with session_at(directory) as session:
        await asyncio.gather(*(session.ask(LIST) for _ in range(16)))

    assert (logins(directory), refused(directory)) == (1, [])


@pytest.mark.parametrize("ends_as_403", [False, True])
async def test_the_end_of_a_session_is_renewed_once_for_all_who_wait(
    directory: Simulator, calendar: Calendar, ends_as_403: bool
) -> None:
    directory.faults.logins.ends_as_403 = ends_as_403
    async with session_at(directory) as session:
        for _ in range(2):
            await session.ask(LIST)
        for round_number in range(1, 4):
            calendar.time_s += 1000

            answers = await asyncio.gather(*(session.ask(LIST) for _ in range(16)))

            assert {answer.status for answer in answers} == {200}
            assert logins(directory) == 1 + round_number
    assert set(refused(directory)) == ({401, 403} if ends_as_403 else {401})


async def test_a_wrong_password_is_tried_once_and_locks_no_account(directory: Simulator) -> None:
    directory.faults.logins.locks_after = 3
    async with session_at(directory, "wrong") as session:
        found = await asyncio.gather(*(session.ask(LIST) for _ in range(16)), return_exceptions=True)

    assert {type(one) for one in found} == {CredentialsError}
    assert logins(directory) == 1
    assert not directory.front("element").directory.is_locked


async def test_a_directory_that_is_busy_with_others_is_asked_once_more(
    directory: Simulator, calendar: Calendar
) -> None:
    async with session_at(directory) as session:
        await session.ask(LIST)
        calendar.time_s += 1000
        directory.faults.http.append(HttpFault(path="/vms/list", status=401, count=2))

        assert (await session.ask(LIST)).status == 200


@pytest.mark.parametrize("ended", [401, 403])
async def test_a_renewal_that_is_refused_with_403_in_passing_is_made_again(
    hostile: Hostile, session: Session, ended: int
) -> None:
    new = reply(200, {}, Set_Cookie=SESSION)
    hostile.on("GET /thing", new, reply(200, {}), reply(ended, {}), reply(403, {}), new)

    for _ in range(4):
        assert (await session.ask(GET)).status == 200

    cookie = "NTNX_IGW_SESSION=abc"
    assert sent(hostile) == ["basic", cookie, cookie, "basic", "basic", cookie]


async def test_a_refusal_after_a_good_login_is_not_for_ever(
    hostile: Hostile, session: Session, clock: HandClock
) -> None:
    refusals = [reply(401, {})] * 4
    hostile.on("GET /thing", reply(200, {}, Set_Cookie=SESSION), *refusals, reply(200, {}, Set_Cookie=SESSION))
    await session.ask(GET)
    waits = []

    for wait_s in (0, REFUSED_FOR_S - 2, 2, REFUSED_FOR_S, REFUSED_FOR_S):
        clock.time_s += wait_s
        before = len(hostile.asked)
        with contextlib.suppress(CredentialsError):
            await session.ask(GET)
        waits.append(len(hostile.asked) - before)

    # With the old cookie and twice with the credentials; then once after each wait, the second twice as long.
    assert waits == [3, 0, 1, 0, 1]
    assert sent(hostile)[-1] == "basic"
    assert (await session.ask(GET)).status == 200


async def test_a_call_that_is_forbidden_costs_one_login_and_no_more(directory: Simulator) -> None:
    directory.faults.http.append(HttpFault(path="/vms/list", status=403, count=-1))
    async with session_at(directory) as session:
        await session.ask(Request("POST", "/api/nutanix/v3/clusters/list", body={"kind": "cluster"}))
        for _ in range(5):
            with pytest.raises(PrismStatusError, match="HTTP 403"):
                await session.ask(LIST)
        await session.ask(Request("POST", "/api/nutanix/v3/clusters/list", body={"kind": "cluster"}))

    # The login that asks whether the session had ended is refused before the directory sees it: one more follows.
    assert logins(directory) == 2


async def test_a_late_refusal_of_the_old_cookie_does_not_end_the_new_session(
    hostile: Hostile, session: Session
) -> None:
    gone = reply(401, {}, Set_Cookie="NTNX_IGW_SESSION=; Path=/; Max-Age=0")
    new = reply(200, {}, Set_Cookie="NTNX_IGW_SESSION=new; Path=/")
    hostile.on("GET /thing", reply(200, {}, Set_Cookie=SESSION), reply(200, {}))
    hostile.on("GET /other", reply(200, {}))
    for _ in range(2):
        await session.ask(GET)
    hostile.on("GET /thing", lambda one: gone if one.headers.get("cookie") == "NTNX_IGW_SESSION=abc" else new)
    hostile.asked.clear()

    await asyncio.gather(*(session.ask(GET) for _ in range(5)))
    await session.ask(Request("GET", "/other"))

    assert sent(hostile).count("basic") == 1
    assert sent(hostile)[-1] == "NTNX_IGW_SESSION=new"


async def test_a_cookie_that_expires_here_is_renewed_by_one_login(
    hostile: Hostile, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile.on("GET /thing", reply(200, {}, Set_Cookie=f"{SESSION}; Max-Age=60"))
    for _ in range(2):
        await session.ask(GET)
    hostile.asked.clear()
    monkeypatch.setattr(http.cookiejar, "time", SimpleNamespace(time=lambda: time.time() + 900))
    hostile.on("GET /thing", reply(200, {}, Set_Cookie=SESSION))

    await asyncio.gather(*(session.ask(GET) for _ in range(8)))

    assert sent(hostile) == ["basic"] + ["NTNX_IGW_SESSION=abc"] * 7


@pytest.mark.parametrize("path", ["", "; Path=/api/nutanix/v3/clusters"])
async def test_a_cookie_of_one_call_is_that_of_the_whole_session(hostile: Hostile, session: Session, path: str) -> None:
    hostile.on("POST /clusters/list", reply(200, {}, Set_Cookie=f"NTNX_IGW_SESSION=abc{path}; Secure; HttpOnly"))
    hostile.on("POST /vms/list", reply(200, {}))
    await session.ask(Request("POST", "/api/nutanix/v3/clusters/list", body={}))

    await asyncio.gather(*(session.ask(LIST) for _ in range(4)))

    assert sent(hostile) == ["basic"] + ["NTNX_IGW_SESSION=abc"] * 4


async def test_without_cookies_a_login_that_is_refused_in_passing_is_made_again_alone(
    hostile: Hostile, session: Session
) -> None:
    hostile.on("GET /thing", reply(200, {}), reply(403, {}), reply(200, {}))

    await session.ask(GET)
    answer = await session.ask(GET)

    assert (answer.status, sent(hostile)) == (200, ["basic"] * 3)


async def test_without_cookies_one_request_tries_again_after_a_refusal(
    hostile: Hostile, session: Session, clock: HandClock
) -> None:
    hostile.on("GET /thing", reply(200, {}))
    await session.ask(GET)
    hostile.on("GET /thing", reply(401, {}))
    with pytest.raises(CredentialsError):
        await session.ask(GET)
    tried = []

    for wait_s in (REFUSED_FOR_S, 2 * REFUSED_FOR_S, 4 * REFUSED_FOR_S):
        clock.time_s += wait_s
        before = len(hostile.asked)
        found = await asyncio.gather(*(session.ask(GET) for _ in range(10)), return_exceptions=True)
        assert {type(one) for one in found} == {CredentialsError}
        tried.append(len(hostile.asked) - before)
    clock.time_s += 8 * REFUSED_FOR_S
    hostile.on("GET /thing", reply(200, {}))
    answers = await asyncio.gather(*(session.ask(GET) for _ in range(10)))

    assert tried == [1, 1, 1]
    assert {answer.status for answer in answers} == {200}


# -- API keys


@pytest.fixture
def by_key(directory: Simulator) -> Endpoint:
    return Endpoint(directory.central_url, "", Secret(KEY), str(directory.ca_file), auth="api_key")


async def test_a_key_speaks_v4_without_any_login(directory: Simulator, by_key: Endpoint, clock: HandClock) -> None:
    async with await open_cluster(by_key, by_key, clock=clock.clock) as cluster:
        vms = await cluster.prism.vms()

    assert (cluster.findings.family, [vm.name for vm in vms]) == ("v4", ["db01", "ntx-worker"])
    assert refused(directory) == []
    assert not [one for one in directory.requests if "/v3/" in one.path or "PrismGateway" in one.path]


async def test_a_key_with_v3_is_refused_before_anything_is_sent(directory: Simulator, by_key: Endpoint) -> None:
    with pytest.raises(OptionsError, match="an API key is for v4 only"):
        await open_cluster(None, by_key)

    assert not directory.requests


async def test_a_key_that_is_refused_says_so_and_not_which(directory: Simulator) -> None:
    wrong = Endpoint(directory.central_url, "", Secret("wrong-key"), str(directory.ca_file), auth="api_key")

    with pytest.raises(CredentialsError, match="the API key was refused") as error:
        await open_cluster(wrong, wrong)

    assert "wrong-key" not in str(error.value)


async def test_a_key_goes_with_no_call_of_v3(by_key: Endpoint) -> None:
    transport = httpx.MockTransport(lambda _request: pytest.fail("something was sent"))
    tls = tls_context(None, insecure=True)
    session = Session("pc", 9440, tls, account=by_key, timeout_s=5, transport=transport)

    with pytest.raises(OptionsError, match="an API key is for v4 only, and POST /api/nutanix/v3/vms/list is not"):
        await session.ask(LIST)
    await session.aclose()


@pytest.mark.parametrize(
    ("auth", "username", "secret", "remedy"),
    [
        ("saml", "me@example.com", "x", "make a service account in Prism Central"),
        ("ad", "backup", "x", "user@domain"),
        ("ad", "@corp", "x", "user@domain"),
        ("api_key", "", "", "the API key is empty"),
        ("api_key", "", "two\nlines", "the API key is empty, or holds"),
        ("kerberos", "a", "x", "local, ad, api_key, saml"),
        ("local", "", "x", "user name is empty"),
    ],
)
def test_an_account_that_cannot_be_used_says_what_to_do(auth: str, username: str, secret: str, remedy: str) -> None:
    with pytest.raises(OptionsError, match=remedy) as refused:
        Endpoint("https://pc", username, Secret(secret), auth=auth)

    assert not secret or secret == "x" or secret not in str(refused.value)


def test_a_user_of_a_directory_is_sent_as_written() -> None:
    account = Endpoint("https://pc", "backup@corp.example", Secret("x"), auth="ad").account

    assert account.proof() == {"Authorization": "Basic YmFja3VwQGNvcnAuZXhhbXBsZTp4"}
