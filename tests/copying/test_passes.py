"""A pass over a disk counts each byte once, however often it was interrupted."""

from __future__ import annotations

from ntxengine.copying.passes import Pass, total_below
from ntxengine.dataplane.checkpoints import Checkpoints
from ntxengine.dataplane.copy import CopyReport, OnProgress, Progress
from ntxengine.dataplane.extents import ZERO, make
from ntxengine.dataplane.progress import Pace

WINDOWS = [make([(0, 100, 0), (200, 100, ZERO)]), make([(300, 100, 0)])]


def report(done: int) -> CopyReport:
    return CopyReport(
        bytes_total=0,
        bytes_done=done,
        bytes_read=done,
        bytes_sent=done,
        bytes_stored=done,
        bytes_zeroed=0,
        bytes_skipped=0,
        bytes_unchanged=0,
        seconds=1.0,
        stage_seconds={"source": 1.0},
        is_flushing=False,
        cpu_seconds=0.0,
        connections=1,
        connections_refused=0,
        refused=None,
        request_size=65536,
        in_flight=1,
        memory_bytes=0,
        pace=Pace.BEGAN,
        retries=0,
        is_flushed=True,
    )


def test_what_lies_below_a_place_is_counted() -> None:
    assert [total_below(lambda: WINDOWS, end) for end in (0, 50, 150, 250, 400, 999)] == [0, 50, 100, 150, 300, 300]


async def test_attempts_are_one_to_whoever_is_told() -> None:
    told: list[Progress] = []
    checkpoints = Checkpoints(stored_to=50, is_resumed=True)
    one = Pass(lambda: WINDOWS, 300, told.append, checkpoints=checkpoints)
    lefts = []

    async def first(left: int, given: Checkpoints | None, tell: OnProgress) -> CopyReport:
        assert given is checkpoints
        lefts.append(left)
        tell(report(170))
        checkpoints.failed.append(report(170))
        checkpoints.store(250, None)
        raise ConnectionError

    async def second(left: int, _given: Checkpoints | None, tell: OnProgress) -> CopyReport:
        lefts.append(left)
        tell(report(150))
        return report(150)

    try:
        await one.run(first)
    except ConnectionError:
        await one.run(second)
    await one.run(first)  # it is done

    together, repeated = one.report()
    assert lefts == [250, 150]
    assert [(each.bytes_done, each.bytes_total) for each in told] == [(170, 250), (250, 250)]
    assert told[1].bytes_read == 320
    assert (together.bytes_done, together.bytes_total, together.bytes_read) == (250, 300, 320)
    assert repeated == 70
    assert (one.before, one.left) == (50, 250)


async def test_one_that_nobody_goes_on_with_makes_no_checkpoints() -> None:
    one = Pass(lambda: WINDOWS, 300, lambda progress: None, is_kept=False)

    async def once(_left: int, given: Checkpoints | None, _tell: OnProgress) -> CopyReport:
        assert given is None
        return report(300)

    await one.run(once)

    assert one.report()[1] == 0
