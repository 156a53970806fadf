"""What was done is taken back in reverse, all of it, and the first error is the one that is told."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ntxengine.concurrency.rollback import Rollback
from ntxengine.errors import NtxError


async def test_steps_run_in_reverse_and_a_failing_one_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[int] = []
    undo = Rollback()

    def step(number: int, *, fails: bool = False) -> None:
        async def run() -> None:
            ran.append(number)
            if fails:
                raise NtxError("no")

        undo.add(f"undo {number}", run)

    step(1)
    step(2, fails=True)
    step(3)
    with caplog.at_level(logging.WARNING):
        await undo.run()

    assert ran == [3, 2, 1]
    assert [record.getMessage() for record in caplog.records] == ["could not undo 2: no; `ntx sweep` does it later"]


async def test_a_step_that_hangs_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    undo = Rollback(step_timeout_s=0.01)
    ran = []

    async def last() -> None:
        ran.append(True)

    undo.add("undo the rest", last)
    undo.add("undo what hangs", asyncio.Event().wait)  # type: ignore[arg-type]
    await undo.run()

    assert ran == [True]
    assert "could not undo what hangs within 0.01 s" in caplog.text


async def test_what_is_forgotten_is_not_taken_back() -> None:
    undo = Rollback()

    async def step() -> None:
        raise AssertionError("taken back")

    undo.add("undo", step)
    undo.forget()

    assert not undo.has_steps
    await undo.run()
