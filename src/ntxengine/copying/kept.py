"""What of a copy outlives the process that makes it, where there is no journal: the manifest that was asked for, if all
goes well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

from ntxengine._core.device import Device
from ntxengine.copying.request import CopyRequest
from ntxengine.dataplane.checkpoints import Checkpoints
from ntxengine.dataplane.manifest import Manifest
from ntxengine.images.targets import Opening, named_target


class Kept(Protocol):
    """What a run of a copy finds, and leaves for the next one."""

    @property
    def size(self) -> int:
        """The source's, in bytes."""

    @property
    def checkpoints(self) -> Checkpoints:
        """From where it goes on."""

    @property
    def manifest(self) -> Manifest | None:
        """Where the digests go."""

    @property
    def bytes_repeated(self) -> int:
        """What an earlier run did behind that, as far as is known."""

    def target(self) -> AbstractAsyncContextManager[Opening]:
        """Give what opens the target.  Errors: as named_target."""

    def check_target(self, target: Device) -> None:
        """The target is open.  Blocks.

        Errors: OptionsError (it is not the one that an earlier run wrote to), TargetError.
        """

    def can_go_on(self) -> bool:
        """Whether the next run goes on behind what is stored, as far as a look at the files tells.  Blocks."""

    def let_digests_change(self) -> None:
        """Those of what was stored will be written again.  Blocks.  Errors: TargetError."""


class NothingKept:
    """A copy that leaves nothing unless it ends well."""

    def __init__(self, request: CopyRequest, manifest: Manifest | None, size: int) -> None:
        self.checkpoints = Checkpoints()
        self.size = size
        self.manifest = manifest
        self.bytes_repeated = 0
        self._spec = request.target_spec(size)

    def target(self) -> AbstractAsyncContextManager[Opening]:
        """As Kept."""
        return named_target(self._spec)

    def check_target(self, target: Device) -> None:
        """As Kept: nobody wrote to it before."""

    def can_go_on(self) -> bool:
        """As Kept: nothing is left for it."""
        return False

    def let_digests_change(self) -> None:
        """As Kept: nobody believes them."""


@asynccontextmanager
async def keeping_nothing(request: CopyRequest, size: int) -> AsyncIterator[Kept]:
    """Give what a copy without a journal needs.  Errors: OptionsError, TargetError (of the manifest)."""
    path = request.manifest_file
    if path is None:
        with Manifest.temporary(size=size) if request.has_manifest else nullcontext() as manifest:
            yield NothingKept(request, manifest, size)
        return
    with Manifest.create(path, size=size) as manifest:
        try:
            request.check_files()  # once more, now that it exists: a file system may take two spellings for one name
            yield NothingKept(request, manifest, size)
        except BaseException:
            _remove(path)
            raise


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
