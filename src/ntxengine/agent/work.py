"""What a job does with a VM: each kind is a small class (capturing.py, replicating.py), and a row (works.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ntxengine.agent.jobs import JobVm, Outcome
from ntxengine.agent.kinds import Kind
from ntxengine.attach import Attachers, AttachOptions
from ntxengine.events import OnEvent
from ntxengine.prism import Vm
from ntxengine.prism.cluster import Prism
from ntxengine.repository import Repository


@dataclass(frozen=True)
class Site:
    """What a run works with: `repository` is that of its work; `at_once` runs share one budget of buffers."""

    prism: Prism
    repository: Repository
    attacher: Attachers
    at_once: int = 1


class Work(ABC):
    """How the VMs of a job are dealt with.

    `worker` names this machine as a VM, "" if it is none.
    """

    kind: ClassVar[Kind]
    attach: AttachOptions
    worker: str

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The folder with the locks, and the records of what is on the cluster: it is swept after a start."""

    @property
    def target(self) -> str:
        """Where it goes, as people name it."""
        return str(self.folder)

    @property
    def holds(self) -> str:
        """What people call that folder."""
        return "repository"

    @property
    def replica_id(self) -> str:
        """What its replicas are called in the state that is in the folder; "" for work that keeps none."""
        return ""

    async def check_place(self) -> None:
        """Refuse a place that cannot be used now, before anything is made.  Errors: RepositoryUnusable."""
        return

    @abstractmethod
    async def run(self, site: Site, vm: JobVm, on_event: OnEvent) -> Outcome:
        """Do one run.  Errors: whatever it met first."""

    async def follow_up(self, repository: Repository, vm: JobVm, outcome: Outcome, on_event: OnEvent) -> Outcome:
        """Do what follows a run that succeeded: what goes wrong is told as its problem."""
        del repository, vm, on_event
        return outcome


def vm_of(vm: JobVm) -> Vm:
    """Return a VM as use cases take it, which read all but id and name anew."""
    return Vm(vm.id, vm.name, "unknown", "", None, ())
