"""A file system that does one thing wrong: its Nth change of a file fails, or kills whoever asked for it.

It is a FUSE file system over a folder, so that it does so to whatever way a program writes, io_uring too.  A process of
its own serves it, one request after the other; a page of memory that both have tells what is to go wrong.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.support.servers import require_root

FAILS, IS_SHORT, KILLS_BEFORE, KILLS_WITHIN, KILLS_BEHIND = range(5)
"""What the change does: fail; be done in part, and its next try fail; kill before, half done, or when it is done."""

_PLAN = struct.Struct("5q")  # changes seen, number of the bad one, what it does, errno, process
_FEW = 60
"""Bytes of a change that is done in part: less than the header of an image."""


class Plan:
    """What is to go wrong, in a file of one page that processes share."""

    def __init__(self, path: Path) -> None:
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    def begin(self, bad: int, what: int, code: int = 0, pid: int = 0) -> None:
        """Begin to count changes, from 0: number `bad` goes wrong."""
        self._set(0, bad, what, code, pid)

    def rest(self) -> None:
        """Let all go well from now on."""
        self._set(0, -1, 0, 0, 0)

    @property
    def has_happened(self) -> bool:
        seen, bad, *_ = self._get()
        return seen > bad >= 0

    @property
    def seen(self) -> int:
        """How many changes there were since they are counted."""
        return self._get()[0]

    def next(self) -> tuple[int, int, int]:
        """Count one change; return what it does, 0 and no errno or process if it goes well."""
        seen, bad, what, code, pid = self._get()
        self._set(seen + 1, bad, what, code, pid)
        if seen == bad:
            return what, code if what == FAILS else 0, pid
        if what == IS_SHORT and seen == bad + 1:
            return FAILS, code, 0
        return FAILS, 0, 0

    def _get(self) -> tuple[int, int, int, int, int]:
        return _PLAN.unpack_from(self._memory)

    def _set(self, *values: int) -> None:
        _PLAN.pack_into(self._memory, 0, *values)


class FaultyDisk:
    """The file system, mounted at `path`, with its files in `folder`: needs root.  A context manager.

    `keeps_open`: as on NFS, a file that is removed while it is open has another name until it is closed.
    `request_size`: a direct write is made in changes of so many bytes, one after another, and may end in part; 0: of as
    many as the kernel likes, at the same time, and a part of it is an error (EIO).
    """

    def __init__(self, folder: Path, *, keeps_open: bool = False, request_size: int = 0) -> None:
        require_root("a file system of its own")
        self.path, self.folder = folder / "faulty", folder / "behind"
        self._options = [str(int(not keeps_open)), str(request_size)]
        self.path.mkdir()
        self.folder.mkdir()
        self.plan_path = folder / "plan"
        self.plan_path.write_bytes(bytes(mmap.PAGESIZE))
        self.plan = Plan(self.plan_path)
        self.plan.rest()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> FaultyDisk:
        command = [sys.executable, "-m", "tests.support.faulty_server"]
        self._process = subprocess.Popen([*command, self.folder, self.path, self.plan_path, *self._options])
        deadline = time.monotonic() + 60
        while not self.path.is_mount():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the faulty file system cannot be mounted")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)
        assert self._process is not None
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def settle(self) -> None:
        """Return when all is done that was asked before."""
        assert not (self.path / "nobody asks for this").exists()


def kill(pid: int) -> None:
    """Kill a process, which may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def part_of(data: bytes) -> bytes:
    """Return what is done of a change that is done in part."""
    return data[: min(_FEW, len(data) // 2)]
