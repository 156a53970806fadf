"""Work that must come to its end although somebody cancels us: clean-up, and threads that cannot be stopped.

    caller        |--- await run_to_completion(work) -----x cancelled ....waits....| raises CancelledError
    work          |------------------------------------------------------>| done

Cancellation is never swallowed: it is raised as soon as the work is done.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from ntxengine.errors import NotFoundError, machine_error

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

CANCEL_GRACE_S = 2.0
"""How long work that ran out of time gets to react to its own cancellation."""
LEAVE_GRACE_S = 0.5
"""How long a thread that is left behind may take until then, so that none is where nothing hangs."""


async def run_to_completion(work: Coroutine[Any, Any, T], *, timeout_s: float | None = None) -> T:
    """Run `work` to its end, also when the caller is cancelled meanwhile; the cancellation is raised afterwards.

    Errors: what `work` raises; TimeoutError if it is not done after `timeout_s` (it is cancelled then).
    """
    loop = asyncio.get_running_loop()
    deadline = None if timeout_s is None else loop.time() + timeout_s
    task = loop.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        left_s = None if deadline is None else deadline - loop.time()
        if left_s is not None and left_s <= 0:
            break
        try:
            await asyncio.wait({task}, timeout=left_s)
        except asyncio.CancelledError as error:
            cancelled = error
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_GRACE_S)
        if cancelled is None:
            raise TimeoutError(f"not done after {timeout_s:g} s")
    if cancelled is not None:
        failure = task.exception() if task.done() and not task.cancelled() else None
        # What was looked for and is not there is an answer, and nobody waits for it any more.
        if failure is not None and not isinstance(failure, NotFoundError):
            log.warning("failed while being cancelled: %s", failure)
        raise cancelled
    return task.result()


async def to_thread_joined(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function in a thread; if cancelled, wait for the thread before saying so.

    So nothing that a cancelled caller then undoes is still being done by a thread behind its back, and what closes or
    removes something is run in any case.
    Errors: what the function raises; MachineError if there can be no thread.
    """
    return await run_to_completion(_to_thread(function, *args, **kwargs))


async def _to_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """For us alone: if cancelled before a thread is free, the function is never run."""
    with _naming_the_limit():
        return await asyncio.to_thread(function, *args, **kwargs)


async def acquire_in_thread(acquire: Callable[[], T], *, give_back: Callable[[T], object]) -> T:
    """Run a blocking function that returns what somebody must give back, such as a lock, in a thread.

    If cancelled, wait for the thread, and give back what it has got before saying so.
    Errors: what `acquire` raises.
    """
    acquired: list[T] = []
    try:
        await to_thread_joined(lambda: acquired.append(acquire()))
    except asyncio.CancelledError:
        for each in acquired:
            try:
                await to_thread_joined(give_back, each)
            except Exception as exc:  # noqa: BLE001 - what is raised is the cancellation
                log.warning("while being cancelled: %s", exc)
        raise
    return acquired[0]


async def to_daemon_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function in a thread that the end of the process does not wait for, as for somebody who may never
    answer.  If cancelled, leave it to itself.

    Its result is dropped if nobody waits for it any more.
    """
    answer: Future[T] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            answer.set_result(context.run(function, *args, **kwargs))
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is raised where the result is awaited
            answer.set_exception(exc)

    answer.set_running_or_notify_cancel()
    with _naming_the_limit():
        threading.Thread(target=work, daemon=True).start()
        return await asyncio.wrap_future(answer)


async def acquire_in_daemon_thread(acquire: Callable[[], T], *, give_back: Callable[[T], object]) -> T:
    """As acquire_in_thread, of what may hang for ever: the end of the process does not wait for the thread.

    If cancelled, wait a moment for it; one that hangs longer is left behind, and gives back what it gets in the end.
    """
    answer: Future[T] = Future()

    def work() -> None:
        try:
            acquired = acquire()
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is raised where the result is awaited
            if answer.set_running_or_notify_cancel():
                answer.set_exception(exc)
            return
        if answer.set_running_or_notify_cancel():
            answer.set_result(acquired)
        else:
            give_back(acquired)

    thread = threading.Thread(target=work, daemon=True)
    with _naming_the_limit():
        thread.start()
    try:
        return await asyncio.wrap_future(answer)
    except asyncio.CancelledError:
        if answer.cancel():
            await to_thread_joined(thread.join, LEAVE_GRACE_S)
        elif answer.exception() is None:
            await to_thread_joined(give_back, answer.result())
        raise


async def to_thread_interrupted(
    function: Callable[[], T], *, interrupt: Callable[[], None], give_back: Callable[[T], object] = lambda _: None
) -> T:
    """Run a blocking function in a thread; if cancelled, call `interrupt`, which makes it end soon, and wait for it.

    What the function returns after that is given back, and what it raises is dropped.
    Errors: what the function raises; MachineError if there can be no thread.
    """
    work = asyncio.create_task(to_daemon_thread(function))
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
            interrupt()
    if cancelled is None:
        return work.result()
    if not work.cancelled() and work.exception() is None:
        await to_thread_joined(give_back, work.result())
    raise cancelled


async def call_with_timeout(function: Callable[[], T], timeout_s: float) -> T:
    """Call a function that may hang in the kernel, such as a look at a dead NFS mount, in a thread of its own.

    The thread is left behind when time is up: nothing can stop it, and it must not stop us.
    Errors: what the function raises; TimeoutError; MachineError if there can be no thread.
    """
    async with asyncio.timeout(timeout_s):
        return await to_daemon_thread(function)


@contextmanager
def _naming_the_limit() -> Iterator[None]:
    """Say of a thread that cannot be started which limit that is.  Errors: MachineError."""
    try:
        yield
    except RuntimeError as exc:
        error = machine_error("work that would block", exc)
        if error is None:
            raise
        raise error from exc
