"""The same work on several things, a few at a time: the disks of a VM, of a point."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger(__name__)


async def map_limited(
    items: Iterable[Item], work: Callable[[Item], Awaitable[Result]], *, at_once: int
) -> list[Result]:
    """Do `work` on every item, at most `at_once` of them at a time, and return the results in order.

    Errors: the first that `work` raises.  The others are cancelled and awaited before; what they raise is logged.
    """
    turns = asyncio.Semaphore(at_once)

    async def in_turn(item: Item) -> Result:
        async with turns:
            return await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(in_turn(item)) for item in items]
    except BaseExceptionGroup as errors:
        first = first_error(errors)
        raise first from first.__cause__
    return [task.result() for task in tasks]


def first_error(error: BaseException) -> BaseException:
    """Return the error that came first; log those that came after it in other tasks of a group."""
    while isinstance(error, BaseExceptionGroup):
        for later in error.exceptions[1:]:
            log.warning("after the first error: %s", later)
        error = error.exceptions[0]
    return error
