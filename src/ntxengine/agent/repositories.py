"""The repositories of the agent: opened, or made with the first run, and never in an empty mount point.

Those that there were are known, by path and id.  Where none is known, none is made in an empty folder that nothing is
mounted on, or below one: it may be a mount point, and the state a new one.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ntxengine.agent.records import BEING_MADE
from ntxengine.agent.retries import RepositoryUnusable
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import NotFoundError, NtxError, OptionsError
from ntxengine.files import durable
from ntxengine.repository import Repository

_ESCAPED = re.compile(r"\\([0-7]{3})")
"""A space and the like, as the kernel writes it in names of mount points."""


class KnownRepositories(Protocol):
    """Which repositories there were: they are not made a second time, as in an empty mount point."""

    def repository_id(self, path: str) -> str:
        """Return the id of the repository that was there, "" if there was none."""
        ...

    def is_being_made(self, path: str) -> bool:
        """Say whether a repository was to be made there, as far as is known."""
        ...

    def know_repository(self, path: str, repository_id: str) -> None:
        """Remember a repository; "" for none, BEING_MADE for one that is there in a moment."""
        ...


class Repositories:
    """Opens them.  For one event loop."""

    def __init__(self, known: KnownRepositories) -> None:
        self._known = known
        self._opening: dict[Path, asyncio.Lock] = {}

    async def open(self, path: Path, *, holds: str = "repository") -> Repository:
        """Open a repository; make it, if there never was one.  One at a time: the first makes it for all.

        `holds` is what people call it.
        Errors: RepositoryUnusable, OptionsError.
        """
        async with self._opening.setdefault(path, asyncio.Lock()):
            known = self._known.repository_id(str(path))
            if known:
                return await self._opened(path, known, holds)
            await self._check_place(path, holds)
            self._known.know_repository(str(path), BEING_MADE)
            made = ""
            try:
                made = (repository := await self._opened(path, known, holds)).id
            finally:
                self._known.know_repository(str(path), made)
            return repository

    async def _check_place(self, path: Path, holds: str) -> None:
        """Refuse to make a repository in what may be an empty mount point.

        An agent that was killed while it made one has seen to that.
        """
        if self._known.is_being_made(str(path)):
            return
        try:
            empty = await to_thread_joined(empty_folder_of, path)
        except OSError as exc:
            raise RepositoryUnusable(str(durable.read_error(path, exc))) from exc
        if empty is not None:
            raise RepositoryUnusable(
                f"{path}: there is no {holds}, and {empty} is an empty folder that nothing is mounted on: if a"
                f" file system belongs there, mount it; if none does: ntx repository create {path}"
            )

    async def _opened(self, path: Path, known: str, holds: str) -> Repository:
        try:
            repository = await Repository.open(path, create=not known, renews_catalog=False)
        except NotFoundError as exc:
            raise RepositoryUnusable(
                f"{path}: the {holds} {known} that was there is gone: is its file system mounted?  Nothing is"
                f" written before it is back"
            ) from exc
        except OptionsError:
            raise
        except NtxError as exc:
            raise RepositoryUnusable(str(exc)) from exc
        except OSError as exc:
            raise RepositoryUnusable(str(durable.read_error(path, exc))) from exc
        if known and repository.id != known:
            raise RepositoryUnusable(
                f"{path}: holds {holds} {repository.id}, and {known} was there before: is the right file system"
                f" mounted?  Where that is meant, give it another path"
            )
        return repository


def empty_folder_of(path: Path) -> Path | None:
    """Return the empty folder that a repository would be made in: a mount point, perhaps, that nothing is mounted on.

    None if it has something in it, or is the root of a file system.  Blocks.
    """
    folder = path.absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or any(folder.iterdir()) or _is_mounted(folder):
        return None
    return folder


def _is_mounted(folder: Path) -> bool:
    """Return whether something is mounted on a folder, also another folder of the same file system."""
    if os.path.ismount(folder):
        return True
    wanted = str(folder.resolve())
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        return any(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), each.split()[4]) == wanted for each in mounts)
    return False
