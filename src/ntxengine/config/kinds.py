"""What kinds of jobs there are, and what has to fit together in each: a new kind adds a class, a key and a row."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ntxengine.config.file import Config
from ntxengine.config.jobs import Job
from ntxengine.config.meaning import replica_state, replica_target, repository_of
from ntxengine.config.problems import KeyPath, Problem, nearest
from ntxengine.config.replicas import Replicate
from ntxengine.errors import OptionsError
from ntxengine.replicate.targets import target_of

_OF_POINTS = ("writer", "compress", "zstd_level", "compress_again", "max_chain", "resume", "verify")


class JobKind(ABC):
    """What a job does with its VMs.  `name` is the key that says so, but for the usual kind."""

    name: ClassVar[str]

    @abstractmethod
    def check(self, config: Config, number: int) -> Iterator[Problem]:
        """Yield what does not fit together in a job of this kind."""


class Captures(JobKind):
    """Its VMs are captured into a repository."""

    name = "capture"

    def check(self, config: Config, number: int) -> Iterator[Problem]:
        """As JobKind.check."""
        if repository_of(config, config.jobs[number]) is None:
            yield Problem(("jobs", number), "has no repository: give backup.repository, or one here")


class Replicates(JobKind):
    """Its VMs are kept as replicas on another platform."""

    name = "replicate"

    def check(self, config: Config, number: int) -> Iterator[Problem]:
        """As JobKind.check."""
        job = config.jobs[number]
        replicate, path = job.replicate, ("jobs", number, "replicate")
        assert replicate is not None
        for key in job.given(_OF_POINTS):
            yield Problem(("jobs", number, key), "is not used: the job keeps replicas, and no points", is_warning=True)
        wrong = next(_wrong_target(replicate, path), None)
        if wrong is not None:
            yield wrong
            return
        target = replica_target(replicate)
        state = replica_state(replicate)
        if state is None:
            yield Problem((*path, "to"), f"{replicate.to} is no directory that could hold the state: give state, too")
        else:
            yield from _state_of_its_own(config, number, state)
        if target.copies is None:
            yield from _one_vm(config, number)


KINDS: dict[str, JobKind] = {each.name: each for each in (Replicates(), Captures())}
"""By the name, which is the key of a job that has it; the last is the usual one."""


def kind_of(job: Job) -> str:
    """Return the name of what a job does."""
    *others, usual = KINDS
    values = dict(job)
    return next((name for name in others if values[name] is not None), usual)


def _wrong_target(replicate: Replicate, path: KeyPath) -> Iterator[Problem]:
    """Yield what such a target does not take."""
    target = target_of(replicate.to)
    if not target.follows:
        text = f"{replicate.to} takes a whole copy each time, and follows nothing: run `ntx replicate` for it"
        yield Problem((*path, "to"), text)
    if replicate.format is not None and replicate.format not in target.forms:
        text = f"{replicate.format!r} is none of {', '.join(target.forms)}{nearest(replicate.format, target.forms)}"
        yield Problem((*path, "format"), text)
        return
    if "nbds" in replicate.to and replicate.tls_ca is None and replicate.tls_psk is None:
        yield Problem((*path, "to"), "nbds:// is through TLS: say whom to trust, with tls_ca or tls_psk")
        return
    if replicate.history:
        try:
            replica_target(replicate)
        except OptionsError:
            form = replicate.format or target.forms[0]
            yield Problem((*path, "history"), f"is not kept as {form}: leave it out, or give format: qcow2")
    try:
        replica_target(replicate.model_copy(update={"history": 0}))
    except OptionsError as exc:
        yield Problem(path, str(exc))


def _state_of_its_own(config: Config, number: int, state: Path) -> Iterator[Problem]:
    for other, job in enumerate(config.jobs):
        repository = repository_of(config, job) if kind_of(job) == Captures.name else None
        if repository is not None and os.path.abspath(repository) == os.path.abspath(state):
            text = f"is the repository of jobs[{other}]: give replicas a directory of their own"
            yield Problem(("jobs", number, "replicate", "state"), text)
            return


def _one_vm(config: Config, number: int) -> Iterator[Problem]:
    """What is no directory has room for the disks of one VM."""
    job = config.jobs[number]
    assert job.replicate is not None
    path = ("jobs", number, "replicate", "to")
    if len(job.vms) != 1 or any(each in job.vms[0] for each in "*?"):
        yield Problem(path, "takes the disks of one VM: name it in vms, without * and ?, and no other")
    for other, each in enumerate(config.jobs[:number]):
        if each.replicate is not None and each.replicate.to.split() == job.replicate.to.split():
            yield Problem(path, f"jobs[{other}] writes there, too: one would destroy what the other has written")
            return
