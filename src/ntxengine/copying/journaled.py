"""What a copy with a journal leaves when it is interrupted, and the next run goes on with.

FILE                  the journal: what is copied to where, and how far it is stored
FILE.manifest         the digests, unless --manifest names another
TARGET.ntx-partial    a new target, until it is whole
.FILE.lock            held by the run that works on it

no journal      ->  begin               nothing of the others may be there
stored_to 0     ->  begin               what an earlier run made of the others is removed
stored_to > 0   ->  go on               if all is as it was left; else refused
whole           ->  the new target gets its name; journal, manifest (unless it was asked for) and lock are removed
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from ntxengine._core.device import Device
from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.copying import identity
from ntxengine.copying.request import CopyRequest
from ntxengine.dataplane import journal
from ntxengine.dataplane.checkpoints import Checkpoints
from ntxengine.dataplane.extents import ExtentFile
from ntxengine.dataplane.journal import DigestsBelow, Journal
from ntxengine.dataplane.location import parse
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import ChecksumMismatch, NtxError, OptionsError, RepositoryError
from ntxengine.files import durable
from ntxengine.files.lock_file import LockFile
from ntxengine.images.targets import Opening, Unfinished, finished_target, named_target

log = logging.getLogger(__name__)

PARTIAL = ".ntx-partial"
MANIFEST = ".manifest"


class JournaledCopy:
    """One run of a copy of `size` bytes with a journal; `path` is that of the journal.

    `checkpoints` write to it.  `bytes_repeated` is what an earlier run did behind what it had stored.
    """

    def __init__(self, request: CopyRequest, path: Path, size: int, extents: ExtentFile | None) -> None:
        self.path = path
        self.bytes_repeated = 0
        self.checkpoints = Checkpoints(self._keep)
        self._request = request
        self.size = size
        self._manifest_path = request.manifest_file or path.with_name(path.name + MANIFEST)
        self._place = Path(parse(request.target).path)
        self._partial = self._place.with_name(self._place.name + PARTIAL) if self._place.name else self._place
        self._lock = LockFile(path.with_name(f".{path.name.removeprefix('.')}.lock"), str(path))
        self._identity: dict[str, str] = {}
        self._extents = extents
        self._has_partial = self._is_published = False
        self._vouches = True
        self._found: Journal | None = None
        self._below: DigestsBelow | None = None
        self._manifest: Manifest | None = None

    # ------------------------------------------------------------------------------------------------ beginning

    def begin(self) -> JournaledCopy:
        """Lock the journal, and find out where to go on.  Blocks.

        Errors: LockedError; OptionsError (it is of another copy, something is in the way); RepositoryError (damaged);
                TargetError.
        """
        self._lock.acquire()
        try:
            self._begin()
        except BaseException:
            self._close()
            self._lock.release()
            raise
        return self

    def _begin(self) -> None:
        self._identity = identity.of_request(self._request, self._manifest_path, self._extents)
        found = journal.read(self.path)
        if found is None:
            self._identity[identity.KIND_OF_TARGET] = identity.kind_of_target(self._request)
            self._clear_the_way()
            self._begin_anew()
            return
        is_new = found.identity.get(identity.KIND_OF_TARGET) == identity.NEW_FILE
        kind = identity.NEW_FILE if is_new else identity.kind_of_target(self._request)
        self._identity[identity.KIND_OF_TARGET] = kind
        before = {key: text for key, text in found.identity.items() if key not in identity.OF_THE_OPEN_TARGET}
        Journal(before, found.size, found.stored_to).check_same(
            self._identity, self.size, path=self.path, remedy=self._remedy(found)
        )
        if found.stored_to > 0:
            self._go_on(found)
            return
        self._has_partial = is_new
        self._remove_made()
        self._identity[identity.KIND_OF_TARGET] = identity.kind_of_target(self._request)
        self._begin_anew()

    def _clear_the_way(self) -> None:
        """Remove what was left by a copy whose journal was removed to begin again; refuse anything else."""
        if os.path.lexists(self._manifest_path):
            try:
                Manifest.reopen(self._manifest_path, size=self.size, unseal=self._owns_manifest).close()
            except RepositoryError as exc:
                text = f"{self._manifest_path}: exists already, and is not of an interrupted copy of this source"
                raise OptionsError(f"{text}: remove it, or name another") from exc
            self._has_partial = self._is_new
            self._remove_made()
        if self._is_new and os.path.lexists(self._partial):
            raise OptionsError(
                f"{self._partial}: exists already: a copy with another journal goes on with it; if none does, remove it"
            )

    def _remedy(self, found: Journal) -> str:
        """Say what to remove to begin again: all that this copy left, for a damaged manifest would be in the way."""
        left = [self.path]
        if found.identity.get(identity.MANIFEST) == self._identity[identity.MANIFEST]:
            left.append(self._manifest_path)
        is_new = found.identity.get(identity.KIND_OF_TARGET) == identity.NEW_FILE
        if is_new and found.identity.get(identity.TARGET) == self._identity[identity.TARGET]:
            left += self._unfinished.files
        return f"remove {', '.join(str(path) for path in left if os.path.lexists(path))} to begin again"

    def _begin_anew(self) -> None:
        self._has_partial = False
        journal.write(self.path, Journal(self._identity, self.size, 0))
        try:
            self._take(Manifest.create(self._manifest_path, size=self.size))
        except BaseException:
            journal.remove(self.path)
            raise

    def _take(self, manifest: Manifest) -> DigestsBelow:
        self._manifest = manifest
        self._below = DigestsBelow(manifest)
        return self._below

    def _go_on(self, found: Journal) -> None:
        if self._is_new:
            self._find_new_target(found)
        try:
            manifest = Manifest.reopen(self._manifest_path, size=self.size, unseal=True)
        except RepositoryError as exc:
            raise RepositoryError(f"{exc}: {self._remedy(found)}") from exc
        below = self._take(manifest)
        if found.digests and below.at(found.stored_to) != found.digests:
            raise RepositoryError(
                f"{self._manifest_path}: the manifest is damaged (its digests are not those of the journal): "
                f"{self._remedy(found)}"
            )
        self._found = found
        self.bytes_repeated = manifest.bytes_data(found.stored_to)
        manifest.forget(found.stored_to)
        self.checkpoints = Checkpoints(self._keep, stored_to=found.stored_to, is_resumed=True)

    def _find_new_target(self, found: Journal) -> None:
        """Look whether the new target is there, under one name or the other."""
        inode = found.identity.get(identity.INODE_OF_TARGET)
        if identity.inode_of(self._place) == inode:
            self._is_published = True
            with suppress(FileNotFoundError):  # whoever was killed was between two names
                if identity.inode_of(self._partial) == inode:
                    self._partial.unlink()
        elif os.path.lexists(self._place):
            raise OptionsError(f"{self._place}: was made by somebody else meanwhile: remove it, or name another")
        elif identity.inode_of(self._partial) != inode:
            state = "was replaced" if os.path.lexists(self._partial) else "is missing"
            raise OptionsError(f"{self._partial}: {state}, and the copy went there: remove {self.path} to begin again")

    # ----------------------------------------------------------------------------------------------- the target

    @property
    def _is_new(self) -> bool:
        return self._identity[identity.KIND_OF_TARGET] == identity.NEW_FILE

    @property
    def _unfinished(self) -> Unfinished:
        return Unfinished(self._partial, 0 if self._found is None else self._found.stored_to)

    @property
    def _owns_manifest(self) -> bool:
        return self._request.manifest_file is None

    @property
    def manifest(self) -> Manifest | None:
        """As Kept."""
        return self._manifest

    @asynccontextmanager
    async def target(self) -> AsyncIterator[Opening]:
        """As Kept."""
        spec = self._request.target_spec(self.size)
        if self._is_published:
            yield finished_target(spec)
            return
        unfinished = self._unfinished if self._is_new else None
        async with named_target(spec, unfinished) as opening:
            self._has_partial = self._is_new
            yield opening

    def check_target(self, target: Device) -> None:
        """As Kept."""
        self._identity[identity.SIZE_OF_TARGET] = str(target.size)
        if self._is_new:
            made = self._place if self._is_published else self._partial
            self._identity[identity.INODE_OF_TARGET] = identity.inode_of(made)
        elif self._identity[identity.KIND_OF_TARGET] == "file":
            self._identity[identity.INODE_OF_TARGET] = identity.inode_of(self._place)
        if self._found is not None:
            self._found.check_same(self._identity, self.size, path=self.path, remedy=self._remedy(self._found))
        if self._is_new:
            durable.sync_folder(self._place.parent)  # of an earlier run, too: it may have been killed before that
        durable.sync_folder(self._manifest_path.parent)

    # ------------------------------------------------------------------------------------------- what is stored

    def _keep(self, stored_to: int) -> None:
        digests = self._below.at(stored_to) if self._below is not None and self._vouches else ""
        journal.write(self.path, Journal(self._identity, self.size, stored_to, digests))

    def can_go_on(self) -> bool:
        """As Kept."""
        if self.checkpoints.stored_to == 0 or not self.path.exists():
            return False
        try:
            now = identity.of_request(self._request, self._manifest_path, self._extents)
        except NtxError:
            return True  # the source is out of reach, and may come back
        if any(self._identity.get(key) != text for key, text in now.items()):
            return False
        made = [identity.inode_of(path) for path in (self._partial, self._place)]
        return not self._is_new or self._identity.get(identity.INODE_OF_TARGET) in made

    def let_digests_change(self) -> None:
        """As Kept."""
        self._vouches = False
        self._keep(self.checkpoints.stored_to)

    def end(self) -> None:
        """All is whole: remove what was for the next run.  Blocks.  Errors: TargetError."""
        self._close()
        try:
            journal.remove(self.path)
            if self._owns_manifest:
                durable.remove_file(self._manifest_path)
        finally:
            self._lock.release()

    def leave(self, error: BaseException) -> None:
        """Leave it to the next run, unless `error` says that it is not worth it.  Blocks."""
        self._close()
        try:
            if self.checkpoints.stored_to == 0 or isinstance(error, ChecksumMismatch):
                self._remove_made()
                journal.remove(self.path)
        except NtxError as exc:
            log.warning("what the copy left could not be removed: %s", exc)
        finally:
            self._lock.release()

    def _close(self) -> None:
        if self._manifest is not None:
            self._manifest.close()

    def _remove_made(self) -> None:
        """Remove what will not be gone on with, if a run with this journal made it."""
        for path in (self._manifest_path, *(self._unfinished.files if self._has_partial else ())):
            durable.remove_file(path)


@asynccontextmanager
async def keeping_journal(
    request: CopyRequest, path: Path, size: int, extents: ExtentFile | None
) -> AsyncIterator[JournaledCopy]:
    """Give what a copy with a journal at `path` needs, and leave what the next run needs.  Errors: as begin."""
    run = JournaledCopy(request, path, size, extents)
    await acquire_in_thread(run.begin, give_back=lambda begun: begun.leave(asyncio.CancelledError()))
    try:
        request.check_files()  # once more, now that they exist: a file system may take two spellings for one name
        yield run
    except BaseException as error:
        await to_thread_joined(run.leave, error)
        raise
    await to_thread_joined(run.end)
