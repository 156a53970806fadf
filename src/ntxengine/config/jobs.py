"""Jobs: which VMs are captured or replicated when, what is kept of them, and who is told."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from ntxengine.config.part import Groups, Part
from ntxengine.config.replicas import Replicate
from ntxengine.config.sections import Backup
from ntxengine.config.values import (
    Category,
    CronText,
    Every,
    Name,
    PingUrl,
    Span,
    Tag,
    Text,
    Waste,
    WindowText,
    Zone,
    program,
)
from ntxengine.schedule.rules import MAX_PRIORITY

Count = Annotated[int, Field(ge=1, le=10**6)]
Argv = Annotated[tuple[Text, ...], Field(min_length=1), AfterValidator(program)]


class Retention(Part):
    """Which points of a VM stay after a run, as `ntx forget` has it; the others are forgotten."""

    keep_last: Count | None = None
    """The newest N points."""
    keep_hourly: Count | None = None
    """The newest point of each of the newest N hours that have points."""
    keep_daily: Count | None = None
    """The same for days."""
    keep_weekly: Count | None = None
    """The same for weeks, from Monday (ISO 8601)."""
    keep_monthly: Count | None = None
    """The same for months."""
    keep_yearly: Count | None = None
    """The same for years."""
    keep_within: Span | None = None
    """What is not older than this before the newest point: 2d."""
    keep_tag: tuple[Tag, ...] = ()
    """What has one of these tags."""
    time_zone: Zone | None = None
    """Whose hours, days and years; that of the job, if nothing is said."""
    prune: bool = True
    """Give the space of forgotten points back after each run."""
    max_waste: Waste = "20%"
    """Put off what would free less than this share of what it has to write."""


class Retries(Part):
    """When a run that failed is tried again."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """How often a run is tried, in all."""
    backoff: Span = "1m"
    """Wait before the first of them; each further wait is twice as long."""
    budget: Span = "1h"
    """No more after this time since the first try."""


class Hooks(Part):
    """Programs that are started, each as a list of arguments; they get JSON on stdin."""

    start: Argv | None = None
    """Before a run; the run does not begin where this fails."""
    success: Argv | None = None
    """After a run that succeeded."""
    failure: Argv | None = None
    """After a run that failed for good."""
    timeout: Span = "1m"
    """One that takes longer is ended, with all that it started."""


class Pings(Part):
    """URLs that are called, for services that miss a call that does not come."""

    start: PingUrl | None = None
    """When a run begins."""
    success: PingUrl | None = None
    """When it succeeded."""
    failure: PingUrl | None = None
    """When it failed for good."""


class Job(Backup):
    """VMs that are captured, or replicated, by a schedule.  Beside these keys, any of `backup` for this job alone."""

    either: ClassVar[Groups] = (
        *Backup.either,
        ("every", "cron"),
        ("replicate", "repository"),
        ("replicate", "retention"),
    )

    name: Name
    """What it is called: letters, digits and ._-"""
    vms: tuple[Text, ...] = ()
    """VMs by name, UUID, or with * and ?."""
    categories: tuple[Category, ...] = ()
    """VMs of these categories, KEY=VALUE: any of several values of a key, each of several keys."""
    clusters: tuple[Text, ...] = ()
    """Only VMs of these clusters, by name or UUID."""
    exclude: tuple[Text, ...] = ()
    """VMs that are left out, as in `vms`."""
    every: Every | None = None
    """A run so often: 15m, 6h, 1d."""
    cron: CronText | None = None
    """Or by five fields: minute, hour, day, month, weekday."""
    timezone: Zone = "UTC"
    """Whose clock `cron` and `windows` mean: UTC, Europe/Berlin."""
    windows: tuple[WindowText, ...] = ()
    """Times in which runs may begin: 22:00-06:00, mon-fri 20:00-24:00; always, if nothing is said."""
    jitter: Span | None = None
    """By how much a run begins later at most, by chance."""
    spread: bool = True
    """The VMs of a job with `every` begin one after another over all of it, instead of all at once."""
    missed: Literal["once", "skip"] = "once"
    """A run that was missed is made up for once, or skipped."""
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = 0
    """Of what is due, the higher begins first."""
    timeout: Span | None = None
    """A run that takes longer is stopped; what it has copied is kept for the next."""
    retries: Retries = Retries()
    """What follows a run that failed."""
    retention: Retention | None = None
    """Which points stay after a run; all, if nothing is said."""
    objective: Span | None = None
    """No VM of the job may have a newest point that is older than this."""
    hooks: Hooks = Hooks()
    """Programs that are started."""
    pings: Pings = Pings()
    """URLs that are called."""
    replicate: Replicate | None = None
    """The VMs are kept as replicas, instead of being captured."""
