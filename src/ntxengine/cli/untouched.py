"""A repository to look at without making one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ntxengine.errors import NotFoundError
from ntxengine.repository import Repository


@asynccontextmanager
async def untouched(path: Path) -> AsyncIterator[Repository]:
    """Open a repository; if there is none, an empty one in its place, so that nothing is made where it would be."""
    try:
        opened = await Repository.open(path)
    except NotFoundError:
        with TemporaryDirectory(prefix="ntx-plan-") as folder:
            yield await Repository.create(folder)
    else:
        yield opened
