"""What means a limit of this machine is said as such, whoever met it."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ntxengine import machine
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import MachineError, NtxError, SourceError, ToolError, from_core, machine_error
from ntxengine.files import durable
from ntxengine.images import process


def refused(code: int) -> OSError:
    return OSError(code, os.strerror(code))


@pytest.mark.parametrize(
    ("code", "remedy"), [(errno.EMFILE, "ulimit -n"), (errno.ENFILE, "fs.file-max"), (errno.ENOMEM, "ulimit -v")]
)
def test_opening_that_meets_a_limit_is_the_fault_of_the_machine(code: int, remedy: str) -> None:
    errors = [
        durable.write_error("x", "writing", refused(code)),
        durable.read_error("x", refused(code)),
        from_core("SOURCE", -code, 0, 0, "x: open failed: too much"),
        machine_error("x", refused(code)),
    ]

    for error in errors:
        assert type(error) is MachineError
        assert remedy in str(error)


def test_what_is_no_limit_stays_what_it_is() -> None:
    assert type(from_core("SOURCE", -errno.EIO, 0, 0, "x: read failed")) is SourceError
    assert machine_error("x", refused(errno.ENOENT)) is None
    assert machine_error("x", RuntimeError("another")) is None


def test_a_thread_that_the_core_cannot_start_has_a_remedy() -> None:
    error = from_core("SYSTEM", -errno.EAGAIN, 0, 0, "starting thread 2 of 4 failed: Resource unavailable")

    assert type(error) is MachineError
    assert "ulimit -u" in str(error)


def test_a_thread_may_lack_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, said in ((resource.RLIM_INFINITY, False), (1 << 30, True)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))

        assert ("more memory" in machine.remedy(errno.EAGAIN)) is said


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.EAGAIN, MachineError, "ulimit -u"),
        (errno.EMFILE, MachineError, "ulimit -n"),
        (errno.EACCES, ToolError, "qemu-img cannot be started: Permission denied"),
    ],
)
def test_a_program_that_cannot_be_started_says_why(code: int, kind: type[NtxError], words: str) -> None:
    with pytest.raises(kind, match=words), process.starting("qemu-img", action="reading", path=Path("x")):
        raise refused(code)


async def test_work_in_a_thread_that_cannot_be_started_says_so() -> None:
    def no_thread() -> None:
        raise RuntimeError("can't start new thread")

    with pytest.raises(MachineError, match=r"no thread can be started.*ulimit -u"):
        await to_thread_joined(no_thread)


def test_without_descriptors_the_error_is_not_of_the_folder() -> None:
    code = (
        "import resource; from ntxengine import machine\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "try: machine.temporary_folder()\n"
        "except OSError as exc: print(exc.errno)"
    )

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert int(done.stdout) == errno.EMFILE
