"""A few at a time: results in order, the first error wins, nobody is left running."""

from __future__ import annotations

import asyncio

import pytest

from ntxengine.concurrency.parallel import first_error, map_limited
from ntxengine.errors import NtxError


async def test_results_come_in_order_and_no_more_than_allowed_run_at_once() -> None:
    running, most = 0, 0

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (5 - number))
        running -= 1
        return number * 10

    results = await map_limited(range(5), work, at_once=2)

    assert results == [0, 10, 20, 30, 40]
    assert most == 2


async def test_the_first_error_is_raised_itself_after_the_others_have_cleaned_up() -> None:
    cleaned: list[int] = []

    async def work(number: int) -> None:
        if number == 1:
            raise NtxError("first") from OSError("cause")
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(number)

    with pytest.raises(NtxError, match="first") as caught:
        await map_limited(range(3), work, at_once=3)

    assert sorted(cleaned) == [0, 2]
    assert isinstance(caught.value.__cause__, OSError)


def test_the_first_error_of_nested_groups_is_found_and_the_others_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = NtxError("first"), NtxError("second")
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [first]), second])

    assert first_error(group) is first
    assert "second" in caplog.text
