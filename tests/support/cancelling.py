"""Work that is cancelled while a thread of it gets something that somebody must give back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest


async def cancelled_within(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, work: Coroutine[Any, Any, object]
) -> None:
    """Cancel `work` while a thread is in the function `name` of `owner`, which comes to its end all the same."""
    function, entered, may_return = getattr(owner, name), threading.Event(), threading.Event()

    def held(*args: Any) -> Any:
        got = function(*args)
        entered.set()
        may_return.wait(60)
        return got

    monkeypatch.setattr(owner, name, held)
    task = asyncio.create_task(work)
    assert await asyncio.to_thread(entered.wait, 60)
    task.cancel()
    await asyncio.sleep(0)
    may_return.set()
    with pytest.raises(asyncio.CancelledError):
        await task
