"""Metrics by HTTP: for whoever has the token, and nobody else; and where it is listened for them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from ntxengine import http_server as http
from ntxengine.agent.listening import Places
from ntxengine.agent.sockets import Access
from ntxengine.errors import LockedError, NtxError, OptionsError
from tests.agent.controlled import LIMIT_S, Live, live
from tests.agent.test_sockets import as_nobody, let_others_through
from tests.support.ports import reserved_port
from tests.support.servers import skip

METRIC = "ntx_agent_info"


@pytest.fixture
def port() -> Iterator[int]:
    with reserved_port() as held:
        yield held


@pytest.fixture
def taken() -> Iterator[int]:
    """Another one."""
    with reserved_port() as held:
        yield held


@asynccontextmanager
async def listening(folder: Path, metrics: str, token_file: Path | None = None) -> AsyncIterator[Live]:
    async with live(folder) as agent:
        agent.move(metrics=metrics, token_file=token_file)
        await agent.service.reread()
        await agent.until(lambda: agent.service._listeners._metrics.server is not None)
        yield agent


async def get(port: int, target: str = "/metrics", *headers: str, host: str = "127.0.0.1", method: str = "GET") -> str:
    """Return all that comes back."""
    async with asyncio.timeout(LIMIT_S):
        reader, writer = await asyncio.open_connection(host, port)
        lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]
        writer.write("\r\n".join(lines).encode("latin-1"))
        answer = await reader.read()
        writer.close()
    return answer.decode()


async def test_metrics_and_health_are_told_and_nothing_else(tmp_path: Path, port: int) -> None:
    async with listening(tmp_path, f"127.0.0.1:{port}"):
        metrics, health = await get(port), await get(port, "/healthz")
        others = [await get(port, target) for target in ("/", "/v1/status", "/metrics/../v1/run", "/v1/pause", "//")]
        written = [await get(port, method=method) for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW")]

    assert metrics.startswith("HTTP/1.1 200")
    assert METRIC in metrics
    assert health.endswith("\r\n\r\nok\n")
    assert [each.split()[1] for each in others] == ["404"] * 5
    assert [each.split()[1] for each in written] == ["405"] * 5
    assert METRIC not in "".join([health, *others, *written])


async def test_only_the_right_token_is_let_in(tmp_path: Path, port: int) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret-töken\n")
    wrong = [
        (),
        ("Authorization: Bearer",),
        ("Authorization: Bearer ",),
        ("Authorization: Bearer s3cret",),
        ("Authorization: Bearer s3cret-token",),
        ("Authorization: Basic s3cret-t\u00c3\u00b6ken",),
        ("Authorization: s3cret-t\u00c3\u00b6ken",),
        ("Authorization: Bearer s3cret-t\u00c3\u00b6ken", "Authorization: Bearer other"),
        ("Cookie: token=s3cret-t\u00c3\u00b6ken",),
        ("X-Token: s3cret-t\u00c3\u00b6ken",),
    ]
    async with listening(tmp_path, f"127.0.0.1:{port}", file):
        refused = [await get(port, "/metrics", *headers) for headers in wrong]
        refused.append(await get(port, "/metrics?token=s3cret-t%C3%B6ken"))
        right = await get(port, "/metrics", "Authorization: Bearer s3cret-t\u00c3\u00b6ken")
        health = await get(port, "/healthz")

    assert {each.split()[1] for each in refused} == {"401"}
    assert {each.partition("\r\n\r\n")[2] for each in refused} == {"unauthorized\n"}
    assert METRIC in right
    assert health.endswith("ok\n")


async def test_a_token_that_is_rotated_holds_at_once_and_one_that_is_gone_lets_nobody_in(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    file = tmp_path / "token"
    file.write_text("old\n")
    async with listening(tmp_path, f"127.0.0.1:{port}", file):
        before = await get(port, "/metrics", "Authorization: bearer old")
        file.write_text("new\n")
        rotated = [await get(port, "/metrics", f"Authorization: Bearer {each}") for each in ("old", "new")]
        file.unlink()
        gone = [await get(port, "/metrics", f"Authorization: Bearer {each}") for each in ("new", "", "new")]
        file.write_text("")
        empty = await get(port, "/metrics", "Authorization: Bearer ")
        file.write_text("new\n")
        again = await get(port, "/metrics", "Authorization: Bearer new")

    assert before.startswith("HTTP/1.1 200")
    assert [each.split()[1] for each in rotated] == ["401", "200"]
    assert [each.split()[1] for each in gone] == ["401"] * 3
    assert empty.startswith("HTTP/1.1 401")
    assert again.startswith("HTTP/1.1 200")
    assert caplog.text.count("No such file or directory: nobody can read the metrics") == 1
    assert "can be read again" in caplog.text
    assert "new" not in caplog.text.replace("anew", "")


@pytest.mark.parametrize(
    "metrics", ["0.0.0.0:9108", "[::]:9108", "192.0.2.7:9108", "[::ffff:192.0.2.7]:9108", "[fe80::1]:9108"]
)
def test_nobody_listens_to_the_network_without_a_token(metrics: str) -> None:
    with pytest.raises(OptionsError, match=r"give agent.metrics.token_file, or listen locally"):
        Places(metrics=metrics)


async def test_a_token_file_that_there_is_not_is_said_at_the_start(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        agent.move(metrics="0.0.0.0:9108", token_file=tmp_path / "none")

        with pytest.raises(OptionsError, match=r"agent.metrics.token_file .*/none: No such file"):
            await agent.service.reread()


async def test_ipv6_and_localhost_are_listened_to(tmp_path: Path) -> None:
    with ExitStack() as held:
        try:
            other = held.enter_context(reserved_port("::1"))
        except OSError:
            skip("this machine has no IPv6")
        port = held.enter_context(reserved_port("::"))
        async with listening(tmp_path, f"localhost:{port}") as agent:
            both = [await get(port, host=host) for host in ("127.0.0.1", "::1")]
            agent.move(metrics=f"[::1]:{other}")
            await agent.service.reread()
            await agent.service._listeners.settle()
            moved = await get(other, host="::1")
            with pytest.raises(OSError):
                await get(port, host="::1")

    assert all(METRIC in each for each in [*both, moved])


async def test_a_unix_socket_of_metrics_has_the_mode_of_the_other(tmp_path: Path) -> None:
    let_others_through(tmp_path)
    path = tmp_path / "metrics.sock"
    async with listening(tmp_path, str(path)) as agent:
        told = await agent.say(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path=path)
        others = await asyncio.to_thread(as_nobody, path)

    assert METRIC in told.decode()
    assert others == "refused"
    assert not path.exists()


async def test_a_reload_moves_both_and_one_that_cannot_changes_nothing(tmp_path: Path, port: int, taken: int) -> None:
    async with listening(tmp_path, f"127.0.0.1:{port}") as agent:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", taken))
            other.listen()
            agent.move(socket=tmp_path / "new" / "agent.sock", metrics=f"127.0.0.1:{taken}")
            refused, document = await agent.ask("reload", {})
        assert not (tmp_path / "new" / "agent.sock").exists()
        still = await get(port)

        reloaded, _ = await agent.ask("reload", {})
        await agent.service._listeners.settle()
        moved = await agent.say(
            b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path=tmp_path / "new" / "agent.sock"
        )
        metrics = await get(taken)

    assert refused == 500
    what = f"agent.metrics.listen: the port {taken} of 127.0.0.1 cannot be used"
    assert document["error"]["message"] == f"{what}: another program, or this agent, listens at that port; name another"
    assert METRIC in still
    assert reloaded == 200
    assert moved.startswith(b"HTTP/1.1 200")
    assert METRIC in metrics
    assert not (tmp_path / "agent.sock").exists()


async def test_a_reload_changes_who_may_connect(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        agent.move(access=Access(0o600))
        await agent.service.reread()
        narrow = (tmp_path / "agent.sock").stat().st_mode & 0o777
        agent.move(access=Access(0o660, "nosuchgroup"))
        with pytest.raises(OptionsError, match="this machine has none of that name"):
            await agent.service.reread()
        good, _ = await agent.ask("status")

    assert narrow == 0o600
    assert good == 200


async def test_a_second_agent_takes_the_socket_from_nobody(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        (tmp_path / "other").mkdir()
        other = Live(tmp_path / "other", agent.built)  # type: ignore[arg-type]
        with pytest.raises(LockedError, match=r"agent.socket: the socket .* another process works with it"):
            await other.service.run()
        good, _ = await agent.ask("status")

    assert good == 200


async def test_slow_clients_of_metrics_are_cut_and_many_keep_nobody_out(tmp_path: Path, port: int) -> None:
    async with listening(tmp_path, f"127.0.0.1:{port}") as agent:
        many = [await asyncio.open_connection("127.0.0.1", port) for _ in range(http.CONNECTIONS + 10)]
        many[-1][1].write(b"GET /metrics HTT")
        told = await get(port)
        agent.service._listeners._metrics.server.request_s = 0.3
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        slow[-1][1].write(b"GET /metrics HTT")
        async with asyncio.timeout(LIMIT_S):
            for reader, _ in slow:
                with suppress(ConnectionError):
                    await reader.read()
        for _, writer in [*many, *slow]:
            writer.close()

    assert METRIC in told


async def test_a_folder_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    async with live(tmp_path) as agent:
        agent.move(socket=Path("/proc/nowhere/agent.sock"))

        with pytest.raises(NtxError, match=r"^agent.socket: the socket /proc/nowhere/agent.sock cannot be used: "):
            await agent.service.reread()

        assert (tmp_path / "agent.sock").is_socket()
