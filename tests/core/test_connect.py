"""Connecting to an NBD server: whatever it waits for, a cancellation ends it at once and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ntxengine.dataplane.open import open_source
from ntxengine.errors import SourceError, TransferTimeout

STALL_S = 60.0
SOON_S = 20.0


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def opened(uri: str, timeout_s: float = STALL_S) -> str:
    async with open_source(uri, timeout_s=timeout_s) as device:
        return device.name


async def check_cancelled(uri: str, is_waiting: Callable[[], bool]) -> None:
    """Cancel an opening of `uri` as soon as it waits; the thread that opens has ended afterwards."""
    before, threads = open_descriptors(), threading.active_count()
    task = asyncio.create_task(opened(uri))
    while not is_waiting():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    began = time.monotonic()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    while threading.active_count() > threads:  # it has said so, and is about to end
        await asyncio.sleep(0.01)
    assert time.monotonic() - began < SOON_S
    assert open_descriptors() == before


@contextlib.contextmanager
def listener(family: int, address: Any) -> Iterator[socket.socket]:
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind(address)
        server.listen(0)
        yield server


@contextlib.contextmanager
def full_queue(server: socket.socket) -> Iterator[None]:
    """Connect until the listener takes no more: the next one waits."""
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(socket.socket(server.family, socket.SOCK_STREAM))
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        time.sleep(0.1)
        yield


async def test_a_silent_server_is_given_up_when_cancelled(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listener(socket.AF_UNIX, path) as server:
        server.setblocking(False)
        accepted: list[socket.socket] = []

        def is_waiting() -> bool:
            with contextlib.suppress(BlockingIOError):
                accepted.append(server.accept()[0])
            return bool(accepted)

        before = open_descriptors()
        task = asyncio.create_task(opened(f"nbd+unix:///?socket={path}"))
        while not is_waiting():
            await asyncio.sleep(0.01)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert time.monotonic() - began < SOON_S
        assert accepted[0].recv(1) == b""  # the connection was closed, not left
        accepted[0].close()
        assert open_descriptors() == before


async def test_a_unix_listener_without_room_is_given_up_when_cancelled(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listener(socket.AF_UNIX, path) as server, full_queue(server):
        await check_cancelled(f"nbd+unix:///?socket={path}", lambda: True)


async def test_a_tcp_connection_that_is_never_answered_is_given_up_when_cancelled() -> None:
    with listener(socket.AF_INET, ("127.0.0.1", 0)) as server, full_queue(server):
        await check_cancelled(f"nbd://127.0.0.1:{server.getsockname()[1]}/", lambda: True)


@pytest.fixture
def hanging_look_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let every look-up of a name hang until the test is over; yields what tells that one has begun."""
    begun, over = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[Any]:
        begun.set()
        over.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield begun
    over.set()


async def test_a_name_look_up_that_hangs_is_left_when_cancelled(hanging_look_up: threading.Event) -> None:
    before = open_descriptors()
    task = asyncio.create_task(opened("nbd://somewhere.example/"))
    while not hanging_look_up.is_set():
        await asyncio.sleep(0.01)
    began = time.monotonic()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert time.monotonic() - began < SOON_S
    assert open_descriptors() == before


async def test_a_name_look_up_that_hangs_ends_with_the_time_limit(hanging_look_up: threading.Event) -> None:
    with pytest.raises(TransferTimeout, match=r"nbd://somewhere\.example/: looking up the host failed: no answer"):
        await opened("nbd://somewhere.example/", timeout_s=0.1)


async def test_a_host_name_that_means_nothing_says_so() -> None:
    with pytest.raises(SourceError, match=r"nbd://999.999.999.999/: looking up the host failed: "):
        await opened("nbd://999.999.999.999/")


def answers(*addresses: tuple[int, str]) -> Callable[..., list[Any]]:
    def look_up(_: bytes, port: int, **__: object) -> list[Any]:
        return [
            (family, socket.SOCK_STREAM, 6, "", (text, port, 0, 0) if family == socket.AF_INET6 else (text, port))
            for family, text in addresses
        ]

    return look_up


async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reached at the second one, and messages use the name."""
    monkeypatch.setattr(socket, "getaddrinfo", answers((socket.AF_INET, "127.0.0.2"), (socket.AF_INET, "127.0.0.1")))

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        greeting = asyncio.create_task(asyncio.to_thread(_hang_up_on_one, server))
        with pytest.raises(SourceError, match=f"nbd://somewhere.example:{port}/: .*closed the connection"):
            await opened(f"nbd://somewhere.example:{port}/")
        await greeting


def _hang_up_on_one(server: socket.socket) -> None:
    server.accept()[0].close()


async def test_an_address_that_swallows_all_gets_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as refuses, contextlib.ExitStack() as stack:
        refuses.bind(("127.0.0.1", 0))  # nobody listens there, nor will
        port = refuses.getsockname()[1]
        swallows = stack.enter_context(listener(socket.AF_INET, ("127.0.0.2", port)))
        stack.enter_context(full_queue(swallows))
        monkeypatch.setattr(
            socket, "getaddrinfo", answers((socket.AF_INET, "127.0.0.2"), (socket.AF_INET, "127.0.0.1"))
        )
        began = time.monotonic()

        with pytest.raises(SourceError, match="Connection refused"):
            await opened(f"nbd://somewhere.example:{port}/", timeout_s=2)

        assert 0.75 < time.monotonic() - began < SOON_S
