"""Unfinished files that killed copies and restores left in a directory, and markers of a repository that never was."""

from __future__ import annotations

from pathlib import Path

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.errors import NotFoundError
from ntxengine.files import durable
from ntxengine.files import unfinished as unfinished_file
from ntxengine.repository import sweep_files
from ntxengine.sweep.report import SweepReport, Swept


async def sweep_directory(directory: Path, *, dry_run: bool = False) -> SweepReport:
    """Remove the unfinished files that killed copies and restores left in a directory, and nothing else.

    Errors: NotFoundError, RepositoryError if the directory cannot be read.
    """
    report = SweepReport(dry_run)
    try:
        found = await to_thread_joined(unfinished_file.sweep, directory, dry_run=dry_run)
    except FileNotFoundError as exc:
        raise NotFoundError(f"{directory}: there is no such directory") from exc
    except OSError as exc:
        raise durable.read_error(directory, exc) from exc
    markers = await sweep_files(directory, dry_run=dry_run)
    report.removed += [Swept("unfinished-file", str(path), path.name, "") for path in (*found.dead, *markers.files)]
    report.in_use += found.in_use
    report.problems += [*found.problems, *markers.problems]
    return report
