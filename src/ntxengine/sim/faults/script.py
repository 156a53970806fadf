"""Everything that can go wrong on purpose, as one script."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ntxengine.sim.faults import certificates, regions, tasks
from ntxengine.sim.faults.answers import AnswerFault
from ntxengine.sim.faults.etags import etag_rule
from ntxengine.sim.faults.hidden import HiddenRegion
from ntxengine.sim.faults.http import HttpFault
from ntxengine.sim.faults.lists import ListFault
from ntxengine.sim.faults.logins import LoginFaults
from ntxengine.sim.faults.regions import RegionFault
from ntxengine.sim.faults.tasks import TaskFault
from ntxengine.sim.faults.volumes import volume_rules

TaskKind = Literal[
    "create", "delete", "expire", "attach", "detach", "create_group", "delete_group", "admit", "expel", "power"
]


@dataclass
class Faults:
    """Everything that can go wrong on purpose.

    `fail_tasks` and `stuck_tasks` count down per kind of task (-1: all): the work is done, then the task ends FAILED,
    or never ends.  `tasks` is how v4 tells of all of them.  `cancelable_tasks` lets v4 cancel a task: what it has made
    by then stays.  `secure_points` deletes no recovery point of v4: the task waits for an approval.
    `downgrade_consistency` gives crash-consistent points whatever was asked.  `regions` spoils the pages of changed
    regions, and `hidden` are places that they do not tell of.  `http` are answers instead of the real ones; the first
    that takes a request wins.  `answers` change the real ones, all that take the request, in their order.
    `logins` are those of a directory, `etags` is the rule of ETags for removing a disk.
    `lists` spoil lists, all that take the request, in their order.
    `certificates` are those that endpoints show from the start, `clock_skew_s` is how far their clocks are ahead in
    what they tell; both by `central` and `element`.  `lacking_rights` are rights (roles.py) that nobody has.
    `volumes` is what goes wrong with volume groups.
    """

    fail_tasks: dict[str, int] = field(default_factory=dict)
    stuck_tasks: dict[str, int] = field(default_factory=dict)
    tasks: TaskFault = ""
    cancelable_tasks: bool = False
    secure_points: bool = False
    downgrade_consistency: bool = False
    regions: RegionFault = ""
    hidden: list[HiddenRegion] = field(default_factory=list)
    http: list[HttpFault] = field(default_factory=list)
    answers: list[AnswerFault] = field(default_factory=list)
    lists: list[ListFault] = field(default_factory=list)
    logins: LoginFaults = field(default_factory=LoginFaults)
    etags: str = "required"
    certificates: dict[str, str] = field(default_factory=dict)
    clock_skew_s: dict[str, float] = field(default_factory=dict)
    lacking_rights: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raise OptionsError if a kind is not known."""
        regions.check(self.regions)
        tasks.check(self.tasks)
        etag_rule(self.etags)
        certificates.check(self.certificates)
        volume_rules(self.volumes)
        for fault in self.answers:
            fault.check()
        for place in self.hidden:
            place.check()
        for spoiled in self.lists:
            spoiled.check()

    def fails(self, kind: TaskKind) -> bool:
        """Say if the next task of this kind fails, and count it."""
        return _count_down(self.fail_tasks, kind)

    def sticks(self, kind: TaskKind) -> bool:
        """Say if the next task of this kind never ends, and count it."""
        return _count_down(self.stuck_tasks, kind)

    def http_fault(self, endpoint: str, method: str, path: str) -> HttpFault | None:
        """Return the first fault that takes this request."""
        return next((fault for fault in self.http if fault.takes(endpoint, method, path)), None)

    def list_faults(self, endpoint: str, method: str, path: str) -> list[ListFault]:
        """Return every fault that spoils this list."""
        return [fault for fault in self.lists if fault.takes(endpoint, method, path)]

    def answer_faults(self, endpoint: str, method: str, path: str) -> list[AnswerFault]:
        """Return every fault that changes the answer to this request."""
        return [fault for fault in self.answers if fault.takes(endpoint, method, path)]


def _count_down(counts: dict[str, int], kind: str) -> bool:
    left = counts.get(kind, 0)
    if left > 0:
        counts[kind] = left - 1
    return left != 0
