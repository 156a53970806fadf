"""What a command makes of whatever listens at the socket: one clear line, in time, and with a bound."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ntxengine.agent import client as module
from ntxengine.agent.answers import Status
from ntxengine.agent.client import AgentClient
from ntxengine.errors import (
    AgentError,
    AgentRefused,
    AgentSilent,
    LockedError,
    NotFoundError,
    NtxError,
    OptionsError,
    StateError,
)


@contextmanager
def answering(path: Path, *answers: bytes, then_waits: bool = False) -> Iterator[list[bytes]]:
    """Listen at a path, and answer one connection after the other with these bytes."""
    received: list[bytes] = []
    over = threading.Event()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    received.append(connection.recv(65536))
                    try:
                        connection.sendall(answer)
                    except OSError:
                        continue
                    if then_waits:
                        over.wait(30)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield received
        over.set()
        thread.join(30)


def http(body: object, status: str = "200 OK") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no agent at .*: there is no such socket; is `ntx agent` running"):
        AgentClient(tmp_path / "agent.sock").status()
    with pytest.raises(NotFoundError, match="there is no such socket"):
        AgentClient(tmp_path / "no" / "folder").status()


def test_a_socket_that_a_killed_agent_left(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "agent.sock"))

    with pytest.raises(NotFoundError, match="nobody listens there"):
        AgentClient(tmp_path / "agent.sock").status()


def test_a_path_that_is_no_socket_or_too_long(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(NotFoundError, match="nobody listens there"):
        AgentClient(tmp_path / "file").status()
    with pytest.raises(NotFoundError, match="too long"):
        AgentClient(tmp_path / ("x" * 200)).status()


def test_one_that_accepts_and_says_nothing_is_left_in_time(tmp_path: Path) -> None:
    with answering(tmp_path / "agent.sock", b"", then_waits=True):
        with pytest.raises(AgentSilent, match=r"does not answer within 0.2 s: .* ntx status shows it"):
            AgentClient(tmp_path / "agent.sock", timeout_s=0.2).post("pause", {})


def test_one_that_trickles_is_left_in_time(tmp_path: Path) -> None:
    with answering(tmp_path / "agent.sock", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", then_waits=True):
        with pytest.raises(AgentSilent, match="does not answer within"):
            AgentClient(tmp_path / "agent.sock", timeout_s=0.2).status()


def test_a_connection_that_is_closed_is_worth_another_try(tmp_path: Path) -> None:
    with answering(tmp_path / "agent.sock", b""):
        with pytest.raises(AgentSilent, match="closed the connection"):
            AgentClient(tmp_path / "agent.sock").status()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n{}",
        b"\x00\xff" * 1000,
        http(b"[" * 200_000),
        http("text", "500 Oops"),
        http({"error": "no object"}, "500 Oops"),
        http({"error": {"class": "X"}}, "418 Teapot"),
    ],
)
def test_what_is_no_agent_is_one_line(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "agent.sock", answer):
        with pytest.raises(AgentError, match="what answers is no agent of this version of ntx") as caught:
            AgentClient(tmp_path / "agent.sock").status()

    assert "\n" not in str(caught.value)


def test_more_than_anybody_wants_to_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER", 1000)
    with answering(tmp_path / "agent.sock", http(b"x" * 5000)):
        with pytest.raises(AgentError, match="more than 1000 bytes"):
            AgentClient(tmp_path / "agent.sock").status()


@pytest.mark.parametrize(
    ("name", "code", "kind"),
    [
        ("OptionsError", 2, OptionsError),
        ("ConfigError", 2, OptionsError),
        ("NotFoundError", 10, NotFoundError),
        ("LockedError", 11, LockedError),
        ("StateError", 1, StateError),
        ("Whatever", 75, AgentSilent),
        ("NbdReplyError", 1, NtxError),
        ("SystemExit", "12; rm", NtxError),
    ],
)
def test_what_the_agent_says_is_wrong_has_its_exit_code(
    tmp_path: Path, name: str, code: object, kind: type[NtxError]
) -> None:
    document = {"error": {"class": name, "message": "it is so", "exit_code": code}}
    with answering(tmp_path / "agent.sock", http(document, "400 Bad Request")):
        with pytest.raises(NtxError, match="the agent: it is so") as caught:
            AgentClient(tmp_path / "agent.sock").status()

    assert type(caught.value) is kind


def test_a_document_of_another_shape_is_not_understood(tmp_path: Path) -> None:
    agent = AgentClient(tmp_path / "agent.sock")

    for document in ([], {}, {"version": 1}, {"version": "1", "now": "yesterday", "started_at": "x"}):
        with pytest.raises(AgentError, match="no agent of this version"):
            agent.understood(document, Status)


def test_an_agent_of_another_version_may_say_more_and_less(tmp_path: Path) -> None:
    document = {"version": "9", "now": "2026-12-01T00:00:00Z", "started_at": "2026-12-01T00:00:00Z", "mood": "good"}

    status = AgentClient(tmp_path / "agent.sock").understood(document, Status)

    assert (status.version, status.level, status.jobs) == ("9", "ok", [])


def test_pages_are_asked_for_until_there_are_enough(tmp_path: Path) -> None:
    pages = [
        http({"runs": [{"run_id": "a"}, {"run_id": "b"}], "next": "1.b"}),
        http({"runs": [{"run_id": "c"}], "next": ""}),
    ]
    with answering(tmp_path / "agent.sock", *pages) as received:
        found = [run["run_id"] for run in AgentClient(tmp_path / "agent.sock").runs(vm="db 01&x=y")]

    assert found == ["a", "b", "c"]
    assert b"vm=db+01%26x%3Dy" in received[0]
    assert b"after=1.b" in received[1]


def test_pages_that_never_end_are_no_agent(tmp_path: Path) -> None:
    with answering(tmp_path / "agent.sock", http({"runs": [], "next": "1.b"}), http({"runs": "x"})):
        agent = AgentClient(tmp_path / "agent.sock")
        assert list(agent.runs()) == []
        with pytest.raises(AgentError, match="no list of runs"):
            list(agent.runs())


def test_refused_says_who_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "agent.sock"
    with answering(path):
        path.chmod(0o660)
        refused = AgentClient(path)._unreachable(PermissionError(13, "Permission denied"))

    assert isinstance(refused, AgentRefused)
    assert "this user may not speak with the agent: srw-rw----" in str(refused)
    assert "agent.socket_group" in str(refused)
