"""Who says first how an export ends, and what is answered to whoever says it again."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from ntxengine.errors import ControlPlaneError, TargetError
from ntxengine.export.ending import Done, Ending
from ntxengine.export.notify import notify
from ntxengine.export.options import NotifyOptions
from tests.support.silent import silent
from tests.support.timeouts import Timeouts

SUCCESS, FAILURE = Done("success", "rp"), Done("failure", "rp")


class Keeps:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.times = 0

    async def __call__(self) -> None:
        self.times += 1
        if self.error is not None:
            raise self.error


async def test_who_got_no_answer_to_a_success_gets_the_same_one_also_when_all_is_over() -> None:
    keeps = Keeps()
    ending = Ending(keeps)

    first = await ending.say(SUCCESS)
    ending.claim()
    again = await ending.say(SUCCESS)
    otherwise = await ending.say(FAILURE)

    assert (first, again, otherwise, keeps.times) == (True, True, False, 1)
    assert await ending.result() == SUCCESS


async def test_who_comes_when_it_is_over_is_not_heard() -> None:
    keeps = Keeps()
    ending = Ending(keeps)

    ending.claim()

    assert await ending.say(SUCCESS) is False
    assert (await ending.result(), keeps.times) == (None, 0)


async def test_a_success_that_could_not_be_recorded_is_told_so_each_time() -> None:
    ending = Ending(Keeps(TargetError("full")))

    for _ in range(2):
        with pytest.raises(TargetError):
            await ending.say(SUCCESS)
    with pytest.raises(TargetError):
        await ending.result()
    assert ending.over.is_set()


async def test_a_connection_that_breaks_without_a_word_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("", request=request)

    real = httpx.AsyncClient
    transport = httpx.MockTransport(breaks)
    monkeypatch.setattr(httpx, "AsyncClient", lambda **options: real(transport=transport, **options))
    options = NotifyOptions("https://cp.example/ntx", attempts=2)

    warnings: list[str] = []
    with pytest.raises(ControlPlaneError, match="cannot be told: ReadError; given up after 2 attempts"):
        await notify(options, b"{}", key="k", warn=warnings.append, sleep=lambda seconds: asyncio.sleep(0))
    assert warnings == ["https://cp.example/ntx: cannot be told: ReadError; trying again in 1 s"]


async def test_a_handshake_that_is_given_up_leaves_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control plane sees the end of it at once, not when the garbage is collected."""
    limits = Timeouts(monkeypatch, 500)
    async with silent() as server:
        options = NotifyOptions(f"https://127.0.0.1:{server.port}/", attempts=1, timeout_s=500)
        telling = asyncio.create_task(notify(options, b"{}", key="k", warn=lambda text: None))
        await server.began.wait()

        limits.run_out()
        with pytest.raises(ControlPlaneError, match="no answer within 500 s") as held:
            await telling

        async with asyncio.timeout(20):
            await server.ended.wait()
        del held
