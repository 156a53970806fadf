"""Checking a repository without changing it.

the directory  ->  per VM: its files, its points  ->  with `data` also: tables of images, blocks of disks
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from ntxengine.check.data import DataOptions, check_data
from ntxengine.check.report import CheckReport, sort
from ntxengine.concurrency.completion import to_thread_interrupted, to_thread_joined
from ntxengine.errors import NotFoundError, NtxError
from ntxengine.events import OnEvent, Stage, StageBegan, log_event
from ntxengine.ids import is_canonical_uuid
from ntxengine.repository import Finding, Repository
from ntxengine.repository.structure import Findings, Place, find_vm_folders, inspect_root, inspect_vm
from ntxengine.units import utc_now


async def check_repository(
    repository: Path | str,
    vm: str | None = None,
    *,
    data: DataOptions | None = None,
    on_event: OnEvent = log_event,
    clock: Callable[[], datetime] = utc_now,
) -> CheckReport:
    """Look for what is missing, damaged or left behind in a repository, or in what it holds of one VM (name or UUID).

    Nothing is changed.  Every small file is compared with its digest, every manifest with its own, every header with
    its point.  `data`: also the tables of all images, and blocks of the disks; how far that has got is kept, as
    verifying by samples keeps it.
    Errors: NotFoundError (no repository, no such VM), OptionsError (several VMs are called so), RepositoryError (the
            directory cannot be read), ToolError (qemu-img is missing, with `data`).  What is wrong is in the report.
    """
    root = Path(repository).absolute()
    folders = await to_thread_joined(find_vm_folders, root)
    report = CheckReport(root)
    # Before the repository is opened, which makes a damaged catalog anew.
    found = await to_thread_joined(inspect_root, root, vm if vm and is_canonical_uuid(vm) else None)
    if vm is not None:
        vm_id = vm.lower() if is_canonical_uuid(vm.lower()) else (await (await Repository.open(root)).find_vm(vm)).id
        folders = [folder for folder in folders if folder.name == vm_id]
        if not folders:
            raise NotFoundError(f"{root}: has no folder of VM {vm_id}")
    opened = None if data is None else await _opened(root, found)
    report.bytes_read = None if opened is None else 0
    for folder in folders:
        on_event(StageBegan(stage=Stage.CHECK, vm_id=folder.name))
        try:
            of_vm = await _in_thread(partial(inspect_vm, folder, clock()))
        except NtxError as exc:
            found.append(Place(folder.name).from_error("link", exc, [folder], "see who may read it"))
            continue
        found += of_vm.found
        _count(report, of_vm)
        if data is not None and opened is not None:
            wrong, bytes_read = await check_data(opened, of_vm.points, of_vm.found, data, on_event)
            found += wrong
            report.points_whole -= len({each.point_id for each in wrong} & set(of_vm.whole))
            report.bytes_read = (report.bytes_read or 0) + bytes_read
    report.findings = sort(found)
    return report


def _count(report: CheckReport, of_vm: Findings) -> None:
    report.vms += 1
    report.points += of_vm.count
    report.points_whole += len(of_vm.whole)


async def _opened(root: Path, found: Sequence[Finding]) -> Repository | None:
    """Return the repository; None if its marker is damaged, which was found already: then no data are read.

    Errors: NtxError, if it cannot be opened for another reason.
    """
    try:
        return await Repository.open(root)
    except NtxError:
        if any(each.kind == "marker" for each in found):
            return None
        raise


async def _in_thread(inspect: Callable[..., Findings]) -> Findings:
    """Look at a folder in a thread, which ends soon if we are cancelled."""
    stopped = threading.Event()
    return await to_thread_interrupted(partial(inspect, is_stopped=stopped.is_set), interrupt=stopped.set)
