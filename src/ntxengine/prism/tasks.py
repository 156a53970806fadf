"""Waiting for Prism: ask, sleep a little longer each time, give up at a limit.

One failure proves nothing about what is waited for, so a wait goes on over it:

| Prism                                             | the wait                                      |
|---------------------------------------------------|-----------------------------------------------|
| answers, but what is waited for is not there yet  | goes on to the limit, then PrismTimeout       |
| busy, time-out, no connection, 5xx other than 501 | goes on to the limit, then PrismBusy          |
| does not know it (404)                            | goes on for UNKNOWN_TIMEOUT_S without a break |
| gives an answer that cannot be read               | goes on, MAX_ODD_ANSWERS times without break  |
| anything else                                     | ends with that error                          |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from ntxengine.concurrency.completion import run_to_completion
from ntxengine.errors import (
    NotFoundError,
    NtxError,
    PrismAnswerError,
    PrismBusy,
    PrismConnectionError,
    PrismError,
    PrismStatusError,
    PrismTimeout,
)
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.error_body import is_not_found, was_rejected

T = TypeVar("T")

FIRST_POLL_S = 0.25
LONGEST_POLL_S = 5.0
TASK_TIMEOUT_S = 600.0
"""How long Prism may take to freeze, delete or attach; a quiesced VM under load needs minutes."""
SETTLE_TIMEOUT_S = 30.0
"""How long clean-up waits for a task to end before it removes what is there."""
EXTENSION_TIMEOUT_S = 60.0
UNKNOWN_TIMEOUT_S = 60.0
"""How long Prism may not know what it has just accepted: its services learn of it one after the other."""
UNDO_TIMEOUT_S = 180.0
REMOVAL_TIMEOUT_S = 120.0
"""How long a disk may take to leave its worker VM: a capture that waits for it holds the lock of its VM."""
MAX_ODD_ANSWERS = 3

log = logging.getLogger(__name__)


class Deadline:
    """When something must have ended: one for the whole of it, however many requests that takes."""

    def __init__(self, clock: Clock, limit_s: float = TASK_TIMEOUT_S) -> None:
        self.clock = clock
        self.limit_s = limit_s
        self._end_s = clock.now() + limit_s

    @property
    def left_s(self) -> float:
        """How long is left; zero or less if it is over."""
        return self._end_s - self.clock.now()

    def within(self, limit_s: float) -> Deadline:
        """Return a deadline for a part: `limit_s` from now, and no later than this one."""
        return Deadline(self.clock, min(limit_s, max(0.0, self.left_s)))


class _Patience:
    """What has failed since the last good answer, and whether that may still pass."""

    def __init__(self, deadline: Deadline) -> None:
        self._clock = deadline.clock
        self._unknown_since_s: float | None = None
        self._odd_answers = 0
        self.trouble: NtxError | None = None

    def calm(self) -> None:
        self._unknown_since_s, self._odd_answers, self.trouble = None, 0, None

    def bear(self, error: NtxError, what: str) -> None:
        """Note a failure; raise if it will not pass."""
        self.trouble = error
        if _is_unknown(error):
            now_s = self._clock.now()
            self._unknown_since_s = now_s if self._unknown_since_s is None else self._unknown_since_s
            if now_s - self._unknown_since_s >= UNKNOWN_TIMEOUT_S:
                raise PrismAnswerError(f"{what}: unknown to Prism for {UNKNOWN_TIMEOUT_S:g} s: {error}") from error
            return
        self._unknown_since_s = None
        if isinstance(error, PrismAnswerError):
            self._odd_answers += 1
            if self._odd_answers >= MAX_ODD_ANSWERS:
                raise error
            return
        self._odd_answers = 0
        if not may_pass(error):
            raise error


def may_pass(error: NtxError) -> bool:
    """Return whether asking again later may be answered: it says nothing about what was asked for."""
    if isinstance(error, PrismStatusError):
        return error.status >= 500 and error.status != 501
    return isinstance(error, PrismBusy | PrismTimeout | PrismConnectionError)


def log_not_told(what: str, error: PrismError) -> None:
    """Say that a call failed that only informs, about `what`, and so ends nothing.

    Whoever may not ask is not told each time; a failure that may pass is a warning.
    """
    log.log(logging.WARNING if may_pass(error) else logging.DEBUG, "nothing is told of %s: %s", what, error)


def _is_unknown(error: NtxError) -> bool:
    return isinstance(error, NotFoundError) or (isinstance(error, PrismStatusError) and is_not_found(error))


async def poll(ask: Callable[[], Awaitable[T | None]], *, what: str, deadline: Deadline) -> T:
    """Return the first answer of `ask` that is not None; go on over failures that may pass (see the module's head).

    Errors: PrismTimeout at the deadline; PrismBusy if Prism could not be asked then; what `ask` raises for good.
    """
    wait_s = FIRST_POLL_S
    patience = _Patience(deadline)
    while True:
        try:
            found = await ask()
        except (PrismError, NotFoundError) as exc:
            patience.bear(exc, what)
            log.debug("%s: asked again after: %s", what, exc)
        else:
            if found is not None:
                return found
            patience.calm()
        left_s = deadline.left_s
        if left_s <= 0 and patience.trouble is not None:
            raise PrismBusy(
                f"{what}: no good answer within {deadline.limit_s:g} s, try again later: {patience.trouble}"
            ) from patience.trouble
        if left_s <= 0:
            raise PrismTimeout(f"{what} is not finished after {deadline.limit_s:g} s: try again later")
        await deadline.clock.sleep(min(wait_s, left_s))
        wait_s = min(wait_s * 1.5, LONGEST_POLL_S)


async def appearing(
    ask: Callable[[], Awaitable[T | None]], *, what: str, deadline: Deadline, wait_s: float
) -> T | None:
    """Return the first answer of `ask` that is not None, and None if it has not come after `wait_s`.

    Errors: as poll: None is returned only if Prism could be asked.
    """
    end = deadline.within(wait_s)

    async def look() -> tuple[T | None] | None:
        found = await ask()
        return (found,) if found is not None or end.left_s <= 0 else None

    return (await poll(look, what=what, deadline=deadline))[0]


async def ask_twice_if_absent(ask: Callable[[], Awaitable[T]], clock: Clock) -> T:
    """Return what `ask` returns; ask once more if Prism does not know it: one 404 may pass.

    Errors: what `ask` raises.
    """
    try:
        return await ask()
    except PrismStatusError as exc:
        if not is_not_found(exc):
            raise
        log.debug("asked again, to be sure: %s", exc)
    await clock.sleep(FIRST_POLL_S)
    return await ask()


async def if_there(ask: Callable[[], Awaitable[T]], clock: Clock) -> T | None:
    """Return what `ask` returns, None if Prism does not know it, also when it is asked again."""
    try:
        return await ask_twice_if_absent(ask, clock)
    except PrismStatusError as exc:
        if is_not_found(exc):
            return None
        raise


class Named(Protocol):
    """Something that Prism has a name for."""

    @property
    def name(self) -> str | None:
        """What it is called."""
        ...


N = TypeVar("N", bound=Named)


async def those_named(name: str, ids: Iterable[str], state: Callable[[str], Awaitable[N | None]]) -> list[N]:
    """Return which of these have this name; one that has another, is not there, or may not be seen is left out."""
    found: list[N] = []
    for each in dict.fromkeys(ids):
        try:
            seen = await state(each)
        except PrismStatusError as exc:
            if may_pass(exc):
                raise
            log.debug("not taken for %r: %s", name, exc)
            continue
        if seen is not None and seen.name == name:
            found.append(seen)
    return found


async def remove_each(found: Iterable[T], remove: Callable[[T], Awaitable[None]]) -> None:
    """Remove all of them.  One that cannot be removed spares no other; the first such error is raised then."""
    left: list[PrismError] = []
    for one in found:
        try:
            await remove(one)
        except PrismError as exc:
            left.append(exc)
    if left:
        raise left[0]


class Accepted:
    """What became of a request that makes something, known also if we are cancelled meanwhile: it runs to its end.

    `id` is that of what Prism accepted; `was_rejected` says that nothing was made.  Neither, if the answer is lost.
    """

    def __init__(self) -> None:
        self.id: str | None = None
        self.was_rejected = False

    async def ask(self, asking: Coroutine[Any, Any, str]) -> str:
        """Await `asking`, keep what it returns, return it; a cancellation is raised only after that."""

        async def keep() -> str:
            try:
                self.id = await asking
            except NtxError as exc:
                self.was_rejected = was_rejected(exc)
                raise
            return self.id

        return await run_to_completion(keep())


def warn_of_unseen(what: str) -> None:
    """Say that `what`, which Prism may have accepted, was looked for and is not there."""
    log.warning("%s: not to be seen, but it may be made yet: `ntx sweep` removes it then", what)


async def undo(work: Coroutine[Any, Any, None], *, what: str) -> None:
    """Remove what is half done, to the end, also while we are being cancelled.

    A failure is logged, not raised: the error that made this necessary is the one to tell.
    """
    try:
        await run_to_completion(work, timeout_s=UNDO_TIMEOUT_S)
    except asyncio.CancelledError:
        raise
    except (NtxError, TimeoutError) as exc:
        log.warning("%s may be left on the cluster, `ntx sweep` removes it: %s", what, exc)
