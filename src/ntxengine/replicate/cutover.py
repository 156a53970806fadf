"""Cutting over to a replica: the last delta is written, all that it wrote is read back, and nothing follows any more.

    a cycle while the guest runs -> the guest is shut down -> the last cycle, all of it read back -> cut over
    |<------ a failure up to here: the source is as it was, and the replica follows ------>|

    cut over    the state says so, durably: `ntx replicate` writes to that target no more, unless it is told to go on,
                since a machine may run from it

The guest is shut down here (stopping.py), or by whoever calls; or it runs, and the last cycle freezes it as it does.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

from ntxengine.attach import Attachers
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import NtxError, OptionsError
from ntxengine.events import Emitter, OnEvent, log_event
from ntxengine.prism.cluster import Prism
from ntxengine.prism.models import Vm
from ntxengine.replicate.cycle import Cycle, replicate
from ntxengine.replicate.options import ReplicateOptions
from ntxengine.replicate.plan import already
from ntxengine.replicate.state import Replica, ReplicaState
from ntxengine.replicate.stopping import guest_stopped
from ntxengine.replicate.targets.base import Target
from ntxengine.repository import Repository


@dataclass(frozen=True)
class CutOver:
    """A replica that was cut over to.  `last` is the last cycle; `seconds_before` is what the one before it took.

    `was_shut_down`: we did that, in `seconds_shutting_down`; `seconds_stopped` is from when the guest was known to be
    stopped until all was proved.
    """

    replica: Replica
    last: Cycle
    was_running: bool
    seconds_before: float
    seconds_stopped: float
    was_shut_down: bool = False
    seconds_shutting_down: float = 0.0


async def cut_over(
    prism: Prism,
    state: Repository,
    vm: Vm,
    target: Target,
    *,
    options: ReplicateOptions | None = None,
    attacher: Attachers,
    may_run: bool = False,
    shutdown_s: float | None = None,
    on_event: OnEvent = log_event,
) -> CutOver:
    """Bring a replica to what the VM is, prove it, and let nothing follow any more.

    The VM has been shut down; or its guest is asked to, and may take `shutdown_s`; or `may_run`: then what it writes
    after the freeze is lost to the replica.
    The VM is locked all the time: no loop begins a cycle while the guest is stopped.
    Errors: LockedError (a cycle runs), NtxError (it runs, and may not; there is no replica), OptionsError (it was cut
            over to already, or follows nothing); as guest_stopped and replicate.
            Before the last cycle has ended nothing is different from what `ntx replicate` leaves, and a guest that was
            shut down here is powered on again.
    """
    options = dataclasses.replace(options or ReplicateOptions(), keeps_history=True)
    if not target.follows:
        raise OptionsError(
            f"{target.text}: takes a whole copy each time, and follows nothing that could be cut over to: shut the "
            f"guest down, and run `ntx replicate`"
        )
    async with state.lock(vm.id) as lock:
        folder = ReplicaState(state.check_lock(lock), target.id)
        replica = await to_thread_joined(folder.replica)
        if replica is None:
            raise NtxError(f"VM {vm.name!r}: has no whole replica at {target.text}: run `ntx replicate` first")
        if replica.cut_over_at is not None:
            raise OptionsError(already(replica))
        now = await prism.vm(vm.id)
        is_off = now.power_state == "off"
        if not is_off:
            _check_running(now, may_run=may_run, shuts_down=shutdown_s is not None)

        async def cycle(options: ReplicateOptions) -> tuple[Cycle, float]:
            began_s = time.monotonic()
            done = await replicate(
                prism, state, vm, target, options=options, attacher=attacher, on_event=on_event, lock=lock
            )
            return done, round(time.monotonic() - began_s, 3)

        async def is_final() -> bool:
            replica = await to_thread_joined(folder.replica)
            return replica is not None and replica.cut_over_at is not None

        seconds_before = 0.0 if is_off else (await cycle(options))[1]
        last_options = dataclasses.replace(options, verify_all=True, cuts_over=True)
        if is_off or shutdown_s is None:
            last, stopped_s = await cycle(last_options)
            return CutOver(last.replica, last, not is_off, seconds_before, stopped_s)
        stopping = guest_stopped(prism, now, timeout_s=shutdown_s, is_final=is_final, emit=Emitter(on_event))
        async with stopping as stopped:
            last, stopped_s = await cycle(last_options)
        return CutOver(last.replica, last, True, seconds_before, stopped_s, True, stopped.seconds)


def _check_running(vm: Vm, *, may_run: bool, shuts_down: bool) -> None:
    """Refuse a VM that runs, where nobody said what to do with it.  Errors: NtxError."""
    if shuts_down and vm.power_state != "on":
        raise NtxError(
            f"VM {vm.name!r} ({vm.id}) is {vm.power_state}: no guest can be shut down in it: resume it, or shut it "
            f"down in Prism, and cut over again"
        )
    if not may_run and not shuts_down:
        raise NtxError(
            f"VM {vm.name!r} ({vm.id}) is {vm.power_state}: shut its guest down and cut over again, have that done "
            f"(--shutdown), or take it as it runs (--running): what it writes after that is not in the replica"
        )


async def follow_again(state: Repository, vm: Vm, target: Target) -> None:
    """Let a replica that was cut over to follow again: what the machine there wrote is found by reading the target.

    Errors: LockedError, RepositoryError, TargetError.
    """
    async with state.lock(vm.id) as lock:
        folder = ReplicaState(state.check_lock(lock), target.id)
        replica = await to_thread_joined(folder.replica)
        if replica is None or replica.cut_over_at is None:
            return
        replica = dataclasses.replace(replica.doubted(), cut_over_at=None)
        await to_thread_joined(folder.write_replica, replica)
