"""Mending a repository: the safe part, said before it is done.

    check  ->  what can be mended is told  ->  per VM, while nobody works on it: found again, and mended

No byte of a disk is changed, and nothing that a capture can go on with is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Literal

from ntxengine.check.report import CheckReport
from ntxengine.check.workflow import check_repository
from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import LockedError, NtxError
from ntxengine.events import OnEvent, log_event
from ntxengine.repository import Finding, Repository, Severity
from ntxengine.repository.structure import REPAIRS, mend_catalog, mend_root, mend_vm
from ntxengine.units import utc_now

Outcome = Literal["planned", "done", "locked", "failed"]


@dataclass(frozen=True)
class Repair:
    """One thing that was found and can be mended; `problem` says why it was not."""

    finding: Finding
    outcome: Outcome = "planned"
    problem: str = ""


@dataclass
class RepairReport:
    """What was mended, or would be; `remaining` is damage that nothing but a person can mend."""

    path: Path
    dry_run: bool
    repairs: list[Repair] = field(default_factory=list)
    remaining: list[Finding] = field(default_factory=list)

    @property
    def failed(self) -> list[Repair]:
        """What could not be mended now."""
        return [each for each in self.repairs if each.outcome in ("failed", "locked")]


async def repair_repository(
    repository: Path | str,
    vm: str | None = None,
    *,
    dry_run: bool = False,
    on_plan: Callable[[RepairReport], None] = lambda _: None,
    on_event: OnEvent = log_event,
    clock: Callable[[], datetime] = utc_now,
) -> RepairReport:
    """Mend what can be mended safely in a repository, or in what it holds of one VM (name or UUID).

    The catalog is made anew; what killed captures, prunes and changes of files have left is removed, but nothing that a
    capture can go on with; interrupted rewritings of a point.json are brought to their end; images record what is below
    them now.  `on_plan` is called with what was found before anything is changed.
    A VM that is being captured or pruned is left alone.
    Errors: as check_repository; RepositoryError (the marker is damaged: adopt it first); what `on_plan` raises.
    """
    checked = await check_repository(repository, vm, on_event=on_event, clock=clock)
    report = _planned(checked, dry_run=dry_run)
    on_plan(report)
    if dry_run or not report.repairs:
        return report
    opened = await Repository.open(checked.path)
    planned, report.repairs = report.repairs, []
    for vm_id, of_vm in groupby(sorted(planned, key=_vm_of), key=_vm_of):
        findings = [each.finding for each in of_vm]
        report.repairs += await (_mend_vm(opened, vm_id, findings, clock()) if vm_id else _mend_root(opened, findings))
    return report


def _planned(checked: CheckReport, *, dry_run: bool) -> RepairReport:
    repairs = [Repair(each) for each in checked.findings if each.kind in REPAIRS]
    remaining = [each for each in checked.of(Severity.DAMAGE) if each.kind not in REPAIRS]
    return RepairReport(checked.path, dry_run, repairs, remaining)


def _vm_of(repair: Repair) -> str:
    return repair.finding.vm_id


async def _mend_root(repository: Repository, findings: Sequence[Finding]) -> list[Repair]:
    """Mend what is beside the folders of the VMs."""
    mended = await to_thread_joined(mend_root, repository.path, findings)
    catalogs = [each for each in findings if each.kind == "catalog"]
    if catalogs:
        mended.append(await to_thread_joined(mend_catalog, repository.path, catalogs[0]))
    return [_repair(finding, problem) for finding, problem in mended]


async def _mend_vm(repository: Repository, vm_id: str, findings: Sequence[Finding], now: datetime) -> list[Repair]:
    try:
        async with repository.lock(vm_id) as lock:
            mended = await to_thread_joined(mend_vm, lock, findings, now)
    except LockedError as exc:
        return [Repair(each, "locked", str(exc)) for each in findings]
    except NtxError as exc:
        return [Repair(each, "failed", str(exc)) for each in findings]
    return [_repair(finding, problem) for finding, problem in mended]


def _repair(finding: Finding, problem: str) -> Repair:
    return Repair(finding, "failed" if problem else "done", problem)
