"""What a probe sees of this machine, as it is."""

from __future__ import annotations

import socket

import pytest

from ntxengine.probe import machine
from ntxengine.probe.machine import Machine
from tests.support.ports import reserved_port


async def test_a_port_is_open_or_closed() -> None:
    with reserved_port() as port:
        with socket.create_server(("127.0.0.1", port)):
            is_open = await Machine().connect("127.0.0.1", port)
        closed = await Machine().connect("127.0.0.1", port)

    assert (is_open.answer, is_open.source) == ("open", "127.0.0.1")
    assert (closed.answer, closed.cause) == ("closed", "connection refused")


async def test_a_name_that_cannot_be_one_is_no_defect() -> None:
    found = await Machine().connect("x" * 70, 443)

    assert (found.answer, found.cause) == ("silent", "no address of a host")


async def test_a_port_that_takes_no_connection_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CONNECT_TIMEOUT_S", 0.2)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.create_connection(full.getsockname()) for _ in range(1)]
        found = [await Machine().connect("127.0.0.1", full.getsockname()[1]) for _ in range(3)]
        for each in waiting:
            each.close()

    assert found[-1].answer == "silent"
    assert found[-1].cause == "no answer within 0.2 s"


async def test_a_name_has_addresses() -> None:
    assert await Machine().addresses("localhost")
