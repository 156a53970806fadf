"""The budget of memory: who gets how much when, and that what was reserved is given back on every path."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from ntxengine.dataplane.memory import MemoryBudget
from ntxengine.errors import OptionsError
from ntxengine.units import MIB


async def hold(budget: MemoryBudget, *sizes: int) -> tuple[AsyncExitStack, int]:
    stack = AsyncExitStack()
    return stack, await stack.enter_async_context(budget.reserve("copy", sizes))


async def settled() -> None:
    """Let tasks run until they wait."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_without_a_limit_a_job_has_what_it_would_take() -> None:
    budget = MemoryBudget()

    first, granted = await hold(budget, 100 * MIB, MIB)

    assert (granted, budget.reserved) == (100 * MIB, 100 * MIB)
    await first.aclose()
    assert (budget.reserved, budget.peak) == (0, 100 * MIB)


async def test_what_does_not_fit_as_a_whole_is_made_smaller() -> None:
    budget = MemoryBudget(10)
    await hold(budget, 7)

    _, granted = await hold(budget, 8, 4, 3, 2, 1)

    assert (granted, budget.reserved) == (3, 10)


async def test_much_less_than_it_would_take_is_waited_for() -> None:
    budget = MemoryBudget(10)
    first, _ = await hold(budget, 9)

    waiting = asyncio.ensure_future(hold(budget, 8, 4, 2, 1))
    await settled()

    assert budget.waiting == 1
    await first.aclose()
    _, granted = await waiting
    assert granted == 8


async def test_a_job_that_would_take_more_than_there_is_begins_with_what_there_is() -> None:
    _, granted = await hold(MemoryBudget(10), 100, 50, 25, 12, 6, 3)

    assert granted == 6


async def test_who_came_first_is_served_first_even_if_a_later_one_would_fit() -> None:
    budget = MemoryBudget(10)
    first, _ = await hold(budget, 6)
    large = asyncio.ensure_future(hold(budget, 10))
    await settled()
    small = asyncio.ensure_future(hold(budget, 1))
    await settled()

    assert (large.done(), small.done(), budget.waiting) == (False, False, 2)
    await first.aclose()
    held, _ = await large
    await settled()
    assert not small.done()
    await held.aclose()
    assert (await small)[1] == 1


async def test_a_job_that_never_fits_is_refused_with_what_it_needs() -> None:
    budget = MemoryBudget(10 * MIB)
    await hold(budget, MIB)

    with pytest.raises(OptionsError) as refused:
        await hold(budget, 30 * MIB, 12 * MIB)

    assert str(refused.value) == (
        "copy: needs 12.0 MiB of memory at least, and the limit for all copies is 10.0 MiB: raise --memory-limit "
        "(performance.memory_limit)"
    )
    assert (budget.reserved, budget.waiting) == (MIB, 0)


async def test_who_is_cancelled_while_waiting_holds_up_nobody() -> None:
    budget = MemoryBudget(10)
    first, _ = await hold(budget, 6)
    large = asyncio.ensure_future(hold(budget, 10))
    await settled()
    small = asyncio.ensure_future(hold(budget, 4))
    await settled()

    large.cancel()
    await asyncio.gather(large, return_exceptions=True)

    assert (await small)[1] == 4
    await first.aclose()
    assert (budget.reserved, budget.waiting) == (4, 0)


async def test_who_is_cancelled_just_when_it_is_granted_gives_it_back() -> None:
    budget = MemoryBudget(10)
    first, _ = await hold(budget, 10)
    waiting = asyncio.ensure_future(hold(budget, 10))
    await settled()

    await first.aclose()  # decided, and not told yet
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert (budget.reserved, budget.waiting) == (0, 0)


async def test_an_error_gives_back_what_was_reserved() -> None:
    budget = MemoryBudget(10)

    with pytest.raises(ZeroDivisionError):
        async with budget.reserve("copy", [10]):
            raise ZeroDivisionError

    assert budget.reserved == 0


async def test_a_higher_limit_lets_in_who_waits() -> None:
    budget = MemoryBudget(10)
    await hold(budget, 10)
    waiting = asyncio.ensure_future(hold(budget, 10))
    await settled()

    budget.change(20)

    assert (await waiting)[1] == 10


async def test_a_lower_limit_holds_for_what_begins_after_it() -> None:
    budget = MemoryBudget(10)
    first, _ = await hold(budget, 8)
    waiting = asyncio.ensure_future(hold(budget, 8))
    await settled()

    budget.change(5)

    with pytest.raises(OptionsError, match="needs 8 B"):
        await waiting
    later = asyncio.ensure_future(hold(budget, 4))
    await settled()
    assert (budget.reserved, later.done()) == (8, False)
    await first.aclose()
    assert (await later)[1] == 4


async def test_event_loops_of_several_threads_share_it() -> None:
    budget = MemoryBudget(10)
    first, _ = await hold(budget, 10)

    async def elsewhere() -> int:
        async with budget.reserve("copy", [5]) as granted:
            return granted

    thread = asyncio.get_running_loop().run_in_executor(None, asyncio.run, elsewhere())
    while not budget.waiting:
        await asyncio.sleep(0)
    await first.aclose()

    assert await thread == 5
    assert budget.reserved == 0


async def test_many_jobs_of_all_sizes_never_have_more_than_the_limit() -> None:
    budget = MemoryBudget(100)
    seen: list[int] = []

    async def job(number: int) -> None:
        async with budget.reserve(f"job {number}", [number % 97 + 1, number % 5 + 1]):
            seen.append(budget.reserved)
            await settled()

    await asyncio.gather(*(job(number) for number in range(500)))

    assert len(seen) == 500
    assert max(seen) == budget.peak <= 100
    assert (budget.reserved, budget.waiting) == (0, 0)


def test_a_limit_is_not_negative() -> None:
    with pytest.raises(OptionsError, match="memory limit -1"):
        MemoryBudget(-1)
