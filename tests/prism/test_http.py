"""The session: credentials, time, size, secrets, against a server that misbehaves."""

from __future__ import annotations

import base64
import json
import logging
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from ntxengine import errors
from ntxengine.prism.http.endpoint import Endpoint, Secret
from ntxengine.prism.http.session import MAX_ANSWER_SIZE, Request, Session, tls_context
from ntxengine.units import MIB
from tests.prism.hostile import HANG, PASSWORD, HandClock, Hostile, reply

GET = Request("GET", "/thing")
CHANGE = Request("POST", "/thing", body={"a": 1}, is_repeatable=False)
BASIC = "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
SESSION = "NTNX_IGW_SESSION=abc; Path=/; Secure; HttpOnly"


def sent(hostile: Hostile) -> list[str]:
    """Say for each request how it proved who it is."""
    return ["basic" if "authorization" in one.headers else one.headers.get("cookie", "") for one in hostile.asked]


async def test_credentials_go_first_and_then_the_cookie(hostile: Hostile, session: Session) -> None:
    hostile.on("GET /thing", reply(200, {}, Set_Cookie=SESSION))

    await session.ask(GET)
    await session.ask(GET)

    assert sent(hostile) == ["basic", "NTNX_IGW_SESSION=abc"]
    assert hostile.asked[0].headers["authorization"] == BASIC


async def test_an_expired_cookie_is_renewed_once(hostile: Hostile, session: Session) -> None:
    hostile.on(
        "GET /thing",
        reply(200, {}, Set_Cookie=SESSION),
        reply(200, {}),
        reply(401, {}),
        reply(200, {}, Set_Cookie=SESSION),
    )

    for _ in range(4):
        await session.ask(GET)

    assert sent(hostile) == ["basic", "NTNX_IGW_SESSION=abc", "NTNX_IGW_SESSION=abc", "basic", "NTNX_IGW_SESSION=abc"]


async def test_a_cookie_that_never_works_is_not_used_again(hostile: Hostile, session: Session) -> None:
    def judge(asked: object) -> bytes:
        return reply(200 if "authorization" in hostile.asked[-1].headers else 401, {}, Set_Cookie="balancer=7; Path=/")

    hostile.on("GET /thing", judge)

    for _ in range(4):
        await session.ask(GET)

    assert sent(hostile) == ["basic", "balancer=7", "basic", "basic", "basic"]


async def test_refused_credentials_are_one_line_that_names_the_user(hostile: Hostile, session: Session) -> None:
    hostile.on("GET /thing", reply(401, {"message_list": [{"reason": "AUTHENTICATION_REQUIRED", "message": "no"}]}))

    with pytest.raises(errors.CredentialsError, match="user 'admin' was refused: HTTP 401 AUTHENTICATION_REQUIRED: no"):
        await session.ask(GET)

    assert len(hostile.asked) == 1


async def test_a_no_keeps_its_status_and_reason(hostile: Hostile, session: Session) -> None:
    hostile.on("GET /thing", reply(422, {"message_list": [{"reason": "INVALID_REQUEST", "message": "bad\nfield"}]}))

    with pytest.raises(errors.PrismStatusError) as refused:
        await session.ask(GET)

    assert (refused.value.status, refused.value.reason) == (422, "INVALID_REQUEST")
    assert str(refused.value) == f"Prism {session.name}: GET /thing: HTTP 422 INVALID_REQUEST: bad field"


class Endless(httpx.AsyncByteStream):
    """A body that never ends; says how many bytes of it were taken."""

    def __init__(self) -> None:
        self.taken = 0
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.taken += MIB
            yield bytes(MIB)

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize(("headers", "taken"), [({}, MAX_ANSWER_SIZE + MIB), ({"Content-Length": "99999999999"}, 0)])
async def test_a_body_that_is_too_large_is_not_read(ca_file: str, headers: dict[str, str], taken: int) -> None:
    body = Endless()
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, headers=headers, stream=body))
    tls = tls_context(ca_file, insecure=False)
    session = Session("pc.example", 9440, tls, account=None, timeout_s=30, transport=transport)

    with pytest.raises(errors.PrismAnswerError, match="larger than 64 MiB"):
        await session.ask(GET)

    assert (body.taken, body.is_closed) == (taken, True)
    await session.aclose()


def packed(body: bytes, *, times: int = 1, wbits: int = 31, level: int = 9) -> bytes:
    for _ in range(times):
        packer = zlib.compressobj(level, wbits=wbits)
        body = packer.compress(body) + packer.flush()
    return body


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip, gzip", packed(bytes(MIB), times=2), "'gzip, gzip', which was not asked for"),
        ("br", b"\x0b\x02\x80{}\x03", "'br', which was not asked for"),
        ("gzip", packed(b"{}")[:-9], "content encoding is broken"),
        ("gzip", b"{}", "content encoding is broken"),
    ],
)
async def test_an_encoding_that_was_not_asked_for_is_refused(
    hostile: Hostile, session: Session, encoding: str, body: bytes, words: str
) -> None:
    hostile.on("GET /thing", reply(200, body, Content_Encoding=encoding))

    with pytest.raises(errors.PrismAnswerError, match=words):
        await session.ask(GET)


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15), ("identity", 0)])
async def test_what_is_packed_once_is_read(hostile: Hostile, session: Session, encoding: str, wbits: int) -> None:
    body = packed(b'{"a": 1}', wbits=wbits) if wbits else b'{"a": 1}'
    hostile.on("GET /thing", reply(200, body, Content_Encoding=encoding))

    assert (await session.ask(GET)).body == b'{"a": 1}'


async def test_what_would_be_too_large_is_not_unpacked(
    hostile: Hostile, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ntxengine.prism.http.body.MAX_ANSWER_SIZE", 4 * MIB)
    hostile.on("GET /thing", reply(200, packed(bytes(64 * MIB), level=1), Content_Encoding="gzip"))
    tracemalloc.start()

    with pytest.raises(errors.PrismAnswerError, match="larger than 4 MiB"):
        await session.ask(GET)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * MIB


class Shared(httpx.AsyncBaseTransport):
    """A transport that tells when it is closed."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.hosts.append(request.url.host)
        return httpx.Response(200, json={})

    async def aclose(self) -> None:
        self.is_closed = True


async def test_a_transport_that_is_given_is_used_and_left_open(ca_file: str) -> None:
    transport = Shared()
    tls = tls_context(ca_file, insecure=False)

    for host in ("pc.example", "pe.example"):
        session = Session(host, 9440, tls, account=None, timeout_s=5, transport=transport)
        await session.ask(GET)
        await session.aclose()

    assert transport.hosts == ["pc.example", "pe.example"]
    assert not transport.is_closed


async def test_a_truncated_body_is_asked_for_again(hostile: Hostile, session: Session) -> None:
    cut = b"HTTP/1.1 200 X\r\nContent-Length: 100\r\nX-Close: 1\r\n\r\n{"
    hostile.on("GET /thing", reply(200, {}), cut, reply(200, {"a": 1}))

    await session.ask(GET)
    answer = await session.ask(GET)

    assert answer.decode(dict[str, int]) == {"a": 1}


async def test_a_truncated_body_is_final_where_twice_would_do_harm(hostile: Hostile, session: Session) -> None:
    hostile.on("GET /thing", reply(200, {}))
    hostile.on("POST /thing", b"HTTP/1.1 200 X\r\nContent-Length: 100\r\nX-Close: 1\r\n\r\n{")

    await session.ask(GET)
    with pytest.raises(errors.PrismConnectionError, match="broke before the whole answer"):
        await session.ask(CHANGE)

    assert len(hostile.asked_for("/thing")) == 2


async def test_what_is_no_http_is_a_connection_error(hostile: Hostile, session: Session) -> None:
    hostile.on("GET /thing", b"SSH-2.0-OpenSSH X-Close\r\n\r\n")

    with pytest.raises(errors.PrismConnectionError):
        await session.ask(GET)


async def test_a_server_that_hangs_is_left_after_the_time_limit(
    hostile: Hostile, ca_file: str, clock: HandClock
) -> None:
    hostile.on("GET /thing", HANG)
    endpoint = Endpoint(f"https://127.0.0.1:{hostile.port}", "admin", Secret(PASSWORD), ca_file, timeout_s=0.2)
    tls = tls_context(ca_file, insecure=False)
    session = Session(endpoint.host, endpoint.port, tls, account=endpoint, timeout_s=0.2, clock=clock.clock)

    with pytest.raises(errors.PrismTimeout, match=r"GET /thing: no whole answer within 0.2 s"):
        await session.ask(GET)

    await session.aclose()


async def test_an_unreachable_host_is_said_at_once(hostile: Hostile, ca_file: str, clock: HandClock) -> None:
    tls = tls_context(ca_file, insecure=False)
    endpoint = Endpoint(f"https://127.0.0.3:{hostile.port}", "admin", Secret(PASSWORD), ca_file)
    session = Session(endpoint.host, endpoint.port, tls, account=endpoint, timeout_s=5, clock=clock.clock)

    with pytest.raises(errors.PrismConnectionError, match=r"Prism 127\.0\.0\.3:\d+: GET /thing: no connection"):
        await session.ask(GET)

    assert clock.slept == []
    await session.aclose()


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_ca_file_that_cannot_be_used_is_a_wrong_option(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(errors.OptionsError, match=r"CA file .*ca\.pem"):
        tls_context(str(path), insecure=False)


async def test_without_an_account_only_the_token_is_sent_and_no_cookie_is_kept(
    hostile: Hostile, ca_file: str, clock: HandClock
) -> None:
    hostile.on("GET /thing", reply(200, {}, Set_Cookie="NTNX_IGW_SESSION=theirs; Path=/"))
    session = Session("127.0.0.1", hostile.port, tls_context(ca_file, insecure=False), account=None, timeout_s=5)

    await session.ask(Request("GET", "/thing", token=Secret("a.b.c")))
    await session.ask(Request("GET", "/thing"))

    assert sent(hostile) == ["NTNX_IGW_SESSION=a.b.c", ""]
    await session.aclose()


async def test_a_repeated_request_carries_the_same_headers(hostile: Hostile, session: Session) -> None:
    hostile.on("POST /thing", reply(503, {}), reply(200, {}))

    await session.ask(Request("POST", "/thing", body={}, headers={"NTNX-Request-Id": "one"}))

    assert [one.headers["ntnx-request-id"] for one in hostile.asked] == ["one", "one"]


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


async def test_secrets_are_in_no_log_and_no_error(
    hostile: Hostile, session: Session, ca_file: str, everything_logged: pytest.LogCaptureFixture
) -> None:
    def echo(_asked: object) -> bytes:
        one = hostile.asked[-1]
        said = f"you sent {one.headers.get('authorization')} and {PASSWORD} and {one.headers.get('cookie')}" * 9
        return reply(400, {"message_list": [{"message": said, "reason": PASSWORD}]}, Set_Cookie=SESSION)

    token = Secret("aaaa.bbbb.cccc")
    by_token = Session("127.0.0.1", hostile.port, tls_context(ca_file, insecure=False), account=None, timeout_s=5)
    hostile.on("GET /thing", reply(503, {}, Set_Cookie="NTNX_IGW_SESSION=their-session; Path=/"), echo)
    hostile.on("POST /thing", reply(401, b"your token aaaa.bbbb.cccc is bad"))

    with pytest.raises(errors.PrismStatusError) as refused:
        await session.ask(GET)
    with pytest.raises(errors.CredentialsError) as token_refused:
        await by_token.ask(Request("POST", "/thing", token=token))
    await by_token.aclose()

    texts = [str(refused.value), refused.value.reason, str(token_refused.value), everything_logged.text]
    texts += [repr(session), repr(GET), repr(Request("GET", "/", token=token))]
    for secret in (PASSWORD, BASIC.removeprefix("Basic "), "aaaa.bbbb.cccc", "their-session"):
        assert not [text for text in texts if secret in text], secret


ODD_PASSWORD = 'pa"ss\\wörd'


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"message_list": [{"message": f"not {ODD_PASSWORD}", "reason": "NO"}]}).encode(),
        json.dumps({"message_list": [{"message": f"not {ODD_PASSWORD}"}]}, ensure_ascii=False).encode(),
        json.dumps({"message": json.dumps({"inner": ODD_PASSWORD})}).encode(),
        json.dumps({"message": "not pa\x00ss\\wörd"}).replace("\\u0000", "\\u0022").replace("f6", "F6").encode(),
        json.dumps({"message": ODD_PASSWORD}).encode()[:-1],
        f"you sent {ODD_PASSWORD}".encode(),
    ],
)
async def test_a_secret_is_hidden_however_json_writes_it(hostile: Hostile, ca_file: str, body: bytes) -> None:
    account = Endpoint(f"https://127.0.0.1:{hostile.port}", "admin", Secret(ODD_PASSWORD), ca_file)
    tls = tls_context(ca_file, insecure=False)
    session = Session("127.0.0.1", hostile.port, tls, account=account, timeout_s=5)
    hostile.on("GET /thing", reply(400, body))

    with pytest.raises(errors.PrismStatusError, match=r"\*\*\*") as refused:
        await session.ask(GET)
    await session.aclose()

    assert "pa" not in str(refused.value).partition("HTTP 400")[2]


def _session(server: Hostile, host: str, ca_file: str | None, clock: HandClock, *, insecure: bool = False) -> Session:
    endpoint = Endpoint(f"https://{host}:{server.port}", "admin", Secret(PASSWORD), ca_file, insecure=insecure)
    tls = tls_context(ca_file, insecure=insecure)
    return Session(host, server.port, tls, account=endpoint, timeout_s=5, clock=clock.clock)
