"""Older generations in QCOW2 images on top of each other: which stay, and the merging of images that none needs.

    newest .. K | L0 L1 .. Ln base        K is the newest image of the oldest generation that stays
    newest .. K | M base                  M has all of L0 .. Ln; where that is much of base, M stands alone

K is told to be on top of M once the state says that it is: both hold the same bytes, so that a kill between the two is
nothing (set_backing, and `mend_backing` for the next cycle).  Few are merged at a time, as each costs what it writes.
"""

from __future__ import annotations

import dataclasses
import os
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from ntxengine.concurrency.completion import acquire_in_thread, to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.differing import differing_extents
from ntxengine.dataplane.manifest import Manifest
from ntxengine.events import Emitter, ProgressAdapter, Stage, StageBegan, Subject
from ntxengine.files import durable
from ntxengine.images.create import NewImage
from ntxengine.images.open import open_image
from ntxengine.rebase import Rebased, rebase_disk
from ntxengine.replicate.state import Replica, ReplicaState, StoredGeneration, StoredImage, StoredReplicaDisk
from ntxengine.replicate.targets.qcow2 import free_name, mend_backing

MERGE_AT = 8
"""Images that no generation needs by themselves: as many are merged at once."""

_MUCH = 0.5
"""Of what base takes: from then on it is written anew, too."""


def with_history(replica: Replica, before: Replica | None, keep: int) -> Replica:
    """Return a new generation that remembers the `keep` before it."""
    if before is None or not keep:
        return replica
    chains = {disk.disk_id: tuple(image.name for image in disk.files) for disk in before.disks}
    last = StoredGeneration(before.generation, before.frozen_at, chains)
    return dataclasses.replace(replica, history=(last, *before.history)[:keep])


def needless(replica: Replica, disk: StoredReplicaDisk) -> tuple[StoredImage, ...]:
    """Return the images of a disk that only images above them need, newest first, the one at the bottom last."""
    newest = {disk.files[0].name, *(each.disks.get(disk.disk_id, ("",))[0] for each in replica.history)}
    last = max(number for number, image in enumerate(disk.files) if image.name in newest)
    return disk.files[last + 1 :]


async def merge_needless(
    folder: Path,
    state: ReplicaState,
    replica: Replica,
    *,
    options: CopyOptions,
    emit: Emitter,
    at_least: int = MERGE_AT,
) -> Replica:
    """Merge what is to be merged of each disk, and return the replica as it is then: committed.  Its files lie in
    `folder`; what nobody names any more is left to whoever tidies up.

    Errors: ChecksumMismatch, RepositoryError, SourceError, TargetError, ToolError; nothing was changed then.
    """
    for disk in replica.disks:
        images = needless(replica, disk)
        if len(images) <= at_least:
            continue
        subject: Subject = {
            "vm_id": replica.vm_id,
            "vm_name": replica.vm_name,
            "disk_id": disk.disk_id,
            "disk_label": disk.label,
        }
        emit(StageBegan(stage=Stage.MERGE, **subject))
        progress = ProgressAdapter(emit, Stage.MERGE, subject)
        left = await _merge(folder, state, disk, images, options, progress)
        replica = _with_images(replica, disk, images, left)
        await to_thread_joined(state.write_replica, replica)
        await to_thread_joined(mend_backing, folder, replica.disks)
    return replica


async def _merge(
    folder: Path,
    state: ReplicaState,
    disk: StoredReplicaDisk,
    images: tuple[StoredImage, ...],
    options: CopyOptions,
    progress: ProgressAdapter,
) -> tuple[StoredImage, ...]:
    """Write what `images` show into one image less, or all of it into one; return what takes their place."""
    *upper, base = images
    sizes = [os.stat(folder / image.name).st_blocks for image in images]
    stands_alone = sum(sizes[:-1]) > _MUCH * sizes[-1]
    new = folder / free_name(folder, upper[0].name)
    await to_thread_joined(durable.remove_file, new)
    async with AsyncExitStack() as stack:
        stored = stack.enter_context(await _opened(state, upper[0]))
        before = None if stands_alone else stack.enter_context(await _opened(state, base))
        chain = tuple(folder / image.name for image in images)
        below = () if stands_alone else (chain[-1],)
        rebased = Rebased(
            name=f"disk {disk.label} ({disk.disk_id})",
            chain=chain,
            stored=stored,
            before=before,
            taken=len(chain) - len(below),
            new=NewImage(new, stored.size, "" if stands_alone else base.name, below),
            shares=True,
        )
        try:
            await rebase_disk(rebased, options=options, on_progress=progress)
            await _prove((new, *below), stored, before, options)
        except BaseException:
            await to_thread_joined(durable.remove_file, new)
            raise
    await to_thread_joined(durable.sync_folder, folder)
    merged = StoredImage(new.name, upper[0].manifest)
    return (merged,) if stands_alone else (merged, base)


async def _prove(chain: tuple[Path, ...], stored: Manifest, before: Manifest | None, options: CopyOptions) -> None:
    """Read back what was written.  What base holds is believed."""
    async with open_image(chain, timeout_s=options.timeout_s, connections=options.most_connections) as device:
        await dataplane.verify(
            device,
            stored,
            options=options,
            extents=None if before is None else lambda: differing_extents(before, stored),
            trusts_zeros=before is None,
        )


async def _opened(state: ReplicaState, image: StoredImage) -> Manifest:
    return await acquire_in_thread(partial(Manifest.open, state.path / image.manifest), give_back=Manifest.close)


def _with_images(
    replica: Replica, disk: StoredReplicaDisk, images: tuple[StoredImage, ...], left: tuple[StoredImage, ...]
) -> Replica:
    """Return the replica whose disk, and whose older generations, have `left` where they had `images`."""
    new = dataclasses.replace(disk, files=(*disk.files[: -len(images)], *left))
    names, left_names = tuple(image.name for image in images), tuple(image.name for image in left)

    def replaced(chain: tuple[str, ...]) -> tuple[str, ...]:
        return (*chain[: -len(names)], *left_names) if chain[-len(names) :] == names else chain

    history = tuple(
        dataclasses.replace(each, disks={key: replaced(chain) for key, chain in each.disks.items()})
        for each in replica.history
    )
    disks = tuple(new if each.disk_id == disk.disk_id else each for each in replica.disks)
    return dataclasses.replace(replica, disks=disks, history=history)
