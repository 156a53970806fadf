"""Work that was begun comes to its end, and a cancellation is late but never lost."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from ntxengine.concurrency import completion
from ntxengine.concurrency.completion import (
    acquire_in_daemon_thread,
    acquire_in_thread,
    run_to_completion,
    to_daemon_thread,
    to_thread_interrupted,
    to_thread_joined,
)
from ntxengine.errors import NotFoundError


async def test_the_result_comes_back() -> None:
    async def work() -> int:
        return 7

    assert await run_to_completion(work(), timeout_s=1) == 7
    assert await to_thread_joined(lambda: 8) == 8


async def test_an_error_comes_back() -> None:
    async def work() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await run_to_completion(work())


async def test_cancelling_twice_waits_for_the_work_and_is_then_raised() -> None:
    began, may_end = asyncio.Event(), asyncio.Event()
    done = []

    async def work() -> None:
        began.set()
        await may_end.wait()
        done.append(True)

    task = asyncio.create_task(run_to_completion(work()))
    await began.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


async def test_a_cancelled_caller_does_not_leave_its_thread_behind() -> None:
    began, may_end = threading.Event(), threading.Event()
    done = []

    def work() -> None:
        began.set()
        may_end.wait(60)
        done.append(True)

    task = asyncio.create_task(to_thread_joined(work))
    await asyncio.to_thread(began.wait, 60)
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


async def test_work_that_takes_too_long_is_stopped() -> None:
    stopped = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(True)
            raise

    with pytest.raises(TimeoutError):
        await run_to_completion(work(), timeout_s=0.01)

    assert stopped == [True]


async def test_the_cancellation_is_raised_even_if_the_work_then_fails() -> None:
    may_end = asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        raise ValueError("too late to matter")

    task = asyncio.create_task(run_to_completion(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("failure", "is_told"), [(OSError("cannot be removed"), True), (NotFoundError("no VM"), False)]
)
async def test_what_fails_while_it_is_cancelled_is_told_but_not_what_is_not_there(
    failure: Exception, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    may_end = asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        raise failure

    task = asyncio.create_task(run_to_completion(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [str(failure) in record.getMessage() for record in caplog.records] == [True] * is_told


async def test_a_daemon_thread_gives_its_result_and_its_error() -> None:
    def fail() -> None:
        raise ValueError("wrong")

    assert await to_daemon_thread(lambda: 8) == 8
    with pytest.raises(ValueError, match="wrong"):
        await to_daemon_thread(fail)


def test_a_cancelled_caller_and_the_end_of_the_loop_do_not_wait_for_a_daemon_thread() -> None:
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        may_end.wait(60)
        ended.set()

    async def begin_and_leave() -> None:
        task = asyncio.create_task(to_daemon_thread(work))
        await asyncio.to_thread(began.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(begin_and_leave())

    assert not ended.is_set()
    may_end.set()
    assert ended.wait(60)


async def test_a_daemon_thread_acquires_or_says_why_not() -> None:
    def fail() -> None:
        raise ValueError("wrong")

    assert await acquire_in_daemon_thread(lambda: 8, give_back=lambda _: None) == 8
    with pytest.raises(ValueError, match="wrong"):
        await acquire_in_daemon_thread(fail, give_back=lambda _: None)


async def test_what_a_daemon_thread_acquires_for_nobody_is_given_back_before_the_caller_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(completion, "LEAVE_GRACE_S", 60)
    entered, given_back = threading.Event(), list[str]()

    def acquire() -> str:
        entered.set()
        time.sleep(0.1)
        return "file"

    task = asyncio.create_task(acquire_in_daemon_thread(acquire, give_back=given_back.append))
    await asyncio.to_thread(entered.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert given_back == ["file"]


async def test_what_was_acquired_when_the_caller_is_cancelled_is_given_back() -> None:
    given_back: list[str] = []
    task = asyncio.create_task(acquire_in_daemon_thread(lambda: "file", give_back=given_back.append))
    await asyncio.sleep(0)
    time.sleep(0.1)  # in the loop, which so learns of the cancellation first
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert given_back == ["file"]


async def test_a_daemon_thread_that_hangs_is_left_and_gives_back_in_the_end() -> None:
    entered, may_go_on, gave_back = threading.Event(), threading.Event(), threading.Event()

    def acquire() -> str:
        entered.set()
        may_go_on.wait(60)
        return "file"

    task = asyncio.create_task(acquire_in_daemon_thread(acquire, give_back=lambda _: gave_back.set()))
    await asyncio.to_thread(entered.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not gave_back.is_set()
    may_go_on.set()
    assert await asyncio.to_thread(gave_back.wait, 60)


async def test_what_an_interrupted_thread_returns_all_the_same_is_given_back() -> None:
    entered, may_go_on = threading.Event(), threading.Event()
    given_back: list[str] = []

    def connect() -> str:
        entered.set()
        may_go_on.wait(60)
        return "connection"

    task = asyncio.create_task(to_thread_interrupted(connect, interrupt=may_go_on.set, give_back=given_back.append))
    await asyncio.to_thread(entered.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert given_back == ["connection"]


@pytest.mark.parametrize("error", [None, OSError("cannot be given back")])
async def test_what_a_cancelled_caller_acquired_in_a_thread_is_given_back(error: OSError | None) -> None:
    entered, may_go_on = threading.Event(), threading.Event()
    given_back: list[str] = []

    def acquire() -> str:
        entered.set()
        assert may_go_on.wait(20)
        return "a lock"

    def give_back(what: str) -> None:
        given_back.append(what)
        if error is not None:
            raise error

    task = asyncio.create_task(acquire_in_thread(acquire, give_back=give_back))
    async with asyncio.timeout(20):
        while not entered.is_set():
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    may_go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert given_back == ["a lock"]


async def test_what_is_acquired_in_a_thread_is_kept_where_nobody_cancels() -> None:
    given_back: list[str] = []

    assert await acquire_in_thread(lambda: "a lock", give_back=given_back.append) == "a lock"

    assert given_back == []
