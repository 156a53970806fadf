"""The intent of a cycle: said durably before its first write, widened before it writes more than that."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from ntxengine.changes import read_kept
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane.extents import Extents
from ntxengine.errors import RepositoryError
from ntxengine.replicate.state import Intent, IntentDisk, ReplicaState, StoredReplicaDisk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@dataclasses.dataclass(frozen=True)
class Doubt:
    """What nobody knows of a disk on the target: all of it because of `reason`, or `windows` of extents; or nothing."""

    is_all: bool = False
    windows: Callable[[], Iterator[Extents]] | None = None
    reason: str = ""

    def __bool__(self) -> bool:
        return self.is_all or self.windows is not None


@asynccontextmanager
async def doubt_of(
    state: ReplicaState, dead: IntentDisk | None, before: StoredReplicaDisk | None
) -> AsyncIterator[Doubt]:
    """Give what of a disk is in doubt: `dead` is what a cycle that is dead was about to do with it.

    A cycle that wrote beside what was there leaves none.
    """
    async with AsyncExitStack() as stack:
        if before is not None and before.is_doubted:
            yield Doubt(is_all=True, reason="it may be something else than what was written")
        elif dead is None or dead.keeps:
            yield Doubt()
        elif dead.kind != "regions":
            yield Doubt(is_all=True, reason="a cycle that compared digests did not come to its end")
        else:
            try:
                kept = await read_kept(state.path / dead.changes, state.path)
            except RepositoryError as error:
                yield Doubt(is_all=True, reason=str(error))
                return
            if kept is None:
                yield Doubt(is_all=True, reason=f"{state.path / dead.changes}: is missing")
                return
            stack.callback(kept.changes.extents.close)
            yield Doubt(windows=kept.changes.extents.windows, reason="a cycle did not come to its end")


class IntentFile:
    """The intent of one cycle.  Disks may widen theirs at the same time."""

    def __init__(self, state: ReplicaState, intent: Intent) -> None:
        self._state = state
        self._intent = intent
        self._turn = asyncio.Lock()

    async def write(self, disks: Sequence[IntentDisk]) -> None:
        """Say what is about to be written.  Errors: TargetError."""
        async with self._turn:
            self._intent = dataclasses.replace(self._intent, disks=tuple(disks))
            await to_thread_joined(self._state.write_intent, self._intent)

    async def add(self, disk: IntentDisk) -> None:
        """Say what is about to be written of one disk more.  Errors: TargetError."""
        await self.write([*self._intent.disks, disk])

    async def widen(self, disk_id: str) -> None:
        """Say that any of a disk may be written.  Errors: TargetError."""
        async with self._turn:
            disks = tuple(
                dataclasses.replace(disk, kind="scan", bytes=disk.size)
                if disk.disk_id == disk_id and disk.kind == "regions"
                else disk
                for disk in self._intent.disks
            )
            self._intent = dataclasses.replace(self._intent, disks=disks)
            await to_thread_joined(self._state.write_intent, self._intent)
