"""What a cycle would do, found out without making or changing anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.attach import Attachers
from ntxengine.capture import CapturePlan, plan_capture
from ntxengine.capture.plan import DiskPlan
from ntxengine.capture.reference import Reference, find_reference
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import NtxError, OptionsError, PrismAnswerError
from ntxengine.machines import Machine, read_machine
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Vm
from ntxengine.replicate.options import ReplicateOptions
from ntxengine.replicate.others import check_others
from ntxengine.replicate.state import Intent, IntentDisk, Replica, ReplicaState, StoredReplicaDisk
from ntxengine.replicate.targets.base import Named, Target, TargetDisk
from ntxengine.repository import Repository
from ntxengine.units import format_time


@dataclass(frozen=True)
class ReplicaPlan:
    """`capture` is what would be frozen and read; `reference` what changes are asked against.

    `replica` is the last whole generation, None before the first; `dead` is the intent of a cycle that did not come to
    its end.  `removed` are disks that the VM has no more.  `machine` is what the VM is, None because of `no_machine`.
    `follows`: what the target has is written on.  `is_strange`: that is not what the state says.  `network_names` are
    those of the cluster, by their ids, where the VM does not tell them.
    """

    capture: CapturePlan
    reference: Reference
    named: Named
    replica: Replica | None
    dead: Intent | None
    removed: tuple[StoredReplicaDisk, ...] = ()
    machine: Machine | None = None
    no_machine: str = ""
    follows: bool = True
    network_names: Mapping[str, str] = field(default_factory=dict)
    is_strange: bool = False

    def frozen(self, capture: CapturePlan) -> ReplicaPlan:
        """Return the plan once the VM is frozen: what cannot be had of it is not in its machine either.

        Errors: NtxError: the replica has a disk that cannot be had now, and would lose it.
        """
        held = {each.disk.id for each in capture.disks}
        for each in self.capture.disks:
            if each.disk.id not in held and self.before(each.disk.id) is not None:
                raise NtxError(
                    f"VM {capture.vm.name!r}: the recovery point tells nothing of disk {each.disk.label} "
                    f"({each.disk.id}), which the replica has: nothing was written; try again, or let the next "
                    f"generation be without it (--no-volume-groups)"
                )
        machine, no_machine = (self.machine, self.no_machine)
        if capture.vm != self.capture.vm:
            machine, no_machine = _machine(capture.vm, self.network_names)
        return dataclasses.replace(self, capture=capture, machine=machine, no_machine=no_machine)

    @property
    def generation(self) -> int:
        """What this cycle becomes."""
        return 1 if self.replica is None else self.replica.generation + 1

    def before(self, disk_id: str) -> StoredReplicaDisk | None:
        """Return what the target has of a disk, to be written on."""
        return None if self.replica is None or not self.follows else self.replica.find(disk_id)

    def dead_disk(self, disk_id: str) -> IntentDisk | None:
        """Return what a dead cycle was about to write of a disk; or of another in its place, while the VM had that."""
        if self.dead is None:
            return None
        own, before = self.dead.find(disk_id), self.before(disk_id)
        places = set() if before is None else {image.name for image in before.files}
        written = (each for each in self.dead.disks if places & set(each.begun))
        other = next((each for each in written if each is not own), None)
        return own if other is None else dataclasses.replace(other, kind="scan")

    def target_disks(self, disks: Sequence[DiskPlan]) -> list[TargetDisk]:
        """Return the disks as the target is asked to take them."""
        found = []
        renames = {} if self.replica is None else {new: old for old, new in self.replica.renames}
        for each in disks:
            dead = self.dead_disk(each.disk.id)
            begun = () if dead is None else dead.begun
            before = self.before(each.disk.id)
            unnamed = "" if before is None else renames.get(before.files[0].name, "")
            found.append(TargetDisk(each.disk.id, each.disk.label, each.disk.size, before, begun, unnamed))
        return found

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said before anything is made, one line each."""
        name = f"VM {self.capture.vm.name!r}"
        said = list(self.capture.remarks)
        if self.dead is not None and not self.dead.keeps:
            base = self.generation - 1
            said.append(
                f"{name}: a cycle did not come to its end: the replica is between generation {base} and "
                f"{base + 1} until this one does"
            )
        if self.is_strange:
            said.append(
                f"{name}: the last cycle that wrote to the replica is none that its state knows of, so one of them is "
                f"an older copy: all of the target is read"
            )
        if self.replica is not None and self.reference.lost and self.follows:
            said.append(f"{name}: changes cannot be asked for: {self.reference.lost}")
        if self.no_machine:
            said.append(f"{name}: the replica gets no definition of a machine: {self.no_machine}")
        if self.removed:
            gone = ", ".join(f"{disk.label} ({disk.disk_id})" for disk in self.removed)
            said.append(f"{name} no longer has {gone}: the next generation does not have it either")
        return tuple(said)


async def plan_replica(
    prism: Prism, state: Repository, vm_id: str, target: Target, options: ReplicateOptions, *, attacher: Attachers
) -> ReplicaPlan:
    """Decide what would be frozen and written, and what changes are asked against.

    Errors: OptionsError (the state folder is a backup repository; the target cannot take the VM), RepositoryError (the
            state is damaged); as plan_capture and find_reference.
    """
    if await state.points(with_forgotten=True):
        raise OptionsError(
            f"{state.path}: is a repository that has points: give replicas a folder of their own (--state), so that "
            f"neither removes what the other needs on the cluster"
        )
    capture = await plan_capture(prism, state, vm_id, options.capture, attacher=attacher)
    folder = ReplicaState(Path(state.path) / vm_id.lower(), target.id)
    replica = await to_thread_joined(folder.replica)
    if replica is not None and replica.cut_over_at is not None:
        raise OptionsError(already(replica))
    dead = await to_thread_joined(folder.pending, replica)
    named = _named(target, capture.vm, state, replica, dead)
    is_strange = False
    if (replica is not None or dead is not None) and target.follows:
        is_strange = not await target.is_as_left(named, _known_cycles(replica, dead))
        replica = replica.doubted() if is_strange and replica is not None else replica
    reference_id = "" if replica is None or not target.follows else replica.recovery_point_id
    reference = await find_reference(prism, state, capture.vm, reference_id)
    if not target.follows:
        reference = Reference("", f"a whole copy is made each time ({target.kind})")
    elif replica is None:
        reference = Reference("", "there is no whole generation yet")
    elif options.capture.full or options.capture.scan:
        what = "all of it" if options.capture.full else "a scan"
        why = f": {options.capture.reason}" if options.capture.reason else ""
        reference = Reference("", f"{what} was asked for{why}")
    present = {each.disk.id.lower() for each in capture.disks}
    known = () if replica is None or not target.follows else replica.disks
    removed = tuple(disk for disk in known if disk.disk_id not in present)
    machine, no_machine = _machine(capture.vm)
    names: Mapping[str, str] = {}
    if machine is not None and (unnamed := {nic.network_id for nic in machine.nics if not nic.network}):
        names = await prism.network_names(unnamed - {""})
        machine, no_machine = _machine(capture.vm, names)
    if target.needs_machine and machine is None:
        raise OptionsError(
            f"{target.text}: is nothing without a definition of the machine, and there can be none: {no_machine}; "
            f"replicate to another kind of target"
        )
    plan = ReplicaPlan(
        capture, reference, named, replica, dead, removed, machine, no_machine, target.follows, names, is_strange
    )
    if machine is not None:
        target.check_machine(machine)
    disks = plan.target_disks(capture.disks)
    await check_others(state, target, named, disks)
    await target.check(named, disks)
    return plan


async def check_as_left(target: Target, named: Named, replica: Replica, dead: Intent | None) -> None:
    """Refuse to believe a target that another cycle wrote to than its state knows of.

    Errors: NtxError; as Target.is_as_left.
    """
    if not await target.is_as_left(named, _known_cycles(replica, dead)):
        raise NtxError(
            f"VM {named.vm_name!r}: {target.text}: the last cycle that wrote there is none that its state knows of, so "
            f"one of them is an older copy: run `ntx replicate` first"
        )


def _known_cycles(replica: Replica | None, dead: Intent | None) -> tuple[str, ...]:
    """Return the records of the cycles that may have been the last to write to a target."""
    whole = () if replica is None else (replica.record_id,)
    return (*whole, *(dead.record_ids if dead is not None else ()))


def _named(target: Target, vm: Vm, state: Repository, replica: Replica | None, dead: Intent | None) -> Named:
    known = replica or dead
    name = target.name_for(vm.name, vm.id) if known is None else known.name
    return Named(vm.id.lower(), vm.name, name, target.id, state.id)


def _machine(vm: Vm, network_names: Mapping[str, str] | None = None) -> tuple[Machine | None, str]:
    """Return what the VM is, or why that cannot be said: its disks are replicated all the same."""
    try:
        machine = read_machine(vm.config, vm.disks, network_names=network_names)
    except PrismAnswerError as error:
        return None, str(error)
    if unknown := [disk.label for disk in vm.disks if machine.disk(disk.id) is None]:
        return None, f"the configuration of the VM does not have disk {', '.join(unknown)}"
    return machine, ""


def already(replica: Replica) -> str:
    """Return why nothing is written to a replica any more."""
    assert replica.cut_over_at is not None
    return (
        f"replica {replica.id} of VM {replica.vm_name!r} was cut over to at {format_time(replica.cut_over_at)}, and a "
        f"machine may run from {replica.target}: stop and remove that machine, and let it follow again with "
        f"`ntx replicate --follow-again`"
    )
