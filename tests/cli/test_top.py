"""`ntx top`: once where there is no terminal, live on one, and what it makes of a small one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from ntxengine.agent.answers import Failure, JobStatus, RunStatus, Status, Wait
from ntxengine.agent.levels import Finding, Level
from ntxengine.cli.top import lines
from tests.cli.ntx import COMMAND, environment
from tests.cli.served_agent import Lab, served
from tests.cli.terminal import on_a_terminal, what_is_seen

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with served(tmp_path_factory.mktemp("agent")) as found:
        yield found


def busy(runs: int, waits: int) -> Status:
    return Status(
        version="1",
        now=NOW,
        started_at=NOW - timedelta(hours=1),
        findings=[Finding(Level.CRITICAL, "Prism", "is held: \x1b[2Jno answer")],
        jobs=[JobStatus(job="hourly", vms=runs + waits, running=runs, waiting=waits)],
        vm_count=runs + waits,
        running=[
            RunStatus(
                run_id=f"r{number}",
                job="hourly",
                vm_id=f"id-{number}",
                vm_name=f"db{number:02}",
                state="running",
                started_at=NOW - timedelta(seconds=10),
                stage="copy",
                bytes_done=number << 20,
                bytes_total=runs << 20,
                error=Failure(),
            )
            for number in range(1, runs + 1)
        ],
        waiting=[
            Wait(job="hourly", vm_id=f"w-{number}", vm_name=f"web{number}", since=NOW, reason="4 of 4 runs at a time")
            for number in range(waits)
        ],
        waiting_count=waits,
    )


def test_a_run_has_a_bar_and_what_waits_its_reason() -> None:
    found = [line for line, _ in lines(busy(2, 1), "/run/x", width=100, height=None)]

    assert found[1] == "1 job, 3 VMs; 2 running, 1 waiting"
    assert any("db01 (hourly) copy ━" in line and "50 %" in line and "10.0 s left" in line for line in found)
    assert any("db02 (hourly) copy ━" in line and "100 %" in line for line in found)
    assert found[-1] == "  web0 (hourly) waits: 4 of 4 runs at a time"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("height", [2, 5, 24])
def test_it_keeps_to_the_terminal_and_says_what_it_leaves_out(width: int, height: int) -> None:
    found = lines(busy(20, 20), "/run/x", width=width, height=height)

    assert len(found) == height
    assert all(len(line) < width for line, _ in found)
    assert "more lines" in found[-1][0] or width < 40


def test_what_others_wrote_is_shown_and_not_obeyed() -> None:
    found = lines(busy(0, 0), "/run/x", width=None, height=None)

    assert ("CRITICAL: Prism: is held: \\x1b[2Jno answer", "critical") in found


def test_top_prints_once_where_there_is_no_terminal(lab: Lab) -> None:
    ran = lab("top")

    assert ran.code == 0
    assert ran.out.splitlines()[0].startswith("agent ")
    assert "2 jobs, 2 VMs; 0 running, 0 waiting" in ran.out
    assert "\x1b" not in ran.out


def test_top_draws_on_a_terminal_and_gives_it_back(lab: Lab) -> None:
    env = {"NTX_SOCKET": str(lab.socket), "TERM": "xterm"}
    command = (*COMMAND, "top", "--interval", "0.1", "--count", "3")

    written = on_a_terminal(*command, env=env, is_stdout_too=True)
    plain = on_a_terminal(*command, env={**env, "NO_COLOR": "1"}, is_stdout_too=True)

    assert written.startswith("\x1b[?1049h")
    assert "\x1b[?1049l" in written
    assert "\x1b[?25h" in written
    assert any("2 jobs, 2 VMs" in line for line in what_is_seen(written))
    assert not [
        code for code in plain.split("\x1b[")[1:] if code.split("m")[0].replace(";", "").isdigit() and "m" in code[:6]
    ]


def test_ctrl_c_is_how_top_is_left(lab: Lab) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "top", "--interval", "60"],
        env=environment({"NTX_SOCKET": str(lab.socket), "TERM": "xterm"}),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    try:
        seen = b""
        while b"2 VMs" not in seen:
            seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        error = process.stderr.read()
        while True:
            try:
                seen += os.read(ours, 65536)
            except OSError:
                break
        assert process.wait(60) == 0, error
    finally:
        process.kill()
        process.communicate()
        os.close(ours)

    assert seen.rstrip().endswith((b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1049l\x1b[?25h"))
    assert error == b""
