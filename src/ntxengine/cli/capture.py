"""`ntx capture`."""

from __future__ import annotations

import dataclasses
import re
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from ntxengine.capture import CaptureOptions, CapturePlan, capture, plan_capture
from ntxengine.cli.errors import as_usage
from ntxengine.cli.options import (
    PrismOptions,
    TransferOptions,
    common_options,
    dry_run_option,
    prism_options,
    repository_option,
    transfer_options,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.points import point_fields
from ntxengine.cli.progress import View
from ntxengine.cli.report import show_report
from ntxengine.cli.run import run
from ntxengine.cli.session import AttachOptions, Login, attach_options, connected, find_vm, login
from ntxengine.cli.text import printable
from ntxengine.copy import CopyOptions, Progress
from ntxengine.errors import NotFoundError
from ntxengine.prism.models import Vm
from ntxengine.repository import Point, Repository
from ntxengine.units import format_size

WAYS = {
    "allocated": "all that is allocated",
    "changed-regions": "what changed",
    "lost": "no changed regions, so --on-lost-tracking decides",
}
"""What a plan calls the way to find out what to read, for people."""

_EXPIRY = re.compile(r"(\d+)([hd])")


class Expiry(click.ParamType[timedelta]):
    """A time to live: `36h`, `7d`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        match = _EXPIRY.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a time to live: write hours or days, such as 36h or 7d", param, ctx)
        return timedelta(hours=int(match[1])) if match[2] == "h" else timedelta(days=int(match[1]))


class ViewObserver:
    """Tells a view what a capture does: the observer of `capture`."""

    def __init__(self, view: View, vm: Vm) -> None:
        self._view = view
        self._labels = {disk.id: disk.label for disk in vm.disks}
        self._stages: dict[str, str] = {}

    def stage(self, name: str, detail: str) -> None:
        # The detail of a stage of one disk is the disk's label.
        self._stages[detail] = name
        self._view.stage(name, detail)

    def disk_progress(self, disk_id: str, progress: Progress) -> None:
        label = self._labels.get(disk_id, disk_id)
        self._view.update(f"{self._stages.get(label, 'copy')} {label}", progress)

    def warning(self, text: str) -> None:
        self._view.warning(text)


@click.command("capture")
@click.argument("vm")
@repository_option("--to")
@click.option(
    "--consistency",
    type=click.Choice(["auto", "app", "crash"]),
    default="auto",
    show_default=True,
    help="app: fail where Guest Tools cannot quiesce; auto: take what is possible, and say which.",
)
@click.option(
    "--on-lost-tracking",
    type=click.Choice(["scan", "full", "fail"]),
    default="scan",
    show_default=True,
    help="When the cluster cannot say what changed: read all and send what differs, send all, or fail.",
)
@click.option(
    "--keep-recovery-point",
    "expiry",
    type=Expiry(),
    default="7d",
    show_default=True,
    metavar="TIME",
    help="How long the cluster keeps our recovery point, the reference of the next capture, if we never come back.",
)
@click.option("--disks", "parallel", type=click.IntRange(1), default=4, show_default=True, help="Disks at a time.")
@click.option("--no-verify", is_flag=True, help="Do not read back what was written before the point is committed.")
@attach_options
@transfer_options
@prism_options
@dry_run_option
@common_options
def capture_command(
    vm: str,
    repository: Path,
    consistency: Any,
    on_lost_tracking: Any,
    expiry: timedelta,
    parallel: int,
    no_verify: bool,
    attach: AttachOptions,
    transfer: TransferOptions,
    prism: PrismOptions,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Capture VM (a name or a UUID) into a repository: in full the first time, then only what changed.

    The VM is frozen at one moment by a recovery point on the cluster, its disks are read from there, written to QCOW2
    files, read back and compared, and the point becomes visible when all of it is right.  The recovery point is kept as
    the reference of the next capture.  If it is interrupted, nothing that looks whole is left.

    \b
    Examples:
      ntx capture db01 --to /backups
      ntx capture 5e1c83f0-... --to /backups --consistency app --bandwidth 200M --json
    """
    with as_usage("--keep-recovery-point"):
        options = CaptureOptions(
            consistency=consistency,
            on_lost_tracking=on_lost_tracking,
            copy=dataclasses.replace(CopyOptions(), **transfer.given()),
            verify=not no_verify,
            expiry=expiry,
            parallel=parallel,
        )
    prism_login = login(prism, screen)
    if dry_run:
        _show_plan(run(_plan(vm, repository, options, prism_login)), screen)
        return
    point = run(_capture(vm, repository, options, attach, prism_login, screen))
    if screen.as_json:
        screen.result(point_fields(point))
    else:
        show_report(point, screen)


async def _capture(
    name: str, path: Path, options: CaptureOptions, attach: AttachOptions, prism_login: Login, screen: Screen
) -> Point:
    async with connected(prism_login) as prism:
        vm = await find_vm(prism, name)
        attacher = await attach.attacher(prism)
        # Last, so that a mistyped password leaves no empty repository.
        repository = Repository.open(path, create=True)
        with screen.view() as view:
            observer = ViewObserver(view, vm)
            return await capture(prism, repository, vm, options=options, attacher=attacher, observer=observer)


async def _plan(name: str, path: Path, options: CaptureOptions, prism_login: Login) -> CapturePlan:
    with ExitStack() as stack:
        try:
            repository = Repository.open(path)
        except NotFoundError:
            # An empty one in its place, so that nothing is made where the person said -n.
            folder = stack.enter_context(TemporaryDirectory(prefix="ntx-plan-"))
            repository = Repository.create(folder)
        async with connected(prism_login) as prism:
            vm = await find_vm(prism, name)
            return await plan_capture(prism, repository, vm.id, options)


def _show_plan(plan: CapturePlan, screen: Screen) -> None:
    fields = plan.as_dict()
    if screen.as_json:
        screen.result({"dry_run": True, **fields})
        return
    kind = "a full" if plan.parent is None else f"an incremental (after {plan.parent.id})"
    screen.line(f"would make {kind} point of {printable(plan.vm.name)} ({plan.vm.id}), {plan.consistency}-consistent")
    if plan.consistency_reason:
        screen.line(f"  not application-consistent: {printable(plan.consistency_reason)}")
    for disk in fields["disks"]:
        reason = f": {printable(disk['reason'])}" if disk["reason"] else ""
        screen.line(f"  {disk['label']}  {format_size(disk['size'])}  {WAYS[disk['way']]}{reason}")
    for name in plan.vm.excluded:
        screen.line(f"  {printable(name)}  left out: a recovery point does not hold it")
