"""`ntx cutover`."""

from __future__ import annotations

import os
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from ntxengine.api.cluster import find_vm
from ntxengine.capture import CaptureOptions
from ntxengine.cli import complete
from ntxengine.cli.capture import quiescing_options
from ntxengine.cli.event_view import CaptureEvents
from ntxengine.cli.options import (
    TransferOptions,
    common_options,
    parallel_option,
    retry_for_option,
    transfer_options,
    volume_groups_option,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.prism_options import PrismOptions, prism_options
from ntxengine.cli.replica_options import target_options
from ntxengine.cli.replica_view import cycle_fields, show_cycle
from ntxengine.cli.run import run
from ntxengine.cli.session import AttachArguments, Login, attach_options, connected, login
from ntxengine.cli.ssh import tunnel_options
from ntxengine.cli.times import SPAN
from ntxengine.cli.values import Given
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.replicate.cutover import CutOver, cut_over
from ntxengine.replicate.isolated import IsolatedCopy, make_isolated_copy
from ntxengine.replicate.options import ReplicateOptions
from ntxengine.replicate.status import open_state
from ntxengine.replicate.targets import Target

SHUTDOWN_LIMIT = timedelta(minutes=5)
"""How long a guest may take to shut down if nobody says so: Windows with updates to install takes longer."""


@click.command("cutover")
@click.argument("vm", type=Given(), shell_complete=complete.vms)
@target_options
@click.option("--test", "is_test", is_flag=True, help="Make an isolated copy instead, and let the replica follow on.")
@click.option("--into", type=FOLDER, metavar="DIR", help="With --test: where the copy goes; beside the replica.")
@click.option("--running", is_flag=True, help="Cut over though the guest runs: what it writes from then on is lost.")
@click.option("--shutdown", is_flag=True, help="Shut the guest down, by ACPI; it runs again if the cutover fails.")
@click.option(
    "--shutdown-timeout",
    "shutdown_limit",
    type=SPAN,
    metavar="TIME",
    help="How long the guest may take to shut down; 5m if not said.",
)
@quiescing_options
@parallel_option
@volume_groups_option
@retry_for_option
@attach_options
@tunnel_options
@transfer_options
@prism_options
@common_options
def cutover_command(
    vm: str,
    target: Target,
    state: Path,
    is_test: bool,
    into: Path | None,
    running: bool,
    shutdown: bool,
    shutdown_limit: timedelta | None,
    quiescing: dict[str, Any],
    parallel: int,
    no_volume_groups: bool,
    retry_for_s: float,
    attach: AttachArguments,
    transfer: TransferOptions,
    prism: PrismOptions,
    screen: Screen,
) -> None:
    """Cut over to a replica: write what changed last, read it back, and let nothing follow any more.

    Shut the guest down first, or let that be done (--shutdown): what is frozen then is all that it ever wrote.  With
    --running it need not be, and what it writes after the last recovery point is not in the replica.  If anything
    fails, the replica follows as before, and a guest that was shut down here runs again.
    After it `ntx replicate` does not write to that target, as a machine may run from it, until it is told to
    (--follow-again).

    With --test an isolated copy of the last generation is made, whose machine has another name and no network; the
    replica follows on.

    \b
    Examples:
      ntx cutover db01 --to kvm:/srv/replicas --test
      ntx cutover db01 --to kvm:/srv/replicas --shutdown --network '*=network:default'
    """
    if into is not None and not is_test:
        raise click.UsageError("--into is for --test")
    if into is not None:
        into = Path(os.path.abspath(into))  # a machine names its disks by whole paths
    if shutdown and (running or is_test):
        raise click.UsageError(f"--shutdown and {'--running' if running else '--test'} contradict each other")
    if shutdown_limit is not None and not shutdown:
        raise click.UsageError("--shutdown-timeout is for --shutdown")
    if running and is_test:
        raise click.UsageError("--running and --test contradict each other: a test takes the generation that there is")
    copy = transfer.over(CopyOptions())
    prism_login = login(prism, screen)
    with screen.view() as view:
        events = CaptureEvents(view)
        if is_test:
            made = run(_test(vm, target, state, into, copy, prism_login, events))
        else:
            limit_s = (shutdown_limit or SHUTDOWN_LIMIT).total_seconds() if shutdown else None
            options = ReplicateOptions(
                CaptureOptions(
                    copy=copy,
                    retry_for_s=retry_for_s,
                    parallel=parallel,
                    volume_groups=not no_volume_groups,
                    **quiescing,
                )
            )
            done = run(_cut_over(vm, target, state, options, attach, prism_login, events, running, limit_s))
    screen = screen.after_work()
    if is_test:
        _show_test(made, screen)
    else:
        _show(done, screen)


async def _test(
    name: str,
    target: Target,
    state: Path,
    into: Path | None,
    copy: CopyOptions,
    prism_login: Login,
    events: CaptureEvents,
) -> IsolatedCopy:
    async with connected(prism_login) as cluster:
        vm = await find_vm(cluster, name)
        opened = await open_state(state)
        return await make_isolated_copy(
            opened, vm, target, into=into, options=copy, definition=target.options.definition, on_event=events
        )


async def _cut_over(
    name: str,
    target: Target,
    state: Path,
    options: ReplicateOptions,
    attach: AttachArguments,
    prism_login: Login,
    events: CaptureEvents,
    running: bool,
    shutdown_s: float | None,
) -> CutOver:
    async with connected(prism_login) as cluster:
        vm = await find_vm(cluster, name)
        attacher = await attach.attacher(cluster)
        opened = await open_state(state)
        return await cut_over(
            cluster.prism,
            opened,
            vm,
            target,
            options=options,
            attacher=attacher,
            may_run=running,
            shutdown_s=shutdown_s,
            on_event=events,
        )


def _show(done: CutOver, screen: Screen) -> None:
    if screen.as_json:
        screen.result(
            {
                **cycle_fields(done.last),
                "test": False,
                "cut_over_at": done.replica.cut_over_at,
                "was_running": done.was_running,
                "was_shut_down": done.was_shut_down,
                "seconds_before": done.seconds_before,
                "seconds_shutting_down": done.seconds_shutting_down,
                "seconds_stopped": done.seconds_stopped,
            }
        )
        return
    show_cycle(done.last, screen)
    before = f"{done.seconds_before:.1f} s before, " if done.was_running else ""
    shut_down = f"{done.seconds_shutting_down:.1f} s to shut the guest down, " if done.was_shut_down else ""
    screen.line(f"cut over: {before}{shut_down}{done.seconds_stopped:.1f} s for the last delta, all of it read back")
    for loss in done.replica.not_carried_over:
        screen.note(f"not carried over: {loss}")


def _show_test(made: IsolatedCopy, screen: Screen) -> None:
    replica = made.replica
    if screen.as_json:
        screen.result(
            {
                "test": True,
                "vm_id": replica.vm_id,
                "vm_name": replica.vm_name,
                "replica_id": replica.id,
                "target": replica.target,
                "generation": replica.generation,
                "frozen_at": replica.frozen_at,
                "folder": made.folder,
                "definition": str(made.definition),
                "name": made.name,
                "shares_blocks": made.shares_blocks,
                "not_carried_over": list(made.not_carried_over),
                "disks": [
                    {
                        "disk_id": disk.disk_id,
                        "label": disk.label,
                        "size": disk.size,
                        "file": str(made.files[disk.label]),
                    }
                    for disk in replica.disks
                ],
            }
        )
        return
    how = "sharing the blocks of the replica" if made.shares_blocks else "compared with what was frozen"
    screen.pairs(
        [
            ("copy", f"{made.folder}, {how}"),
            ("generation", str(replica.generation)),
            ("machine", f"{made.definition}, without a network"),
            ("remove it with", f"rm -r {shlex.quote(str(made.folder))}"),
        ]
    )
