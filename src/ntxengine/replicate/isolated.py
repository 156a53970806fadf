"""A test cutover: an isolated copy of a whole generation, from which a machine may run while the replica follows.

    files that share blocks with those of the replica, where the file system can
    else a copy, compared with the digests of what was frozen while it is written

Its machine has another name and UUID, and no network.
"""

from __future__ import annotations

import dataclasses
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ntxengine.concurrency.completion import acquire_in_thread, run_to_completion, to_thread_joined
from ntxengine.dataplane import copy as dataplane
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.dataplane.extents import clipped
from ntxengine.dataplane.manifest import Manifest
from ntxengine.dataplane.mapping import map_device
from ntxengine.errors import ChecksumMismatch, NtxError, OptionsError
from ntxengine.events import Emitter, OnEvent, ProgressAdapter, Stage, StageBegan, Subject, log_event
from ntxengine.files import durable
from ntxengine.images.create import NewImage, create_image
from ntxengine.machines import DefinitionOptions, read_machine
from ntxengine.prism.models import Vm
from ntxengine.replicate.plan import check_as_left
from ntxengine.replicate.state import Replica, ReplicaState, StoredReplicaDisk
from ntxengine.replicate.targets.base import Named, Target
from ntxengine.replicate.targets.raw import clone
from ntxengine.repository import Repository
from ntxengine.units import utc_now


@dataclass(frozen=True)
class IsolatedCopy:
    """An isolated copy: its folder, its machine, and the newest file of each disk, by label."""

    replica: Replica
    folder: Path
    definition: Path
    name: str
    files: dict[str, Path]
    shares_blocks: bool
    not_carried_over: tuple[str, ...]


async def make_isolated_copy(
    state: Repository,
    vm: Vm,
    target: Target,
    *,
    into: Path | None = None,
    options: CopyOptions | None = None,
    definition: DefinitionOptions | None = None,
    on_event: OnEvent = log_event,
) -> IsolatedCopy:
    """Make an isolated copy of the last whole generation, in a new folder in `into`, or beside the replica.

    Errors: LockedError (a cycle runs); NtxError (nothing is whole); OptionsError (`into` is no folder, or is needed);
            ChecksumMismatch (the replica is not what was frozen); TargetError (no room).  Nothing is left then.
    """
    emit = Emitter(on_event)
    async with state.lock(vm.id) as lock:
        folder = ReplicaState(state.check_lock(lock), target.id)
        replica = await to_thread_joined(folder.replica)
        pending = await to_thread_joined(folder.pending, replica)
        if replica is None or (pending is not None and not pending.keeps):
            raise NtxError(f"VM {vm.name!r}: no generation is whole at {target.text}: run `ntx replicate` first")
        named = Named(replica.vm_id, replica.vm_name, replica.name, replica.id, state.id)
        await check_as_left(target, named, replica, pending)
        await target.recover(named, replica, pending)
        place = into or target.copies
        if place is None:
            raise OptionsError(f"{target.text}: is no folder that could hold a copy: say where it goes (--into DIR)")
        making = partial(_make_folder, place, f"{replica.name}-test")
        copy = await acquire_in_thread(making, give_back=durable.remove_tree)
        try:
            copying = _Copying(folder, replica, target, named, copy, options or CopyOptions(), emit)
            return await copying.run(vm, definition or DefinitionOptions())
        except BaseException:
            await run_to_completion(to_thread_joined(durable.remove_tree, copy))
            emit.raise_failure()
            raise


def _make_folder(place: Path, name: str) -> Path:
    if not place.is_dir():
        raise OptionsError(f"{place}: is no folder: make it, or mount what is to be there")
    number = 1
    while (place / f"{name}-{number}").exists():
        number += 1
    durable.make_folder(place / f"{name}-{number}")
    return place / f"{name}-{number}"


class _Copying:
    def __init__(
        self,
        state: ReplicaState,
        replica: Replica,
        target: Target,
        named: Named,
        folder: Path,
        options: CopyOptions,
        emit: Emitter,
    ) -> None:
        self._state = state
        self._replica = replica
        self._target = target
        self._named = named
        self._folder = folder
        self._options = options
        self._emit = emit

    async def run(self, vm: Vm, definition: DefinitionOptions) -> IsolatedCopy:
        files: dict[str, Path] = {}
        shared = True
        for disk in self._replica.disks:
            try:
                files[disk.disk_id] = await self._cloned(disk) or await self._copied(disk)
            except ChecksumMismatch:
                await run_to_completion(to_thread_joined(self._doubt, disk))
                raise
            shared = shared and self._is_shared
        made = await self._define(vm, files, definition)
        await to_thread_joined(durable.sync_folder, self._folder)
        by_label = {disk.label: files[disk.disk_id] for disk in self._replica.disks}
        return dataclasses.replace(made, files=by_label, shares_blocks=shared)

    def _doubt(self, wrong: StoredReplicaDisk) -> None:
        """Remember it: the next cycle reads the disk then, whatever changed."""
        disks = tuple(
            dataclasses.replace(each, is_doubted=each.is_doubted or each is wrong) for each in self._replica.disks
        )
        self._state.write_replica(dataclasses.replace(self._replica, disks=disks))

    async def _cloned(self, disk: StoredReplicaDisk) -> Path | None:
        """Let new files share the blocks of those of the replica; None if that cannot be, or is to be compared."""
        self._is_shared = not disk.is_doubted
        if disk.is_doubted:
            return None
        for image in disk.files:
            source = self._target.path_of(self._named, image.name)
            if source is None or not await to_thread_joined(clone, source, self._folder / image.name):
                self._is_shared = False
                return None
        return self._folder / disk.files[0].name

    async def _copied(self, disk: StoredReplicaDisk) -> Path:
        form = "qcow2" if self._replica.form == "qcow2" else "raw"
        path = self._folder / self._target.copied_name(disk)
        subject: Subject = {
            "vm_id": self._replica.vm_id,
            "vm_name": self._replica.vm_name,
            "disk_id": disk.disk_id,
            "disk_label": disk.label,
        }
        self._emit(StageBegan(stage=Stage.COPY, **subject))
        with ExitStack() as stack:
            found = stack.enter_context(Manifest.temporary(size=disk.size, directory=self._folder))
            new = NewImage(path, disk.size)
            async with (
                self._target.reading(self._named, disk, self._options) as source,
                create_image(new, form, self._options) as image,
            ):
                places = stack.enter_context(await map_device(source, timeout_s=self._options.timeout_s))
                await dataplane.copy(
                    source,
                    image.device,
                    (clipped(window, disk.size) for window in places.windows()),
                    options=dataclasses.replace(self._options, target_is_zero=True),
                    manifest=found,
                    bytes_expected=disk.size,
                    on_progress=ProgressAdapter(self._emit, Stage.COPY, subject),
                )
                await image.finish()
            if await to_thread_joined(found.seal) != disk.digest:
                raise ChecksumMismatch(
                    f"disk {disk.label} ({disk.disk_id}): the replica is not what was frozen: "
                    f"`ntx verify --replica {self._replica.id}` says where, and the next cycle mends it"
                )
        await to_thread_joined(durable.sync, path)
        return path

    async def _define(self, vm: Vm, files: dict[str, Path], options: DefinitionOptions) -> IsolatedCopy:
        wanted = [disk for disk in vm.disks if disk.id.lower() in files]
        machine = read_machine(vm.config, wanted)
        held = {disk.id.lower() for disk in machine.disks}
        missing = [disk for disk in self._replica.disks if disk.disk_id not in held]
        name = self._folder.name
        path, losses = await self._target.define_copy(
            self._folder,
            name,
            {disk_id: path for disk_id, path in files.items() if disk_id in held},
            [disk for disk in self._replica.disks if disk.disk_id in held],
            machine,
            dataclasses.replace(options, name=name, uuid=str(uuid.uuid4()), is_isolated=True, now=utc_now()),
        )
        losses += tuple(
            f"the VM no longer has disk {disk.label}: the machine is without {files[disk.disk_id].name}"
            for disk in missing
        )
        return IsolatedCopy(self._replica, self._folder, path, name, {}, False, losses)
