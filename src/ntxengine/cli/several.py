"""`ntx capture` of several VMs: which ones, what became of each, one summary of all."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ntxengine.api.cluster import find_vm
from ntxengine.api.inventory import VmFilter, search_vms
from ntxengine.capture import CapturePlan, Outcome
from ntxengine.cli.errors import SomeFailed, error_fields
from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.output import Screen
from ntxengine.cli.plan import plan_fields
from ntxengine.cli.points import point_fields
from ntxengine.cli.space import Space
from ntxengine.cli.table import Column
from ntxengine.cli.text import elapsed, plural, printable
from ntxengine.errors import NotFoundError, NtxError, OtherFailed, PrismAnswerError
from ntxengine.prism import Cluster
from ntxengine.prism.listing import sorted_list
from ntxengine.prism.models import Vm
from ntxengine.repository import Point
from ntxengine.units import format_size

log = logging.getLogger(__name__)

COLUMNS = [
    Column("VM", shrinks=True),
    Column("POINT"),
    Column("KIND"),
    Column("SIZE", right=True),
    Column("SENT", right=True),
    Column("TIME", right=True),
    Column("RESULT", fold=True),
    Column("VM UUID", wide=True),
]


@dataclass(frozen=True)
class Failure:
    """A VM that there is no point of.  `vm_id` is None if it is not even known which VM is meant."""

    vm_id: str | None
    vm_name: str
    error: Exception


@dataclass(frozen=True)
class Selection:
    """What a person asked for: VMs, what was asked for and is none, and what --all leaves out, with the reason."""

    vms: tuple[Vm, ...]
    failed: tuple[Failure, ...] = ()
    left_out: tuple[tuple[Vm, str], ...] = ()


async def select(cluster: Cluster, names: Sequence[str]) -> Selection:
    """Return the VMs that these names and UUIDs mean, each once.  A name that means none does not stop the others."""
    chosen: dict[str, Vm] = {}
    failed: dict[str, Failure] = {}
    for name in names:
        try:
            vm = await find_vm(cluster, name)
        except NtxError as error:
            failed[name] = tell(Failure(None, name, error))
        else:
            chosen[vm.id] = vm
    return Selection(tuple(chosen.values()), tuple(failed.values()))


async def select_all(cluster: Cluster, wanted: VmFilter, worker_name: str | None, *, with_groups: bool) -> Selection:
    """Return every VM that is wanted and has a disk, `with_groups` in a volume group too, but the worker VM.

    One that cannot be read has failed where all are wanted.  Where a category is, nobody knows whether it has it: then
    it is named in a warning.
    The worker is where disks of the others are hot-added meanwhile, and often where the repository is, which would
    then be captured into itself.
    Errors: NotFoundError if none is left: an account that lost its rights must not look like a good night.
    """
    worker_id = None if worker_name is None else (await find_vm(cluster, worker_name)).id
    vms, left_out = [], []
    listed = await sorted_list(search_vms(cluster, wanted))
    for vm in listed.vms:
        if vm.id == worker_id:
            left_out.append((vm, "the worker VM: name it to capture it"))
        elif not vm.disks and not vm.groups:
            left_out.append((vm, "no disk that can be captured"))
        elif not vm.disks and not with_groups:
            left_out.append((vm, "only volume groups, which are not wanted"))
        else:
            vms.append(vm)
    if wanted.categories and listed.complaint:
        log.warning("%s", listed.complaint)
    failed_odd = () if wanted.categories else listed.odd
    if not vms and not failed_odd:
        what = " ".join(f"--category {category}" for category in wanted.categories) or "--all"
        raise NotFoundError(f"{what}: no VM to capture: `ntx vms` lists those that this account may see")
    failed = [tell(Failure(odd.id or None, odd.name, PrismAnswerError(odd.reason))) for odd in failed_odd]
    return Selection(tuple(vms), tuple(failed), tuple(left_out))


def tell(failure: Failure) -> Failure:
    """Say it when it happens, also where warnings are not wanted."""
    log.error("VM %r was not captured: %s", failure.vm_name, error_fields(failure.error)["message"])
    return failure


def tell_if_failed(outcome: Outcome) -> None:
    """The same of a VM that was to be captured."""
    for failure in failures([outcome]):
        tell(failure)


def require_all(selection: Selection) -> Selection:
    """Return a selection of which nothing failed: what is to be frozen together.  Errors: the first failure."""
    if selection.failed:
        raise selection.failed[0].error
    return selection


def failures(outcomes: Sequence[Outcome]) -> list[Failure]:
    """Return what failed."""
    return [Failure(each.vm.id, each.vm.name, each.error) for each in outcomes if each.error is not None]


def names_of(vms: Sequence[Vm]) -> dict[str, str]:
    """Return what to call each VM in progress and warnings, by id: its name, and what tells twins apart."""
    count = Counter(vm.name for vm in vms)
    return {vm.id: vm.name if count[vm.name] == 1 else f"{vm.name} ({vm.id[:8]})" for vm in vms}


def show(selection: Selection, outcomes: Sequence[Outcome], screen: Screen) -> None:
    """Print the summary, as a table or as JSON."""
    failed = [*selection.failed, *failures(outcomes)]
    points = [outcome.point for outcome in outcomes if outcome.point is not None]
    if screen.as_json:
        screen.result({"points": [point_fields(point) for point in points], **_fields(selection, failed)})
        return
    screen.table(COLUMNS, [*map(_point_row, points), *map(_failure_row, failed)])
    show_left_out(selection, screen)


def show_plans_as_json(
    selection: Selection, plans: Sequence[CapturePlan], failed: Sequence[Failure], space: Space, screen: Screen
) -> None:
    """Print what would be captured."""
    screen.result(
        {
            "dry_run": True,
            "plans": [{"dry_run": True, **plan_fields(plan)} for plan in plans],
            **vars(space),
            **_fields(selection, failed),
        }
    )


def raise_if_failed(captured: int, failed: Sequence[Failure]) -> None:
    """Raise for what failed, which was said when it did.  If nothing was captured, what to do is what the first says.

    Errors: SomeFailed; the first error if all failed, but for those that are only of another VM.
    """
    if not failed:
        return
    if not captured:
        raise next((each for each in failed if not isinstance(each.error, OtherFailed)), failed[0]).error
    names = ", ".join(printable(each.vm_name) for each in failed)
    raise SomeFailed(f"{len(failed)} of {plural(captured + len(failed), 'VM')} not captured: {names}")


def _fields(selection: Selection, failed: Sequence[Failure]) -> dict[str, object]:
    return {
        "failed": [
            {"vm_id": each.vm_id, "vm_name": each.vm_name, "error": error_fields(each.error)} for each in failed
        ],
        "left_out": [{"vm_id": vm.id, "vm_name": vm.name, "reason": reason} for vm, reason in selection.left_out],
    }


def show_left_out(selection: Selection, screen: Screen) -> None:
    """Say what --all leaves out, and why."""
    for vm, reason in selection.left_out:
        screen.note(f"left out: {printable(vm.name)} ({reason})")


def _point_row(point: Point) -> list[str]:
    amount, seconds = point.report.bytes_sent, point.report.seconds
    return [
        point.vm_name,
        point.id,
        point.kind,
        format_size(point.size),
        "?" if amount is None else format_size(amount),
        "?" if seconds is None else elapsed(seconds),
        "captured",
        point.vm_id,
    ]


def _failure_row(failure: Failure) -> list[str]:
    message = str(error_fields(failure.error)["message"])
    return [failure.vm_name, *[UNKNOWN] * 5, message, failure.vm_id or UNKNOWN]
