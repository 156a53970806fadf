"""What a configuration makes the unit allow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ntxengine.config.file import Config
from ntxengine.config.meaning import replica_state, replica_target

STATE_OF_UNIT = Path("/var/lib/ntx")
RUN_OF_UNIT = Path("/run/ntx")
"""Made by systemd for the service: StateDirectory= and RuntimeDirectory= of the unit."""


@dataclass(frozen=True)
class Needs:
    """What the agent of a configuration needs beside what the unit gives every agent."""

    repositories: tuple[Path, ...] = ()
    replicas: tuple[Path, ...] = ()
    """Where replicas are kept, and their states."""
    folders: tuple[Path, ...] = ()
    """To be written besides: its state, its sockets and what it trusts, where they are not at the usual place."""
    has_attached_disks: bool = False
    """Disks are hot-added to this machine."""

    @property
    def to_write(self) -> tuple[Path, ...]:
        return tuple(sorted({*self.repositories, *self.replicas, *self.folders}))


def needs_of(config: Config) -> Needs:
    """Return what the jobs of a configuration need, and its profiles, as one of them may be chosen."""
    backups = [config.backup, *(config.backup_of(job) for job in config.jobs)]
    backups += [profile.backup for profile in config.profiles.values()]
    repositories = {Path(each.repository) for each in backups if each.repository}
    agent = config.agent
    files = [Path(agent.socket)]
    if agent.metrics.listen is not None and agent.metrics.listen.startswith("/"):
        files.append(Path(agent.metrics.listen))
    if config.nutanix.trust_on_first_use and config.nutanix.trust_file:
        files.append(Path(config.nutanix.trust_file))
    folders = {Path(agent.state), *(file.parent for file in files)}
    return Needs(
        repositories=tuple(sorted(repositories)),
        replicas=_replicas(config),
        folders=tuple(sorted(folder for folder in folders if not _is_given(folder))),
        has_attached_disks=any(each.worker for each in backups),
    )


def _replicas(config: Config) -> tuple[Path, ...]:
    found: set[Path] = set()
    for job in config.jobs:
        if job.replicate is None:
            continue
        target, state = replica_target(job.replicate).copies, replica_state(job.replicate)
        # The state is beside the disks, where nothing else is said.
        found |= {each for each in (target, state) if each is not None and (each == target or target != each.parent)}
    return tuple(sorted(found))


def _is_given(folder: Path) -> bool:
    return any(folder.is_relative_to(given) for given in (STATE_OF_UNIT, RUN_OF_UNIT))
