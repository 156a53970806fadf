"""stdout and stderr that fail, are closed, or are read by nobody: the work is done, and the exit code is that of it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import io
import os
import pty
import shlex
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from ntxengine.cli import streams
from ntxengine.cli.streams import OutputError, Stream
from tests.cli.ntx import COMMAND, Ran, environment

SIZE = 4 * 1024**2
NTX = shlex.join(COMMAND)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(SIZE))
    return path


def in_a_shell(command: str, *, cwd: Path) -> Ran:
    """Run a line of bash; the code is that of its first program."""
    script = f'ntx() {{ {NTX} "$@"; }}\n{command}\nexit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "where",
    [
        "2>&1 >/dev/null | head -c 1",
        "2>&1 | true",
        "-q | true",
        "--json | true",
        "2>/dev/full",
        ">/dev/full",
        ">/dev/full 2>&1",
        "--progress json 2>/dev/full",
        "--debug 2>/dev/full",
        "<&-",
        ">&-",
        "2>&-",
        "<&- >&- 2>&-",
        "--json <&- >&-",
    ],
)
def test_output_that_fails_does_not_stop_the_work(where: str, disk: Path, tmp_path: Path) -> None:
    ran = in_a_shell(f"ntx copy disk.raw copy.raw --verify {where}", cwd=tmp_path)

    assert ran.code == 0, ran
    assert (tmp_path / "copy.raw").read_bytes() == disk.read_bytes()
    assert "Traceback" not in ran.err
    assert "Exception ignored" not in ran.err


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", ">&- 2>&-", "2>&1 | true"])
def test_failed_work_ends_with_its_own_code_whatever_becomes_of_the_message(where: str, tmp_path: Path) -> None:
    ran = in_a_shell(f"ntx points --repository missing {where}", cwd=tmp_path)

    assert ran.code == 10


@pytest.mark.parametrize(
    "command", ["map disk.raw", "map --json disk.raw", "checksum -q disk.raw", "--help", "info -h"]
)
def test_result_that_could_not_be_written_is_an_error(command: str, disk: Path, tmp_path: Path) -> None:
    ran = in_a_shell(f"ntx {command} >/dev/full", cwd=tmp_path)

    assert ran.code == 1
    assert ran.err.splitlines()[-1] == "ntx: stdout: No space left on device: the result is not whole"
    assert "Traceback" not in ran.err


def test_report_that_could_not_be_written_is_said_and_is_no_error(disk: Path, tmp_path: Path) -> None:
    ran = in_a_shell("ntx copy disk.raw copy.raw >/dev/full", cwd=tmp_path)

    assert ran.code == 0
    assert ran.err.splitlines()[-1].endswith("No space left on device: the result is not whole; the work is done")


def test_closed_descriptors_are_null_for_what_we_start_too(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys; from ntxengine.cli.streams import take_over; take_over(); "
        "sys.exit(subprocess.call(['sh', '-c', 'for d in 0 1 2; do test -e /proc/self/fd/$d || exit 7; done']))"
    )

    ran = in_a_shell(f"{shlex.quote(COMMAND[0])} -c {shlex.quote(code)} <&- >&- 2>&-", cwd=tmp_path)

    assert ran.code == 0


def test_letters_that_a_terminal_does_not_know_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "数据.raw").write_bytes(b"x" * 512)

    ran = in_a_shell("PYTHONIOENCODING=latin-1 ntx checksum 数据.raw", cwd=tmp_path)

    assert ran.code == 0
    assert r"\u6570\u636e.raw" in ran.out


def start_with_full_stderr(disk: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start a copy whose stderr is a pipe that is full; return it, and the end to read."""
    theirs, ours = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
    os.write(ours, b"." * 4096)
    arguments = ["copy", str(disk), str(disk.with_name("copy.raw")), "--progress", "plain"]
    process = subprocess.Popen([*COMMAND, *arguments], env=environment(), stdout=subprocess.DEVNULL, stderr=ours)
    os.close(ours)
    return process, theirs


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def catches(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_work_does_not_wait_for_a_reader_of_stderr(disk: Path) -> None:
    process, theirs = start_with_full_stderr(disk)

    wait_for(disk.with_name("copy.raw"))
    with os.fdopen(theirs, "rb") as pipe:
        said = pipe.read()

    assert process.wait(60) == 0
    assert said.endswith(b"100 %" + said.rpartition(b"100 %")[2])
    assert b"4.0 MiB of 4.0 MiB" in said
    assert disk.with_name("copy.raw").read_bytes() == disk.read_bytes()


def test_what_finds_no_reader_and_no_room_is_left_out_and_that_is_said() -> None:
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    full = fcntl.fcntl(ours, fcntl.F_GETPIPE_SZ)
    os.write(ours, b"." * full)
    stream = Stream(ours, "stderr", is_strict=False, patience_ms=0, max_kept=10)

    for text in (b"kept\n", b"too much\n", b"more\n"):
        stream.write(text)
    os.read(theirs, full)
    stream.drain()

    assert os.read(theirs, full) == b"kept\nmore\nntx: 9 bytes left out here: nobody read stderr\n"
    os.close(theirs)
    os.close(ours)


def test_work_does_not_wait_for_a_terminal_that_was_stopped(disk: Path) -> None:
    """Ctrl-S, or a terminal window that hangs."""
    ours, theirs = pty.openpty()
    termios.tcflow(theirs, termios.TCOOFF)
    copy = [*COMMAND, "copy", str(disk), str(disk.with_name("copy.raw"))]

    process = subprocess.Popen(copy, env=environment({"TERM": "xterm"}), stdout=subprocess.DEVNULL, stderr=theirs)
    wait_for(disk.with_name("copy.raw"))
    termios.tcflow(theirs, termios.TCOON)

    seen = ""
    while "100 %" not in seen:
        seen += os.read(ours, 65536).decode(errors="replace")
    assert process.wait(60) == 0
    os.close(theirs)
    os.close(ours)


def test_signal_ends_what_waits_for_a_reader_of_stderr(disk: Path) -> None:
    process, theirs = start_with_full_stderr(disk)

    wait_for(disk.with_name("copy.raw"))
    while catches(process, signal.SIGTERM):  # until then it may still end well
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)

    assert process.wait(60) in (-signal.SIGTERM, 128 + signal.SIGTERM)
    os.close(theirs)


def take_as_stdout(descriptor: int, patch: pytest.MonkeyPatch) -> None:
    """Let what is printed go there, while an event loop has other things to do."""
    os.set_blocking(descriptor, False)
    stream = Stream(descriptor, "stdout", is_strict=True, patience_ms=0)
    patch.setattr(streams, "_OUT", stream)
    patch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(stream)))


async def test_a_long_result_waits_for_a_slow_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = os.pipe()
    take_as_stdout(ours, monkeypatch)
    full = fcntl.fcntl(ours, fcntl.F_GETPIPE_SZ)
    os.write(ours, b"." * full)

    sys.stdout.write("a row\n")
    waiting = asyncio.create_task(streams.taken())
    for _ in range(5):
        await asyncio.sleep(0)
    is_waiting = not waiting.done()
    os.read(theirs, full)
    await waiting

    assert is_waiting
    assert os.read(theirs, full) == b"a row\n"
    os.close(theirs)
    os.close(ours)


async def test_a_long_result_ends_where_its_reader_has_seen_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = os.pipe()
    take_as_stdout(ours, monkeypatch)
    os.close(theirs)

    sys.stdout.write("a row\n")
    with pytest.raises(OutputError) as ended:
        await streams.taken()

    assert (str(ended.value), ended.value.errno) == ("", errno.EPIPE)
    os.close(ours)


async def test_a_long_result_ends_where_it_finds_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = os.open("/dev/full", os.O_WRONLY)
    take_as_stdout(ours, monkeypatch)

    sys.stdout.write("a row\n")
    with pytest.raises(OutputError, match="stdout: No space left on device: the result is not whole"):
        await streams.taken()

    os.close(ours)
