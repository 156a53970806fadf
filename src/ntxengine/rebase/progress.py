"""How far an image is written, kept from one try to the next."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.dataplane import journal
from ntxengine.dataplane.copy import Checkpoints, CopyOptions
from ntxengine.dataplane.journal import Journal
from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.images.create import ImageWriter, NewImage, create_image, reopen_image
from ntxengine.images.writer import map_of

log = logging.getLogger(__name__)


class WriteProgress:
    """The journal at `path` of the image `new`; `identity` is what has to be the same when somebody goes on.

    What was left of something else, or is damaged, is removed.  Blocks.
    Errors: TargetError.
    """

    def __init__(self, path: Path, identity: Mapping[str, str], new: NewImage) -> None:
        self._path = path
        self._identity = dict(identity)
        self._new = new
        self._image: ImageWriter | None = None
        self._begin(self._find())

    def _begin(self, stored_to: int) -> None:
        self.stored_to = stored_to
        self.checkpoints = Checkpoints(self._keep, stored_to=stored_to, is_resumed=stored_to > 0)

    @asynccontextmanager
    async def open(self, format: str, options: CopyOptions) -> AsyncIterator[ImageWriter]:
        """Open the image for writing: as an earlier try left it, if one got so far that it can be gone on with.

        What cannot be opened again is begun anew: `stored_to` and `checkpoints` are right from then on.
        Errors: as create_image.
        """
        async with AsyncExitStack() as stack:
            if self.stored_to > 0:
                try:
                    again = reopen_image(self._new, format, options, stored_to=self.stored_to)
                    self._image = await stack.enter_async_context(again)
                except RepositoryError as exc:
                    log.info("%s: begun anew: %s", self._new.path, exc)
                    await to_thread_joined(self._clear)
                    self._begin(0)
            if self._image is None:
                self._image = await stack.enter_async_context(create_image(self._new, format, options))
            yield self._image

    def _find(self) -> int:
        try:
            found = journal.read(self._path)
        except RepositoryError:
            found = None
        if found is not None and (found.size, dict(found.identity)) == (self._new.size, self._identity):
            return found.stored_to
        self._clear()
        return 0

    def _clear(self) -> None:
        """Remove what an earlier try left, the journal first: without it nobody goes on."""
        journal.remove(self._path)
        durable.remove_file(map_of(self._new.path))
        durable.remove_file(self._new.path)

    def _keep(self, stored_to: int) -> None:
        """Called in a thread, once everything below `stored_to` is stored."""
        if self._image is not None:
            self._image.keep()
        journal.write(self._path, Journal(self._identity, self._new.size, min(stored_to, self._new.size)))
