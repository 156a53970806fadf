"""What is found in a repository that should not be so."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ntxengine.errors import NtxError
from ntxengine.repository.point import Point


class Severity(enum.StrEnum):
    """How bad it is.

    DAMAGE      bytes that are missing, or are not what was written
    LEFTOVER    what something that was killed has left: takes space, or is to be brought to its end
    NOTE        worth knowing
    """

    DAMAGE = "damage"
    LEFTOVER = "leftover"
    NOTE = "note"


Kind = Literal[
    "marker", "site", "catalog", "link", "point", "file", "sums", "manifest", "image", "parent", "backing", "data",
    "retention", "distrusted", "sampled", "cluster-record", "missing-point",
    "half-written", "unfinished-point", "removed-point", "unused-image", "map", "rewrite", "gone-points",
    "empty-folder",
    "copy", "stale-catalog", "interrupted", "in-use", "distrust", "unknown", "mode",
]  # fmt: skip
"""What it is about; in the order of Severity.  `backing` is damage where plain qemu cannot open the image any more."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    `path` is the file or folder, `problem` goes on behind its name ("is missing"), `remedy` says what to do; `vm_id`
    and `point_id` are "" where it is about none.
    """

    severity: Severity
    kind: Kind
    path: Path
    problem: str
    remedy: str
    vm_id: str = ""
    point_id: str = ""

    def key(self) -> tuple[str, Path]:
        """What stays the same when it is found again."""
        return self.kind, self.path


@dataclass(frozen=True)
class Place:
    """Where findings are made: in the folder of a VM, of a point."""

    vm_id: str = ""
    point_id: str = ""

    def damage(self, kind: Kind, path: Path, problem: str, remedy: str) -> Finding:
        return Finding(Severity.DAMAGE, kind, path, problem, remedy, self.vm_id, self.point_id)

    def leftover(self, kind: Kind, path: Path, problem: str, remedy: str = "`ntx repair` removes it") -> Finding:
        return Finding(Severity.LEFTOVER, kind, path, problem, remedy, self.vm_id, self.point_id)

    def note(self, kind: Kind, path: Path, problem: str, remedy: str) -> Finding:
        return Finding(Severity.NOTE, kind, path, problem, remedy, self.vm_id, self.point_id)

    def from_error(self, kind: Kind, error: NtxError, paths: Sequence[Path], remedy: str) -> Finding:
        """Return the damage that an error tells of: the first of `paths` that it begins with is where it is.

        What the error says behind a semicolon is the remedy, if it says so much.
        """
        text = str(error)
        path = next((each for each in paths if text.startswith(f"{each}: ")), paths[-1])
        problem, _, said = text.removeprefix(f"{path}: ").partition("; ")
        return self.damage(kind, path, problem, said or remedy)


@dataclass
class Findings:
    """What was found in the folder of a VM.

    `points` are those that can be read, oldest first, `whole` the ids of those in whose own folder nothing is damaged,
    and `count` is how many there are, readable or not.
    """

    found: list[Finding] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    count: int = 0
