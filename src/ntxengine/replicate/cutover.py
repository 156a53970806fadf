"""Cutting over to a replica: the last delta is written, all that it wrote is read back, and nothing follows any more.

    a cycle while the guest runs -> the guest is stopped -> the last cycle, all of it read back -> cut over
    |<----- a failure up to here: the source is as it was, and the replica follows ----->|

    cut over    the state says so, durably: `ntx replicate` writes to that target no more, unless it is told to go on,
                since a machine may run from it

Whoever calls stops the guest, or takes an application-consistent point of one that runs: that is what the last cycle
freezes.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

from ntxengine.attach import Attachers
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import NtxError, OptionsError
from ntxengine.events import OnEvent, log_event
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Vm
from ntxengine.replicate.cycle import Cycle, replicate
from ntxengine.replicate.options import ReplicateOptions
from ntxengine.replicate.plan import already
from ntxengine.replicate.state import Replica, ReplicaState
from ntxengine.replicate.targets.base import Target
from ntxengine.repository import Repository


@dataclass(frozen=True)
class CutOver:
    """A replica that was cut over to.  `last` is the last cycle; `seconds_before` is what the one before it took, and
    `seconds_stopped` how long it was from when the guest was known to be stopped until all was proved."""

    replica: Replica
    last: Cycle
    was_running: bool
    seconds_before: float
    seconds_stopped: float


async def cut_over(
    prism: Prism,
    state: Repository,
    vm: Vm,
    target: Target,
    *,
    options: ReplicateOptions | None = None,
    attacher: Attachers,
    may_run: bool = False,
    on_event: OnEvent = log_event,
) -> CutOver:
    """Bring a replica to what the VM is, prove it, and let nothing follow any more.

    The VM has been shut down, or `may_run`: then what it writes after the freeze is lost to the replica.
    Errors: NtxError (it runs, and may not; there is no replica), OptionsError (it was cut over to already, or follows
            nothing); as replicate.
            Before the last cycle has ended nothing is different from what `ntx replicate` leaves.
    """
    options = options or ReplicateOptions()
    if not target.follows:
        raise OptionsError(
            f"{target.text}: takes a whole copy each time, and follows nothing that could be cut over to: shut the "
            f"guest down, and run `ntx replicate`"
        )
    folder = ReplicaState(state.path / vm.id.lower(), target.id)
    replica = await to_thread_joined(folder.replica)
    if replica is None:
        raise NtxError(f"VM {vm.name!r}: has no whole replica at {target.text}: run `ntx replicate` first")
    if replica.cut_over_at is not None:
        raise OptionsError(already(replica))
    now = await prism.vm(vm.id)
    is_off = now.power_state == "off"
    if not is_off and not may_run:
        raise NtxError(
            f"VM {vm.name!r} ({vm.id}) is {now.power_state}: shut its guest down and cut over again, or take it as it "
            f"runs (--running): what it writes after that is not in the replica"
        )
    seconds_before = 0.0
    if not is_off:
        began_s = time.monotonic()
        await replicate(prism, state, vm, target, options=options, attacher=attacher, on_event=on_event)
        seconds_before = time.monotonic() - began_s
    began_s = time.monotonic()
    last = await replicate(
        prism,
        state,
        vm,
        target,
        options=dataclasses.replace(options, verify_all=True, cuts_over=True),
        attacher=attacher,
        on_event=on_event,
    )
    stopped_s = time.monotonic() - began_s
    return CutOver(last.replica, last, not is_off, round(seconds_before, 3), round(stopped_s, 3))


async def follow_again(state: Repository, vm: Vm, target: Target) -> None:
    """Let a replica that was cut over to follow again: what the machine there wrote is found by reading the target.

    Errors: LockedError, RepositoryError, TargetError.
    """
    async with state.lock(vm.id) as lock:
        folder = ReplicaState(state.check_lock(lock), target.id)
        replica = await to_thread_joined(folder.replica)
        if replica is None or replica.cut_over_at is None:
            return
        disks = tuple(dataclasses.replace(disk, is_doubted=True) for disk in replica.disks)
        replica = dataclasses.replace(replica, cut_over_at=None, disks=disks)
        await to_thread_joined(folder.write_replica, replica)
