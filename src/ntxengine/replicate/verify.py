"""A replica compared with the digests of what was frozen: what the target gives back is read, all of it or a sample.

A disk that is not what was written is marked: the next cycle reads all of it, and writes what differs.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.blocks import block_extents
from ntxengine.dataplane.copy import CopyOptions, CopyReport
from ntxengine.dataplane.coverage import Shuffled, blocks_of
from ntxengine.dataplane.extents import Extents
from ntxengine.dataplane.manifest import Manifest
from ntxengine.errors import ChecksumMismatch, NtxError, RepositoryError
from ntxengine.events import DiskDone, Emitter, OnEvent, ProgressAdapter, Stage, StageBegan, Subject, log_event
from ntxengine.replicate.plan import check_as_left
from ntxengine.replicate.state import Replica, ReplicaState, StoredReplicaDisk, StoredVerified
from ntxengine.replicate.status import ReplicaStatus
from ntxengine.replicate.targets import Target
from ntxengine.replicate.targets.base import Named
from ntxengine.repository import Repository
from ntxengine.units import utc_now

_SWEEP = 4096
"""Blocks of a sample that are read at once: 256 MiB."""


@dataclass(frozen=True)
class ReplicaDiskVerdict:
    """What was found of a disk: `problem` is "" if it is as it was frozen."""

    disk: StoredReplicaDisk
    blocks: int = 0
    report: CopyReport | None = None
    problem: str = ""
    offsets: tuple[int, ...] = ()
    wrong_blocks: int = 0


@dataclass(frozen=True)
class ReplicaVerdict:
    """What was found of a replica."""

    replica: Replica
    disks: tuple[ReplicaDiskVerdict, ...]

    @property
    def is_right(self) -> bool:
        """Whether all that was read is as it was frozen."""
        return not any(each.problem for each in self.disks)


async def verify_replica(
    state: Repository,
    found: ReplicaStatus,
    target: Target,
    *,
    share: float | None = None,
    options: CopyOptions | None = None,
    on_event: OnEvent = log_event,
) -> ReplicaVerdict:
    """Read a replica back, or a `share` (0..1) of each of its disks, at random and each time another part.

    Errors: LockedError (a cycle runs); NtxError (no generation is whole); RepositoryError (its state is damaged);
            TargetError, SourceError, NbdError (it cannot be read).  What is wrong with a disk is in its verdict.
    """
    async with state.lock(found.vm_id) as lock:
        folder = ReplicaState(state.check_lock(lock), found.id)
        replica = await to_thread_joined(folder.replica)
        pending = await to_thread_joined(folder.pending, replica)
        if replica is None:
            raise NtxError(
                f"replica {found.id} of VM {found.vm_name!r}: no cycle came to its end: nothing is whole yet"
            )
        if pending is not None and not pending.keeps:
            raise NtxError(
                f"replica {found.id} of VM {found.vm_name!r} is between generation {replica.generation} and "
                f"{replica.generation + 1}: there is nothing whole to compare; run `ntx replicate` first"
            )
        named = Named(replica.vm_id, replica.vm_name, replica.name, replica.id, state.id)
        await check_as_left(target, named, replica, pending)
        await target.recover(named, replica, pending)
        return await _Verifier(folder, replica, target, named, share, options or CopyOptions(), on_event).run()


class _Verifier:
    def __init__(
        self,
        folder: ReplicaState,
        replica: Replica,
        target: Target,
        named: Named,
        share: float | None,
        options: CopyOptions,
        on_event: OnEvent,
    ) -> None:
        self._folder = folder
        self._replica = replica
        self._target = target
        self._named = named
        self._share = share
        self._options = options
        self._emit = Emitter(on_event)

    async def run(self) -> ReplicaVerdict:
        with self._emit.first():
            verdicts = [await self._verify(disk) for disk in self._replica.disks]
        blocks = sum(each.blocks for each in verdicts)
        verified = StoredVerified(utc_now(), self._replica.generation, blocks, is_whole=self._share is None)
        is_right = not any(each.problem for each in verdicts)
        last_whole = verified if self._share is None and is_right else self._replica.last_whole_check
        replica = dataclasses.replace(
            self._replica,
            disks=tuple(each.disk for each in verdicts),
            verified=verified if is_right else self._replica.verified,
            last_whole_check=last_whole,
        )
        await to_thread_joined(self._folder.write_replica, replica)
        return ReplicaVerdict(replica, tuple(verdicts))

    async def _verify(self, disk: StoredReplicaDisk) -> ReplicaDiskVerdict:
        subject: Subject = {
            "vm_id": self._replica.vm_id,
            "vm_name": self._replica.vm_name,
            "disk_id": disk.disk_id,
            "disk_label": disk.label,
        }
        self._emit(StageBegan(stage=Stage.VERIFY, **subject))
        progress = ProgressAdapter(self._emit, Stage.VERIFY, subject)
        cursor, windows, blocks = self._chosen(disk)
        try:
            opened = await acquire_in_thread(partial(self._folder.manifest, disk), give_back=Manifest.close)
        except RepositoryError as error:
            raise RepositoryError(
                f"{error}: there is nothing to compare disk {disk.label} with; the next cycle reads the target, "
                f"and makes it anew"
            ) from error
        with opened as manifest:
            try:
                async with self._target.reading(self._named, disk, self._options) as device:
                    report = await dataplane.verify(
                        device,
                        manifest,
                        options=self._options,
                        extents=None if windows is None else lambda: windows,
                        trusts_zeros=self._replica.form == "qcow2" and windows is None,
                        on_progress=progress,
                    )
            except ChecksumMismatch as error:
                doubted = dataclasses.replace(disk, is_doubted=True)
                self._emit(DiskDone(problem=str(error), **subject))
                return ReplicaDiskVerdict(doubted, blocks, None, str(error), error.offsets, error.blocks)
        self._emit(DiskDone(**subject))
        return ReplicaDiskVerdict(dataclasses.replace(disk, seed=cursor.seed, position=cursor.position), blocks, report)

    def _chosen(self, disk: StoredReplicaDisk) -> tuple[Shuffled, list[Extents] | None, int]:
        """Return where the next sample goes on, and what is read now: None for all of it."""
        blocks = blocks_of(disk.size)
        cursor = Shuffled(disk.seed, disk.position, blocks)
        if not disk.position or not cursor.fits(blocks):
            cursor = Shuffled.begin(blocks)
        if self._share is None:
            return cursor, None, blocks
        left = most = min(blocks, max(1, math.ceil(blocks * self._share)))
        chosen = []
        while left:
            some = cursor.ahead(min(left, _SWEEP))
            chosen.append(some)
            cursor = cursor.passed(len(some))
            left -= len(some)
        every = np.unique(np.concatenate(chosen))
        return cursor, [block_extents(every, every + 1, disk.size)], most
