"""How far an image is written, kept from one try to the next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from ntxengine.dataplane import journal
from ntxengine.dataplane.copy import Checkpoints, CopyOptions
from ntxengine.dataplane.journal import Journal
from ntxengine.errors import RepositoryError
from ntxengine.files import durable
from ntxengine.images.create import ImageWriter, NewImage, create_image, reopen_image
from ntxengine.images.writer import map_of


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
        self.stored_to = self._find()
        self.checkpoints = Checkpoints(self._keep, stored_to=self.stored_to, is_resumed=self.stored_to > 0)

    @asynccontextmanager
    async def open(self, format: str, options: CopyOptions) -> AsyncIterator[ImageWriter]:
        """Open the image for writing: as an earlier try left it, if one got so far that it can be gone on with.

        Errors: as create_image, reopen_image; what could not be opened again is begun anew the next time.
        """
        if self.stored_to == 0:
            opening = create_image(self._new, format, options)
        else:
            opening = reopen_image(self._new, format, options, stored_to=self.stored_to)
        async with AsyncExitStack() as stack:
            try:
                self._image = await stack.enter_async_context(opening)
            except RepositoryError:
                journal.remove(self._path)
                raise
            yield self._image

    def _find(self) -> int:
        try:
            found = journal.read(self._path)
        except RepositoryError:
            found = None
        if found is not None and (found.size, dict(found.identity)) == (self._new.size, self._identity):
            return found.stored_to
        journal.remove(self._path)
        durable.remove_file(map_of(self._new.path))
        durable.remove_file(self._new.path)
        return 0

    def _keep(self, stored_to: int) -> None:
        """Called in a thread, once everything below `stored_to` is stored."""
        if self._image is not None:
            self._image.keep()
        journal.write(self._path, Journal(self._identity, self._new.size, min(stored_to, self._new.size)))
