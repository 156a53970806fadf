"""How an export ends: whoever says so first decides.

the control plane says "success"     the recovery point is kept, durably, before that is answered
the control plane says "failure"     it is deleted
time limit, signal, a server ended   it is deleted, unless the control plane was first
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

import msgspec

Result = Literal["success", "failure"]
_Short = Annotated[str, msgspec.Meta(max_length=200)]


class Done(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a control plane says at the end: docs/schema/export-done.json."""

    result: Result
    recovery_point: _Short
    message: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    failed_disks: Annotated[list[_Short], msgspec.Meta(max_length=1000)] = msgspec.field(default_factory=list)


class Ending:
    """`keep` is called once, for a success; it is run to its end whoever is cancelled meanwhile."""

    def __init__(self, keep: Callable[[], Awaitable[None]]) -> None:
        self._keep = keep
        self._said: Done | None = None
        self._is_ours = False
        self._settling: asyncio.Task[Done] | None = None
        self.over = asyncio.Event()

    async def say(self, done: Done) -> bool:
        """Take what the control plane says; return false if it is too late, or not what it said first.

        Errors: NtxError: the recovery point could not be recorded as kept.
        """
        if self._said is None:
            if self._is_ours:
                return False
            self._said = done
            self._settling = asyncio.create_task(self._settle(done))
            self._settling.add_done_callback(lambda task: self.over.set())
        # Whoever says the same again did not get the answer: that is the same, also when all is over.
        if self._said.result != done.result:
            return False
        assert self._settling is not None
        await asyncio.shield(self._settling)
        return True

    def claim(self) -> None:
        """From now on nobody is heard who has not said anything yet."""
        self._is_ours = True

    async def result(self) -> Done | None:
        """Return what the control plane has said, None if nothing; wait until it is recorded.

        Errors: as `say`.
        """
        return None if self._settling is None else await asyncio.shield(self._settling)

    async def _settle(self, done: Done) -> Done:
        if done.result == "success":
            await self._keep()
        return done
