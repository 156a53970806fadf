"""What was found out by trying it is kept for a minute, what was raised is not."""

from __future__ import annotations

import asyncio

import pytest

from ntxengine.attach.tried import KEPT_S, Tried


class Attempts:
    """Returns how often it was asked, after a moment; or fails."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False

    async def __call__(self) -> int:
        self.asked += 1
        await asyncio.sleep(0)
        if self.fails:
            raise OSError("not now")
        return self.asked


async def test_an_answer_is_kept_for_a_while_and_for_what_it_is_about() -> None:
    now = [0.0]
    tried: Tried[int] = Tried(now=lambda: now[0])
    attempt = Attempts()

    assert [await tried.get("a", attempt), await tried.get("a", attempt), await tried.get("b", attempt)] == [1, 1, 2]
    now[0] = KEPT_S
    assert await tried.get("a", attempt) == 3


async def test_who_comes_meanwhile_gets_the_same_answer() -> None:
    tried: Tried[int] = Tried()
    attempt = Attempts()

    assert await asyncio.gather(*(tried.get("a", attempt) for _ in range(3))) == [1, 1, 1]


async def test_a_failure_is_not_kept() -> None:
    tried: Tried[int] = Tried()
    attempt = Attempts()
    attempt.fails = True

    with pytest.raises(OSError, match="not now"):
        await tried.get("a", attempt)
    attempt.fails = False

    assert await tried.get("a", attempt) == 2
