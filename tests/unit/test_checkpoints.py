"""When a checkpoint is due, what it does, and when a copy is tried again."""

import errno
from itertools import pairwise
from pathlib import Path

import pytest

from ntxengine._core.device import Device
from ntxengine.dataplane.checkpoints import DUE_BYTES, DUE_S, Checkpoints
from ntxengine.dataplane.copy import CopyOptions, copy
from ntxengine.dataplane.extents import ZERO, beginning_at, make, whole
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.retry import LONGEST_WAIT_S, Patience, is_lost_connection, retrying
from ntxengine.errors import (
    ChecksumMismatch,
    NbdNegotiationError,
    NbdProtocolError,
    NbdReplyError,
    NtxError,
    PlaceError,
    SourceError,
    TargetError,
    TransferTimeout,
)
from ntxengine.units import BLOCK_SIZE


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_one_is_due_after_a_time_or_after_so_many_bytes() -> None:
    clock = Clock()
    checkpoints = Checkpoints(clock=clock)

    assert not checkpoints.is_due(0)
    assert checkpoints.is_due(DUE_BYTES)

    clock.now += DUE_S
    assert checkpoints.is_due(0)


def test_they_are_made_seldomer_where_they_take_long() -> None:
    clock = Clock()
    checkpoints = Checkpoints(clock=clock)
    began = clock.now
    done = 0
    while clock.now < began + 600:
        clock.now += 0.1
        done += DUE_BYTES
        if checkpoints.is_due(done):
            checkpoints.begin(done)
            clock.now += 3  # until all threads have told what they hold: nobody waits for it
            checkpoints.store(checkpoints.stored_to + 65536, None, flush_s=0.5)

    assert checkpoints.made > 10
    assert checkpoints.seconds / (clock.now - began) < 0.021


def test_what_is_kept_is_kept_after_the_digests_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    monkeypatch.setattr("os.fdatasync", lambda fd: happened.append("sync"))
    checkpoints = Checkpoints(lambda stored_to: happened.append(f"keep {stored_to}"))
    with Manifest.create(tmp_path / "m", size=1 << 20) as manifest:
        checkpoints.store(65536, manifest)
        checkpoints.store(65536, manifest)  # nothing new
        checkpoints.store(0, manifest)  # a job that begins again knows of nothing

    assert happened == ["sync", "keep 65536"]
    assert checkpoints.stored_to == 65536


def test_digests_that_cannot_be_synced_are_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def fail_once(fd: int) -> None:
        told.append(fd)
        if len(told) == 1:
            raise OSError(errno.EIO, "Input/output error")

    kept: list[int] = []
    monkeypatch.setattr("os.fdatasync", fail_once)
    checkpoints = Checkpoints(kept.append)
    with Manifest.create(tmp_path / "m", size=1 << 20) as manifest:
        with pytest.raises(TargetError, match=r"m: syncing digests failed: Input/output error"):
            checkpoints.store(65536, manifest)
        checkpoints.store(131072, manifest)
        assert (checkpoints.stored_to, kept) == (0, [])

        checkpoints.begin_copy()  # it writes them again
        checkpoints.store(65536, manifest)
        assert (checkpoints.stored_to, kept) == (65536, [65536])


async def test_a_copy_whose_end_could_not_be_kept_has_failed(tmp_path: Path) -> None:
    def no_room(_stored_to: int) -> None:
        raise TargetError("j: no room", errno=errno.ENOSPC)

    (tmp_path / "target").write_bytes(bytes(BLOCK_SIZE))
    checkpoints = Checkpoints(no_room)
    source, target = Device.open_pattern(BLOCK_SIZE), Device.open_file(bytes(tmp_path / "target"), write=True)

    with pytest.raises(TargetError, match="j: no room"):
        await copy(source, target, [whole(BLOCK_SIZE)], options=CopyOptions(), checkpoints=checkpoints)

    assert (checkpoints.stored_to, len(checkpoints.failed)) == (0, 1)
    assert checkpoints.is_resumed  # the next one finds what this one left
    source.close()
    target.close()


def test_a_copy_that_goes_on_begins_inside_an_extent() -> None:
    windows = [make([(0, 65536, 0), (131072, 131072, ZERO)]), make([(262144, 10, 0)])]

    assert [window.tolist() for window in beginning_at(196608, windows)] == [[(196608, 65536, ZERO)], [(262144, 10, 0)]]
    assert [window.tolist() for window in beginning_at(0, windows)] == [window.tolist() for window in windows]
    assert [window.tolist() for window in beginning_at(1 << 30, windows)] == [[], []]
    assert windows[0].tolist()[1] == (131072, 131072, ZERO)  # the caller's is not changed


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TargetError("reset", errno=errno.ECONNRESET), True),
        (SourceError("refused", errno=errno.ECONNREFUSED), True),
        (PlaceError("no route", errno=errno.EHOSTUNREACH), True),
        (TransferTimeout("late", errno=errno.ETIMEDOUT), True),
        (NbdReplyError("goes down", errno=errno.ESHUTDOWN), True),
        (NbdReplyError("disk", errno=errno.EIO), False),
        (NbdReplyError("full", errno=errno.ENOSPC), False),
        (TargetError("disk", errno=errno.EIO), False),
        (SourceError("file that is gone", errno=errno.ENOENT), False),
        (NbdProtocolError("lies", errno=errno.EPIPE), False),
        (NbdNegotiationError("no such export", errno=errno.ENOENT), False),
        (ChecksumMismatch("bits"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_the_way_to_the_bytes_is_tried_again(error: BaseException, expected: bool) -> None:
    assert is_lost_connection(error) is expected


async def test_it_gives_up_when_nothing_more_is_stored_for_so_long() -> None:
    clock = Clock()
    checkpoints = Checkpoints(clock=clock)
    checkpoints.has_begun = True
    tried: list[float] = []

    async def once() -> None:
        tried.append(clock.now)
        raise TargetError("t: gone", errno=errno.ECONNRESET)

    with pytest.raises(TargetError, match="t: gone"):
        await retrying(once, checkpoints, Patience(100, clock=clock, sleep=clock.sleep), name="t")

    waits = [after - before for before, after in pairwise(tried)]
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(waits) <= LONGEST_WAIT_S
    assert tried[-1] == pytest.approx(200.0)  # once more at the very end
    assert checkpoints.retries == len(tried) - 1


async def test_what_gets_further_is_tried_as_long_as_it_does() -> None:
    clock = Clock()
    checkpoints = Checkpoints(clock=clock)

    async def once() -> str:
        checkpoints.has_begun = True
        clock.now += 90
        if checkpoints.stored_to == 65536 * 50:
            return "done"
        checkpoints.store(checkpoints.stored_to + 65536, None)
        raise SourceError("s: gone", errno=errno.EPIPE)

    assert await retrying(once, checkpoints, Patience(100, clock=clock, sleep=clock.sleep), name="s") == "done"
    assert checkpoints.retries == 50


@pytest.mark.parametrize("error", [TargetError("disk", errno=errno.EIO), NtxError("no")])
async def test_an_answer_is_final(error: NtxError) -> None:
    async def once() -> None:
        raise error

    checkpoints = Checkpoints()
    checkpoints.has_begun = True
    with pytest.raises(type(error)):
        await retrying(once, checkpoints, Patience(100), name="t")
    assert checkpoints.retries == 0


async def test_without_patience_nothing_is_tried_again() -> None:
    async def once() -> None:
        raise TargetError("t: gone", errno=errno.ECONNRESET)

    with pytest.raises(TargetError):
        await retrying(once, Checkpoints(), Patience(0), name="t")


async def test_an_end_that_never_was_there_is_not_waited_for() -> None:
    async def once() -> None:
        raise PlaceError("nobody is there", errno=errno.ECONNREFUSED)

    with pytest.raises(PlaceError, match="nobody is there"):
        await retrying(once, Checkpoints(), Patience(100), name="t")
