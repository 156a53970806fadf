"""No secret in a message, a log, a repr or a pickle, whatever a server does with what it was sent."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable

import httpx
import pytest

from ntxengine import errors
from ntxengine.prism.http.endpoint import Endpoint, Secret
from ntxengine.prism.http.session import Request, Session, tls_context
from tests.prism.hostile import HandClock

PASSWORD = "s3cret-pass-word"
KEY = "key-of-a-service-account"
TOKEN = "aaaa.bbbb.cccc"
COOKIE = "their-session-cookie"
BASIC = "YWRtaW46czNjcmV0LXBhc3Mtd29yZA=="
REDIRECT = "token-of-a-redirect"
ALL = (PASSWORD, KEY, TOKEN, COOKIE, BASIC, REDIRECT)

GET = Request("GET", "/api/vmm/v4.1/ahv/config/vms")
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


@pytest.mark.parametrize("kind", ["local", "api_key"])
def test_an_endpoint_cannot_be_pickled(kind: str) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(ACCOUNTS[kind])
