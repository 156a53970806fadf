"""What a check is, and what checks know of each other's findings.

A check is a small class in a file of its topic, with a row in `checks_for` (probe/registry.py).  It says which checks
must have gone well before it (`needs`), which must be over (`after`), and whether it applies at all; `run` returns what
it found, and whatever it raises is a check that failed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

from ntxengine.attach import Attacher
from ntxengine.prism.cluster import Prism
from ntxengine.prism.http.certificate import Certificate
from ntxengine.prism.inquiry import Inquiry, Reply
from ntxengine.prism.models import ClusterFacts, Container, RecoveryPoint, Vm
from ntxengine.probe.machine import Machine
from ntxengine.probe.model import Line, ProbeOptions, Result, blocked

LIMIT_S = 30.0
"""How long a check may take if it says nothing else."""


@dataclass
class Probed:
    """One Prism that is probed, and what was found out about it.

    `may_be_central` and `may_be_element`: what the person says that it is; both where nobody knows.  `replies` are
    those to questions that were asked to see which API is there: they need not be asked again for a right.
    """

    subject: str
    inquiry: Inquiry
    may_be_central: bool
    may_be_element: bool
    is_central: bool | None = None
    addresses: list[str] = field(default_factory=list)
    our_address: str = ""
    certificate: Certificate | None = None
    speaks_v4: bool = False
    speaks_v3: bool = False
    no_v4: str = "not asked for"
    replies: dict[str, Reply] = field(default_factory=dict)

    @property
    def asks_v4(self) -> bool:
        """Whether v4 is to be looked for here."""
        return self.may_be_central and self.is_central is not False

    @property
    def asks_v3(self) -> bool:
        """Whether v3 is to be looked for here: not where v4 was found already."""
        may_be = self.may_be_element and self.is_central is not True and not self.speaks_v4
        return may_be and self.inquiry.endpoint.account.speaks_legacy


@dataclass
class Context:
    """What is probed, and what is known by now.  `prism` is what a capture would speak to, at the place `at`.

    `containers` are None where the account may not see them.  `attachers` are those that can be used, by their names,
    as they looked at the VM; `attacher` is the chosen one.  `names` are those that were met, and that a report without
    names must not have.
    """

    options: ProbeOptions
    machine: Machine
    places: list[Probed]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    lines: dict[str, Line] = field(default_factory=dict)
    prism: Prism | None = None
    at: Probed | None = None
    clusters: list[ClusterFacts] = field(default_factory=list)
    containers: list[Container] | None = None
    vm: Vm | None = None
    worker: Vm | None = None
    attachers: dict[str, Attacher] = field(default_factory=dict)
    attacher: Attacher | None = None
    live_point: RecoveryPoint | None = None
    names: set[str] = field(default_factory=set)

    @property
    def source(self) -> str:
        """The name of the way to the bytes that a capture would take, "" while none is chosen."""
        return "" if self.attacher is None else self.attacher.name

    @property
    def our_addresses(self) -> list[str]:
        """The addresses of this machine that the Prisms see."""
        return list(dict.fromkeys(place.our_address for place in self.places if place.our_address))

    @property
    def elements(self) -> Inquiry:
        """Whose port and trust is used for the Prism Elements that Prism Central names: the last that was given."""
        return self.places[-1].inquiry

    def met(self, vm: Vm) -> None:
        """Keep what a VM and its disks are called."""
        self.names.add(vm.name)
        self.names |= {name for disk in vm.disks for name in (disk.container_name, disk.external_storage) if name}

    def denied(self, right: str) -> Result | None:
        """Return what to say where the account lacks a right at the Prism that is spoken to; None if it does not."""
        if self.at is None or self.prism is None:
            return None
        line = self.lines.get(f"{self.at.subject}.{self.prism.family}-{right}")
        return blocked(line.key) if line is not None and line.result.status == "failed" else None


class Check(ABC):
    """One thing that is looked at.  `subject` says of what: `prism`, `element`, `cluster`, `vm`, `source`, ..."""

    name: str
    limit_s: ClassVar[float] = LIMIT_S

    def __init__(self, subject: str, *, needs: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> None:
        self.subject = subject
        self.needs = needs
        self.after = after

    @property
    def key(self) -> str:
        """How others name it."""
        return f"{self.subject}.{self.name}"

    def applies(self, context: Context) -> bool:
        """Say whether there is anything to look at; asked when those that it waits for are over."""
        return True

    @abstractmethod
    async def run(self, context: Context) -> Result:
        """Look, and say what was found.  What it raises is a failure of what it looked at."""


class PrismCheck(Check):
    """One thing of one Prism."""

    def __init__(self, place: Probed, *, needs: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> None:
        prefixed = tuple(f"{place.subject}.{name}" for name in needs)
        super().__init__(place.subject, needs=prefixed, after=tuple(f"{place.subject}.{name}" for name in after))
        self.place = place
