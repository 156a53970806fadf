"""Switches that make the simulator misbehave as clusters do.  All may be changed while it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

TaskKind = Literal["create", "delete", "expire", "attach", "detach"]
RegionFault = Literal["", "shuffle", "overlap", "past_end", "unknown_type", "stuck"]


@dataclass
class HttpFault:
    """The next `count` requests (-1: all) whose path matches get this answer instead, or `delay_s` before the real one.

    `status` 0 only delays.  `plain` answers text, as an overloaded Prism does, else the error body of the family.
    `after` lets that many matching requests pass first.
    """

    path: str = ""
    method: str = ""
    endpoint: Literal["", "central", "element"] = ""
    status: int = 0
    count: int = 1
    after: int = 0
    delay_s: float = 0
    plain: bool = False

    def takes(self, endpoint: str, method: str, path: str) -> bool:
        """Say if this request is hit, and count it."""
        if self.count == 0 or self.endpoint not in ("", endpoint) or self.method not in ("", method):
            return False
        if re.search(self.path, path) is None:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.count > 0:
            self.count -= 1
        return True


@dataclass
class Faults:
    """Everything that can go wrong on purpose.

    `fail_tasks` and `stuck_tasks` count down per kind of task (-1: all): the work is done, then the task ends FAILED,
    or never ends.  `downgrade_consistency` gives crash-consistent points whatever was asked.  `regions` spoils the
    pages of changed regions.  `http` are answers instead of the real ones; the first that takes a request wins.
    """

    fail_tasks: dict[str, int] = field(default_factory=dict)
    stuck_tasks: dict[str, int] = field(default_factory=dict)
    downgrade_consistency: bool = False
    regions: RegionFault = ""
    http: list[HttpFault] = field(default_factory=list)

    def fails(self, kind: TaskKind) -> bool:
        """Say if the next task of this kind fails, and count it."""
        return _count_down(self.fail_tasks, kind)

    def sticks(self, kind: TaskKind) -> bool:
        """Say if the next task of this kind never ends, and count it."""
        return _count_down(self.stuck_tasks, kind)

    def http_fault(self, endpoint: str, method: str, path: str) -> HttpFault | None:
        """Return the first fault that takes this request."""
        return next((fault for fault in self.http if fault.takes(endpoint, method, path)), None)


def _count_down(counts: dict[str, int], kind: str) -> bool:
    left = counts.get(kind, 0)
    if left > 0:
        counts[kind] = left - 1
    return left != 0
