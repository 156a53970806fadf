"""Unfinished files that killed copies and restores left in a directory, and markers of a repository that never was."""

from __future__ import annotations

from pathlib import Path

from ntxengine.errors import NotFoundError
from ntxengine.files import durable
from ntxengine.files import unfinished as unfinished_file
from ntxengine.repository import strays
from ntxengine.sweep.report import SweepReport, Swept


def sweep_directory(directory: Path, *, dry_run: bool = False) -> SweepReport:
    """Remove the unfinished files that killed copies and restores left in a directory, and nothing else.

    Errors: NotFoundError, RepositoryError if the directory cannot be read.
    """
    report = SweepReport(dry_run)
    try:
        found = unfinished_file.sweep(directory, dry_run=dry_run)
    except FileNotFoundError as exc:
        raise NotFoundError(f"{directory}: there is no such directory") from exc
    except OSError as exc:
        raise durable.read_error(directory, exc) from exc
    report.removed += [Swept("unfinished-file", str(path), path.name, "") for path in found.dead]
    report.in_use += found.in_use
    report.problems += found.problems
    sweep_markers(directory, report)
    return report


def sweep_markers(folder: Path, report: SweepReport) -> None:
    """Remove what interrupted creations of a repository left, and changes to its own files."""
    for path in strays.markers(folder):
        try:
            if not report.dry_run:
                path.unlink(missing_ok=True)
        except OSError as exc:
            report.problems.append(f"{path}: {exc.strerror}")
            continue
        report.removed.append(Swept("unfinished-file", str(path), path.name, ""))
