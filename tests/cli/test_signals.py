"""What the signals do to a coroutine that runs as a process: the first cancels, the second ends it at once."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.ntx import COMMAND, environment

PROGRAM = """
import asyncio, sys
from ntxengine.cli.errors import exit_code_of
from ntxengine.cli.run import run

async def work():
    try:
        print("working", flush=True)
        await asyncio.sleep(60)
    finally:
        print("cleaning up", flush=True)
        await asyncio.sleep(float(sys.argv[1]))
        print("clean", flush=True)
        if sys.argv[2]:
            raise OSError(sys.argv[2])

sys.exit(exit_code_of(lambda: run(work())))
"""


def start(
    clean_up_s: float, ignored: signal.Signals | None = None, *, failure: str = "", program: str = PROGRAM
) -> subprocess.Popen[str]:
    """Start the program above; return when it works.  `ignored` is what nohup, or a shell with `&`, ignores for it.

    `failure` is what its clean-up ends with.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(clean_up_s), failure],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if ignored is None else lambda: signal.signal(ignored, signal.SIG_IGN),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def test_clean_up_runs_to_its_end_after_the_first_signal() -> None:
    process = start(0.05)

    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 128 + signal.SIGTERM
    assert out == "cleaning up\nclean\n"
    assert [line.partition(":")[0] for line in err.splitlines()] == ["ntx", "ntx"]


def test_a_clean_up_that_fails_is_told_and_does_not_change_the_exit_code() -> None:
    process = start(0, failure="the worker VM is gone")

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 128 + signal.SIGINT
    assert err.splitlines()[-1] == "ntx: interrupted by SIGINT, and while it stopped: the worker VM is gone"


def test_what_a_torn_connection_says_while_it_stops_is_not_told() -> None:
    program = PROGRAM.replace("finally:", "finally:\n        asyncio.get_running_loop().call_soon(lambda: 1 / 0)")
    process = start(0.05, program=program)

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in err


def test_second_signal_ends_the_process_at_once() -> None:
    process = start(600)
    assert process.stdout is not None

    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning up\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)

    assert process.returncode == -signal.SIGINT
    assert out == ""


def test_hang_up_stops_like_a_termination() -> None:
    process = start(0.05)

    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 129
    assert out == "cleaning up\nclean\n"
    assert "interrupted by SIGHUP" in err.splitlines()[-1]


@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGTERM])
def test_further_hang_up_of_the_same_terminal_does_not_stop_the_clean_up(first: signal.Signals) -> None:
    process = start(0.2)
    assert process.stdout is not None

    process.send_signal(first)
    assert process.stdout.readline() == "cleaning up\n"
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=60)

    assert process.returncode == 128 + first
    assert out == "clean\n"


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_signal_that_was_ignored_when_we_were_started_stays_ignored(ignored: signal.Signals) -> None:
    other = signal.SIGINT if ignored == signal.SIGTERM else signal.SIGTERM
    process = start(0.2, ignored=ignored)
    assert process.stdout is not None

    process.send_signal(ignored)
    process.send_signal(other)
    assert process.stdout.readline() == "cleaning up\n"
    process.send_signal(ignored)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 128 + other
    assert out == "clean\n"
    assert ignored.name not in err


def test_closed_terminal_stops_and_cleans_up(tmp_path: Path) -> None:
    arguments = [*COMMAND, "copy", "pattern:1G", str(tmp_path / "new.raw"), "--bandwidth", "1M"]
    process, terminal = pty.fork()
    if process == 0:
        os.execve(arguments[0], arguments, environment({"TERM": "xterm"}))
    while "━" not in os.read(terminal, 65536).decode(errors="replace"):
        pass

    os.close(terminal)
    _, status = os.waitpid(process, 0)

    assert os.waitstatus_to_exitcode(status) == 129
    assert list(tmp_path.iterdir()) == []
