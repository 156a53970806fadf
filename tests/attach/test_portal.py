"""What is asked of a data services address before anything is frozen, and how it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ntxengine.attach import portal
from ntxengine.attach.portal import Portal, parse_portal, portal_problem
from ntxengine.errors import OptionsError
from tests.support.iscsi import silent_server
from tests.support.ports import reserved_port

IS_IT_THAT = "is that the data services address (--data-services)?"
NAME = "iqn.2026-11.org.ntxengine:probe"


@pytest.mark.parametrize(
    ("text", "meant", "written"),
    [
        ("10.0.0.5", Portal("10.0.0.5"), "10.0.0.5:3260"),
        ("ds.example:3261", Portal("ds.example", 3261), "ds.example:3261"),
        ("[fd00::1]:3261", Portal("fd00::1", 3261), "[fd00::1]:3261"),
        ("fd00::1", Portal("fd00::1"), "[fd00::1]:3260"),
    ],
)
def test_an_address_is_a_host_with_or_without_a_port(text: str, meant: Portal, written: str) -> None:
    assert parse_portal(text, "--x") == meant
    assert str(meant) == written


@pytest.mark.parametrize("text", ["", "a b", "host:", "host:0", "host:65536", "iscsi://host", "user@host", "host/x"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(OptionsError, match=r"--x: .* is not HOST or HOST:PORT"):
        parse_portal(text, "--x")


async def test_a_silent_portal_is_given_up() -> None:
    with silent_server() as (host, port):
        problem = await portal_problem(Portal(host, port), NAME, timeout_s=0.2)

    assert problem == f"{host}:{port} takes the connection and says nothing for 0.2 s; {IS_IT_THAT}"


async def test_a_portal_that_nobody_is_at_is_said() -> None:
    with reserved_port() as port:
        problem = await portal_problem(Portal("127.0.0.1", port), NAME)

    assert problem.startswith(f"no connection to 127.0.0.1:{port}: ")


async def test_a_resolver_that_is_silent_is_given_up_and_left_behind(silent_resolver: None) -> None:
    problem = await portal_problem(Portal("ds.example.com"), NAME, timeout_s=0.05)

    assert problem.startswith("looking up ds.example.com failed: no answer in 0.05 s")


async def test_a_name_that_means_nothing_is_said() -> None:
    problem = await portal_problem(Portal("999.999.999.999"), NAME)

    assert problem.startswith("looking up 999.999.999.999 failed: ")
    assert problem.endswith(f"; {IS_IT_THAT}")


async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def addresses_of(*_: object) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    monkeypatch.setattr(portal, "addresses_of", addresses_of)

    def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(end, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]

        assert await portal_problem(Portal("ds.example.com", port), NAME, timeout_s=5) == ""


async def test_another_protocol_is_told_from_iscsi() -> None:
    def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    assert await _problem_with(answer) == f"does not speak iSCSI; {IS_IT_THAT}"


async def test_one_who_has_no_target_for_us_yet_is_no_problem() -> None:
    def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    assert await _problem_with(end) == ""


async def _problem_with(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]) -> str:
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        place = Portal(*server.sockets[0].getsockname())
        return (await portal_problem(place, NAME, timeout_s=5)).removeprefix(f"{place} ")
