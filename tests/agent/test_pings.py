"""Pings: they arrive, or it is said once; nobody waits for them, and their URLs are never shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from ntxengine.agent import pings
from ntxengine.agent.pings import Pinger
from ntxengine.prism import Secret
from tests.support.silent import silent
from tests.support.timeouts import Timeouts

URL = Secret("https://user:hunter2@hc.example:8443/ping/hush?token=hush")


class Server(httpx.AsyncBaseTransport):
    """Answers one after another, the last for ever; an exception is raised."""

    def __init__(self, *answers: httpx.Response | Exception | None) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer


def ok(status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers=headers)


async def _at_once(seconds: float) -> None:
    await asyncio.sleep(0)


@pytest.fixture
async def pinger_of() -> AsyncIterator[Callable[..., Pinger]]:
    made: list[Pinger] = []

    def make(transport: httpx.AsyncBaseTransport | None = None) -> Pinger:
        made.append(Pinger(transport=transport, sleep=_at_once))
        return made[-1]

    yield make
    for each in made:
        await each.aclose()


async def ping(pinger: Pinger, url: Secret = URL, event: str = "success") -> None:
    """Ping, and wait for what becomes of it."""
    pinger.ping("nightly", event, url)
    await asyncio.gather(*pinger._tasks)


async def test_a_ping_is_one_get(pinger_of: Callable[..., Pinger], caplog: pytest.LogCaptureFixture) -> None:
    server = Server(ok())

    await ping(pinger_of(server))

    assert server.asked == [URL.reveal().replace("user:hunter2@", "")] or server.asked == [URL.reveal()]
    assert caplog.text == ""


async def test_a_server_that_is_busy_is_asked_three_times(pinger_of: Callable[..., Pinger]) -> None:
    server = Server(ok(503), httpx.ConnectError("refused"), ok())

    await ping(pinger_of(server))

    assert len(server.asked) == 3


async def test_one_that_says_no_is_not_asked_again(pinger_of: Callable[..., Pinger]) -> None:
    server = Server(ok(404))

    await ping(pinger_of(server))

    assert len(server.asked) == 1


async def test_what_does_not_arrive_is_said_once_and_once_when_it_does_again_by_host_alone(
    pinger_of: Callable[..., Pinger], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    broken = httpx.ConnectError(f"cannot reach {URL.reveal()}")
    server = Server(*[broken] * 3, *[ok(500)] * 3, ok(410), ok(), ok())
    pinger = pinger_of(server)

    for _ in range(5):
        await ping(pinger)

    said = [record.getMessage() for record in caplog.records if record.name.startswith("ntxengine")]
    assert said == [
        "job 'nightly': the success ping to hc.example does not arrive: ConnectError",
        "job 'nightly': the success ping to hc.example arrives again",
    ]
    assert "hush" not in caplog.text
    assert "hunter2" not in caplog.text


async def test_no_answer_is_waited_for_so_long_and_no_longer(
    pinger_of: Callable[..., Pinger], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pings, "TIMEOUT_S", 0.01)

    await ping(pinger_of(Server(None)))

    assert "no answer within 0.01 s" in caplog.text


@pytest.mark.parametrize(
    ("location", "reached"),
    [("https://other.example/b", True), ("http://hc.example/b", False), ("file:///etc/passwd", False)],
)
async def test_a_redirect_is_followed_in_its_scheme_alone(
    pinger_of: Callable[..., Pinger], caplog: pytest.LogCaptureFixture, location: str, reached: bool
) -> None:
    server = Server(ok(302, location=location), ok())

    await ping(pinger_of(server))

    assert (caplog.text == "") == reached
    assert len(server.asked) == 1 + reached


async def test_redirects_without_end_end(pinger_of: Callable[..., Pinger], caplog: pytest.LogCaptureFixture) -> None:
    server = Server(ok(302, location="https://hc.example/again"))

    await ping(pinger_of(server))

    assert len(server.asked) == pings.MAX_REDIRECTS + 1
    assert "redirected more than" in caplog.text


async def test_too_many_that_wait_are_left_out_and_it_is_said_once(
    pinger_of: Callable[..., Pinger], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pings, "MAX_PENDING", 3)
    pinger = pinger_of(Server(None))

    for _ in range(10):
        pinger.ping("nightly", "start", URL)

    assert len(pinger._tasks) == 3
    assert caplog.text.count("more are left out") == 1


async def test_closing_waits_for_what_is_on_its_way_but_not_for_ever(pinger_of: Callable[..., Pinger]) -> None:
    quick, slow = pinger_of(Server(ok())), pinger_of(Server(None))
    quick.ping("nightly", "success", URL)
    slow.ping("nightly", "success", URL)

    await quick.aclose(limit_s=10)
    await slow.aclose(limit_s=0.01)

    assert not quick._tasks
    assert not slow._tasks


async def test_a_real_server_is_reached_and_its_endless_answer_is_not_read(
    pinger_of: Callable[..., Pinger], caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[bytes] = []
    has_ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1000\r\n" + bytes(4096) + b"\r\n")
                await writer.drain()
        except ConnectionError:
            writer.close()
            has_ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    await ping(pinger_of(), Secret(f"http://127.0.0.1:{port}/ping/x?y=1"))
    await has_ended.wait()
    server.close()

    assert lines == [b"GET /ping/x?y=1 HTTP/1.1\r\n"]
    assert caplog.text == ""


async def test_a_handshake_that_is_given_up_leaves_no_connection(
    pinger_of: Callable[..., Pinger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pings, "TIMEOUT_S", 500)
    monkeypatch.setattr(pings, "WAITS_S", ())
    limits = Timeouts(monkeypatch, 500)
    async with silent() as server:
        pinger = pinger_of()
        pinger.ping("nightly", "success", Secret(f"https://127.0.0.1:{server.port}/"))
        await server.began.wait()

        limits.run_out()

        async with asyncio.timeout(20):
            await server.ended.wait()


async def test_nobody_there_is_said_in_the_words_of_the_system(
    pinger_of: Callable[..., Pinger], caplog: pytest.LogCaptureFixture
) -> None:
    await ping(pinger_of(), Secret("http://127.0.0.1:1/ping/hush"))

    assert "to 127.0.0.1 does not arrive: " in caplog.text
    assert "hush" not in caplog.text
