"""Unfinished points in a repository, and folders of VMs that hold nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ntxengine.errors import LockedError, NtxError
from ntxengine.repository import Repository, layout, strays
from ntxengine.repository.scan import vm_folders
from ntxengine.sweep.directory import sweep_markers
from ntxengine.sweep.report import SweepReport, Swept


def sweep_repository(repository: Repository, report: SweepReport) -> None:
    """Remove what no running capture needs.  A VM that is being captured is left alone."""
    if report.dry_run:
        names = list(_unlocked_unfinished(repository, report))
    else:
        names = repository.sweep_unfinished(report.problems)
    for name in names:
        vm_id, _, point_id = name.partition("/")
        report.removed.append(Swept("unfinished-point", point_id, name, vm_id))
    sweep_markers(repository.path, report)
    _sweep_empty_folders(repository, report)


def _sweep_empty_folders(repository: Repository, report: SweepReport) -> None:
    for folder in strays.empty_folders(repository.path):
        try:
            if not report.dry_run:
                with repository.lock(folder.name):
                    pass  # what holds nothing but its lock goes with it
        except LockedError:
            continue
        except NtxError as error:
            report.problems.append(f"VM {folder.name}: {error}")
            continue
        report.removed.append(Swept("empty-folder", str(folder), folder.name, folder.name))


def _unlocked_unfinished(repository: Repository, report: SweepReport) -> Iterator[str]:
    """Yield what Repository.sweep_unfinished would remove, as it names it."""
    for folder in vm_folders(repository.path):
        unfinished = sorted(folder.glob(f"{layout.UNFINISHED_PREFIX}*"))
        if not unfinished:
            continue
        try:
            with repository.lock(folder.name):
                yield from (f"{folder.name}/{each.name.removeprefix(layout.UNFINISHED_PREFIX)}" for each in unfinished)
        except LockedError:
            continue
        except NtxError as error:
            report.problems.append(f"VM {folder.name}: {error}")
