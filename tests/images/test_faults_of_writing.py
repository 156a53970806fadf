"""Any change of a file fails, or is the last thing that a writer did: no image ever looks whole and is not.

A writer is killed at some of the changes in `make test`; `make soak` sets NTX_EVERY_FAULT=1 for each of them.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from ntxengine.errors import NtxError
from ntxengine.images.create import NewImage
from ntxengine.images.writer import map_of
from ntxengine.units import BLOCK_SIZE
from tests.copying.interrupting import wait_until
from tests.images import dying
from tests.images.dying import Writing
from tests.images.written import KINDS, Kind, bytes_of, check
from tests.support import faulty
from tests.support.faulty import FaultyDisk
from tests.support.forked import fork_server

IS_LONG = bool(os.environ.get("NTX_EVERY_FAULT"))
SIZE = 5 * BLOCK_SIZE + 512
REQUEST = 32 << 10
"""Of a write of a cluster, so that it takes two requests."""
MOST_THREADS = 8
"""That may come and go: of the executor of a loop, of the system."""

MAGIC = b"QFI\xfb"

KILLS = [faulty.KILLS_BEFORE, faulty.KILLS_WITHIN, faulty.KILLS_BEHIND]
FAILURES = [(faulty.FAILS, errno.ENOSPC), (faulty.IS_SHORT, errno.EIO)]
if IS_LONG:
    FAILURES += [(faulty.FAILS, errno.EIO), (faulty.IS_SHORT, errno.ENOSPC)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FaultyDisk]:
    with FaultyDisk(tmp_path, request_size=REQUEST) as disk:
        yield disk


class Trial:
    """An image that is written to a faulty disk."""

    def __init__(self, kind: Kind, disk: FaultyDisk, number: str) -> None:
        self.disk = disk
        source = disk.folder.parent / "source"
        self.data = (
            os.urandom(BLOCK_SIZE) + bytes(BLOCK_SIZE) + os.urandom(1 << 10) * 128 + os.urandom(SIZE - 4 * BLOCK_SIZE)
        )
        source.write_bytes(self.data)
        name = f"image-{number}"
        self.writing = Writing(kind, NewImage(disk.path / name, SIZE), source, disk.folder.parent / f"journal-{number}")
        self.stored = disk.folder / name

    @property
    def is_image(self) -> bool:
        return self.stored.exists() and self.stored.read_bytes()[:4] == MAGIC

    def check_whole(self) -> None:
        assert self.is_image
        check(self.stored)
        assert bytes_of(self.stored, SIZE) == self.data

    def write(self) -> str | None:
        """Write, and return what went wrong."""
        try:
            asyncio.run(self.writing.begin())
        except NtxError as exc:
            return str(exc)
        return None

    def kill_at(self, number: int, what: int, *, goes_on: bool) -> bool:
        """Write in a process that is killed at a change; return whether it came that far."""
        arguments = (self.writing, self.disk.plan_path, number, what)
        process = fork_server().Process(target=dying.die, args=arguments, kwargs={"goes_on": goes_on})
        process.start()
        process.join()
        is_killed = self.disk.plan.has_happened
        assert (process.exitcode != 0) == is_killed
        return is_killed

    def check_left(self) -> None:
        """Check what a writer left that did not come to its end, and go on with it where that is possible."""
        self.disk.plan.rest()
        self.disk.settle()
        if self.is_image:
            self.check_whole()
        if self.writing.stored_to is not None:
            asyncio.run(self.writing.go_on())
            self.check_whole()
            assert not map_of(self.stored).exists()

    def remove(self) -> None:
        for path in (self.stored, map_of(self.stored), self.writing.journal):
            path.unlink(missing_ok=True)


def open_files() -> list[str]:
    """Return what is open in this process of an image, or of a ring."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # of the listing itself
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sorted(name for name in names if "/image-" in name or "io_uring" in name)


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize(("what", "code"), FAILURES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_change_that_fails_is_one_error_and_leaves_nothing(
    disk: FaultyDisk, kind: Kind, what: int, code: int
) -> None:
    asyncio.run(Trial(kind, disk, "first").writing.begin())  # starts threads that stay
    (disk.path / "image-first").unlink()
    threads_before = threads()
    for number in count():
        trial = Trial(kind, disk, str(number))
        disk.plan.begin(number, what, code)
        error = trial.write()

        if error is None:
            trial.check_whole()
        else:
            assert disk.plan.has_happened
            # What FUSE makes of a direct write that was done in part, whatever would have come of the rest.
            either = {code, errno.EIO} if what == faulty.IS_SHORT else {code}
            assert any(os.strerror(each) in error for each in either)
            assert str(disk.path) in error
        assert wait_until(lambda: open_files() == [], 20)  # the system closes a ring a moment later
        if trial.writing.stored_to is None:
            assert os.listdir(disk.folder) == []
        is_over = not disk.plan.has_happened
        trial.check_left()
        trial.remove()
        if is_over:
            break
    assert number > 2 * MOST_THREADS
    assert threads() <= threads_before + MOST_THREADS  # one for each failure would be more


@pytest.mark.parametrize("goes_on", [False, True], ids=["begun", "gone on with"])
@pytest.mark.parametrize("what", KILLS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_writer_that_is_killed_leaves_what_can_be_gone_on_with(
    disk: FaultyDisk, kind: Kind, what: int, goes_on: bool
) -> None:
    for number in count(0, 1 if IS_LONG else 6):
        trial = Trial(kind, disk, str(number))
        if goes_on:
            asyncio.run(trial.writing.begin_only())
        is_killed = trial.kill_at(number, what, goes_on=goes_on)

        assert trial.writing.stored_to is not None or not goes_on
        trial.check_left()
        if not is_killed:
            trial.check_whole()
            break
        trial.remove()
