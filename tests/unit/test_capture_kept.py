"""Whether what was copied is kept when a capture ends early, as one table: error x first time or gone on with."""

from __future__ import annotations

import asyncio
import errno
from typing import cast

import pytest

from ntxengine.capture.copying import CannotResume
from ntxengine.capture.disk import BuiltOnDamage
from ntxengine.capture.resume import MOST_IN_VAIN, is_kept
from ntxengine.errors import (
    AttachError,
    Cancelled,
    ChecksumMismatch,
    LockedError,
    NbdReplyError,
    NotFoundError,
    PrismBusy,
    PrismConnectionError,
    PrismTimeout,
    RepositoryError,
    SourceError,
    TargetError,
    TaskFailed,
    ToolError,
    TransferTimeout,
)
from ntxengine.repository import StoredResume, UnfinishedPoint


class Unfinished:
    """An unfinished point of which `bytes_done` are stored, and what is written down of it."""

    def __init__(self, bytes_done: int, *, is_full: bool = False) -> None:
        self.id = "20261123T041500Z-8f3a2c"
        self.in_vain: int | None = None
        self._bytes_done = bytes_done
        self._is_full = is_full

    async def has_progress(self) -> bool:
        return self._bytes_done > 0

    async def bytes_stored(self) -> int:
        return self._bytes_done

    async def keep_in_vain(self, times: int) -> None:
        if self._is_full:
            raise TargetError("no room", errno=errno.ENOSPC)
        self.in_vain = times


class Resume:
    """What was recorded when it was gone on with."""

    def __init__(self, *, bytes_done: int = 100, in_vain: int = 0) -> None:
        self.bytes_done = bytes_done
        self.in_vain = in_vain


async def kept(error: BaseException, unfinished: Unfinished, resume: Resume | None) -> bool:
    return await is_kept(error, cast(UnfinishedPoint, unfinished), cast(StoredResume | None, resume))


# error, kept the first time, kept when it was gone on with, counted then
TABLE: list[tuple[BaseException, bool, bool, bool]] = [
    (asyncio.CancelledError(), True, True, False),
    (Cancelled("stopped"), True, True, False),
    (SourceError("lost", errno=errno.ECONNRESET), True, True, False),
    (TransferTimeout("no answer"), True, True, False),
    (TargetError("full", errno=errno.ENOSPC), True, True, False),
    (NbdReplyError("full", errno=errno.ENOSPC), True, True, False),
    (TargetError("over quota", errno=errno.EDQUOT), True, True, False),
    (PrismTimeout("no answer"), True, True, False),
    (PrismConnectionError("nobody there"), True, True, False),
    (PrismBusy("later"), True, True, False),
    (AttachError("no portal"), True, True, False),
    (TaskFailed("it failed"), False, True, False),
    (NotFoundError("the disk is gone"), False, True, False),
    (LockedError("somebody writes"), False, True, False),
    (SourceError("bad block", errno=errno.EIO), False, True, True),
    (NbdReplyError("bad block", errno=errno.EIO), False, True, True),
    (ToolError("qemu-img ended with 1"), False, True, True),
    (RepositoryError("something is odd"), False, True, True),
    (ValueError("a defect of ours"), False, True, True),
    (ChecksumMismatch("wrong"), False, False, False),
    (BuiltOnDamage("wrong"), False, False, False),
    (CannotResume("something else"), False, False, False),
]


@pytest.mark.parametrize(("error", "at_first", "later", "is_counted"), TABLE, ids=lambda each: repr(each)[:40])
async def test_what_is_kept(error: BaseException, at_first: bool, later: bool, is_counted: bool) -> None:
    first, gone_on = Unfinished(100), Unfinished(100)

    assert await kept(error, first, None) is at_first
    assert await kept(error, gone_on, Resume()) is later
    assert first.in_vain is None
    assert gone_on.in_vain == (1 if is_counted else None)


async def test_nothing_is_kept_of_one_that_has_stored_nothing() -> None:
    assert not await kept(asyncio.CancelledError(), Unfinished(0), None)
    assert not await kept(asyncio.CancelledError(), Unfinished(0), Resume(bytes_done=0))


async def test_one_that_fails_in_vain_too_often_is_given_up_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    error = ToolError("the same again")

    for times in range(MOST_IN_VAIN - 1):
        unfinished = Unfinished(100)
        assert await kept(error, unfinished, Resume(in_vain=times))
        assert unfinished.in_vain == times + 1
    assert caplog.text == ""
    assert not await kept(error, Unfinished(100), Resume(in_vain=MOST_IN_VAIN - 1))

    assert f"failed {MOST_IN_VAIN} times in a row without getting further: it is given up" in caplog.text


async def test_one_that_got_further_counts_anew() -> None:
    unfinished = Unfinished(101)

    assert await kept(ToolError("once more"), unfinished, Resume(in_vain=MOST_IN_VAIN - 1))

    assert unfinished.in_vain == 0


async def test_a_failure_that_cannot_be_counted_keeps_what_there_is() -> None:
    assert await kept(ToolError("x"), Unfinished(100, is_full=True), Resume())
