"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ntxengine.repository import Finding, Severity


@dataclass
class CheckReport:
    """What was found in the repository in `path`, worst first.

    Of `points` in the folders of `vms` VMs `points_whole` have nothing damaged in their own folders.  `bytes_read` is
    what was read of disks; None where no data were to be read, or could be, as the marker is damaged.
    """

    path: Path
    findings: list[Finding] = field(default_factory=list)
    vms: int = 0
    points: int = 0
    points_whole: int = 0
    bytes_read: int | None = None

    def of(self, severity: Severity) -> list[Finding]:
        """Return the findings of one severity."""
        return [each for each in self.findings if each.severity is severity]

    @property
    def is_right(self) -> bool:
        """Whether nothing is damaged."""
        return not self.of(Severity.DAMAGE)


_RANK = {severity: rank for rank, severity in enumerate(Severity)}


def sort(findings: list[Finding]) -> list[Finding]:
    """Return findings, worst first, and then by where they are."""
    return sorted(findings, key=lambda each: (_RANK[each.severity], str(each.path), each.kind))
