"""Writing an image in two halves, with a checkpoint between them: what is done among faults, or killed.

The journal, which is on another disk, says where a checkpoint got to.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.extents import ZERO
from ntxengine.images.create import ImageWriter, NewImage
from ntxengine.units import BLOCK_SIZE
from tests.images.written import Kind, Rows, split_at, write
from tests.support.faulty import Plan

OPTIONS = CopyOptions(connections=1, request_size=BLOCK_SIZE, timeout_s=60)
HALF = 3 * BLOCK_SIZE


class LostError(Exception):
    """The writer is gone."""


@dataclass(frozen=True)
class Writing:
    """What is written: an image, the raw file it is of, and where its journal is."""

    kind: Kind
    new: NewImage
    source: Path
    journal: Path

    @property
    def rows(self) -> Rows:
        """All of the disk, of which a block is said to be zero."""
        return [(0, BLOCK_SIZE, 0), (BLOCK_SIZE, BLOCK_SIZE, ZERO), (2 * BLOCK_SIZE, self.new.size - 2 * BLOCK_SIZE, 0)]

    @property
    def stored_to(self) -> int | None:
        """What the journal says; None: there is none."""
        return int(self.journal.read_text()) if self.journal.exists() else None

    async def begin(self) -> None:
        """Write all of it."""
        before, behind = split_at(self.rows, HALF)
        async with self.kind.create(self.new, OPTIONS) as image:
            await write(image, self.source, before, OPTIONS)
            await image.checkpoint()
            self.journal.write_text(str(HALF))
            await write(image, self.source, behind, OPTIONS)
            await self._finish(image)

    async def begin_only(self) -> None:
        """Write until something is behind the checkpoint, and leave it."""
        before, behind = split_at(self.rows, HALF)
        with suppress(LostError):
            async with self.kind.create(self.new, OPTIONS) as image:
                await write(image, self.source, before, OPTIONS)
                await image.checkpoint()
                self.journal.write_text(str(HALF))
                await write(image, self.source, behind, OPTIONS)
                raise LostError

    async def go_on(self) -> None:
        """Write what is behind the checkpoint."""
        assert self.stored_to is not None
        _, behind = split_at(self.rows, self.stored_to)
        async with self.kind.reopen(self.new, OPTIONS, self.stored_to) as image:
            if behind:
                await write(image, self.source, behind, OPTIONS)
            await self._finish(image)

    async def _finish(self, image: ImageWriter) -> None:
        self.journal.write_text(str(self.new.size))  # all is stored: as a copy says before it ends
        await image.finish()


def die(writing: Writing, plan: Path, bad: int, what: int, *, goes_on: bool) -> None:
    """Write in this process, which the file system kills."""
    Plan(plan).begin(bad, what, pid=os.getpid())
    asyncio.run(writing.go_on() if goes_on else writing.begin())
