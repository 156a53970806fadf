"""`ntx forget`: which points stay, and why; the others are hidden, until a prune removes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from ntxengine.cli import complete
from ntxengine.cli.errors import SomeFailed
from ntxengine.cli.event_view import PruneEvents
from ntxengine.cli.figures import UNKNOWN
from ntxengine.cli.keeping import keep_options
from ntxengine.cli.options import common_options, dry_run_option, repository_option, table_option
from ntxengine.cli.output import Screen
from ntxengine.cli.points import find_vm_id
from ntxengine.cli.prune import problems_of, prune_fields, raise_if_not_all, show_pruned, waste_option
from ntxengine.cli.run import run
from ntxengine.cli.table import Column
from ntxengine.cli.text import plural, printable
from ntxengine.errors import NotFoundError, NtxError, OptionsError
from ntxengine.prune import PruneOptions, PruneReport, prune
from ntxengine.repository import Repository
from ntxengine.retention import (
    Forgotten,
    PointDecision,
    Policy,
    VmDecision,
    bring_back,
    forget_by_policy,
    forget_points,
)
from ntxengine.units import format_time

log = logging.getLogger(__name__)

COLUMNS = [Column("POINT"), Column("VM", shrinks=True), Column("FROZEN"), Column("DECISION"), Column("WHY", fold=True)]
NAMED_COLUMNS = [Column("POINT"), Column("VM UUID"), Column("DECISION")]


@click.command("forget")
@click.argument("names", nargs=-1, metavar="[VM...|POINT...]", shell_complete=complete.points)
@click.option("--all", "every", is_flag=True, help="All VMs of the repository.")
@repository_option("--from")
@keep_options
@click.option("--undo", is_flag=True, help="Bring POINTs back that are forgotten and not pruned yet.")
@click.option("--prune", "prunes", is_flag=True, help="Give their space back at once, as `ntx prune` does.")
@waste_option
@dry_run_option
@common_options
@table_option
def forget_command(
    names: tuple[str, ...],
    every: bool,
    repository: Path,
    policy: Policy | None,
    undo: bool,
    prunes: bool,
    max_waste: float,
    dry_run: bool,
    screen: Screen,
) -> None:
    """Forget the points of VMs that no --keep rule keeps, or the POINTs that are named by their ids.

    Each rule is on its own, and a point stays if any rule keeps it; what has no points is not counted.  What is held
    stays, and so do points that are damaged or whose tracking is distrusted, which no rule counts, and the newest whole
    point of each VM.  Named by its id, a point is forgotten whatever it is, unless it is held.

    A forgotten point is hidden, and its files stay until a prune: --undo brings it back until then.

    \b
    Examples:
      ntx forget --all --from /backups --keep-daily 7 --keep-weekly 4 --keep-monthly 12 -n
      ntx forget --all --from /backups --keep-daily 7 --prune
      ntx forget db01 --from /backups --keep-last 3 --keep-within 2d --keep-tag release
      ntx forget 20261123T041500Z-8f3a2c --from /backups
      ntx forget --undo 20261123T041500Z-8f3a2c --from /backups
    """
    if every == bool(names):
        raise click.UsageError(
            "name a VM or a POINT, or give --all" if not every else "--all and a name contradict each other"
        )
    if undo and (every or policy is not None):
        raise click.UsageError("--undo takes points by their ids, and no rules")
    if policy is None and not undo and every:
        policy = Policy()  # says what is missing
    if undo and prunes:
        raise click.UsageError("--undo and --prune contradict each other")
    pruning = Pruning(repository, prunes, PruneOptions(max_waste=max_waste), screen, dry_run)
    if policy is not None:
        decided, problems = run(_by_policy(repository, names, policy, screen, dry_run=dry_run))
        pruned = pruning.run({each.vm_id: [one.point_id for one in each.forgotten] for each in decided})
        _tell(decided, problems, pruned, screen, dry_run=dry_run)
    else:
        problems = []
        found = run(_named(repository, names, screen, undo=undo, dry_run=dry_run))
        pruned = pruning.run(_by_vm(found))
        _tell_named(found, pruned, screen, undo=undo, dry_run=dry_run)
    _raise_if_not_all(problems, pruned)


@dataclass(frozen=True)
class Pruning:
    """What follows forgetting, if it was asked for (`is_wanted`)."""

    repository: Path
    is_wanted: bool
    options: PruneOptions
    screen: Screen
    dry_run: bool

    def run(self, forgotten: Mapping[str, Sequence[str]]) -> PruneReport | None:
        """Prune the VMs of which points were forgotten, or would be: by VM id, their ids."""
        return run(self._prune(forgotten)) if self.is_wanted else None

    async def _prune(self, forgotten: Mapping[str, Sequence[str]]) -> PruneReport:
        opened = await Repository.open(self.repository)
        with self.screen.view() as view:
            return await prune(
                opened,
                list(forgotten),
                options=self.options,
                dry_run=self.dry_run,
                besides=forgotten,
                on_event=PruneEvents(view),
            )


def _pruned_fields(pruned: PruneReport | None) -> dict[str, object] | None:
    return None if pruned is None else prune_fields(pruned)


# ------------------------------------------------------------------------------------------------------- by rules


async def _by_policy(
    repository: Path, names: Sequence[str], policy: Policy, screen: Screen, *, dry_run: bool
) -> tuple[list[VmDecision], list[str]]:
    """Return what is forgotten of each VM, and why nothing is of others."""
    opened = await Repository.open(repository)
    vm_ids = [await find_vm_id(opened, name, screen) for name in names] or await opened.vm_ids()
    decided: list[VmDecision] = []
    problems: list[str] = []
    for vm_id in dict.fromkeys(vm_ids):
        try:
            decided.append(await forget_by_policy(opened, vm_id, policy, dry_run=dry_run))
        except NtxError as error:
            if len(vm_ids) == 1:
                raise
            problems.append(str(error))
    return decided, problems


def _tell(
    decided: Sequence[VmDecision],
    problems: Sequence[str],
    pruned: PruneReport | None,
    screen: Screen,
    *,
    dry_run: bool,
) -> None:
    if not dry_run:
        screen = screen.after_work(is_good=not problems and (pruned is None or not problems_of(pruned)))
    if screen.as_json:
        screen.result(_result([_fields(each) for each in decided], problems, pruned, dry_run=dry_run))
    else:
        rows = [_row(each, point) for each in decided for point in each.points]
        if rows:
            screen.table(COLUMNS, rows)
        gone = sum(len(each.forgotten) for each in decided)
        verb = "would forget" if dry_run else "forgot"
        screen.line(f"{verb} {gone} of {plural(len(rows), 'point')} of {plural(len(decided), 'VM')}")
        if pruned is not None:
            show_pruned(pruned, screen)


def _raise_if_not_all(problems: Sequence[str], pruned: PruneReport | None) -> None:
    """Say all that went wrong, of forgetting and of pruning.  Errors: SomeFailed."""
    if not problems:
        if pruned is not None:
            raise_if_not_all(pruned)
        return
    for problem in (*problems, *(() if pruned is None else problems_of(pruned))):
        log.error("%s", problem)
    raise SomeFailed(f"nothing is forgotten of {plural(len(problems), 'VM')}: {problems[0]}")


def _result(
    vms: list[dict[str, object]], problems: Sequence[str], pruned: PruneReport | None, *, dry_run: bool
) -> dict[str, object]:
    return {"dry_run": dry_run, "vms": vms, "problems": problems, "prune": _pruned_fields(pruned)}


def _row(decided: VmDecision, each: PointDecision) -> list[str]:
    frozen = UNKNOWN if each.point is None else format_time(each.point.created_at)
    why = ", ".join(each.reasons) or "no rule keeps it"
    return [each.point_id, decided.vm_name, frozen, "keep" if each.stays else "forget", why]


def _fields(decided: VmDecision) -> dict[str, object]:
    return {
        "vm_id": decided.vm_id,
        "vm_name": decided.vm_name,
        "points": [
            {
                "point_id": each.point_id,
                "created_at": None if each.point is None else each.point.created_at,
                "forgotten": not each.stays,
                "reasons": each.reasons,
            }
            for each in decided.points
        ],
    }


# -------------------------------------------------------------------------------------------------------- by name


async def _named(
    repository: Path, names: Sequence[str], screen: Screen, *, undo: bool, dry_run: bool
) -> list[Forgotten]:
    opened = await Repository.open(repository)
    try:
        if undo:
            return await bring_back(opened, names, dry_run=dry_run)
        found = await forget_points(opened, names, dry_run=dry_run)
    except NotFoundError:
        for name in names:
            with suppress(NotFoundError):
                await opened.find_vm(name)
                raise OptionsError(
                    f"{printable(name)!r} is a VM: say what is to stay of it (--keep-last, --keep-daily, ...), or name "
                    f"points by their ids"
                ) from None
        raise
    for vm_id in dict.fromkeys(each.vm_id for each in found):
        if not dry_run and await opened.last_listed_id(vm_id) is None:
            screen.warning(f"every point of VM {vm_id} is forgotten now: the next capture of it is a full one")
    return found


def _by_vm(found: Sequence[Forgotten]) -> dict[str, list[str]]:
    return {each.vm_id: [one.point_id for one in found if one.vm_id == each.vm_id] for each in found}


def _tell_named(
    found: Sequence[Forgotten], pruned: PruneReport | None, screen: Screen, *, undo: bool, dry_run: bool
) -> None:
    if not dry_run:
        screen = screen.after_work(is_good=pruned is None or not problems_of(pruned))
    if screen.as_json:
        vms: list[dict[str, object]] = [
            {"vm_id": vm_id, "vm_name": None, "points": [_named_fields(each, undo=undo) for each in point_ids]}
            for vm_id, point_ids in _by_vm(found).items()
        ]
        screen.result(_result(vms, (), pruned, dry_run=dry_run))
        return
    verb = "bring back" if undo else "forget"
    done = "was not forgotten" if undo else "was forgotten before"
    rows = [[each.point_id, each.vm_id, verb if each.was_forgotten == undo else done] for each in found]
    screen.table(NAMED_COLUMNS, rows)
    if pruned is not None:
        show_pruned(pruned, screen)


def _named_fields(point_id: str, *, undo: bool) -> dict[str, object]:
    return {"point_id": point_id, "created_at": None, "forgotten": not undo, "reasons": []}
