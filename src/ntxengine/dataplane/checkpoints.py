"""How far a copy is stored, while it goes on and after it has ended for whatever reason.

    due -> the core's checkpoint: flush -> digests synced -> kept by the caller, durably -> stored_to

Only then is anything below `stored_to` believed, by this process and by the next one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.progress import CopyReport
from ntxengine.errors import TargetError
from ntxengine.files import free_space
from ntxengine.units import MIB

DUE_S = 1.0
DUE_BYTES = 256 * MIB
"""Whichever comes first: as much may have to be copied again."""

_SELDOMER = 50
"""Times what the last one took until the next: so that they take 2 % of the time at most."""


class Checkpoints:
    """Everything that was to be copied below `stored_to` (bytes) is stored, and its digests are.

    `keep` is told of it in a thread, and has made it durable when it returns.  `made` of them took `seconds`.
    `retries` is how often a connection was lost and the copy went on; `failed` is what each copy that failed did.
    `has_begun`: a copy has, so that both ends were there.  `is_resumed`: an earlier one may have written behind
    `stored_to`, and digests too.
    """

    def __init__(
        self,
        keep: Callable[[int], None] = lambda stored_to: None,
        *,
        stored_to: int = 0,
        is_resumed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stored_to = stored_to
        self.is_resumed = is_resumed
        self.has_begun = False
        self.made = self.retries = 0
        self.failed: list[CopyReport] = []
        self.seconds = 0.0
        self._has_lost_digests = False
        self._keep = keep
        self._clock = clock
        self._not_before = clock()
        self._due = self._not_before + DUE_S
        self._due_bytes = DUE_BYTES

    def begin_copy(self) -> None:
        """Both ends are there; all that lies behind `stored_to` is written anew, digests too."""
        self.has_begun = True
        self._has_lost_digests = False

    def is_due(self, bytes_done: int) -> bool:
        """Return whether to ask for one.  `bytes_done` is of the copy that runs."""
        now = self._clock()
        return now >= self._due or (now >= self._not_before and bytes_done >= self._due_bytes)

    def begin(self, bytes_done: int) -> None:
        """One was asked for."""
        self._due_bytes = bytes_done + DUE_BYTES

    def store(self, stored_to: int, manifest: Manifest | None, *, flush_s: float = 0.0) -> None:
        """The core made one, with a flush of so many seconds, or the copy has ended.  Blocks: syncs the digests, then
        keeps it.

        Errors: TargetError, after which this copy has no more of them; what the caller's `keep` raises.
        """
        began_s = self._clock()
        if stored_to > self.stored_to and not self._has_lost_digests:
            if manifest is not None:
                self._has_lost_digests = True  # a sync that fails says so once: the next one would not
                _sync(manifest)
                self._has_lost_digests = False
            self._keep(stored_to)
            self.stored_to = stored_to
            self.made += 1
        now = self._clock()
        spent_s = flush_s + now - began_s
        self.seconds += spent_s
        self._not_before = now + spent_s * _SELDOMER
        self._due = max(now + DUE_S, self._not_before)

    def interrupt(self) -> None:
        """The copy has failed: the next one counts from nothing, and finds what this one left."""
        self.is_resumed = True
        self._due_bytes = DUE_BYTES


def _sync(manifest: Manifest) -> None:
    try:
        os.fdatasync(manifest.fd)
    except OSError as exc:
        text = f"{manifest.path}: syncing digests failed: {exc.strerror}"
        raise TargetError(text + free_space.remedy(exc.errno or 0, manifest.path), errno=exc.errno or 0) from exc
