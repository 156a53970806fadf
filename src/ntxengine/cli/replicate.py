"""`ntx replicate`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from ntxengine.api.cluster import find_vm
from ntxengine.capture import Audit, CaptureOptions
from ntxengine.cli import complete
from ntxengine.cli.audit import audit_option
from ntxengine.cli.capture import quiescing_options
from ntxengine.cli.errors import as_usage
from ntxengine.cli.event_view import CaptureEvents
from ntxengine.cli.options import (
    TransferOptions,
    common_options,
    dry_run_option,
    expiry_option,
    lost_tracking_option,
    parallel_option,
    retry_for_option,
    transfer_options,
    volume_groups_option,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.prism_options import PrismOptions, prism_options
from ntxengine.cli.replica_options import target_options
from ntxengine.cli.replica_view import cycle_fields, cycle_line, plan_fields, show_cycle, show_plan
from ntxengine.cli.run import run
from ntxengine.cli.session import AttachArguments, Login, attach_options, connected, login
from ntxengine.cli.ssh import tunnel_options
from ntxengine.cli.times import SPAN
from ntxengine.cli.untouched import untouched
from ntxengine.cli.values import SIZE, Given
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import CredentialsError, LockedError, NotFoundError, NtxError, OptionsError
from ntxengine.replicate.cutover import follow_again as let_follow_again
from ntxengine.replicate.cycle import Cycle, replicate
from ntxengine.replicate.options import DEFAULT_SAMPLE, ReplicateOptions
from ntxengine.replicate.plan import ReplicaPlan, plan_replica
from ntxengine.replicate.targets import Target
from ntxengine.repository import Repository
from ntxengine.units import format_size

_ENDS_A_LOOP = (OptionsError, NotFoundError, CredentialsError)
"""What a later cycle would meet again: somebody has to do something first."""


@dataclass(frozen=True)
class Request:
    """A VM by its name, where it is kept, and how."""

    vm: str
    target: Target
    state: Path
    options: ReplicateOptions
    attach: AttachArguments
    login: Login
    follows_again: bool = False


@click.command("replicate")
@click.argument("vm", type=Given(), shell_complete=complete.vms)
@target_options
@click.option(
    "--every", type=SPAN, metavar="TIME", help="Go on: a cycle so often (10m), until a signal ends it.  Else one cycle."
)
@click.option(
    "--sample",
    "sample_bytes",
    type=SIZE,
    default=format_size(DEFAULT_SAMPLE).replace(".0 ", ""),
    show_default=True,
    help="How much of what was written is read back in each cycle, and as much of the rest; 0: nothing.",
)
@click.option(
    "--follow-again", is_flag=True, help="Write to a replica again that was cut over to: no machine runs from it."
)
@click.option("--verify-all", is_flag=True, help="Read back all that was written.")
@quiescing_options
@lost_tracking_option
@click.option("--full", is_flag=True, help="Do not ask what changed: take all that is allocated.")
@click.option("--scan", is_flag=True, help="Do not ask what changed: read everything, and write what differs.")
@click.option("--reason", default="", metavar="TEXT", help="Why --full or --scan; said in the report.")
@expiry_option
@parallel_option
@audit_option
@volume_groups_option
@retry_for_option
@attach_options
@tunnel_options
@transfer_options
@prism_options
@dry_run_option
@common_options
def replicate_command(
    vm: str,
    target: Target,
    state: Path,
    every: timedelta | None,
    sample_bytes: int,
    follow_again: bool,
    verify_all: bool,
    quiescing: dict[str, Any],
    on_lost_tracking: Any,
    full: bool,
    scan: bool,
    reason: str,
    expiry: timedelta,
    parallel: int,
    audit: Audit | None,
    no_volume_groups: bool,
    retry_for_s: float,
    attach: AttachArguments,
    transfer: TransferOptions,
    prism: PrismOptions,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Keep a replica of a VM (a name or a UUID) on another platform, a few minutes behind.

    A cycle freezes the VM by a recovery point, reads what changed since the last one, writes it in place at the target,
    reads a sample back, and writes what describes the machine.  Then the target shows a new generation.  A cycle that
    is killed leaves a replica that is between two generations, and the next cycle brings it to its end; QCOW2 files,
    and raw files on a file system that shares blocks, keep the generation before until the new one is whole.

    \b
    Examples:
      ntx replicate db01 --to kvm:/var/lib/libvirt/images --network '*=network:default'
      ntx replicate db01 --to kvm:/srv/replicas --format qcow2 --history 12 --every 10m
      ntx replicate db01 --to vmware:/mnt/datastore1 --network '*=network:VM Network' --every 10m
      ntx replicate db01 --to ovf:/srv/exports
      ntx replicate db01 --to nbds://store.example/db01-{disk} --state /var/lib/ntx --overwrite
    """
    if full and scan:
        raise click.UsageError("--full contradicts --scan: choose one")
    if reason and not (full or scan):
        raise click.UsageError("--reason is said with --full or --scan: give one of them")
    if every is not None and screen.as_json:
        raise click.UsageError("--json is one object, and --every has no end: leave out one of them")
    if every is not None and follow_again:
        raise click.UsageError(
            "--every and --follow-again contradict each other: a loop would write to what is cut over to later: run "
            "one cycle with --follow-again, then --every without it"
        )
    if every is not None and not target.follows:
        raise click.UsageError(f"{target.text}: takes a whole copy each time, and follows nothing: leave out --every")
    with as_usage("--keep-recovery-point"):
        capture = CaptureOptions(
            on_lost_tracking=on_lost_tracking,
            copy=transfer.over(CopyOptions()),
            retry_for_s=retry_for_s,
            expiry=expiry,
            parallel=parallel,
            audit=audit,
            volume_groups=not no_volume_groups,
            full=full,
            scan=scan,
            reason=reason,
            **quiescing,
        )
    options = ReplicateOptions(capture, sample_bytes, verify_all)
    request = Request(vm, target, state, options, attach, login(prism, screen), follow_again)
    if dry_run:
        plan = run(_plan(request))
        screen.result({"dry_run": True, **plan_fields(plan, target)}) if screen.as_json else show_plan(
            plan, target, screen
        )
        return
    if every is not None:
        run(_follow(request, every, screen))
        return
    with screen.view() as view:
        cycle = run(_cycle(request, CaptureEvents(view), _Place()))
    screen = screen.after_work()
    if screen.as_json:
        screen.result(cycle_fields(cycle))
    else:
        show_cycle(cycle, screen)


async def _plan(request: Request) -> ReplicaPlan:
    async with untouched(request.state) as state, connected(request.login) as cluster:
        vm = await find_vm(cluster, request.vm)
        attacher = await request.attach.attacher(cluster)
        return await plan_replica(cluster.prism, state, vm.id, request.target, request.options, attacher=attacher)


@dataclass
class _Place:
    """Where a loop keeps its replica: `state_id` is that of the state that it began with, "" before that."""

    state_id: str = ""

    async def opened(self, request: Request) -> Repository:
        """Return the state.  It is made for the first cycle alone: later an empty folder is one that is not mounted.

        Errors: OptionsError (no such folder), as Repository.open; NtxError (what was there is not there now).
        """
        if not self.state_id:
            await request.target.check_place()
            state = await Repository.open(request.state, create=True)
            self.state_id = state.id
            return state
        try:
            await request.target.check_place()
            state = await Repository.open(request.state)
        except (OptionsError, NotFoundError) as error:
            raise NtxError(f"{error}: was there before: mount what belongs there") from error
        if state.id != self.state_id:
            raise NtxError(f"{state.path}: is another state than before, {state.id}: mount what belongs there")
        return state


async def _cycle(request: Request, on_event: CaptureEvents, place: _Place) -> Cycle:
    async with connected(request.login) as cluster:
        vm = await find_vm(cluster, request.vm)
        attacher = await request.attach.attacher(cluster)
        state = await place.opened(request)
        if request.follows_again:
            await let_follow_again(state, vm, request.target)
        return await replicate(
            cluster.prism, state, vm, request.target, options=request.options, attacher=attacher, on_event=on_event
        )


async def _follow(request: Request, every: timedelta, screen: Screen) -> None:
    """Run a cycle, and the next one `every` time later than that began, or at once if it took longer.

    What one cycle fails with does not end it, but for what somebody has to mend first.
    """
    has_been = False
    place = _Place()
    while True:
        began_s = time.monotonic()
        try:
            with screen.view() as view:
                cycle = await _cycle(request, CaptureEvents(view), place)
            has_been = True
            screen.line(cycle_line(cycle))
        except _ENDS_A_LOOP:
            raise
        except NtxError as error:
            if not has_been and not isinstance(error, LockedError):
                raise
            screen.warning(f"VM {request.vm!r}: {error}; the next cycle tries again")
        await asyncio.sleep(max(0.0, began_s + every.total_seconds() - time.monotonic()))
