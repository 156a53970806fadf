"""What a sweep removed, what it left alone and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

FILES = ("unfinished-file", "empty-folder")
"""Kinds of things that have a path, and no id."""


@dataclass(frozen=True)
class Swept:
    """One thing that was removed, or would be: `id` as the repository or Prism calls it, or its path."""

    kind: str
    id: str
    name: str
    vm_id: str


@dataclass
class SweepReport:
    """What was removed (with `dry_run`: what would be), what was left because its VM is locked, and what failed.

    Kinds: `disk` (hot-added), `volume-group`, `recovery-point`, `unfinished-point`, `removed-point` (whose removal was
    interrupted), `unfinished-file` and `empty-folder` (of a VM).  `in_use` are unfinished files that somebody is
    writing.  `not_recorded`: recovery points that have the name of this repository, and that this directory does not
    record.  `protected`: what the cluster does not delete yet, with the reason; nothing failed.  `resumable`:
    unfinished points that the next capture can go on with, which are left alone unless they are to be given up.
    """

    dry_run: bool
    removed: list[Swept] = field(default_factory=list)
    locked_vms: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    not_recorded: list[Swept] = field(default_factory=list)
    protected: list[tuple[Swept, str]] = field(default_factory=list)
    in_use: list[Path] = field(default_factory=list)
    resumable: list[Swept] = field(default_factory=list)
