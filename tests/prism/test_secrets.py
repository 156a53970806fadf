"""No secret in a message, a log, a repr or a pickle, whatever a server does with what it was sent."""

from __future__ import annotations

import json
import logging
import pickle
import re
import traceback
from collections.abc import Callable

import httpx
import pytest

from ntxengine import errors
from ntxengine.prism.http import secret as module
from ntxengine.prism.http.endpoint import Endpoint, Secret
from ntxengine.prism.http.error_body import is_not_found
from ntxengine.prism.http.secret import ToldSecrets, redacted
from ntxengine.prism.http.session import Request, Session, tls_context
from tests.prism.hostile import HandClock, Hostile, reply

PASSWORD = "s3cret-pass-word"
KEY = "key-of-a-service-account"
TOKEN = "aaaa.bbbb.cccc"
COOKIE = "their-session-cookie"
BASIC = "YWRtaW46czNjcmV0LXBhc3Mtd29yZA=="
REDIRECT = "token-of-a-redirect"
ALL = (PASSWORD, KEY, TOKEN, COOKIE, BASIC, REDIRECT)

GET = Request("GET", "/api/vmm/v4.1/ahv/config/vms")
THING = Request("GET", "/thing")
Reply = Callable[[httpx.Request], httpx.Response]


def echo(request: httpx.Request) -> str:
    """Everything that was sent, and what the server knows besides."""
    return f"you sent {dict(request.headers)}; {PASSWORD} {KEY} {TOKEN}" * 3


def no(status: int) -> Reply:
    def reply(request: httpx.Request) -> httpx.Response:
        body = {"message_list": [{"message": echo(request), "reason": request.headers.get("authorization", "x")}]}
        return httpx.Response(status, json=body, headers={"Set-Cookie": f"NTNX_IGW_SESSION={COOKIE}; Path=/"})

    return reply


def plain(request: httpx.Request) -> httpx.Response:
    return httpx.Response(500, text=echo(request))


def hidden(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"state": "ERROR", "code": 500, "message_list": [{"message": echo(request)}]})


def redirect(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/there":
        return no(400)(request)
    there = {"Location": "https://pe.example/there", "X-Redirect-Token": f"T={REDIRECT}"}
    return httpx.Response(302, headers=there)


def broken(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("cut", request=request)


REPLIES = {
    "400": no(400), "401": no(401), "403": no(403), "429": no(429), "500": no(500), "504": no(504),
    "plain": plain, "hidden": hidden, "redirect": redirect, "broken": broken,
}  # fmt: skip

ACCOUNTS = {
    "local": Endpoint("https://pc", "admin", Secret(PASSWORD)),
    "ad": Endpoint("https://pc", "admin@corp", Secret(PASSWORD), auth="ad"),
    "api_key": Endpoint("https://pc", "", Secret(KEY), auth="api_key"),
    "token": None,
}


@pytest.mark.parametrize("kind", ACCOUNTS)
@pytest.mark.parametrize("name", REPLIES)
async def test_no_secret_is_told(name: str, kind: str, clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([httpx.Response(200, json={}, headers={"Set-Cookie": f"NTNX_IGW_SESSION={COOKIE}; Path=/"})])

    def play(request: httpx.Request) -> httpx.Response:
        return next(answers, None) or REPLIES[name](request)

    account = ACCOUNTS[kind]
    own = {"local": (PASSWORD, BASIC), "ad": (PASSWORD,), "api_key": (KEY,), "token": (TOKEN,)}[kind]
    request = Request(GET.method, GET.path, token=Secret(TOKEN))
    tls = tls_context(None, insecure=True)
    transport = httpx.MockTransport(play)
    session = Session("pc", 9440, tls, account=account, timeout_s=5, clock=clock.clock, transport=transport)

    with caplog.at_level(logging.DEBUG):
        await session.ask(request)
        with pytest.raises(errors.NtxError) as failed:
            await session.ask(request)
    await session.aclose()

    error = failed.value
    told = [str(error), repr(error), repr(vars(error)), caplog.text, repr(session), repr(request), repr(account)]
    told += ["".join(traceback.format_exception(error)), pickle.dumps(error).decode("latin-1")]
    told += [repr(account.account), str(account.password)] if account is not None else []
    for text in told:
        assert not [secret for secret in (*own, COOKIE, REDIRECT) if secret in text], text


# -- what is left of an error body

HARD = 'pa<ss"&1w\u00f6\\\n\U0001f511end'


def escaped(text: str) -> str:
    """As Gson and Go write it: more letters are escaped than need be, in hexadecimal of either case."""
    many = {letter: f"\\u{ord(letter):04X}" for letter in "<>&=\u00f6"} | {"/": "\\/"}
    return "".join(many.get(letter, json.dumps(letter)[1:-1]) for letter in text)


def inner(text: str) -> str:
    return f'{{"inner":"{text}"}}'


@pytest.mark.parametrize("secret", [HARD, BASIC, PASSWORD, "\\u0041\\\\", "two\\", "au005cb\\u005c"])
@pytest.mark.parametrize(
    "written",
    [
        lambda secret: secret,
        lambda secret: inner(json.dumps(secret)[1:-1]),
        lambda secret: inner(escaped(secret)),
        lambda secret: f"upstream said {inner(escaped(secret))}, sorry",
        lambda secret: inner(escaped(inner(escaped(secret)))),
        lambda secret: inner(json.dumps(inner(json.dumps(secret, ensure_ascii=False)[1:-1]))[1:-1]),
    ],
    ids=["itself", "in-json", "gson", "gson-in-words", "twice", "twice-utf8"],
)
def test_a_secret_is_hidden_however_json_writes_it(written: Callable[[str], str], secret: str) -> None:
    whole = [{"message": f"before {written(secret)} after", written(secret): 7}]
    bodies = [json.dumps(whole), escaped(json.dumps(whole)), f"plain {written(secret)} after"]
    told = ToldSecrets()
    told.encode([Secret("another"), Secret(secret), Secret("")])

    for body in bodies:
        found = told.written_in(body.encode())
        left = redacted(body.encode(), found).decode()

        assert found == [secret]
        assert "***" in left, left
        assert re.findall("after", left), left
        for form in (secret, escaped(secret), json.dumps(secret)[1:-1], secret.strip("\\")):
            assert form not in left


def test_json_stays_json_with_its_numbers() -> None:
    found = {"code": 14001, "list": [1, True, None, 1.5], "message": "14001 of 1"}

    assert json.loads(redacted(json.dumps(found).encode(), ["1"])) == {**found, "message": "***400*** of ***"}
    assert redacted(b'{"code": 14001}', [""]) == b'{"code": 14001}'
    assert redacted(b"the long one", ["the", "the long one", "\\"]) == b"***"


def test_a_hostile_body_is_redacted_in_no_time() -> None:
    body = b"a" + b"\\" * 1_000_000

    assert redacted(body, ["a\\\\\\b", "\\\\c"]) == body
    assert redacted(b"[" * 100_000 + b'"secret"', ["secret"]).endswith(b'"***"')


async def test_a_cookie_that_proves_nothing_hides_nothing(hostile: Hostile, session: Session) -> None:
    gone = {"message_list": [{"reason": "ENTITY_NOT_FOUND", "message": "1 gone, not 10"}], "code": 14001}
    hostile.on("GET /thing", reply(200, {}, Set_Cookie="SERVERID=1; Path=/"), reply(400, gone))
    await session.ask(THING)

    with pytest.raises(errors.PrismStatusError, match="HTTP 400 ENTITY_NOT_FOUND: 1 gone, not 10") as refused:
        await session.ask(THING)

    assert is_not_found(refused.value)


async def test_a_secret_in_a_body_goes_out_and_never_comes_back(
    hostile: Hostile, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    chap = "chap4secret01"
    request = Request("POST", "/groups", body={"iscsi": [{"secret": Secret(chap)}], "size": 1})
    echoes = reply(500, {"message_list": [{"message": f"you sent {chap}"}], "code": 14001})
    hostile.on("POST /groups", echoes, reply(200, {"said": [chap, f"and {chap}"], "size": 14001}))
    hostile.on("GET /thing", reply(200, {"error": f"{chap} was refused"}))

    with caplog.at_level(logging.DEBUG), pytest.raises(errors.PrismStatusError) as failed:
        await session.ask(Request(request.method, request.path, body=request.body, is_repeatable=False))
    told = await session.ask(request)
    later = await session.ask(THING)

    assert hostile.asked[0].json == {"iscsi": [{"secret": chap}], "size": 1}
    assert json.loads(told.body) == {"said": ["***", "and ***"], "size": 14001}
    assert json.loads(later.body) == {"error": "*** was refused"}
    for text in (str(failed.value), repr(vars(failed.value)), repr(request), repr(told), caplog.text):
        assert chap not in text


async def test_a_secret_that_is_forgotten_is_looked_for_no_longer(hostile: Hostile, session: Session) -> None:
    chaps = [Secret(f"chap4secret{number:03}") for number in range(3)]
    hostile.on("POST /groups", reply(200, {}))
    hostile.on("GET /thing", reply(400, {"message_list": [{"message": " ".join(chap.reveal() for chap in chaps)}]}))
    await session.ask(Request("POST", "/groups", body=chaps))

    session.forget(chaps[1])
    session.forget(Secret("that nobody told"))
    with pytest.raises(errors.PrismStatusError, match=r"\*\*\* chap4secret001 \*\*\*"):
        await session.ask(THING)


async def test_an_error_costs_no_pattern_for_each_secret_that_was_told(
    hostile: Hostile, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A capture of many disks tells one for each, and hears many errors."""
    chaps = [Secret(f"chap4secret{number:03}") for number in range(50)]
    hostile.on("POST /groups", reply(200, {}))
    hostile.on("GET /thing", reply(400, {"message_list": [{"message": f"no {chaps[7].reveal()}"}]}))
    await session.ask(Request("POST", "/groups", body=chaps))
    made: list[str] = []
    pattern_of = module._pattern
    monkeypatch.setattr(module, "_pattern", lambda secret: made.append(secret) or pattern_of(secret))

    with pytest.raises(errors.PrismStatusError, match=r"no \*\*\*"):
        await session.ask(THING)

    assert [secret for secret in made if secret.startswith("chap")] == [chaps[7].reveal()]


@pytest.mark.parametrize("kind", ["local", "api_key"])
def test_an_endpoint_cannot_be_pickled(kind: str) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(ACCOUNTS[kind])
