from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture
def silent_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every look-up of a name hang until the test is over, in a thread that the end of a program waits for not."""
    over = threading.Event()
    asking: list[threading.Thread] = []

    def hang(*_: object, **__: object) -> list[object]:
        asking.append(threading.current_thread())
        over.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "over")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield
    over.set()
    assert asking
    assert all(thread.daemon for thread in asking)
