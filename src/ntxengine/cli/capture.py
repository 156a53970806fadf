"""`ntx capture`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from ntxengine.api.cluster import find_vm
from ntxengine.api.inventory import VmFilter
from ntxengine.capture import (
    CONSISTENCY_CHOICES,
    DEFAULT_MAX_CHAIN,
    VSS_BACKUPS,
    Audit,
    CaptureOptions,
    CapturePlan,
    Outcome,
    capture,
    capture_several,
    capture_together,
    plan_capture,
    plans_together,
)
from ntxengine.cli import complete
from ntxengine.cli.audit import audit_option
from ntxengine.cli.errors import as_usage
from ntxengine.cli.event_view import CaptureEvents
from ntxengine.cli.interrupted import interrupted_text
from ntxengine.cli.options import (
    Function,
    TransferOptions,
    category_option,
    cluster_option,
    common_options,
    dry_run_option,
    expiry_option,
    image_options,
    lost_tracking_option,
    parallel_option,
    repository_option,
    retry_for_option,
    table_option,
    transfer_options,
    volume_groups_option,
)
from ntxengine.cli.output import Screen
from ntxengine.cli.plan import plan_fields, show_plan
from ntxengine.cli.points import point_fields
from ntxengine.cli.prism_options import PrismOptions, prism_options
from ntxengine.cli.report import show_report
from ntxengine.cli.run import run
from ntxengine.cli.session import AttachArguments, Login, attach_options, connected, login
from ntxengine.cli.several import (
    Failure,
    Selection,
    failures,
    names_of,
    raise_if_failed,
    require_all,
    select,
    select_all,
    show,
    show_left_out,
    show_plans_as_json,
    tell,
    tell_if_failed,
)
from ntxengine.cli.space import say_space, space_for
from ntxengine.cli.ssh import tunnel_options
from ntxengine.cli.untouched import untouched
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.errors import NtxError
from ntxengine.images.choice import ImageOptions
from ntxengine.prism import Cluster
from ntxengine.repository import Interrupted, Point, Repository


def afresh_options(function: Function) -> Function:
    """Add --full, --scan, --reason and --max-chain; pass `afresh`, as CaptureOptions has them."""

    @click.option("--full", is_flag=True, help="Make a point that stands alone, whatever there is.")
    @click.option(
        "--scan",
        is_flag=True,
        help="Do not trust what the cluster says has changed: read everything, send what differs from the last point.",
    )
    @click.option("--reason", default="", metavar="TEXT", help="Why --full or --scan; recorded in the point.")
    @click.option(
        "--max-chain",
        type=click.IntRange(1),
        metavar="N",
        default=DEFAULT_MAX_CHAIN,
        show_default=True,
        help="Points on top of each other before the chain is made shorter; at most half of what qemu can open.",
    )
    @functools.wraps(function)
    def with_afresh(*args: Any, full: bool, scan: bool, reason: str, max_chain: int, **kwargs: Any) -> Any:
        if full and scan:
            raise click.UsageError("--full and --scan contradict each other: choose one")
        if reason and not (full or scan):
            raise click.UsageError("--reason is recorded with --full or --scan: give one of them")
        afresh = {"full": full, "scan": scan, "reason": reason, "max_chain": max_chain}
        return function(*args, afresh=afresh, **kwargs)

    return with_afresh


def quiescing_options(function: Function) -> Function:
    """Add --consistency and --vss; pass `quiescing`, as CaptureOptions has them."""

    @click.option(
        "--consistency",
        type=click.Choice(CONSISTENCY_CHOICES),
        default="auto",
        show_default=True,
        help="app: fail where Guest Tools cannot quiesce; auto: take what is possible, and say which.",
    )
    @click.option(
        "--vss",
        type=click.Choice(VSS_BACKUPS),
        default="copy",
        show_default=True,
        help="What a Windows guest makes of it: copy leaves the logs of databases alone, full cuts them (v4).",
    )
    @functools.wraps(function)
    def with_quiescing(*args: Any, consistency: str, vss: str, **kwargs: Any) -> Any:
        return function(*args, quiescing={"consistency": consistency, "vss": vss}, **kwargs)

    return with_quiescing


@click.command("capture")
@click.argument("vms", nargs=-1, metavar="[VM]...", shell_complete=complete.vms)
@click.option("--all", "every", is_flag=True, help="Every VM that has a disk, but the worker VM.")
@cluster_option
@category_option
@click.option(
    "--vms", "at_once", type=click.IntRange(1), metavar="N", default=1, show_default=True, help="VMs at a time."
)
@click.option("--together", is_flag=True, help="Freeze all of them at one moment, by one recovery point (v4).")
@repository_option("--to")
@quiescing_options
@lost_tracking_option
@expiry_option
@parallel_option
@audit_option
@volume_groups_option
@click.option("--no-verify/--verify", help="Do not read back what was written before the point is committed.")
@image_options
@click.option(
    "--compress-again/--no-compress-again", help="Compress also disks whose storage container does that already."
)
@retry_for_option
@click.option("--no-resume/--resume", help="Give up a capture that was interrupted, and begin anew.")
@afresh_options
@attach_options
@tunnel_options
@transfer_options
@prism_options
@dry_run_option
@common_options
@table_option
def capture_command(
    vms: tuple[str, ...],
    every: bool,
    cluster: str | None,
    categories: tuple[str, ...],
    at_once: int,
    together: bool,
    repository: Path,
    quiescing: dict[str, Any],
    on_lost_tracking: Any,
    expiry: timedelta,
    parallel: int,
    audit: Audit | None,
    no_volume_groups: bool,
    no_verify: bool,
    image: ImageOptions,
    compress_again: bool,
    retry_for_s: float,
    no_resume: bool,
    afresh: dict[str, Any],
    attach: AttachArguments,
    transfer: TransferOptions,
    prism: PrismOptions,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Capture VMs (names or UUIDs) into a repository: in full the first time, then only what changed.

    A VM is frozen at one moment by a recovery point on the cluster, its disks are read from there, written to QCOW2
    files, read back and compared, and the point becomes visible when all of it is right.  The recovery point is kept as
    the reference of the next capture.  If it is interrupted, nothing that looks whole is left.  Where something was
    copied by then, the same command goes on with it: the point holds the VM as it was frozen the first time.

    Of several VMs, one that fails does not stop the others: the exit code is 3 then.  With --together that holds once
    they are frozen; before, one that fails stops all.

    Only the cluster knows what changed.  --audit reads some of what it says has not, each time another part; where that
    is wrong the whole disk is read, and points that believed it are marked.

    A full point is made, with a warning, also where the last one cannot be built on: it is damaged, or has --max-chain
    points below it already and cannot be made shorter.

    \b
    Examples:
      ntx capture db01 --to /backups
      ntx capture --all --vms 2 --to /backups --audit 2%
      ntx capture web01 db01 --together --to /backups
      ntx capture --category Environment=Production --to /backups
      ntx capture db01 --to /backups --full --reason "storage was restored from a replica"
      ntx capture 5e1c83f0-... --to /backups --consistency app --bandwidth 200M --json
    """
    with as_usage("--keep-recovery-point"):
        options = CaptureOptions(
            on_lost_tracking=on_lost_tracking,
            copy=transfer.over(CopyOptions()),
            verify=not no_verify,
            retry_for_s=retry_for_s,
            resume=not no_resume,
            expiry=expiry,
            parallel=parallel,
            **quiescing,
            audit=audit,
            volume_groups=not no_volume_groups,
            image=image,
            compress_again=compress_again,
            **afresh,
        )
    _check_choice(vms, every=every, categories=categories, together=together)
    prism_login = login(prism, screen)
    request = Request(vms, repository, options, attach, at_once, together, VmFilter(cluster or "", categories))
    if len(vms) == 1:
        (_plan_one if dry_run else _capture_one)(request, prism_login, screen)
    else:
        (_plan_several if dry_run else _capture_several)(request, prism_login, screen)


def _check_choice(vms: Sequence[str], *, every: bool, categories: Sequence[str], together: bool) -> None:
    chosen = [name for name, is_given in (("a VM", vms), ("--all", every), ("--category", categories)) if is_given]
    if not chosen:
        raise click.UsageError("name a VM, or give --all or --category")
    if len(chosen) > 1:
        raise click.UsageError(f"{' and '.join(chosen)} contradict each other")
    if together and len(vms) == 1:
        raise click.UsageError("--together is for two VMs or more: name them, or give --all or --category")


@dataclass(frozen=True)
class Request:
    """VMs by their names, none for all that are wanted, and how to capture them."""

    names: tuple[str, ...]
    repository: Path
    options: CaptureOptions
    attach: AttachArguments
    at_once: int
    together: bool
    wanted: VmFilter

    async def select(self, cluster: Cluster) -> Selection:
        if self.names:
            found = await select(cluster, self.names)
        else:
            found = await select_all(cluster, self.wanted, self.attach.worker, with_groups=self.options.volume_groups)
        return require_all(found) if self.together else found


def _capture_one(request: Request, prism_login: Login, screen: Screen) -> None:
    async def work() -> Point:
        async with connected(prism_login) as cluster:
            vm = await find_vm(cluster, request.names[0])
            attacher = await request.attach.attacher(cluster)
            # Last, so that a mistyped password leaves no empty repository.
            repository = await Repository.open(request.repository, create=True)
            with screen.view() as view:
                events = CaptureEvents(view)
                return await capture(
                    cluster.prism, repository, vm, options=request.options, attacher=attacher, on_event=events
                )

    point = run(work())
    shown = screen.after_work()
    if shown.as_json:
        shown.result(point_fields(point))
    else:
        show_report(point, shown)


def _capture_several(request: Request, prism_login: Login, screen: Screen) -> None:
    async def work() -> tuple[Selection, list[Outcome]]:
        async with connected(prism_login) as cluster:
            attacher = await request.attach.attacher(cluster)
            selection = await request.select(cluster)
            repository = await Repository.open(request.repository, create=True)
            with screen.view() as view:
                outcomes = await (capture_together if request.together else capture_several)(
                    cluster.prism,
                    repository,
                    selection.vms,
                    options=request.options,
                    attacher=attacher,
                    at_once=request.at_once,
                    on_event=CaptureEvents(view, names_of(selection.vms)),
                    on_outcome=tell_if_failed,
                )
        return selection, outcomes

    selection, outcomes = run(work())
    failed = [*selection.failed, *failures(outcomes)]
    show(selection, outcomes, screen.after_work(is_good=not failed))
    raise_if_failed(len(outcomes) - len(failures(outcomes)), failed)


def _plan_one(request: Request, prism_login: Login, screen: Screen) -> None:
    async def work() -> tuple[CapturePlan, list[Interrupted]]:
        async with untouched(request.repository) as repository, connected(prism_login) as cluster:
            vm = await find_vm(cluster, request.names[0])
            attacher = await request.attach.attacher(cluster)
            plan = await plan_capture(cluster.prism, repository, vm.id, request.options, attacher=attacher)
            return plan, [each for each in await repository.interrupted(vm.id) if each.has_record]

    plan, interrupted = run(work())
    space = space_for([disk.bytes_estimated for disk in plan.disks], request.repository)
    if screen.as_json:
        screen.result({"dry_run": True, **plan_fields(plan), **vars(space)})
    else:
        show_plan(plan, screen)
    for each in interrupted:
        screen.note(interrupted_text(each))
    say_space(space, screen)


def _plan_several(request: Request, prism_login: Login, screen: Screen) -> None:
    selection, plans, failed = run(_plans(request, prism_login))
    space = space_for([disk.bytes_estimated for plan in plans for disk in plan.disks], request.repository)
    if screen.as_json:
        show_plans_as_json(selection, plans, failed, space, screen)
    else:
        for plan in plans:
            show_plan(plan, screen)
        show_left_out(selection, screen)
    if request.together and not failed:
        screen.note(f"all {len(plans)} of them at one moment, by one recovery point")
    say_space(space, screen)
    raise_if_failed(len(plans), failed)


async def _plans(request: Request, prism_login: Login) -> tuple[Selection, list[CapturePlan], list[Failure]]:
    plans, failed = [], []
    async with untouched(request.repository) as repository, connected(prism_login) as cluster:
        attacher = await request.attach.attacher(cluster)
        selection = await request.select(cluster)
        for vm in selection.vms:
            try:
                plan = await plan_capture(cluster.prism, repository, vm.id, request.options, attacher=attacher)
                plans.append(plan)
            except NtxError as error:
                failed.append(tell(Failure(vm.id, vm.name, error)))
        if request.together and not failed:
            plans = plans_together(cluster.prism, plans)
    return selection, plans, [*selection.failed, *failed]
