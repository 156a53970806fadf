"""`ntx export`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from ntxengine.api.cluster import find_vm
from ntxengine.capture import CaptureOptions
from ntxengine.cli import complete
from ntxengine.cli.capture import quiescing_options
from ntxengine.cli.errors import as_usage
from ntxengine.cli.event_view import CaptureEvents
from ntxengine.cli.export_options import notify_options, way_options
from ntxengine.cli.export_view import exported_fields, plan_fields, show_exported, show_plan
from ntxengine.cli.options import (
    common_options,
    dry_run_option,
    expiry_option,
    parallel_option,
    volume_groups_option,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.paths import FOLDER
from ntxengine.cli.prism_options import PrismOptions, prism_options
from ntxengine.cli.run import run
from ntxengine.cli.session import AttachArguments, Login, attach_options, connected, login
from ntxengine.cli.untouched import untouched
from ntxengine.cli.values import Given, SecondsUpTo
from ntxengine.errors import ToolError
from ntxengine.export.options import (
    DEFAULT_CONNECTIONS,
    DEFAULT_TIME_LIMIT_S,
    MAX_CONNECTIONS,
    MAX_TIME_LIMIT_S,
    ExportOptions,
    NotifyOptions,
    Way,
)
from ntxengine.repository import Repository

try:
    from ntxengine.export.plan import ExportPlan, plan_export
    from ntxengine.export.workflow import Exported, export
except ModuleNotFoundError as missing:
    raise ToolError(f"exports need {missing.name}: pip install 'ntxengine[agent]'") from missing


@click.command("export")
@click.argument("vm", type=Given(), shell_complete=complete.vms)
@click.option(
    "--state",
    required=True,
    type=FOLDER,
    metavar="DIR",
    help="Where exports record what they made on the cluster; made if it is not there, and no repository of points.",
)
@way_options
@notify_options
@click.option(
    "--since",
    type=Given(),
    metavar="RECOVERY_POINT",
    help="The recovery point that the control plane took whole last time: only what changed since is named.",
)
@click.option(
    "--on-lost-tracking",
    type=click.Choice(["full", "fail"]),
    default="full",
    show_default=True,
    help="When the cluster cannot say what changed since then: name all that is allocated, or fail.",
)
@click.option(
    "--time-limit",
    "time_limit_s",
    type=SecondsUpTo(1, MAX_TIME_LIMIT_S),
    default=DEFAULT_TIME_LIMIT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long the control plane may take until it says that it is done.",
)
@expiry_option
@click.option(
    "--connections",
    type=click.IntRange(1, MAX_CONNECTIONS),
    default=DEFAULT_CONNECTIONS,
    show_default=True,
    metavar="N",
    help="Connections to each disk that are served at a time.",
)
@parallel_option
@volume_groups_option
@quiescing_options
@attach_options
@prism_options
@dry_run_option
@common_options
def export_command(
    vm: str,
    state: Path,
    way: Way,
    notify: NotifyOptions,
    since: str | None,
    on_lost_tracking: Any,
    time_limit_s: float,
    expiry: timedelta,
    connections: int,
    parallel: int,
    no_volume_groups: bool,
    quiescing: dict[str, Any],
    attach: AttachArguments,
    prism: PrismOptions,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Let a control plane that is not ours read the disks of a VM, as they are at one moment, and what changed.

    The VM (a name or a UUID) is frozen by a recovery point, each of its disks is served read-only by a qemu-nbd, and
    the control plane is told by a POST where they are, which regions to read, and where to say that it is done
    (docs/export.md).  After a success the recovery point stays, as the reference of the next export (--since); after a
    failure, or when time is up, it is deleted.  In any case nothing is served, and nothing attached, when this ends.

    Disks and links are reached by ports of this machine, with TLS and a certificate of the client, or by sockets that
    ssh makes on the control plane.

    \b
    Examples:
      ntx export db01 --state /var/lib/ntx/export --notify https://cp.example/ntx \\
          --ports 10809-10899 --advertise worker1.example \\
          --tls-ca ca.pem --tls-cert cert.pem --tls-key key.pem
      ntx export db01 --state /var/lib/ntx/export --notify https://cp.example/ntx \\
          --tunnel ssh://ntx@cp.example --tunnel-folder /run/ntx --ssh-key key --since 0f3a...
    """
    with as_usage("--keep-recovery-point"):
        capture = CaptureOptions(
            on_lost_tracking=on_lost_tracking,
            expiry=expiry,
            parallel=parallel,
            volume_groups=not no_volume_groups,
            **quiescing,
        )
    options = ExportOptions(way, notify, since or "", time_limit_s, connections, capture)
    if notify.is_insecure and notify.url.startswith("http:"):
        screen.warning("--insecure-notify: links, and the token if there is one, are sent for all to read")
    prism_login = login(prism, screen)
    if dry_run:
        plan = run(_plan(vm, state, options, attach, prism_login))
        screen.result({"dry_run": True, **plan_fields(plan, options)}) if screen.as_json else show_plan(
            plan, options, screen
        )
        return
    with screen.view() as view:
        exported = run(_export(vm, state, options, attach, prism_login, CaptureEvents(view)))
    screen = screen.after_work()
    if screen.as_json:
        screen.result(exported_fields(exported))
    else:
        show_exported(exported, screen)


async def _plan(
    name: str, state: Path, options: ExportOptions, attach: AttachArguments, prism_login: Login
) -> ExportPlan:
    async with untouched(state) as repository, connected(prism_login) as cluster:
        vm = await find_vm(cluster, name)
        attacher = await attach.attacher(cluster)
        return await plan_export(cluster.prism, repository, vm.id, options, attacher=attacher)


async def _export(
    name: str,
    state: Path,
    options: ExportOptions,
    attach: AttachArguments,
    prism_login: Login,
    on_event: CaptureEvents,
) -> Exported:
    async with connected(prism_login) as cluster:
        vm = await find_vm(cluster, name)
        attacher = await attach.attacher(cluster)
        repository = await Repository.open(state, create=True)
        return await export(cluster.prism, repository, vm, options=options, attacher=attacher, on_event=on_event)
