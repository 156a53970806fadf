"""A whole configuration, and its profiles."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ntxengine.config.jobs import Job
from ntxengine.config.part import Part
from ntxengine.config.problems import nearest
from ntxengine.config.sections import Backup, Nutanix, Performance, Tunnel
from ntxengine.config.values import Group, Listen, LocalPath, Mode, Name, Share
from ntxengine.errors import OptionsError


class Metrics(Part):
    """Where Prometheus gets its numbers."""

    listen: Listen | None = None
    """HOST:PORT, or the path of a unix socket; nowhere, if nothing is said."""
    token_file: LocalPath | None = None
    """File whose first line is what must be sent as a bearer token."""


class Log(Part):
    """What the agent writes down."""

    format: Literal["text", "json"] = "text"
    """Lines for people, or JSON lines."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """How much."""


class Agent(Part):
    """The service itself."""

    state: LocalPath = "/var/lib/ntx"
    """Directory of what it remembers."""
    socket: LocalPath = "/run/ntx/agent.sock"
    """Where `ntx status` and `ntx agent` speak with it."""
    socket_mode: Mode = "0660"
    """Who may: the mode of that socket."""
    socket_group: Group | None = None
    """Who may: its group."""
    metrics: Metrics = Metrics()
    """Metrics for Prometheus."""
    log: Log = Log()
    """Its log."""
    recovery_point_limit: Share = "10%"
    """Say so when our recovery points hold more than this share of a storage container."""


class Profile(Part):
    """What is different under a name: `ntx --profile NAME`."""

    nutanix: Nutanix = Nutanix()
    """Keys that take the place of those above."""
    backup: Backup = Backup()
    """Keys that take the place of those above."""
    performance: Performance = Performance()
    """Keys that take the place of those above."""


class Config(Part):
    """The configuration of ntx: of the agent, and of every command that is given it."""

    nutanix: Nutanix = Nutanix()
    """Where the cluster is, and who we are there."""
    backup: Backup = Backup()
    """How VMs are captured: what every job begins with."""
    performance: Performance = Performance()
    """What captures may take."""
    tunnel: Tunnel = Tunnel()
    """The control plane."""
    jobs: tuple[Job, ...] = ()
    """What the agent captures or replicates, and when."""
    agent: Agent = Agent()
    """How the agent itself runs."""
    profiles: dict[Name, Profile] = Field(default_factory=dict)
    """Other clusters, repositories and limits, by name."""

    def with_profile(self, name: str | None) -> Config:
        """Return the configuration under a profile, this one for None.  Errors: OptionsError, if there is none."""
        if name is None:
            return self
        if name not in self.profiles:
            raise OptionsError(
                f"profile {name!r}: the configuration has none of that name{nearest(name, self.profiles)}"
            )
        profile = self.profiles[name]
        return self.model_copy(
            update={
                "nutanix": self.nutanix.overlaid(profile.nutanix),
                "backup": self.backup.overlaid(profile.backup),
                "performance": self.performance.overlaid(profile.performance),
            }
        )

    def backup_of(self, job: Job) -> Backup:
        """Return how the VMs of a job are captured: what it says itself, else what `backup` says."""
        return self.backup.overlaid(job)
