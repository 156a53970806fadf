"""Control planes that are broken, or not what they should be: said in one line, and nothing is left."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ntxengine.errors import ControlPlaneError, ControlPlaneTimeout
from ntxengine.events import Stage
from ntxengine.export import notify
from tests.capture.lab import Witness
from tests.export.exporting import Exporting
from tests.export.receiver import Notification
from tests.support.pki import Pki, make_identity
from tests.support.timeouts import Timeouts


@pytest.fixture(autouse=True)
def _is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "FIRST_WAIT_S", 0.01)


OK = b"HTTP/1.1 204 No Content\r\n\r\n"
ENDLESS = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"


@asynccontextmanager
async def answering(
    pki: Pki, *pieces: bytes, again: bytes = b"", context: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Answer every request with these bytes, and then with `again` for as long as anybody takes it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
            for piece in pieces:
                writer.write(piece)
            await writer.drain()
            while again:
                writer.write(again)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki.folder / "server-cert.pem", pki.folder / "server-key.pem")
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/ntx"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("said", "again", "words"),
    [
        (b"", b"", "cannot be told"),
        (b"nonsense\r\n\r\n", b"", "cannot be told"),
        (b"HTTP/1.1 999999 What\r\n\r\n", b"", "cannot be told|answers 999"),
        (b"HTTP/1.1 204 No Content\r\nContent-Le", b"", "cannot be told"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\nx", b"", "cannot be told|answers 500"),
        (
            b"HTTP/1.1 500 No\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nxxxx",
            b"",
            "answers 500: xxxx",
        ),
        (b"HTTP/1.1 301 There\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", b"", "redirect"),
        (ENDLESS, CHUNK, r"answers 500: x{200}"),
        (b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 1000 + b"\r\n", "cannot be told|no answer"),
    ],
    ids=["nothing", "nonsense", "status", "cut", "short", "encoding", "redirect", "endless", "headers"],
)
async def test_an_answer_that_is_none_is_one_error(said: bytes, again: bytes, words: str, exporting: Exporting) -> None:
    async with answering(exporting.pki, said, again=again) as url:
        exporting.receiver.url = url
        with pytest.raises(ControlPlaneError, match=words) as e:
            await exporting.run(notify={"attempts": 2, "timeout_s": 60})

    assert len(str(e.value)) < 500
    assert "\n" not in str(e.value)
    exporting.assert_clean(kept=[])


class _RunsOut(Witness):
    """Lets the time of an export be up when it waits for the control plane."""

    def __init__(self, limits: Timeouts) -> None:
        super().__init__()
        self._limits = limits

    def began(self, stage: Stage) -> None:
        if stage == Stage.WAIT:
            self._limits.run_out()


async def test_an_endless_answer_that_says_yes_is_not_waited_for(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Timeouts(monkeypatch, 600)
    exporting.lab.make_witness = lambda: _RunsOut(limits)
    async with answering(exporting.pki, ENDLESS.replace(b"500 No", b"200 OK"), again=CHUNK) as url:
        exporting.receiver.url = url
        with pytest.raises(ControlPlaneTimeout, match="did not say that it is done"):
            await exporting.run(time_limit_s=600)

    assert Stage.WAIT in exporting.witness.stages
    exporting.assert_clean(kept=[])


@pytest.mark.parametrize("kind", ["of another CA", "of another host", "that has expired"])
async def test_a_certificate_that_is_wrong_is_not_told_anything(kind: str, exporting: Exporting) -> None:
    ca = None if kind == "of another CA" else exporting.pki.ca
    hosts = ("other.example",) if kind == "of another host" else ("127.0.0.1",)
    identity = make_identity("server", by=ca, hosts=hosts, days=-1 if kind == "that has expired" else 2)
    folder = exporting.copies.parent
    identity.write(folder / "cert.pem", folder / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    async with answering(exporting.pki, OK, context=context) as url:
        exporting.receiver.url = url
        with pytest.raises(ControlPlaneError, match="CERTIFICATE_VERIFY_FAILED"):
            await exporting.run(notify={"attempts": 1})

    exporting.assert_clean(kept=[])


async def test_one_that_is_told_and_hangs_up_is_waited_for(exporting: Exporting) -> None:
    """It has read the notification, and its answer was lost: it may come back all the same."""
    receiver = exporting.receiver
    receiver.answer = lambda attempt: 503 if attempt == 1 else 204
    told: list[str] = []

    def take(notification: Notification) -> None:
        told.append(notification["export_id"])
        exporting.take_whole(notification)

    receiver.then = take

    exported = await exporting.run()

    assert told == [exported.export_id]
    assert [each["idempotency-key"] for each in receiver.seen] == [exported.export_id] * 2


async def test_two_that_say_done_at_once_are_told_the_same(exporting: Exporting) -> None:
    answers: list[int] = []

    def take(notification: Notification) -> None:
        exporting.client.pull(notification, exporting.copies)
        said = [
            threading.Thread(target=lambda: answers.append(exporting.client.done(notification).status_code))
            for _ in range(4)
        ]
        for each in said:
            each.start()
        for each in said:
            each.join()

    exporting.receiver.then = take

    exported = await exporting.run()

    assert answers == [200] * 4
    exporting.assert_clean(kept=[exported.recovery_point_id])
